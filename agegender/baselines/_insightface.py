"""InsightFace's age and gender model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agegender._networks.location import existing_file, insightface_folder
from agegender._networks.of_insightface import normalises_itself
from agegender.backbones import Backbone
from agegender.baselines._fixed import FixedEstimator
from agegender.exceptions import WeightsError, WeightsNotFoundError
from agegender.extractor import FacesParameter
from agegender.faces import Face
from agegender.inference._columns import Columns

__all__ = ["InsightFaceAgeGender"]

_FILE = "genderage.onnx"
_SHOWN = 1.5  # of the box's longer side


class InsightFaceAgeGender(FixedEstimator):
    """InsightFace's ``genderage.onnx`` as a fixed estimator: one age, one gender, no distribution.

    The input is the same as in `insightface.app.FaceAnalysis`: a square of one and a half times the box's
    longer side around its centre, 96 × 96 RGB, not rotated. The weights are for non-commercial research only.

    Parameters
    ----------
    pack : str, default="buffalo_l"
        The pack in InsightFace's folder (``$INSIGHTFACE_HOME/models``) that the file is taken from.
    faces : {"auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default=None
        If None, each picture is a face crop and is used as it is. Otherwise, the face detector; the largest
        face is used.
    weights : path, default=None
        The file, if it is not taken from a pack.
    batch_size : int, default=64
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
        The network that ``fit`` found.
    report_ : ExtractionReport
        The report of the last call.

    See Also
    --------
    DeepFaceAgeGender : deepface's models.

    Examples
    --------
    >>> from agegender.baselines import InsightFaceAgeGender
    >>> InsightFaceAgeGender(faces="auto").predict(["holiday.jpg"])  # doctest: +SKIP
    array([[34.,  0.]])
    """

    def __init__(
        self,
        pack: str = "buffalo_l",
        *,
        faces: FacesParameter = None,
        weights: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        cache: str | os.PathLike[str] | None = "auto",
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.pack = pack
        self.faces = faces
        self.weights = weights
        self.batch_size = batch_size
        self.cache = cache
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    def _find_networks(self) -> list[Backbone]:
        path = self._path()
        mean, scale = (0.0, 1.0) if normalises_itself(path) else (127.5, 1 / 128)
        network = Backbone.from_onnx(
            path, name=f"insightface/{self.pack}/genderage", color="rgb", mean=mean, scale=scale
        )
        if network.output_shape("embedding") != (3,):
            raise WeightsError(
                f"{path} gives {network.output_shape('embedding')} numbers; InsightFace's age and gender model gives "
                "three: two for the genders, and the age."
            )
        return [network]

    def _path(self) -> Path:
        if self.weights is not None:
            return existing_file(self.weights)
        path = insightface_folder() / self.pack / _FILE
        if not path.is_file():
            raise WeightsNotFoundError(
                f"There is no {path}; `agegender download insightface/{self.pack}` fetches InsightFace's pack, and "
                "INSIGHTFACE_HOME moves the folder. weights=… names a file."
            )
        return path

    def _columns(self, rows: NDArray[np.floating], coverage: float) -> Columns:
        unknown = np.full(len(rows), np.nan)
        missing = np.isnan(rows[:, 0])
        female = (rows[:, 0] >= rows[:, 1]).astype(np.float64)  # its order is female, male
        gender = np.where(missing, np.nan, female) if missing.any() else female.astype(np.int64)
        ages = 100.0 * rows[:, 2].astype(np.float64)
        columns = {"age": ages, "age_low": unknown, "age_high": unknown}
        return columns | {"gender": gender, "gender_proba": unknown}

    def _cut(self, pixels: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        return square_around(pixels, face, 96)


def square_around(pixels: NDArray[np.uint8], face: Face, side: int) -> NDArray[np.uint8]:
    """Return a square of 1.5 times a face's longer side, scaled to `side` pixels; outside is black."""
    import cv2

    scale = side / (max(face.width, face.height) * _SHOWN)
    centre = np.array([face.x + face.width / 2, face.y + face.height / 2])
    shift = side / 2 - centre * scale
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side)), np.uint8)
