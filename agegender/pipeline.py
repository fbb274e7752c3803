"""The pipeline from pictures to predictions: an extractor and a classifier as one estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from agegender._exporting.tuned import check_same, tuned_network
from agegender._extraction.contents import digests_of
from agegender._extraction.resolved import carried_names
from agegender._networks.opening import pictures_of_training
from agegender._networks.shipped import SHIPPED
from agegender._safe.declaration import SafeState
from agegender._safe.declared import PIPELINE
from agegender._utils.pictures import check_pictures
from agegender._utils.row_labels import check_row_order
from agegender._utils.seen import are_among, short_digests
from agegender._utils.spill import rows_on_disk
from agegender._utils.tables import as_table
from agegender._utils.target import check_target, gender_labels
from agegender._utils.validation import check_bytes
from agegender._utils.versions import VersionedState
from agegender.backbones import Backbone
from agegender.calibration import calibrate_on_views
from agegender.classifier import AgeGenderClassifier
from agegender.exceptions import LeakageWarning, ModelFileError, TrainingWarning
from agegender.extractor import EmbeddingExtractor, ExtractionReport, FacesParameter
from agegender.fine_tuning import FineTuneHead
from agegender.heads import head_layer, make_head, with_backbone, with_widths
from agegender.inference import Predictor
from agegender.inference._predictor import Training
from agegender.metrics import age_mae
from agegender.views import View, resolve_calibration_views

__all__ = ["AgeGenderPipeline"]

_PARTS = {"extractor": EmbeddingExtractor, "classifier": AgeGenderClassifier}


class AgeGenderPipeline(VersionedState, BaseEstimator):
    """Predict age and gender from pictures of faces.

    It combines an :class:`EmbeddingExtractor` and an :class:`AgeGenderClassifier`. With the extractor's
    ``layer="auto"``, the layer of the classifier's head is used. This is decided at ``fit`` on copies, so that
    the parameters do not change.

    Parameters
    ----------
    extractor : EmbeddingExtractor, default=None
        If None, ``EmbeddingExtractor()``. Its parameters are set as ``extractor__crop`` and so on.
    classifier : AgeGenderClassifier, default=None
        If None, ``AgeGenderClassifier()``. Its parameters are set as ``classifier__head`` and so on.
    memory_limit : int, str or None, default="2GB"
        Bytes, as a number or as text. If the embeddings take more, they are stored in a temporary file for
        training (in ``TMPDIR``; it is always deleted when ``fit`` ends), and predicted in blocks. The
        extractor's ``dtype="float16"`` halves their size. If None, memory is not limited.
    calibration_views : {"degraded"}, View, tuple of str and View or None, default=None
        The views of the calibration set that intervals and gender probabilities are calibrated on. If None, the
        pictures as they are: intervals hold for pictures like those of the training. ``"degraded"``: each picture
        also grey, blurred, small, compressed, closer, wider, rotated, darker and lighter
        (`agegender.views.DEGRADED`); intervals are wider, and hold for each of these changes. The pictures of the
        calibration set are embedded once more per view, and cached.

    Attributes
    ----------
    extractor_ : EmbeddingExtractor
        The fitted extractor with its resolved layer.
    classifier_ : AgeGenderClassifier
        The fitted classifier.
    trained_on_ : ndarray of uint64
        Eight bytes of the digest of each picture that the head was trained on, sorted.
    classes_ : list of ndarray
        The ages 0 … ``max_age`` and the two gender labels.

    See Also
    --------
    agegender.EmbeddingExtractor : From pictures to embeddings.
    agegender.AgeGenderClassifier : The classifier on embeddings.
    agegender.load_pretrained : Load the pretrained model of the package.
    agegender.save_model : Save a model in a safe file.

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

    trained_on_: NDArray[np.uint64]
    _safe: ClassVar[SafeState] = PIPELINE
    __metadata_request__predict: ClassVar = {"faces": UNUSED}
    __metadata_request__predict_proba: ClassVar = {"faces": UNUSED}

    def __init__(
        self,
        extractor: EmbeddingExtractor | None = None,
        classifier: AgeGenderClassifier | None = None,
        *,
        memory_limit: int | str | None = "2GB",
        calibration_views: str | View | Sequence[str | View] | None = None,
    ) -> None:
        self.extractor = extractor
        self.classifier = classifier
        self.memory_limit = memory_limit
        self.calibration_views = calibration_views

    @classmethod
    def from_parts(
        cls,
        extractor: EmbeddingExtractor,
        classifier: AgeGenderClassifier,
        *,
        pictures: Any = None,
        memory_limit: int | str | None = "2GB",
    ) -> Self:
        """Return a fitted pipeline, made of an extractor and a classifier that was trained on its rows.

        What :func:`agegender.shards.open_shards` and :meth:`EmbeddingExtractor.transform` give is trained on without
        the pictures; this joins the two again. Which pictures these were it does not know: ``seen_in_training`` and
        the warning of ``score`` see none of them.

        Parameters
        ----------
        extractor : EmbeddingExtractor
            What computed the rows; its layer and the network are up to you where no footer describes them.
        classifier : AgeGenderClassifier
            Fitted.
        pictures : sequence of pictures, default=None
            Some of the face crops that the rows are of, to find out how they are framed (see
            :meth:`EmbeddingExtractor.measure_framing`). Without them, where `faces` and `framing` are None,
            ``predict(faces="auto")`` cannot show faces in that framing, and warns.
        memory_limit : int, str or None, default="2GB"
            As in the constructor.

        Returns
        -------
        AgeGenderPipeline

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the extractor's rows have another shape than those that the classifier was trained on.

        See Also
        --------
        agegender.shards.shard_extractor : The extractor that shards describe.

        Examples
        --------
        >>> import numpy as np
        >>> from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor
        >>> extractor = EmbeddingExtractor("compact", layer="pooled")
        >>> rows = np.random.default_rng(0).normal(size=(60, *extractor.row_shape()))
        >>> labels = np.column_stack([np.arange(60) + 20, np.arange(60) % 2])
        >>> head = AgeGenderClassifier(epochs=1, random_state=0).fit(rows, labels)
        >>> AgeGenderPipeline.from_parts(extractor, head).predict([np.zeros((112, 112, 3), np.uint8)]).shape
        (1, 2)
        """
        check_is_fitted(classifier)
        model = cls(clone(extractor), clone(classifier), memory_limit=memory_limit)
        fitted = model.resolve_extractor().fit()
        shape, trained = fitted.row_shape(), classifier._row_shape
        if trained not in (shape, shape[1:]):
            raise ValueError(
                f"The extractor gives rows of shape {shape}, but the classifier was fitted on rows of {trained}: "
                "another layer or network."
            )
        if fitted.faces is None and fitted.framing is None:
            fitted.measure_framing(pictures)
        model.extractor_, model.classifier_ = fitted, classifier
        model.trained_on_ = short_digests([])
        return model

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
            Pictures of one group (for example a person) stay together in the inner validation split. Equal
            pictures always do.

        Returns
        -------
        self : AgeGenderPipeline
        """
        pictures = check_pictures(X)
        self._limit()
        classifier = self._own_classifier()
        views = self._views_of_calibration(classifier)
        check_row_order(X, y=y, sample_weight=sample_weight, groups=groups)
        self._check_target(y, pictures, classifier.max_age)
        extractor = self.resolve_extractor().fit()
        classifier.head = with_backbone(classifier.head, extractor.backbones_)
        widths = [math.prod(source.shape) for source in extractor.resolved_.sources]
        classifier.head = with_widths(classifier.head, widths)
        if extractor.resolved_.has_view_axis and classifier.n_views is None:
            classifier.n_views = len(extractor.resolved_.views)
        shape = (len(pictures), *extractor.row_shape())
        with rows_on_disk(shape, extractor.row_dtype(), self._limit()) as rows:
            embedded = extractor.embed(pictures, out=rows)
            _warn_of_networks(extractor, embedded.digests)
            if extractor.faces is None and extractor.framing is None:
                extractor.measure_framing(pictures)
            aside = classifier._fit_whole(embedded.rows, y, sample_weight, groups)
        if views:
            self._calibrate(extractor, classifier, views, pictures, y, aside)
        self.extractor_, self.classifier_ = extractor, classifier
        self.trained_on_ = short_digests(embedded.digests)
        return self

    def _views_of_calibration(self, classifier: AgeGenderClassifier) -> tuple[View, ...]:
        views = resolve_calibration_views(self.calibration_views)
        if views and classifier.calibration_fraction == 0:
            raise ValueError(
                f"calibration_views={self.calibration_views!r} needs a calibration set, but the classifier has "
                "calibration_fraction=0. Give it a fraction such as 0.1, or leave calibration_views out."
            )
        return views

    def _calibrate(
        self,
        extractor: EmbeddingExtractor,
        classifier: AgeGenderClassifier,
        views: Sequence[View],
        pictures: Any,
        y: Any,
        aside: NDArray[np.int64],
    ) -> None:
        """Calibrate a trained head on views of the calibration set."""
        if not len(aside):
            warnings.warn(
                f"There is no calibration set: too few pictures, or all of one group. calibration_views="
                f"{self.calibration_views!r} has no effect, and raw probabilities are used.",
                TrainingWarning,
                stacklevel=3,
            )
            return
        part = [pictures[row] for row in aside.tolist()]
        head, outputs = classifier.fitted_head(), []
        for view in views:
            own = dict.fromkeys(view + one for one in extractor.resolved_.views)
            seen = extractor.with_parameters(views=tuple(own))
            found = [head.raw_distributions(block.rows) for block in seen.embed_blocks(part, self._limit())]
            age_proba, gender_proba = (np.concatenate(each) for each in zip(*found, strict=True))
            outputs.append((age_proba, gender_proba))
        ages, genders = check_target(y, max_age=classifier.max_age)
        labels = genders[aside] == classifier.classes_[1][1]
        classifier.calibration_ = calibrate_on_views(outputs, ages[aside], labels.astype(np.int64))

    def predict(self, X: Any, *, faces: FacesParameter | Literal["own"] = "own") -> NDArray[Any]:
        """Return age and gender of each picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            The detector for this call. "auto" is the model's detector, None uses pictures as face crops, and
            "own" does the same as in training. Detected faces are aligned to the framing of the training faces.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The age in years (the mean of its distribution) and the more probable gender.
        """
        with self._predicting() as predictor:
            return predictor.predict(X, faces=faces)

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
        with self._predicting() as predictor:
            return predictor.predict_proba(X, faces=faces)

    def predict_frame(
        self,
        X: Any,
        *,
        faces: FacesParameter | Literal["own"] = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Any:
        """Return a table: age, age_low, age_high (years), gender, gender_proba.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.
        coverage : float, default=0.9
            The fraction of pictures whose true age should lie between age_low and age_high.
        max_age_range : float, default=None
            The largest width of the interval, in years, for which an age is given.
        min_gender_proba : float, default=None
            The smallest probability for which a gender is given.
        distribution : bool, default=False
            Whether to add the column age_proba: the probabilities of the ages 0 … ``max_age``, an array per row.

        Returns
        -------
        DataFrame of n_samples rows, in the order of X
            If X is a Series or frame, its index is used. See :meth:`AgeGenderClassifier.predict_frame`. If faces
            are detected, the columns rotation, sharpness, yaw, roll, quality, reliable and doubts tell how the face
            was found and how much it shows: see :class:`agegender.faces.Face`.
        """
        with self._predicting() as predictor:
            columns = predictor.predict_columns(
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
        faces: FacesParameter | Literal["own"] = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Any:
        """Return a table with one row per face of all pictures.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            The detector; "own" is the one of the training, or "auto" if there was none.
        coverage, max_age_range, min_gender_proba, distribution
            As in :meth:`predict_frame`.

        Returns
        -------
        DataFrame
            picture (the row in X), x, y, width, height (the box, in pixels of the upright picture), score, and
            the columns of :meth:`predict_frame` with those of the face; in the order of the pictures, the largest
            face first. A picture without a face has no row. If X is a Series or frame, each row has its picture's
            index label.

        Raises
        ------
        PictureError
            If a picture cannot be read, unless the extractor's ``on_error`` is ``"nan"``.
        """
        with self._predicting() as predictor:
            columns = predictor.predict_faces(
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
            If some of the pictures are among those that the model was trained on.
        """
        check_row_order(X, y=y, sample_weight=sample_weight)
        with self._predicting() as predictor:
            predicted, digests = predictor.predict_and_identify(X)
        seen = self._seen(digests)
        if seen.any():
            warnings.warn(
                f"{np.count_nonzero(seen):,} of {len(seen):,} pictures are among those that this model was trained "
                "on, or copies of them: their error is too small. Use others; seen_in_training(X) finds them.",
                LeakageWarning,
                stacklevel=2,
            )
        return -age_mae(y, predicted, sample_weight=sample_weight)

    def seen_in_training(self, X: Any) -> NDArray[np.bool_]:
        """Return which pictures were used to train the head or its network, if that is one of the package.

        Parameters
        ----------
        X : sequence of pictures
            They are read and compared by content, so that copies with another name are found.

        Returns
        -------
        ndarray of shape (n_samples,), bool
            False for a picture that cannot be read.
        """
        check_is_fitted(self, "classifier_")
        return self._seen(digests_of(check_pictures(X), self.extractor_.n_jobs))

    def _seen(self, digests: Sequence[bytes | None]) -> NDArray[np.bool_]:
        seen = are_among(digests, getattr(self, "trained_on_", short_digests([])))
        for backbone in self.extractor_.backbones_:
            seen |= are_among(digests, pictures_of_training(backbone))
        return seen

    def to_backbone(self, name: str | None = None) -> Backbone:
        """Return the network that a fine-tuning head has trained, as a backbone of its own.

        The blocks before the head's cut and the trained ones are one ONNX graph. Its output is what the head's dense
        layers read, so that ``layer="auto"`` stands for that. The new backbone can stand in a list beside others, be
        quantised, saved, and trained further.

        Its training pictures are noted in its file. It must not embed them for another training, because its rows of
        them tell their ages better than its rows of new pictures: ``fit`` issues a `LeakageWarning`, and
        :func:`agegender.model_selection.cross_val_embed` gives rows that are honest.

        Parameters
        ----------
        name : str, default=None
            Of the backbone. If None, the name of the network that was fine-tuned and ``-tuned``.

        Returns
        -------
        Backbone
            An ONNX network with its own sha256; :meth:`Backbone.save` writes it to a file. It takes what the original
            network takes; if the head began at ``layer="input"``, RGB pictures of values 0 … 255.

        Raises
        ------
        ValueError
            If the head is not a FineTuneHead, or an ensemble of them, which has several networks.
        ModelFileError
            If the head or the network has no ONNX form.

        See Also
        --------
        agegender.FineTuneHead : The head that trains a network further.
        agegender.model_selection.cross_val_embed : Rows of networks that were not trained on their pictures.
        """
        head, trained = self._fine_tuned_head()
        (source,) = self.extractor_.resolved_.sources
        parts = (source.backbone, source.layer, trained, len(head.hidden_widths))
        name = name or f"{source.backbone.name}-tuned"
        content, terms = tuned_network(*parts, name=name, trained_on=self.trained_on_)
        tuned = Backbone._from_content(content, None, source.backbone.input_size, terms)
        check_same(tuned, *parts)
        return tuned

    def _fine_tuned_head(self) -> tuple[FineTuneHead, bytes]:
        """Return the head if it has trained a network further, and its ONNX form."""
        check_is_fitted(self, "classifier_")
        head, classifier = self.classifier_.head, self.classifier_
        if not isinstance(head, FineTuneHead):
            raise ValueError(
                f"to_backbone returns the network that a FineTuneHead has trained; {head!r} leaves the network as it "
                "is, and model.extractor_.backbones_ has it. To train its last blocks, fit the pipeline with "
                "AgeGenderClassifier(FineTuneHead(layer)); Backbone.layers lists the layers."
            )
        if classifier.ensemble > 1:
            raise ValueError(
                f"This head was trained with ensemble={classifier.ensemble}: it has as many networks. Fit the "
                "pipeline with ensemble=1, once per network that you want, and give the backbones to one extractor "
                "as a tuple."
            )
        if classifier._onnx is None:
            raise ModelFileError(
                "The head has a layer that ONNX or its converter lacks, as the warning at fit said; its network "
                "cannot be a backbone."
            )
        return head, classifier._onnx

    @property
    def classes_(self) -> list[NDArray[Any]]:
        """The ages and the gender labels, in the order of the columns of ``predict_proba``."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.classes_

    @property
    def report_(self) -> ExtractionReport:
        """The extractor's report of the last call."""
        check_is_fitted(self, "extractor_")
        if not hasattr(self.extractor_, "report_"):
            raise NotFittedError(
                "There is no report_ yet: this model has read no picture since it was loaded, and a file keeps none. "
                "Call predict or predict_frame first."
            )
        return self.extractor_.report_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of both parts, even if a part is None.

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

        If a part is None, setting one of its parameters creates it.

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
        """Return a copy of the extractor with the layer that ``fit`` would use.

        Returns
        -------
        EmbeddingExtractor
            For example to fill the cache beforehand, or to look at the input of the head.
        """
        extractor = EmbeddingExtractor() if self.extractor is None else clone(self.extractor)
        if extractor.layer == "auto":
            head, backbones = make_head(self._own_classifier().head), extractor.resolve_backbones()
            with_backbone(head, backbones)  # here, because the networks may not have one layer of that name
            layers = tuple(head_layer(head, backbone) for backbone in backbones)
            several = isinstance(extractor.backbone, (tuple, list))
            extractor.set_params(layer=layers if several else layers[0])
        return extractor

    def _own_classifier(self) -> AgeGenderClassifier:
        return AgeGenderClassifier() if self.classifier is None else clone(self.classifier)

    def _check_target(self, y: Any, pictures: Sequence[Any], max_age: int) -> None:
        """Refuse a bad y before the pictures are embedded, which may take an hour."""
        ages, genders = check_target(y, max_age=max_age)
        gender_labels(genders)
        if len(ages) != len(pictures):
            raise ValueError(
                f"X has {len(pictures)} pictures and y {len(ages)} rows; they should be as many."
            )

    def to_predictor(self) -> Predictor:
        """Return what predicts: the fitted model as one frozen value, which training this pipeline does not change.

        Returns
        -------
        agegender.inference.Predictor
            It gives arrays instead of tables. :func:`agegender.inference.load` loads it from a safe file in a quarter
            of the time that a pipeline takes.

        See Also
        --------
        agegender.inference : Predicting without the code that trains.

        Examples
        --------
        >>> from agegender import load_pretrained
        >>> load_pretrained().to_predictor()
        <Predictor on compact, genders 0, 1>
        """
        check_is_fitted(self, "classifier_")
        parts = self.extractor_.extraction(), self.classifier_.fitted_head()
        self._limit()
        return Predictor(*parts, memory_limit=self.memory_limit, training=Training.of(self))

    @contextmanager
    def _predicting(self) -> Iterator[Predictor]:
        """Lend a predictor for one call, and keep its report whatever happens."""
        predictor = self.to_predictor()
        try:
            yield predictor
        finally:
            if predictor.report_ is not None:
                self.extractor_.report_ = predictor.report_

    def _limit(self) -> float:
        return check_bytes("memory_limit", self.memory_limit, type(self).__name__)

    def carrying(self) -> AgeGenderPipeline:
        """Return a fitted pipeline with the files of small networks inside, to be taken to another machine.

        Returns
        -------
        AgeGenderPipeline
            It can be refitted and cloned there too.
        """
        if "extractor_" not in vars(self):
            return self
        other = type(self)(memory_limit=self.memory_limit)
        other.__dict__ |= vars(self)
        other.extractor_ = self.extractor_.carrying()
        if self.extractor is not None:
            named, fitted = self.extractor.backbone, self.extractor_.backbone
            networks = carried_names(named, fitted, other.extractor_.backbones_)
            other.extractor = clone(self.extractor).set_params(backbone=networks)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return dict(VersionedState.__getstate__(self.carrying()))

    def _check_safe(self) -> None:
        """Check the content of a safe file."""
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind | None):
                raise ModelFileError(f"its {name} is a {type(getattr(self, name)).__name__}")
            if not isinstance(getattr(self, f"{name}_", kind()), kind):
                raise ModelFileError(f"its fitted {name} is a {type(getattr(self, f'{name}_')).__name__}")
        trained_on = getattr(self, "trained_on_", np.empty(0, np.uint64))
        if not isinstance(trained_on, np.ndarray) or trained_on.dtype != np.uint64 or trained_on.ndim != 1:
            raise ModelFileError("the pictures that it was trained on are no digests")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


def _warn_of_networks(extractor: EmbeddingExtractor, digests: Sequence[bytes | None]) -> None:
    """Warn if a network itself was trained on some of the pictures, because their embeddings leak their ages."""
    shipped = {one.sha256 for one in SHIPPED.values()}
    for backbone in extractor.backbones_:
        known = are_among(digests, pictures_of_training(backbone))
        if not known.any():
            continue
        remedy = (
            "cross-validation on them is too optimistic, and a search may choose it wrongly. Test it on the pictures "
            "in agegender.pretrained.kept_out_names(), or on others."
            if backbone.sha256 in shipped
            else "its rows of them tell their ages better than those of new pictures, and the head, early stopping "
            "and intervals rely on it. Train the head on other pictures, or on the rows of "
            "agegender.model_selection.cross_val_embed."
        )
        warnings.warn(
            f"{np.count_nonzero(known):,} of {len(known):,} pictures, or copies of them, were used to train the "
            f"network {backbone.name!r} itself: {remedy}",
            LeakageWarning,
            stacklevel=3,
        )
