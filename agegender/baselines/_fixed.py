"""The common part of all baselines: prediction of ages and genders from pictures, without training."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender import images
from agegender._extraction.framing import FaceFinder
from agegender._machine.pools import reading_threads
from agegender._machine.threads import resolve_threads
from agegender._utils.pictures import check_pictures
from agegender._utils.progress import progress_bar
from agegender._utils.tables import as_table
from agegender.backbones import Backbone
from agegender.cache import open_cache
from agegender.exceptions import PictureError
from agegender.extractor import EmbeddingExtractor, ExtractionReport, FacesParameter, Failure
from agegender.faces import Face, face_columns, load_detector, no_face
from agegender.inference._columns import Columns, of_every_face
from agegender.metrics import age_mae

__all__ = ["FixedEstimator"]

# Pictures whose faces are held in memory at once.
_BLOCK = 64


class FixedEstimator(BaseEstimator, ABC):
    """A predictor with published networks; the parameters are documented in the public subclasses."""

    faces: FacesParameter
    batch_size: int
    cache: Any
    n_jobs: int | None
    on_error: str
    verbose: int
    report_: ExtractionReport

    __metadata_request__predict: ClassVar = {"faces": UNUSED}
    __metadata_request__predict_proba: ClassVar = {"faces": UNUSED}

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Find the weights; nothing is learnt.

        Parameters
        ----------
        X : ignored
        y : ignored

        Returns
        -------
        self
        """
        self.networks_ = self._find_networks()
        return self

    def predict(self, X: Any, *, faces: FacesParameter | Literal["own"] = "own") -> NDArray[np.float64]:
        """Return age and gender of each picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            Overrides the parameter `faces` in this call.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            The age in years and the gender, 0 male, 1 female; NaN for a picture that could not be used.
        """
        columns = self._columns(self._rows_and_faces(X, faces)[0], 0.9)
        return np.column_stack([columns["age"], columns["gender"]]).astype(np.float64)

    def predict_frame(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own", coverage: float = 0.9
    ) -> Any:
        """Return a table: age, age_low, age_high (years), gender, gender_proba; NaN for missing predictions.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.
        coverage : float, default=0.9
            The share of the predicted distribution between age_low and age_high; there is no calibration.

        Returns
        -------
        DataFrame of n_samples rows, in the order of X
            If X is a Series or frame, its index is used. If faces are detected, the columns rotation, sharpness, yaw,
            roll, quality, reliable and doubts tell how the face was found and how much it shows: see
            :class:`agegender.faces.Face`.
        """
        rows, seen = self._rows_and_faces(X, faces)
        return as_table(self._columns(rows, coverage) | ({} if seen is None else face_columns(seen)), X)

    def predict_faces(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own", coverage: float = 0.9
    ) -> Any:
        """Return a table with one row per face of all pictures.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            The face detector; "own" is the parameter `faces`, or "auto" if that is None.
        coverage : float, default=0.9
            As in :meth:`predict_frame`.

        Returns
        -------
        DataFrame
            picture (the row in X), x, y, width, height (the box, in pixels of the upright picture), score, and the
            columns of :meth:`predict_frame`; picture by picture, the largest face first. If X is a Series or frame,
            each row has its picture's index label.
        """
        wanted = self.faces if faces == "own" else faces
        found, rows = self._every_face(check_pictures(X), "auto" if wanted is None else wanted, largest=False)
        places = [(index, face) for index, of_picture in enumerate(found) for face in of_picture]
        columns = self._columns(rows, coverage)
        return as_table(of_every_face([(places, columns)], columns), X, by_picture=True)

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
    def classes_(self) -> list[NDArray[np.int64]]:
        """The ages 0 … 100 and the genders, 0 male and 1 female."""
        return [np.arange(101), np.arange(2)]

    @abstractmethod
    def _find_networks(self) -> list[Backbone]:
        """Return the networks whose outputs form a row, in this order."""

    @abstractmethod
    def _cut(self, pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """Cut a face out of a picture as the network's own project does."""

    @abstractmethod
    def _columns(self, rows: NDArray[np.floating], coverage: float) -> Columns:
        """Convert the networks' outputs to columns of predictions."""

    def _rows_and_faces(
        self, X: Any, faces: FacesParameter | Literal["own"]
    ) -> tuple[NDArray[np.float32], list[Face | None] | None]:
        """Return the networks' outputs, one row per picture, and the faces if they were searched.

        A row is NaN, and a face None, for a picture that could not be used.
        """
        pictures = check_pictures(X)
        wanted = self.faces if faces == "own" else faces
        if wanted is None:
            extractor = self._extractor(self.verbose)
            rows: NDArray[np.float32] = extractor.transform(pictures)
            self.report_ = extractor.report_
            return rows, None
        found, of_faces = self._every_face(pictures, wanted, largest=True)
        rows = np.full((len(pictures), of_faces.shape[1]), np.nan, np.float32)
        rows[[index for index, of_picture in enumerate(found) if of_picture]] = of_faces
        return rows, [of_picture[0] if of_picture else None for of_picture in found]

    def _every_face(
        self, pictures: Sequence[Any], wanted: FacesParameter, *, largest: bool
    ) -> tuple[list[list[Face]], NDArray[np.float32]]:
        """Return the faces of each picture, or only the largest, and one row per face."""
        started = time.perf_counter()
        finder = FaceFinder(load_detector("auto" if wanted is None else wanted), open_cache(self.cache))
        extractor = self._extractor(0)
        report, found, parts = ExtractionReport(), [], []
        with (
            reading_threads(resolve_threads(self.n_jobs)) as pool,
            progress_bar(len(pictures), "faces", self.verbose) as bar,
        ):
            for start in range(0, len(pictures), _BLOCK):
                block = range(start, min(start + _BLOCK, len(pictures)))
                cut = pool.map(lambda index: self._cut_faces(pictures[index], finder, largest), block)
                squares = []
                for index, faces in zip(block, cut, strict=True):
                    if isinstance(faces, PictureError):
                        report.failures.append(self._failed(index, faces))
                        faces = []
                    found.append([face for face, _ in faces])
                    squares += [square for _, square in faces]
                if squares:
                    parts.append(extractor.transform(squares))
                    report = report.followed_by(extractor.report_)
                bar.update(len(block))
        report.seconds = time.perf_counter() - started
        self.report_ = report
        return found, np.concatenate([np.empty((0, *extractor.row_shape()), np.float32), *parts])

    def _cut_faces(
        self, picture: Any, finder: FaceFinder, largest: bool
    ) -> list[tuple[Face, NDArray[np.uint8]]] | PictureError:
        try:
            content = images.read(picture)
            pixels = images.decode(content)
        except PictureError as error:
            return PictureError(images.describe(picture), error.reason)
        faces = finder(pixels, images.digest(content))
        if largest and not faces:
            return no_face(picture, finder.detector)
        return [(face, self._cut(pixels, face)) for face in faces[: 1 if largest else None]]

    def _failed(self, index: int, error: PictureError) -> Failure:
        if self.on_error == "raise":
            raise error
        return Failure(index, error.picture, error.reason)

    def _extractor(self, verbose: int) -> EmbeddingExtractor:
        """Return an extractor that concatenates the networks' outputs."""
        networks = getattr(self, "networks_", None) or self._find_networks()
        return EmbeddingExtractor(
            networks[0] if len(networks) == 1 else tuple(networks),
            layer="embedding",
            batch_size=self.batch_size,
            cache=self.cache,
            n_jobs=self.n_jobs,
            on_error=self.on_error,
            verbose=verbose,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        tags.target_tags.multi_output = True
        return tags
