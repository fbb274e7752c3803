"""Pictures in, ages and genders out: an extractor and a classifier as one estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from agegender._utils.pictures import check_pictures
from agegender._utils.spill import room
from agegender._utils.target import check_target, gender_labels
from agegender._utils.validation import check_bytes
from agegender._utils.versions import VersionedState
from agegender.classifier import AgeGenderClassifier
from agegender.extractor import EmbeddingExtractor, ExtractionReport, FacesParameter
from agegender.heads import head_layer, make_head, with_backbone
from agegender.metrics import age_mae

__all__ = ["AgeGenderPipeline"]

_PARTS = {"extractor": EmbeddingExtractor, "classifier": AgeGenderClassifier}


class AgeGenderPipeline(VersionedState, BaseEstimator):
    """Predict age and gender from pictures of faces.

    Joins an :class:`EmbeddingExtractor` and an :class:`AgeGenderClassifier`. The layer that the extractor's
    ``layer="auto"`` stands for is the one that the classifier's head reads; it is decided at ``fit``, on
    copies, so that both parameters stay what you made them.

    Parameters
    ----------
    extractor : EmbeddingExtractor, default=None
        None is ``EmbeddingExtractor()``. Its parameters are reached as ``extractor__crop`` and the like.
    classifier : AgeGenderClassifier, default=None
        None is ``AgeGenderClassifier()``. Its parameters are reached as ``classifier__head`` and the like.
    memory_limit : int, str or None, default="2GB"
        Bytes, as a number or as text. Activations that take more are kept in a temporary file while the head is
        trained (in ``TMPDIR``; gone when ``fit`` ends, however it ends), and pass through in blocks in prediction.
        The extractor's ``dtype="float16"`` halves them. None knows no limit.

    Attributes
    ----------
    extractor_ : EmbeddingExtractor
        The extractor used, its layer decided.
    classifier_ : AgeGenderClassifier
        The fitted classifier.
    classes_ : list of ndarray
        The ages 0 … ``max_age`` and the two gender labels.

    Examples
    --------
    >>> from agegender import AgeGenderClassifier, AgeGenderPipeline, DenseHead, EmbeddingExtractor
    >>> model = AgeGenderPipeline(
    ...     EmbeddingExtractor("arcface"), AgeGenderClassifier(DenseHead(units=(256,)))
    ... )
    >>> model.set_params(classifier__head__units=(128,)).classifier.head
    DenseHead(units=(128,))
    >>> model.fit(["anna.jpg", "bert.jpg"], [[31, 1], [54, 0]])  # doctest: +SKIP
    >>> model.predict_frame(["carol.jpg"])  # doctest: +SKIP
        age  age_low  age_high  gender  gender_proba
    0  42.3     30.1      55.0       1          0.98
    """

    __metadata_request__predict: ClassVar = {"faces": UNUSED}
    __metadata_request__predict_proba: ClassVar = {"faces": UNUSED}

    def __init__(
        self,
        extractor: EmbeddingExtractor | None = None,
        classifier: AgeGenderClassifier | None = None,
        *,
        memory_limit: int | str | None = "2GB",
    ) -> None:
        self.extractor = extractor
        self.classifier = classifier
        self.memory_limit = memory_limit

    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """Embed the pictures and train the head.

        Parameters
        ----------
        X : sequence of pictures
            See :meth:`EmbeddingExtractor.transform`.
        y : array-like of shape (n_samples, 2), or DataFrame with the columns age and gender
            Age in years and one of two genders.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the pictures in the loss.
        groups : array-like of shape (n_samples,), default=None
            Pictures of one group (a person, say) stay on one side of the inner validation split. Equal
            pictures do so by themselves.

        Returns
        -------
        self : AgeGenderPipeline
        """
        pictures = check_pictures(X)
        self._limit()
        classifier = self._own_classifier()
        self._check_target(y, pictures, classifier.max_age)
        extractor = self.resolve_extractor().fit()
        classifier.head = with_backbone(classifier.head, extractor.backbone_)
        shape = (len(pictures), *extractor.row_shape())
        with room(shape, extractor.row_dtype(), self._limit()) as rows:
            features = extractor.transform(pictures, out=rows)
            if extractor.faces is None and extractor.framing is None:
                extractor.measure_framing(pictures)
            classifier.fit(features, y, sample_weight=sample_weight, groups=groups)
        self.extractor_, self.classifier_ = extractor, classifier
        return self

    def predict(self, X: Any, *, faces: FacesParameter | Literal["own"] = "own") -> NDArray[Any]:
        """Return age and gender of each picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            What finds the face in each picture, in this call: "auto" the detector that the model keeps, None takes
            pictures as face crops, "own" does what the model was trained with. A found face is shown to the network
            in the framing of the faces that the model was trained on.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The age in years, the weighted average over its distribution, and the likelier gender.
        """
        return np.concatenate(self._blockwise("predict", X, faces))

    def predict_proba(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own"
    ) -> list[NDArray[np.float32]]:
        """Return the distributions over ages and genders.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.

        Returns
        -------
        list of two ndarrays, of shape (n_samples, max_age + 1) and (n_samples, 2)
        """
        ages, genders = zip(*self._blockwise("predict_proba", X, faces), strict=True)
        return [np.concatenate(ages), np.concatenate(genders)]

    def predict_frame(
        self,
        X: Any,
        *,
        faces: FacesParameter | Literal["own"] = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
    ) -> Any:
        """Return a table: age, age_low, age_high (years), gender, gender_proba.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.
        coverage : float, default=0.9
            The fraction of pictures whose true age is to lie between age_low and age_high.
        max_age_range : float, default=None
            The widest interval, in years, with which an age is given at all.
        min_gender_proba : float, default=None
            The lowest probability with which a gender is given at all.

        Returns
        -------
        DataFrame of n_samples rows, in the order of X
            See :meth:`AgeGenderClassifier.predict_frame`.
        """
        import pandas as pd

        frames = self._blockwise(
            "predict_frame",
            X,
            faces,
            coverage=coverage,
            max_age_range=max_age_range,
            min_gender_proba=min_gender_proba,
        )
        return pd.concat(frames, ignore_index=True)

    def predict_faces(
        self,
        X: Any,
        *,
        faces: FacesParameter | Literal["own"] = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
    ) -> Any:
        """Return a table with a row for every face of every picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            What finds faces; "own" is the detector that the model was trained with, or "auto" where that was none.
        coverage, max_age_range, min_gender_proba
            As in :meth:`predict_frame`.

        Returns
        -------
        DataFrame
            picture (the row in X), x, y, width, height (the box, in pixels of the upright picture), score, and the
            columns of :meth:`predict_frame`; picture by picture, the largest face first. A picture without a face has
            no row.

        Raises
        ------
        PictureError
            If a picture cannot be read, unless the extractor's ``on_error`` is ``"nan"``.
        """
        import pandas as pd

        check_is_fitted(self, "classifier_")
        found, rows = self.extractor_.transform_faces(X, faces=faces)
        boxes = [
            (index, face.x, face.y, face.width, face.height, face.score)
            for index, of_picture in enumerate(found)
            for face in of_picture
        ]
        table = pd.DataFrame(boxes, columns=["picture", "x", "y", "width", "height", "score"])
        # The head takes no empty array; one made-up row gives the columns their types.
        known = rows if boxes else np.zeros((1, *rows.shape[1:]), np.float32)
        predicted = self.classifier_.predict_frame(
            known, coverage=coverage, max_age_range=max_age_range, min_gender_proba=min_gender_proba
        )
        return table.join(predicted.iloc[: len(boxes)])

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
        """
        return -age_mae(y, self.predict(X), sample_weight=sample_weight)

    @property
    def classes_(self) -> list[NDArray[Any]]:
        """The ages and the gender labels, in the order of ``predict_proba``'s columns."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.classes_

    @property
    def report_(self) -> ExtractionReport:
        """What the extractor did in the last call."""
        check_is_fitted(self, "extractor_")
        return self.extractor_.report_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, those of both parts too, also where a part is None.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
        """
        params = super().get_params(deep)
        for name, part in _PARTS.items() if deep else ():
            if params[name] is None:
                params |= {f"{name}__{key}": value for key, value in part().get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, ``extractor__…`` and ``classifier__…`` included.

        A part that is None becomes an instance of this pipeline's own when one of its parameters is set.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : AgeGenderPipeline
        """
        for name, part in _PARTS.items():
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and params.get(name, getattr(self, name)) is None:
                params[name] = part()
        super().set_params(**params)
        return self

    def resolve_extractor(self) -> EmbeddingExtractor:
        """Return a copy of the extractor that reads the layer which ``fit`` will read.

        Returns
        -------
        EmbeddingExtractor
            To fill the cache beforehand, say, or to look at what the head is given.
        """
        extractor = EmbeddingExtractor() if self.extractor is None else clone(self.extractor)
        if extractor.layer == "auto":
            head = make_head(self._own_classifier().head)
            extractor.set_params(layer=head_layer(head, extractor.resolve_backbone()))
        return extractor

    def _own_classifier(self) -> AgeGenderClassifier:
        return AgeGenderClassifier() if self.classifier is None else clone(self.classifier)

    def _check_target(self, y: Any, pictures: Sequence[Any], max_age: int) -> None:
        """Refuse a bad y before the pictures take an hour."""
        ages, genders = check_target(y, max_age=max_age)
        gender_labels(genders)
        if len(ages) != len(pictures):
            raise ValueError(
                f"X has {len(pictures)} pictures and y {len(ages)} rows; they should be as many."
            )

    def _blockwise(
        self, method: str, X: Any, faces: FacesParameter | Literal["own"] = "own", **params: Any
    ) -> list[Any]:
        """Return what a method of the classifier gives for each block of pictures that memory_limit allows."""
        check_is_fitted(self, "classifier_")
        read = getattr(self.classifier_, method)
        blocks = self.extractor_.transform_blocks(X, self._limit(), faces=faces)
        return [read(rows, **params) for rows in blocks]

    def _limit(self) -> float:
        return check_bytes("memory_limit", self.memory_limit, type(self).__name__)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags
