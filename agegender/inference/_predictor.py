"""From pictures to ages and genders, as arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.extraction import Embedded, Extraction, Running, is_own
from agegender._extraction.report import ExtractionReport
from agegender._extraction.resolved import FacesParameter, Resolved
from agegender._extraction.shared import SharedExtraction
from agegender._fitting.averaged_head import AveragedHead
from agegender._fitting.fitted_head import FittedHead
from agegender._machine.installation import check_opencv
from agegender._utils.callers import refuse_recoded_labels
from agegender._utils.pictures import check_pictures
from agegender._utils.validation import check_bytes, did_you_mean
from agegender.backbones import Backbone
from agegender.calibration import Calibration
from agegender.faces import Detector, face_columns
from agegender.inference._columns import Columns, Wanted, joined, of_every_face

__all__ = ["Predictor", "Training"]

Faces: TypeAlias = FacesParameter | Literal["own"]


@dataclass(frozen=True)
class Training:
    """What is known of the training of a model, for its description; nothing of it changes a prediction.

    Parameters
    ----------
    head : str
        The name of the head.
    n_epochs : int or None
    n_pictures : int or None
        None if it is not recorded.
    """

    head: str
    n_epochs: int | None
    n_pictures: int | None

    @classmethod
    def of(cls, pipeline: Any) -> Self:
        """Read it from a fitted pipeline, or from what a safe file holds of one."""
        head = pipeline.classifier_.head
        return cls(
            head if isinstance(head, str) else type(head).__name__,
            getattr(pipeline.classifier_, "n_epochs_", None),
            len(getattr(pipeline, "trained_on_", ())) or None,
        )

    @classmethod
    def of_each(cls, pipelines: Sequence[Any]) -> Self:
        """Read it from several fitted pipelines; a picture counts once, and there is no number of epochs."""
        known = [np.asarray(getattr(each, "trained_on_", ()), np.uint64) for each in pipelines]
        heads = [cls.of(pipeline).head for pipeline in pipelines]
        # numpy.unique would import numpy.ma
        in_order = np.sort(np.concatenate(known))
        n_pictures = min(len(in_order), 1) + np.count_nonzero(np.diff(in_order))
        return cls(" + ".join(heads), None, int(n_pictures) or None)


class Predictor:
    """A fitted model that only predicts.

    Made by :func:`load`, :func:`load_pretrained`, :meth:`agegender.AgeGenderPipeline.to_predictor` or
    :meth:`agegender.ensemble.AgeGenderEnsemble.to_predictor`. Training the model again does not change it.

    Parameters
    ----------
    extraction : Extraction or SharedExtraction
        From pictures to rows.
    head : FittedHead or AveragedHead
        From rows to distributions; an AveragedHead takes the rows of a SharedExtraction.
    memory_limit : int, str or None, default="2GB"
        Bytes that the rows of a block of pictures may take, as in :class:`agegender.AgeGenderPipeline`.
    training : Training, default=None
        What is known of the training.

    Attributes
    ----------
    classes_ : list of ndarray
        The ages 0 … ``max_age`` and the two gender labels.
    calibration_ : agegender.calibration.Calibration
        The calibration of intervals and probabilities.
    report_ : ExtractionReport or None
        The report of the last call; its failures are pictures that could not be read.

    See Also
    --------
    agegender.inference.load : Load a predictor from a safe file.
    agegender.AgeGenderPipeline : A model that can also be trained.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.inference import load_pretrained
    >>> predictor = load_pretrained(cache=None)
    >>> predictor.predict([np.zeros((80, 80, 3), np.uint8)]).shape
    (1, 2)
    """

    def __init__(
        self,
        extraction: Extraction | SharedExtraction,
        head: FittedHead | AveragedHead,
        *,
        memory_limit: int | str | None = "2GB",
        training: Training | None = None,
    ) -> None:
        check_opencv()
        self._extraction = extraction
        self._head = head
        self._memory_limit = memory_limit
        self.training = training

    def predict(self, X: Any, *, faces: Faces = "own") -> NDArray[Any]:
        """Return age and gender of each picture.

        Parameters
        ----------
        X : sequence of pictures
            See :meth:`agegender.EmbeddingExtractor.transform`.
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            As in :meth:`agegender.AgeGenderPipeline.predict`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The age in years (the mean of its distribution) and the more probable gender.

        Raises
        ------
        PictureError
            If a picture cannot be read, unless ``on_error`` is ``"nan"``.
        """
        return np.concatenate([self._head.read_off(block.rows) for block in self._blocks(X, faces)])

    def predict_and_identify(self, X: Any) -> tuple[NDArray[Any], list[bytes | None]]:
        """Return the result of `predict`, and the digest of each picture's content; None if it could not be read.

        Parameters
        ----------
        X : sequence of pictures

        Returns
        -------
        tuple of ndarray of shape (n_samples, 2) and list of bytes or None
        """
        predicted, digests = [], []
        for block in self._blocks(X, "own"):
            predicted.append(self._head.read_off(block.rows))
            digests += block.digests
        return np.concatenate(predicted), digests

    def predict_proba(self, X: Any, *, faces: Faces = "own") -> list[NDArray[np.float32]]:
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
        refuse_recoded_labels()
        found = [self._head.distributions(block.rows) for block in self._blocks(X, faces)]
        ages, genders = zip(*found, strict=True)
        return [np.concatenate(ages), np.concatenate(genders)]

    def predict_columns(
        self,
        X: Any,
        *,
        faces: Faces = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Columns:
        """Return age, age_low, age_high (years), gender and gender_proba of each picture, as arrays.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.
        coverage, max_age_range, min_gender_proba
            As in :meth:`agegender.AgeGenderPipeline.predict_frame`.
        distribution : bool, default=False
            Whether to add age_proba, of shape (n_samples, max_age + 1).

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            The columns of :meth:`agegender.AgeGenderPipeline.predict_frame`; ``pandas.DataFrame(columns)`` is that
            table.

        Examples
        --------
        >>> import numpy as np
        >>> from agegender.inference import load_pretrained
        >>> columns = load_pretrained(cache=None).predict_columns([np.zeros((80, 80, 3), np.uint8)])
        >>> list(columns)
        ['age', 'age_low', 'age_high', 'gender', 'gender_proba']
        """
        wanted = Wanted(coverage, max_age_range, min_gender_proba, distribution)
        found: list[Columns] = []
        for block in self._blocks(X, faces, with_faces=True):
            shown = {} if block.faces is None else face_columns(block.faces)
            found.append(self._columns(block.rows, wanted) | shown)
        return joined(found)

    def predict_faces(
        self,
        X: Any,
        *,
        faces: Faces = "own",
        coverage: float = 0.9,
        max_age_range: float | None = None,
        min_gender_proba: float | None = None,
        distribution: bool = False,
    ) -> Columns:
        """Return the same of every face in the pictures, with its picture and its box.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            The detector; "own" is the one of the training, or "auto" if there was none.
        coverage, max_age_range, min_gender_proba, distribution
            As in :meth:`predict_columns`.

        Returns
        -------
        dict of str to ndarray of shape (n_faces,)
            picture (the row in X), x, y, width, height (pixels), score, and the columns of :meth:`predict_columns`,
            in the order of the pictures, the largest face first. A picture without a face has no row.

        Raises
        ------
        PictureError
            If a picture cannot be read, unless ``on_error`` is ``"nan"``.
        """
        wanted = Wanted(coverage, max_age_range, min_gender_proba, distribution)
        blocks = self._extraction.faces_blocks(X, self._limit(), faces=faces)
        return of_every_face(
            ((places, self._columns(rows, wanted)) for places, rows in blocks),
            wanted.no_columns(self.classes_, self.calibration_),
        )

    def with_options(self, **options: Any) -> Predictor:
        """Return a predictor that runs otherwise and gives the same numbers.

        Parameters
        ----------
        **options
            device, batch_size, cache, trust_mtime, on_cache_error, n_jobs, on_error, verbose: as in
            :class:`agegender.EmbeddingExtractor`.

        Returns
        -------
        Predictor

        Raises
        ------
        ValueError
            If there is no such option, or its value is not one of those that it may have.

        Examples
        --------
        >>> from agegender.inference import load_pretrained
        >>> load_pretrained().with_options(cache=None, on_error="nan").options["on_error"]
        'nan'
        """
        known = [field.name for field in fields(Running)]
        for name in options:
            if name not in known:
                raise ValueError(
                    f"A predictor has no option {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}"
                )
        extraction = self._extraction.with_running(**options)
        extraction.members[0].running.check(type(self).__name__)
        return Predictor(extraction, self._head, memory_limit=self._memory_limit, training=self.training)

    def extraction(self, layer: str | None = None) -> Extraction:
        """Return what computes the rows that the head reads, or those of another layer, plain and without views.

        If several models are averaged, it computes the rows of the first.

        Parameters
        ----------
        layer : str, default=None
            As in :class:`agegender.EmbeddingExtractor`.

        Returns
        -------
        agegender._extraction.extraction.Extraction
        """
        own = self._first
        resolved = own.resolved if layer is None else own.resolved.reading(layer)
        return Extraction(resolved, own.running, own.faces)

    def detector(self) -> Detector:
        """Return the detector of the training, or the default for "auto" if there was none.

        Returns
        -------
        agegender.faces.Detector
        """
        return self._first.resolved.detector_for("auto", self._first.faces)

    @property
    def options(self) -> dict[str, Any]:
        """How calls run; see :meth:`with_options`. If several models are averaged, those of the first."""
        return {field.name: getattr(self._first.running, field.name) for field in fields(Running)}

    @property
    def classes_(self) -> list[NDArray[Any]]:
        """The ages and the gender labels, in the order of the columns of ``predict_proba``."""
        return self._head.classes

    @property
    def calibration_(self) -> Calibration:
        """The calibration of intervals and probabilities."""
        return self._head.calibration

    @property
    def resolved_(self) -> Resolved:
        """What ``fit`` decided: networks, layers, detector, views, crop; of the first of several models."""
        return self._first.resolved

    @property
    def networks(self) -> tuple[Backbone, ...]:
        """The networks of all models, each once."""
        each = [member.resolved.backbones for member in self._extraction.members]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(each)))

    @property
    def report_(self) -> ExtractionReport | None:
        """The report of the last call, or None before the first."""
        return self._extraction.report

    def __repr__(self) -> str:
        networks = " + ".join(backbone.name for backbone in self.networks)
        return f"<Predictor on {networks}, genders {', '.join(map(str, self.classes_[1]))}>"

    @property
    def _first(self) -> Extraction:
        return self._extraction.members[0]

    def _blocks(self, X: Any, faces: Faces, *, with_faces: bool = False) -> Iterator[Embedded[Any]]:
        """Yield rows in blocks of at most memory_limit."""
        pictures = check_pictures(X)
        if is_own(faces):
            self._extraction.check_pictures_are_crops(pictures)
        return self._extraction.embed_blocks(pictures, self._limit(), faces=faces, with_faces=with_faces)

    def _limit(self) -> float:
        return check_bytes("memory_limit", self._memory_limit, type(self).__name__)

    def _columns(self, rows: Any, wanted: Wanted) -> Columns:
        ages, genders = self._head.distributions(rows)
        return wanted.columns(ages, genders, self.classes_[1], self.calibration_)
