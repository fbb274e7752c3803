"""Several fitted pipelines averaged as one estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, _safe_indexing
from sklearn.utils.validation import check_is_fitted

from agegender._extraction.shared import SharedExtraction
from agegender._fitting.averaged_head import AveragedHead, check_alike, check_averaged, mixture
from agegender._safe.declaration import SafeState
from agegender._safe.declared import ENSEMBLE
from agegender._utils.pictures import check_pictures
from agegender._utils.row_labels import check_row_order
from agegender._utils.tables import as_table
from agegender._utils.target import check_target
from agegender._utils.validation import check_bytes
from agegender._utils.versions import VersionedState
from agegender.calibration import Calibration, calibrate
from agegender.ensemble._weights import mixture_weights
from agegender.exceptions import LeakageWarning, ModelFileError
from agegender.extractor import FacesParameter
from agegender.inference import Predictor
from agegender.inference._predictor import Training
from agegender.metrics import age_mae
from agegender.model_selection import connected_groups, duplicate_groups, grouped_split
from agegender.pipeline import AgeGenderPipeline

LEAST_HELD_OUT = 40
"""The smallest number of held-out pictures for weights and intervals."""

_Faces = FacesParameter | Literal["own"]
_Distributions = list[NDArray[np.float32]]


class AgeGenderEnsemble(VersionedState, BaseEstimator):
    """Average pipelines with different networks and heads.

    The distributions over ages and genders are averaged. The weights are those with the smallest loss on held-out
    pictures, and the intervals are calibrated for the average, on other held-out pictures.

    In prediction, each picture is decoded, and its face is detected, once for all models whose extractors
    differ only in networks and layers. A network that several of these models read runs once. Models that
    read maps or pixels need a separate pass.

    Parameters
    ----------
    models : sequence of AgeGenderPipeline
        The models, which need the same ``max_age``.
    prefit : bool, default=False
        If False, `fit` trains copies of the models on a part of the pictures and holds out the rest. If True,
        the models are fitted and used as they are, and `fit` takes held-out pictures that none of them has
        seen. Since ``clone`` removes fitted attributes, an ensemble with ``prefit=True`` cannot be
        cross-validated.
    held_out_fraction : float, default=0.1
        The part of the pictures that `fit` holds out if `prefit` is False.
    random_state : int or None, default=0
        Seed of the split.
    memory_limit : int, str or None, default="2GB"
        The largest size of the embeddings of a block in prediction; if None, it is not limited.

    Attributes
    ----------
    models_ : tuple of AgeGenderPipeline
        The fitted models.
    weights_ : ndarray of shape (2, n_models)
        The weights of the age distributions and of the gender probabilities.
    calibration_ : Calibration
        The result of the calibration of the average.

    See Also
    --------
    agegender.AgeGenderPipeline : One model.

    Examples
    --------
    >>> from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
    >>> from agegender.ensemble import AgeGenderEnsemble
    >>> both = AgeGenderEnsemble(
    ...     [
    ...         AgeGenderPipeline(EmbeddingExtractor(("arcface", "facenet"))),
    ...         AgeGenderPipeline(EmbeddingExtractor("arcface"), AgeGenderClassifier("conv")),
    ...     ]
    ... )
    >>> both.fit(paths, target).predict_frame(others)  # doctest: +SKIP
    """

    models_: tuple[AgeGenderPipeline, ...]
    weights_: NDArray[np.float64]
    calibration_: Calibration
    _safe: ClassVar[SafeState] = ENSEMBLE

    def __init__(
        self,
        models: Sequence[AgeGenderPipeline],
        *,
        prefit: bool = False,
        held_out_fraction: float = 0.1,
        random_state: int | None = 0,
        memory_limit: int | str | None = "2GB",
    ) -> None:
        self.models = models
        self.prefit = prefit
        self.held_out_fraction = held_out_fraction
        self.random_state = random_state
        self.memory_limit = memory_limit

    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Train the models (unless ``prefit``), then find the weights of their average and calibrate it.

        Parameters
        ----------
        X : sequence of pictures
            With ``prefit=True``, held-out pictures.
        y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the pictures in the training of the models.
        groups : array-like of shape (n_samples,), default=None
            Pictures of one group stay together in every split. Equal pictures always do.

        Returns
        -------
        self : AgeGenderEnsemble

        Raises
        ------
        ValueError
            If there are fewer than 40 held-out pictures, or the models differ in ages or gender labels.

        Warns
        -----
        LeakageWarning
            If a model of ``prefit=True`` was trained on some of the pictures.
        """
        pictures = check_pictures(X)
        self._check_models()
        check_row_order(X, y=y, sample_weight=sample_weight, groups=groups)
        ages, _ = check_target(y, max_age=np.iinfo(np.int64).max)
        if len(ages) != len(pictures):
            raise ValueError(
                f"X has {len(pictures)} pictures and y {len(ages)} rows; they should be as many."
            )
        together = duplicate_groups(pictures)
        if groups is not None:
            together = connected_groups(together, groups)
        if self.prefit:
            models, held_out = tuple(self.models), np.arange(len(ages))
        else:
            train, held_out = grouped_split(
                y, together, test_size=self.held_out_fraction, random_state=self.random_state
            )
        if len(held_out) < LEAST_HELD_OUT:
            raise ValueError(
                f"{len(held_out)} held-out pictures are too few to weigh and calibrate the models; at least "
                f"{LEAST_HELD_OUT} are needed. Pass more pictures, or a larger held_out_fraction."
            )
        if not self.prefit:
            part = {"groups": together[train]}
            if sample_weight is not None:
                part["sample_weight"] = np.asarray(sample_weight)[train]
            of_train = _safe_indexing(X, train), _safe_indexing(y, train)
            models = tuple(clone(model).fit(*of_train, **part) for model in self.models)
        check_alike([model.classes_ for model in models])
        fitted = type(self)(**self.get_params(deep=False))
        fitted.models_ = models
        X, y = _safe_indexing(X, held_out), _safe_indexing(y, held_out)
        if self.prefit:
            fitted._warn_of_seen(X, "their weights and its intervals rely on them")
        fitted._weigh(X, y, together[held_out])
        self.__dict__ |= {name: vars(fitted)[name] for name in ("models_", "weights_", "calibration_")}
        return self

    def _weigh(self, X: Any, y: Any, groups: NDArray[np.intp]) -> None:
        """Find the weights on one half of held-out pictures, and calibrate their average on the other."""
        ages, genders = self._of_each_model(check_pictures(X))
        true_ages, true_genders = check_target(y, max_age=np.iinfo(np.int64).max)
        columns = np.clip(np.round(true_ages.astype(np.float64)), 0, ages[0].shape[1] - 1).astype(np.int64)
        labels = (true_genders == self.classes_[1][1]).astype(np.int64)
        readable = ~np.any([np.isnan(part[:, 0]) for part in ages], axis=0)
        weighing, calibrating = grouped_split(y, groups, test_size=0.5, random_state=self.random_state)
        rows = weighing[readable[weighing]]
        self.weights_ = np.stack(
            [
                mixture_weights(np.stack([part[rows, truth[rows]] for part in parts], axis=1))
                for parts, truth in ((ages, columns), (genders, labels))
            ]
        )
        rows = calibrating[readable[calibrating]]
        mean_ages, mean_genders = (
            mixture(weights, parts)[rows]
            for weights, parts in zip(self.weights_, (ages, genders), strict=True)
        )
        self.calibration_ = calibrate(mean_ages, mean_genders, true_ages[rows], labels[rows])

    def predict(self, X: Any, *, faces: _Faces = "own") -> NDArray[Any]:
        """Return age and gender of each picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`agegender.AgeGenderPipeline.predict`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The age in years (the mean of the averaged distribution) and the more probable gender.
        """
        return self.to_predictor().predict(X, faces=faces)

    def predict_proba(self, X: Any, *, faces: _Faces = "own") -> list[NDArray[np.float32]]:
        """Return the averaged distributions over ages and genders.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`agegender.AgeGenderPipeline.predict`.

        Returns
        -------
        list of two ndarrays, of shape (n_samples, max_age + 1) and (n_samples, 2)
        """
        return self.to_predictor().predict_proba(X, faces=faces)

    def predict_frame(
        self,
        X: Any,
        *,
        faces: _Faces = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Any:
        """Return a table: age, age_low, age_high (years), gender, gender_proba.

        Parameters
        ----------
        X : sequence of pictures
        faces, coverage, max_age_range, min_gender_proba, distribution
            As in :meth:`agegender.AgeGenderPipeline.predict_frame`.

        Returns
        -------
        DataFrame of n_samples rows, in the order of X
            As :meth:`agegender.AgeGenderPipeline.predict_frame` returns it. If models find faces with different
            detectors, the columns about the face are those of the first detector.
        """
        columns = self.to_predictor().predict_columns(
            X,
            faces=faces,
            coverage=coverage,
            max_age_range=max_age_range,
            min_gender_proba=min_gender_proba,
            distribution=distribution,
        )
        return as_table(columns, X)

    def predict_faces(
        self,
        X: Any,
        *,
        faces: _Faces = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Any:
        """Return a table with one row per face of all pictures.

        Parameters
        ----------
        X : sequence of pictures
        faces, coverage, max_age_range, min_gender_proba, distribution
            As in :meth:`agegender.AgeGenderPipeline.predict_faces`.

        Returns
        -------
        DataFrame
            As :meth:`agegender.AgeGenderPipeline.predict_faces` returns it.

        Raises
        ------
        ValueError
            If the models find faces with different detectors and do not find the same number of them.
        """
        columns = self.to_predictor().predict_faces(
            X,
            faces=faces,
            coverage=coverage,
            max_age_range=max_age_range,
            min_gender_proba=min_gender_proba,
            distribution=distribution,
        )
        return as_table(columns, X, by_picture=True)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the negative mean absolute error of the age, in years (higher is better).

        Parameters
        ----------
        X : sequence of pictures
        y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float

        Warns
        -----
        LeakageWarning
            If some of the pictures are among those that a model was trained on.
        """
        check_row_order(X, y=y, sample_weight=sample_weight)
        self._warn_of_seen(X, "their error is too small")
        return -age_mae(y, self.predict(X), sample_weight=sample_weight)

    def seen_in_training(self, X: Any) -> NDArray[np.bool_]:
        """Return which pictures were used to train one of the models or its network.

        Parameters
        ----------
        X : sequence of pictures

        Returns
        -------
        ndarray of shape (n_samples,), bool
        """
        check_is_fitted(self, "models_")
        return np.any([model.seen_in_training(X) for model in self.models_], axis=0)

    @property
    def classes_(self) -> list[NDArray[Any]]:
        """The ages and the gender labels, in the order of the columns of ``predict_proba``."""
        check_is_fitted(self, "models_")
        return self.models_[0].classes_

    def to_predictor(self) -> Predictor:
        """Return what predicts: the fitted models and their weights as one frozen value.

        Returns
        -------
        agegender.inference.Predictor
            It gives arrays instead of tables. :func:`agegender.inference.load` loads it from a safe file without the
            code that trains.

        See Also
        --------
        agegender.AgeGenderPipeline.to_predictor : The same of one model.
        agegender.inference : Predicting without the code that trains.
        """
        check_is_fitted(self, "calibration_")
        self._limit()
        heads = tuple(model.classifier_.fitted_head() for model in self.models_)
        return Predictor(
            self._extraction(),
            AveragedHead(heads, self.weights_, self.calibration_),
            memory_limit=self.memory_limit,
            training=Training.of_each(self.models_),
        )

    def _extraction(self) -> SharedExtraction:
        return SharedExtraction([model.extractor_.extraction() for model in self.models_])

    def _of_each_model(self, pictures: Sequence[Any]) -> tuple[_Distributions, _Distributions]:
        """Return the distributions of each model, of ages and of genders."""
        extraction, found = self._extraction(), []
        extraction.check_pictures_are_crops(pictures)
        heads = [model.classifier_.fitted_head() for model in self.models_]
        for block in extraction.embed_blocks(pictures, self._limit()):
            found.append([head.distributions(rows) for head, rows in zip(heads, block.rows, strict=True)])
        ages, genders = (
            [np.concatenate([block[model][output] for block in found]) for model in range(len(heads))]
            for output in (0, 1)
        )
        return ages, genders

    def _warn_of_seen(self, X: Any, consequence: str) -> None:
        seen = self.seen_in_training(X)
        if seen.any():
            warnings.warn(
                f"{np.count_nonzero(seen):,} of {len(seen):,} pictures are among those that a model of this ensemble "
                f"was trained on, or copies of them: {consequence}. Use others; seen_in_training(X) finds them.",
                LeakageWarning,
                stacklevel=3,
            )

    def _check_models(self) -> None:
        if not len(self.models):
            raise ValueError("AgeGenderEnsemble: models is empty; pass pipelines.")
        for model in self.models:
            if not isinstance(model, AgeGenderPipeline):
                raise TypeError(f"AgeGenderEnsemble averages AgeGenderPipelines, not {type(model).__name__}.")
            if self.prefit and not hasattr(model, "classifier_"):
                raise ValueError(
                    "AgeGenderEnsemble(prefit=True) needs fitted models, and one is not fitted. Fit it, or use "
                    "prefit=False; clone and cross-validation remove what was fitted."
                )
            if model.calibration_views is not None:
                raise ValueError(
                    f"A model has calibration_views={model.calibration_views!r}, but the ensemble calibrates its "
                    "average on plain pictures. Set calibration_views=None."
                )
        self._limit()

    def _limit(self) -> float:
        return check_bytes("memory_limit", self.memory_limit, type(self).__name__)

    def _check_safe(self) -> None:
        """Check the content of a safe file."""
        state = vars(self)
        for name in ("models", "models_"):
            found = state.get(name, ())
            if not isinstance(found, list | tuple) or not all(
                isinstance(one, AgeGenderPipeline) for one in found
            ):
                raise ModelFileError(f"its {name} are no pipelines")
        if "models_" in state:
            check_averaged(state, [model.classes_ for model in state["models_"]])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags
