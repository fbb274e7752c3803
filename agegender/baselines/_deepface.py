"""deepface's own age and gender models."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agegender.backbones import Backbone
from agegender.baselines._fixed import FixedEstimator
from agegender.calibration import prediction_columns
from agegender.extractor import FacesParameter
from agegender.faces import Face
from agegender.inference._columns import Columns

__all__ = ["DeepFaceAgeGender"]

_N_AGES = 101
# deepface's order is woman, man; the order of the loaders here is male, female.
_MALE, _FEMALE = _N_AGES + 1, _N_AGES


class DeepFaceAgeGender(FixedEstimator):
    """deepface's own age and gender models as one fixed estimator, for comparison with your own models.

    There are two networks with the architecture of VGG-Face and the same input as in
    `deepface.DeepFace.analyze` (224 × 224, BGR, x/255): one with 101 outputs for the ages, one with two for
    the genders. Nothing is learnt; ``fit`` only finds the weights.

    Parameters
    ----------
    faces : {"auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default=None
        If None, each picture is a face crop and is used as it is. Otherwise, the face detector; the largest
        face is rotated until the eyes are level and its box is cut out, as deepface does.
    age_weights, gender_weights : path, default=None
        The weights files. If None, they are taken from deepface's folder, or downloaded.
    engine : {"auto", "onnx", "keras"}, default="auto"
        The form of the weights.
    batch_size : int, default=32
        Number of pictures per batch.
    cache : "auto", path or None, default="auto"
        Folder of the cache, as in :class:`~agegender.EmbeddingExtractor`.
    n_jobs : int, default=None
        Number of threads; None means one per core.
    on_error : {"raise", "nan"}, default="raise"
        What to do if a picture cannot be read or has no face: raise an error, or return NaN.
    verbose : int, default=0
        If 1, show a progress bar.

    Attributes
    ----------
    networks_ : list of Backbone
        The age and the gender network that ``fit`` found.
    report_ : ExtractionReport
        The report of the last call.

    See Also
    --------
    InsightFaceAgeGender : InsightFace's model.
    agegender.reports.evaluation_report : Compares estimators on the same pictures.

    Examples
    --------
    >>> from agegender.baselines import DeepFaceAgeGender
    >>> baseline = DeepFaceAgeGender(faces="auto", on_error="nan")
    >>> baseline.predict_frame(["holiday.jpg"])  # doctest: +SKIP
        age  age_low  age_high  gender  gender_proba
    0  31.4     21.9      43.0       0          0.97
    """

    def __init__(
        self,
        *,
        faces: FacesParameter = None,
        age_weights: str | os.PathLike[str] | None = None,
        gender_weights: str | os.PathLike[str] | None = None,
        engine: Literal["auto", "onnx", "keras"] = "auto",
        batch_size: int = 32,
        cache: str | os.PathLike[str] | None = "auto",
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.faces = faces
        self.age_weights = age_weights
        self.gender_weights = gender_weights
        self.engine = engine
        self.batch_size = batch_size
        self.cache = cache
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    def predict_proba(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own"
    ) -> list[NDArray[np.float32]]:
        """Return the distributions over ages and genders.

        Parameters
        ----------
        X : sequence of pictures
        faces : default="own"
            As in ``predict``.

        Returns
        -------
        list of two ndarrays, of shape (n_samples, 101) and (n_samples, 2)
            The ages 0 … 100, and the genders male and female.
        """
        return list(_distributions(self._rows_and_faces(X, faces)[0]))

    def _find_networks(self) -> list[Backbone]:
        return [
            Backbone.load("deepface/age", weights=self.age_weights, engine=self.engine),
            Backbone.load("deepface/gender", weights=self.gender_weights, engine=self.engine),
        ]

    def _columns(self, rows: NDArray[np.floating], coverage: float) -> Columns:
        ages, genders = _distributions(rows)
        return prediction_columns(ages, genders, self.classes_[1], coverage=coverage)

    def _cut(self, pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        return upright_box(pixels, face)


def _distributions(rows: NDArray[np.floating]) -> tuple[NDArray[Any], NDArray[Any]]:
    return rows[:, :_N_AGES], rows[:, [_MALE, _FEMALE]]


def upright_box(pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """Return a face's box, rotated about its centre until the eyes are level; pixels outside are black."""
    import cv2

    right, left = face.landmarks[0], face.landmarks[1]
    angle = math.degrees(math.atan2(left[1] - right[1], left[0] - right[0]))
    centre = (face.x + face.width / 2, face.y + face.height / 2)
    width, height = max(1, round(face.width)), max(1, round(face.height))
    turn = cv2.getRotationMatrix2D(centre, angle, 1.0)
    turn[:, 2] += np.array([width, height]) / 2 - centre
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_CUBIC), np.uint8)
