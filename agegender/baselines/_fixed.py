"""What baselines have in common: pictures in, ages and genders out, nothing learnt."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender._extraction.every_face import EveryFace
from agegender._extraction.framing import FaceFinder, Framing
from agegender._machine.threads import resolve_threads
from agegender._utils.pictures import check_pictures
from agegender.backbones import Backbone
from agegender.cache import open_cache
from agegender.extractor import EmbeddingExtractor, ExtractionReport, FacesParameter, Failure
from agegender.faces import Face, load_detector, no_face
from agegender.metrics import age_mae

__all__ = ["FixedEstimator"]


class FixedEstimator(BaseEstimator, ABC):
    """A predictor whose networks others trained; the parameters are documented where it is made public."""

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
            The age in years and the gender, 0 male, 1 female; NaN where a picture could not be used.
        """
        frame = self._frame(self._rows(X, faces), 0.9)
        return frame[["age", "gender"]].to_numpy(dtype=np.float64)

    def predict_frame(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own", coverage: float = 0.9
    ) -> Any:
        """Return a table: age, age_low, age_high (years), gender, gender_proba; NaN for what the network leaves open.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in :meth:`predict`.
        coverage : float, default=0.9
            The share of the predicted distribution between age_low and age_high; the network is taken at its word.

        Returns
        -------
        DataFrame of n_samples rows, in the order of X
        """
        return self._frame(self._rows(X, faces), coverage)

    def predict_faces(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own", coverage: float = 0.9
    ) -> Any:
        """Return a table with a row for every face of every picture.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            What finds faces; "own" is the parameter `faces`, or "auto" where that is None.
        coverage : float, default=0.9
            As in :meth:`predict_frame`.

        Returns
        -------
        DataFrame
            picture (the row in X), x, y, width, height (the box, in pixels of the upright picture), score, and the
            columns of :meth:`predict_frame`; picture by picture, the largest face first.
        """
        import pandas as pd

        wanted = self.faces if faces == "own" else faces
        found, rows = self._every_face(check_pictures(X), "auto" if wanted is None else wanted, largest=False)
        boxes = [
            (index, face.x, face.y, face.width, face.height, face.score)
            for index, of_picture in enumerate(found)
            for face in of_picture
        ]
        table = pd.DataFrame(boxes, columns=["picture", "x", "y", "width", "height", "score"])
        return table.join(self._frame(rows, coverage))

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
        """Return the networks whose outputs are a row, in their order."""

    @abstractmethod
    def _cut(self, pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """Cut a face out of a picture as the network's own project does."""

    @abstractmethod
    def _frame(self, rows: NDArray[np.floating], coverage: float) -> Any:
        """Read the networks' numbers: a table of predictions."""

    def _rows(self, X: Any, faces: FacesParameter | Literal["own"]) -> NDArray[np.float32]:
        """Return the networks' numbers, a row a picture; NaN for one that could not be used."""
        pictures = check_pictures(X)
        wanted = self.faces if faces == "own" else faces
        if wanted is None:
            side_by_side = self._side_by_side(self.verbose)
            rows = side_by_side.transform(pictures)
            self.report_ = side_by_side.report_
            return rows
        found, of_faces = self._every_face(pictures, wanted, largest=True)
        rows = np.full((len(pictures), of_faces.shape[1]), np.nan, np.float32)
        rows[[index for index, of_picture in enumerate(found) if of_picture]] = of_faces
        return rows

    def _every_face(
        self, pictures: Sequence[Any], wanted: FacesParameter, *, largest: bool
    ) -> tuple[list[list[Face]], NDArray[np.float32]]:
        started = time.perf_counter()
        detector = load_detector("auto" if wanted is None else wanted)
        finder = FaceFinder(detector, open_cache(self.cache))
        framing = _OwnFraming((0, 0), 0.0, finder, cut_by=self._cut, largest=largest)
        every = EveryFace(pictures, framing, resolve_threads(self.n_jobs), self.on_error == "nan")
        rows, report = every(self._side_by_side(0), self.verbose)
        if largest:
            self._note_faceless(pictures, every.found, report, detector)
        report.failures.sort()
        report.seconds = time.perf_counter() - started
        self.report_ = report
        return every.found, rows

    def _note_faceless(
        self, pictures: Sequence[Any], found: list[list[Face]], report: ExtractionReport, detector: Any
    ) -> None:
        told = {failure.index for failure in report.failures}
        for index, of_picture in enumerate(found):
            if of_picture or index in told:
                continue
            error = no_face(pictures[index], detector)
            if self.on_error == "raise":
                raise error
            report.failures.append(Failure(index, error.picture, error.reason))

    def _side_by_side(self, verbose: int) -> _SideBySide:
        networks = getattr(self, "networks_", None) or self._find_networks()
        shared = {"layer": "embedding", "batch_size": self.batch_size, "cache": self.cache}
        shared |= {"n_jobs": self.n_jobs, "on_error": self.on_error, "verbose": verbose}
        return _SideBySide([EmbeddingExtractor(network, **shared) for network in networks])

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


class _SideBySide:
    """Several networks' outputs as one row."""

    def __init__(self, extractors: list[EmbeddingExtractor]) -> None:
        self.extractors = extractors
        self.report_ = ExtractionReport()

    def transform(self, X: Sequence[Any]) -> NDArray[np.float32]:
        """Return a row a picture."""
        rows = np.concatenate([extractor.transform(X) for extractor in self.extractors], axis=1)
        self.report_ = self.extractors[0].report_
        return rows

    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of a row."""
        return (sum(extractor.row_shape()[0] for extractor in self.extractors),)


@dataclass(frozen=True)
class _OwnFraming(Framing):
    """Faces cut out as another project does."""

    cut_by: Any = None
    largest: bool = False

    def find(self, pixels: NDArray[np.uint8], digest: bytes) -> list[Face]:
        """Return the faces of a picture, or only the largest one."""
        faces = super().find(pixels, digest)
        return faces[:1] if self.largest else faces

    def cut(self, pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """Cut one face out of a picture."""
        square: NDArray[np.uint8] = self.cut_by(pixels, face)
        return square
