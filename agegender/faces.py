"""Face detection and alignment."""

from __future__ import annotations

import copy
import functools
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._detectors.quality import RELIABLE, aspects, roll_of, yaw_of
from agegender._detectors.search import Search, search
from agegender._pixels.alignment import FRAMINGS, TEMPLATES, Template, cut_out, reframe, template_key
from agegender._pixels.sharpness import sharpness_of
from agegender._utils.validation import did_you_mean
from agegender.exceptions import ModelFileError, NoFaceError, WeightsWarning

__all__ = [
    "DETECTORS",
    "FRAMINGS",
    "TEMPLATES",
    "Detector",
    "Face",
    "Template",
    "align",
    "detect",
    "detector_key",
    "face_columns",
    "largest_face",
    "load_detector",
    "reframe",
    "template_key",
]

DETECTORS = ("auto", "yunet", "mtcnn", "scrfd")
"""The names of detectors; the path of a YuNet or SCRFD file can be passed too."""

DETECTION_VERSION = 2
"""Part of every `detector_key`: increased whenever the same picture would give another face."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture.

    Right and left are the person's own: in an upright frontal face, the right eye is nearer to the left edge of
    the picture.

    Attributes
    ----------
    x, y : float
        Left and upper edge of the box, in pixels of the upright picture.
    width, height : float
        Size of the box in pixels; the box is inside the picture.
    landmarks : ndarray of shape (5, 2)
        x and y, in pixels, of the right eye, the left eye, the tip of the nose, the right and the left corner of the
        mouth. They may be outside of the picture if it cuts off the face. Read-only.
    score : float
        Confidence of the detector, 0…1; not comparable between detectors.
    rotation : int
        By how many degrees, clockwise, the picture was turned to find the face: 0, 90, 180 or 270. The box and the
        landmarks are in the picture as given.
    sharpness : float
        Variance of the Laplacian between brows and chin of the face, aligned to 112 × 112 pixels; NaN if it was not
        measured.
    visible : float
        The share of the detector's box that is in the picture, 0…1.

    See Also
    --------
    agegender.faces.detect : Find all faces in a picture.
    agegender.faces.align : Align a face to a template.

    Examples
    --------
    >>> eyes_nose_mouth = [[40, 50], [72, 50], [62, 68], [45, 88], [68, 88]]
    >>> face = Face(30, 20, 60, 80, eyes_nose_mouth, 0.95, sharpness=600.0)
    >>> round(face.yaw), face.roll, round(face.quality, 2), face.reliable
    (23, 0.0, 0.75, True)
    """

    x: float
    y: float
    width: float
    height: float
    landmarks: NDArray[np.float64]
    score: float
    rotation: int = 0
    sharpness: float = math.nan
    visible: float = 1.0

    def __post_init__(self) -> None:
        landmarks = np.array(self.landmarks, dtype=np.float64)
        if landmarks.shape != (5, 2):
            raise ValueError(f"Face: landmarks have shape {landmarks.shape}; five points (5, 2) are needed.")
        landmarks.setflags(write=False)
        object.__setattr__(self, "landmarks", landmarks)

    @property
    def yaw(self) -> float:
        """How far the head is turned to the side, in degrees, estimated from eyes and nose; −90 … 90."""
        return yaw_of(self.landmarks)

    @property
    def roll(self) -> float:
        """How far the head leans, in degrees, clockwise in the picture as given; −180 … 180."""
        return roll_of(self.landmarks)

    @property
    def quality(self) -> float:
        """How much the face shows, 0…1: the worst of its size, sharpness, pose and how much of it is visible."""
        return min(self._aspects.values())

    @property
    def reliable(self) -> bool:
        """Whether the quality is at least 0.5; an answer about another face should not be trusted."""
        return self.quality >= RELIABLE

    @property
    def doubts(self) -> str:
        """Why the face is not reliable: "small", "blurred", "turned away", "cut off", by commas; or empty."""
        return ", ".join(name for name, value in self._aspects.items() if value < RELIABLE)

    @property
    def _aspects(self) -> dict[str, float]:
        size = math.sqrt(max(self.width * self.height, 0.0))
        return aspects(size, self.sharpness, self.yaw, self.visible)

    @classmethod
    def from_row(cls, row: Sequence[float] | NDArray[Any]) -> Face:
        """Make a face from the numbers of `to_row`; the last three may be missing."""
        x, y, width, height, *others = (float(value) for value in row)
        points, (score, *rest) = np.reshape(others[:10], (5, 2)), others[10:]
        rotation, sharpness, visible = rest or (0, math.nan, 1.0)
        return cls(x, y, width, height, points, score, int(rotation), sharpness, visible)

    def to_row(self) -> NDArray[np.float64]:
        """Return the face as 18 numbers: box, landmarks point by point, score, rotation, sharpness, visible share."""
        box = (self.x, self.y, self.width, self.height)
        measured = (self.score, self.rotation, self.sharpness, self.visible)
        return np.array([*box, *self.landmarks.ravel(), *measured])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Face) and np.array_equal(self.to_row(), other.to_row(), equal_nan=True)

    def __hash__(self) -> int:
        return hash(self.to_row().tobytes())


class Detector(Protocol):
    """A face detector, made by `load_detector`. It can be pickled and shared by threads.

    Attributes
    ----------
    name : str
        "yunet", "mtcnn" or "scrfd".
    sha256 : str
        Digest of its weights.
    min_score : float
        The default minimum score of a face.
    max_side : int
        The default longest side of the first copy that is searched, in pixels.
    min_face_size : float or None
        The size of the smallest face to find, in pixels of the picture; None if `max_side` decides.
    sure_score : float
        A face with a lower score may be upside down or lie on its side, and is looked at in all four turns.
    search_again : bool
        Whether a finer copy and quarter turns are searched if no face or only small ones are found.

    See Also
    --------
    agegender.faces.load_detector : Load a face detector.
    """

    name: str
    sha256: str
    min_score: float
    max_side: int
    min_face_size: float | None
    sure_score: float
    search_again: bool

    def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
        """Return the faces of an RGB picture as rows: box, landmarks point by point, and score."""
        ...


@dataclass(frozen=True)
class RecordedDetector:
    """What a safe model file keeps of a detector: which one it was.

    Parameters
    ----------
    name : str
        One of `DETECTORS`.
    sha256 : str or None
        The identity of its weights; None in models of agegender 0.1.
    min_face_size : float, default=None
        The smallest face that it was told to find.
    """

    name: str
    sha256: str | None
    min_face_size: float | None = None

    @classmethod
    def of(cls, detector: Detector) -> RecordedDetector:
        """Record a detector."""
        return cls(detector.name, detector.sha256, getattr(detector, "min_face_size", None))

    def _check_safe(self) -> None:
        if self.name not in DETECTORS:
            raise ModelFileError(f"it finds faces with {str(self.name)[:80]!r}")
        if self.sha256 is not None and not isinstance(self.sha256, str):
            raise ModelFileError("its detector has no proper sha256")
        size = self.min_face_size
        if size is not None and (not isinstance(size, float | int) or not 10 <= size < math.inf):
            raise ModelFileError("its detector has no proper size of the smallest face")


def open_detector(detector: Detector | RecordedDetector) -> Detector:
    """Return a detector that finds faces; of a recorded one, the one of this name on this machine.

    Warns
    -----
    WeightsWarning
        If its weights are others than those that were recorded.
    """
    if not isinstance(detector, RecordedDetector):
        return detector
    found = load_detector(detector.name, min_face_size=detector.min_face_size)
    if detector.sha256 not in (None, found.sha256):
        warnings.warn(
            f"This model was made with a {detector.name} detector of sha256 {str(detector.sha256)[:12]}…; the one "
            f"on this machine has {found.sha256[:12]}… and may find other faces, or frame them otherwise. Put the "
            'former file in its place, or pass faces="path/to/the/file.onnx".',
            WeightsWarning,
            stacklevel=5,
        )
    return found


def detect(
    picture: images.Picture,
    *,
    detector: str | os.PathLike[str] | Detector = "auto",
    min_score: float | None = None,
    max_side: int | None = None,
    min_face_size: float | None = None,
) -> list[Face]:
    """Find the faces in a picture.

    Parameters
    ----------
    picture : str, path, bytes, PIL.Image.Image or ndarray of shape (h, w, 3), uint8
        Anything that `agegender.images` reads.
    detector : {"auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="auto"
        See `load_detector`.
    min_score : float, default=None
        The minimum score, 0…1. If None, the detector's default: 0.7 for YuNet, 0.9 for MTCNN and 0.5 for SCRFD.
    max_side : int, default=None
        Larger pictures are searched in a copy whose longer side has this many pixels. Faces are found from about 24
        pixels of that copy. If None, 640, and where that copy shows no face or one of less than 40 pixels, a
        copy of twice the size is searched too, up to 2560 pixels as long as it shows such small faces.
    min_face_size : float, default=None
        The size of the smallest face to find, in pixels of the picture, from 10 on; it decides the size of the copy.
        Large pictures are searched in tiles. A large number saves time, a small one costs it.

    Returns
    -------
    list of Face
        The largest first, in pixels of the upright picture; empty if there is no face.

    Raises
    ------
    PictureError
        If the picture cannot be read.
    WeightsNotFoundError
        If the detector's weights were not found and could not be downloaded.
    ValueError
        If a parameter is out of range.

    See Also
    --------
    agegender.faces.largest_face : Find the largest face in a picture.
    agegender.faces.load_detector : Load a face detector.
    agegender.faces.align : Align a face to a template.

    Notes
    -----
    If no face is found, the picture is searched turned by 90, 180 and 270 degrees. The first turn that shows a face
    is taken, and `Face.rotation` says which it was; boxes and landmarks are in the picture as given. A face with a
    score below the detector's `sure_score` is looked at in all four turns as well, because YuNet takes faces that
    are upside down for upright ones.

    Examples
    --------
    >>> from agegender.faces import detect
    >>> faces = detect("holiday.jpg")  # doctest: +SKIP
    >>> [(round(face.x), round(face.y), round(face.score, 2)) for face in faces]  # doctest: +SKIP
    [(246, 80, 0.94), (543, 310, 0.91)]
    """
    finder = load_detector(detector)
    wanted = _wanted(finder, min_score, max_side, min_face_size)
    pixels = images.load(picture)
    faces = [_face(row, pixels) for row in search(pixels, finder, wanted)]
    return sorted((face for face in faces if face is not None), key=lambda face: -face.width * face.height)


def _wanted(
    detector: Detector, min_score: float | None, max_side: int | None, min_face_size: float | None
) -> Search:
    """Return what is searched, if these parameters are given and the others are the detector's own."""
    least = detector.min_score if min_score is None else float(min_score)
    side = detector.max_side if max_side is None else int(max_side)
    size = getattr(detector, "min_face_size", None) if min_face_size is None else float(min_face_size)
    if not 0 <= least <= 1:
        raise ValueError(f"detect: min_score={min_score!r} is not from 0 to 1.")
    if side < 32:
        raise ValueError(f"detect: max_side={max_side!r} is below 32 pixels, too few to find a face.")
    if size is not None and not 10 <= size < math.inf:
        raise ValueError(
            f"detect: min_face_size={size:g} should be at least 10 pixels; no smaller face is found."
        )
    again = getattr(detector, "search_again", True)
    sure = getattr(detector, "sure_score", 0.0)
    return Search(least, side, size, finer=again and max_side is None, turned=again, sure_score=sure)


def largest_face(
    picture: images.Picture,
    *,
    detector: str | os.PathLike[str] | Detector = "auto",
    min_score: float | None = None,
    max_side: int | None = None,
    min_face_size: float | None = None,
) -> Face:
    """Find the largest face in a picture.

    Parameters
    ----------
    picture, detector, min_score, max_side, min_face_size
        As in `detect`.

    Returns
    -------
    Face

    Raises
    ------
    NoFaceError
        If no face is found.
    PictureError, WeightsNotFoundError, ValueError
        As in `detect`.

    See Also
    --------
    agegender.faces.detect : Find all faces in a picture.
    """
    finder = load_detector(detector)
    faces = detect(
        picture, detector=finder, min_score=min_score, max_side=max_side, min_face_size=min_face_size
    )
    if not faces:
        raise no_face(picture, finder)
    return faces[0]


def no_face(picture: object, detector: Detector) -> NoFaceError:
    """Return the error that names a picture without a face."""
    return NoFaceError(
        images.describe(picture),
        f"has no face that {detector.name} finds; if it is a face crop already, use it with faces=None",
    )


def _face(row: NDArray[np.float64], pixels: NDArray[np.uint8]) -> Face | None:
    """Make a face from a row of `search`, the box clipped at the picture's edges; None if nothing is left."""
    if not np.isfinite(row).all():
        return None
    edge = np.array([pixels.shape[1], pixels.shape[0]], dtype=np.float64)
    low, high = np.clip(row[:2], 0, edge), np.clip(row[:2] + row[2:4], 0, edge)
    if (high - low).min() < 1:
        return None
    (x, y), (width, height) = low.tolist(), (high - low).tolist()
    landmarks = row[4:14].reshape(5, 2)
    visible = min(1.0, width * height / max(float(row[2] * row[3]), 1.0))
    return Face(
        x, y, width, height, landmarks, float(row[14]), int(row[15]), _sharpness(pixels, landmarks), visible
    )


def _sharpness(pixels: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> float:
    """Return the sharpness between brows and chin at the scale of face recognition; NaN if it cannot be aligned."""
    try:
        return sharpness_of(cut_out(pixels, landmarks, (112, 112), "arcface")[36:104, 24:88])
    except ValueError:
        return math.nan


FACE_COLUMNS = {"rotation": "int64"} | dict.fromkeys(("sharpness", "yaw", "roll", "quality"), "float64")
FACE_COLUMNS |= {"reliable": "bool", "doubts": "str"}
"""The columns that tell how a face was found and how much it shows, with their dtypes."""


def face_columns(faces: Sequence[Face | None]) -> dict[str, NDArray[Any]]:
    """Return the columns of tables of predictions that tell how faces were found and how much they show.

    Parameters
    ----------
    faces : sequence of Face or None
        None where there is no face; its doubts are "no face".

    Returns
    -------
    dict of str to ndarray of shape (n_faces,)
        rotation, sharpness, yaw, roll, quality, reliable and doubts, as the attributes of `Face`.

    See Also
    --------
    agegender.AgeGenderPipeline.predict_faces : The table with these columns.

    Examples
    --------
    >>> face_columns([])["rotation"].dtype
    dtype('int64')
    """
    lacking = {"rotation": 0, "reliable": False, "doubts": "no face"}
    return {
        name: np.array(
            [lacking.get(name, math.nan) if face is None else getattr(face, name) for face in faces],
            dtype=kind,
        )
        for name, kind in FACE_COLUMNS.items()
    }


def load_detector(
    detector: str | os.PathLike[str] | Detector = "auto", *, min_face_size: float | None = None
) -> Detector:
    """Load a face detector by its name or file.

    Parameters
    ----------
    detector : {"auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="auto"
        "yunet" is OpenCV's ``FaceDetectorYN`` with the file ``face_detection_yunet_2023mar.onnx`` (or a newer
        release) in deepface's weights folder; it is downloaded if it does not exist. The path of such a file,
        ending in ``.onnx``, can be passed too. "mtcnn" is the detector whose weights are in the ``mtcnn``
        wheel. "scrfd" is InsightFace's detector, from a pack in its folder (``$INSIGHTFACE_HOME/models``), from
        UniFace's folder or by its path; its weights are for non-commercial research only, and it is never
        downloaded. "auto" is YuNet if its file exists, because it is faster and finds more faces, and MTCNN
        otherwise; nothing is downloaded.
    min_face_size : float, default=None
        The size of the smallest face to find, as in `detect`: ``faces=load_detector("auto", min_face_size=24)``.

    Returns
    -------
    Detector
        If only a detector is passed, it is returned unchanged.

    Raises
    ------
    WeightsNotFoundError
        If its weights were not found and could not be downloaded.
    WeightsError
        If its file has the wrong content.
    ValueError
        If there is no such detector.

    See Also
    --------
    agegender.faces.detect : Find all faces in a picture.
    """
    if min_face_size is not None:
        chosen = copy.copy(load_detector(detector))
        chosen.min_face_size = _wanted(chosen, None, None, min_face_size).min_face_size
        return chosen
    if not isinstance(detector, (str, os.PathLike)):
        return _check_detector(detector)
    from agegender._detectors import mtcnn, mtcnn_graphs, scrfd, yunet

    name = os.fspath(detector)
    if name == "mtcnn" or (name == "auto" and yunet.find_yunet() is None):
        mtcnn_graphs.check_weights()
        return mtcnn.Mtcnn()
    if name in ("auto", "yunet"):
        return _detector_from(yunet.locate_yunet())
    if name == "scrfd":
        return _detector_from(scrfd.locate_scrfd())
    if isinstance(detector, os.PathLike) or name.lower().endswith(".onnx"):
        return _detector_from(Path(name).expanduser())
    listed = ", ".join(map(repr, DETECTORS))
    raise ValueError(
        f"detector={name!r} is not one of {listed}, nor the path of an .onnx file.{did_you_mean(name, DETECTORS)}"
    )


def _check_detector(detector: Any) -> Detector:
    if callable(detector) and all(hasattr(detector, name) for name in ("name", "sha256", "min_score")):
        found: Detector = detector
        return found
    raise ValueError(
        f"detector={detector!r} is not a detector; pass one of {', '.join(map(repr, DETECTORS))}, the path of a "
        "YuNet or SCRFD file, or the result of load_detector."
    )


def _detector_from(path: Path) -> Detector:
    from agegender._detectors.yunet import YuNet

    if not path.is_file():
        return YuNet.from_file(path)
    state = path.stat()
    return _read_detector(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _read_detector(path: Path, modified: int, size: int) -> Detector:
    from agegender._detectors.scrfd import Scrfd, is_scrfd
    from agegender._detectors.yunet import YuNet

    return Scrfd.from_file(path) if is_scrfd(path) else YuNet.from_file(path)


def detector_key(
    detector: Detector,
    *,
    min_score: float | None = None,
    max_side: int | None = None,
    min_face_size: float | None = None,
) -> str:
    """Return everything that decides which faces are found, as a short text for cache keys.

    Parameters
    ----------
    detector : Detector
        From `load_detector`.
    min_score, max_side, min_face_size
        As in `detect`.

    Returns
    -------
    str
        Equal keys give equal faces; the key contains the digest of the weights, not only the detector's name.

    See Also
    --------
    agegender.faces.template_key : The cache key of a template.

    Examples
    --------
    >>> detector_key(load_detector("mtcnn"))
    'mtcnn-94f6ea2f4cf98527-0.9-640-2'
    """
    wanted = _wanted(detector, min_score, max_side, min_face_size)
    how = [f"{wanted.min_score:g}", f"{wanted.side}"]
    how += [] if wanted.min_face_size is None else [f"from{wanted.min_face_size:g}"]
    how += [] if wanted.finer or wanted.min_face_size is not None else ["one"]
    how += [] if wanted.turned else ["upright"]
    return f"{detector.name}-{detector.sha256[:16]}-{'-'.join(how)}-{DETECTION_VERSION}"


def align(
    pixels: NDArray[np.uint8],
    face: Face,
    input_size: tuple[int, int],
    template: Template = "arcface",
    *,
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Rotate, scale and crop a face so that its landmarks are at the positions of a template.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        The upright picture that contains the face.
    face : Face
        From `detect`.
    input_size : tuple of int
        Height and width of the network's input, in pixels.
    template : {"arcface", "utkface"} or ndarray of shape (5, 2), default="arcface"
        The positions of the landmarks: those of ArcFace's training faces (the standard of face recognition),
        those of UTKFace's tighter crops, or five points of your own, x and y in fractions of the square's side.
    margin : float, default=0.0
        Additional margin on every side, in fractions of the template's square.

    Returns
    -------
    ndarray of shape (input_size[0], input_size[1], 3), uint8
        Pixels outside of the picture are black.

    Raises
    ------
    ValueError
        If there is no such template, or all five landmarks are the same point.

    See Also
    --------
    agegender.faces.detect : Find all faces in a picture.
    agegender.faces.reframe : Bring a face crop into another framing.

    Notes
    -----
    The similarity transform with the least squared error over the five points (Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4), 1991). A face larger
    than the input is averaged when it is scaled down, not sampled.
    """
    return cut_out(pixels, face.landmarks, input_size, template, margin)
