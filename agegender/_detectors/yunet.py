"""OpenCV's face detector YuNet: its file, and running it."""

from __future__ import annotations

import functools
import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.fork import after_fork
from agegender._networks.downloads import check_file, download
from agegender._networks.location import offline, weights_folder
from agegender._networks.publication import Published
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["YuNet", "find_yunet", "locate_yunet"]

_FILE = "face_detection_yunet_2023mar.onnx"
OVERLAP = 0.3
MOST = 5000
# A cv2.FaceDetectorYN keeps its settings between calls, so each thread needs its own.
_OWN = threading.local()
_LOGGING = threading.Lock()
after_fork(_OWN.__dict__.clear)


PUBLISHED = Published(
    name="yunet",
    project="deepface",
    files={".onnx": _FILE},
    addresses={
        ".onnx": (
            f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{_FILE}",
            f"https://huggingface.co/opencv/face_detection_yunet/resolve/main/{_FILE}",
        )
    },
    input_size=(640, 640),
    mean=0.0,
    scale=1.0,
    n_numbers=15,
    licence="MIT (ShiqiYu/libfacedetection)",
    known={".onnx": ("8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", 232_589)},
)
"""The file and addresses of deepface's YuNet."""


class YuNet:
    """A face detector that runs in OpenCV.

    It contains the content of its file (230 kB), so that a model finds the same faces on machines without the
    file. Several threads can call it at the same time.

    Parameters
    ----------
    content : bytes
        The ONNX file.

    References
    ----------
    Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023.
    """

    name = "yunet"
    min_score = 0.7
    max_side = 640
    min_face_size: float | None = None
    sure_score = 0.92
    search_again = True

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()

    @classmethod
    def from_file(cls, path: Path) -> YuNet:
        """Read the detector's file and test it.

        Raises
        ------
        WeightsNotFoundError
            If there is no such file.
        WeightsError
            If OpenCV cannot run it as a face detector.
        """
        if not path.is_file():
            raise WeightsNotFoundError(
                f"There is no face detector {str(path)!r}; pass the path of a face_detection_yunet_….onnx file."
            )
        detector = cls(check_file(path, PUBLISHED.urls(".onnx")).read_bytes())
        try:
            detector(np.zeros((64, 64, 3), np.uint8), 0.9)
        except Exception as error:  # OpenCV's engines raise cv2.error or other exceptions
            raise WeightsError(
                f"{path} is not a face detector that cv2.FaceDetectorYN can run ({str(error).strip()[:200]}). "
                f"Take {_FILE} from {PUBLISHED.urls('.onnx')[0]}."
            ) from error
        return detector

    def __repr__(self) -> str:
        return f"YuNet(sha256={self.sha256[:12]!r})"

    def __call__(self, pixels: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
        """Find faces.

        Parameters
        ----------
        pixels : ndarray of shape (h, w, 3), uint8
            An RGB picture.
        min_score : float
            The minimum score of a face, 0…1.

        Returns
        -------
        ndarray of shape (n_faces, 15)
            Left, top, width and height of the box, x and y of the five landmarks, and the score.
        """
        network = _network(self)
        network.setInputSize((pixels.shape[1], pixels.shape[0]))
        network.setScoreThreshold(float(min_score))
        found = network.detect(np.ascontiguousarray(pixels[..., ::-1]))[1]
        return np.empty((0, 15)) if found is None else found.astype(np.float64)


def _network(detector: YuNet) -> Any:
    """Return the network of a detector for this thread."""
    opened: dict[str, Any] = _OWN.__dict__.setdefault("networks", {})
    if detector.sha256 not in opened:
        opened[detector.sha256] = _open(detector.content)
    return opened[detector.sha256]


def _open(content: bytes) -> Any:
    import cv2

    create = functools.partial(cv2.FaceDetectorYN.create, "onnx", np.frombuffer(content, np.uint8))
    with _LOGGING:
        # OpenCV 5 prints a warning about a target that was not requested.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            return create(np.empty(0, np.uint8), (64, 64), 0.9, OVERLAP, MOST)
        finally:
            cv2.utils.logging.setLogLevel(level)


def find_yunet() -> Path | None:
    """Return YuNet's file in deepface's weights folder, the newest release first, or None."""
    releases = sorted(weights_folder().glob("face_detection_yunet_20*.onnx"), reverse=True)
    return next((path for path in releases if path.is_file()), None)


def locate_yunet() -> Path:
    """Return YuNet's file; if it does not exist, it is downloaded through deepface.

    Raises
    ------
    WeightsNotFoundError
        If it does not exist and could not be downloaded.
    """
    here = find_yunet()
    if here is not None:
        return here
    if offline():
        raise _not_found("AGEGENDER_OFFLINE forbids downloads")
    try:
        return download(PUBLISHED, ".onnx")
    except (OSError, ValueError, WeightsError) as error:
        raise _not_found(f"it could not be downloaded ({str(error).strip()})") from error


def _not_found(why: str) -> WeightsNotFoundError:
    urls = "".join(f"\n  {url}" for url in PUBLISHED.urls(".onnx"))
    return WeightsNotFoundError(
        f"The face detector YuNet is not on this machine, and {why}.\n"
        f"Put {_FILE} into {weights_folder()} (DEEPFACE_HOME changes the folder), from one of{urls}\n"
        'or pass the path of the file instead of "yunet", or use "mtcnn", whose weights are always installed.'
    )
