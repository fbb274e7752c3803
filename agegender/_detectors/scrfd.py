"""InsightFace's face detector SCRFD: finding its files and decoding its outputs."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.fork import after_fork
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads
from agegender._networks.location import insightface_folder, uniface_folder
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["Scrfd", "find_scrfd", "is_scrfd", "locate_scrfd"]

# Paths inside the folders, with the larger and more accurate networks first.
_IN_PACKS = (
    "buffalo_l/det_10g.onnx",
    "antelopev2/scrfd_10g_bnkps.onnx",
    "buffalo_m/det_2.5g.onnx",
    "buffalo_s/det_500m.onnx",
    "buffalo_sc/det_500m.onnx",
)
_OF_UNIFACE = ("scrfd_10g.onnx", "scrfd_500m.onnx")
_MEAN, _SCALE = 127.5, 1 / 128
_SIDE = 640
_OVERLAP = 0.4
# By the number of outputs (scores, boxes and landmarks per stride): the strides, and the number of anchors
# per cell.
_LAYOUTS = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1)}
_WITHOUT_LANDMARKS = (6, 10)


@dataclass(frozen=True)
class _Layout:
    """The layout of a graph's outputs."""

    picture: str
    strides: tuple[int, ...]
    n_anchors: int
    size: tuple[int, int] | None


class Scrfd:
    """A face detector that runs on ONNX Runtime, in the same way as in InsightFace.

    A picture is scaled to fit 640 × 640 pixels, and padded with black if it is not square. The detector
    contains the content of its file, so that a pickled model finds the same faces on other machines. Several
    threads can call it at the same time.

    Parameters
    ----------
    content : bytes
        The ONNX file.

    References
    ----------
    Guo, Deng, Lattas and Zafeiriou, "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022.
    """

    name = "scrfd"
    min_score = 0.5
    max_side = _SIDE
    min_face_size: float | None = None
    sure_score = 0.0
    search_again = True

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()

    @classmethod
    def from_file(cls, path: Path) -> Scrfd:
        """Read the detector's file and test it.

        Raises
        ------
        WeightsNotFoundError
            If there is no such file.
        WeightsError
            If it is not an SCRFD detector with landmarks.
        """
        if not path.is_file():
            raise WeightsNotFoundError(f"There is no face detector {str(path)!r}.")
        detector = cls(path.read_bytes())
        try:
            detector(np.zeros((64, 64, 3), np.uint8), 0.99)
        except WeightsError as error:
            raise WeightsError(f"{path} {error}") from None
        except Exception as error:  # onnxruntime raises many kinds of exceptions
            raise WeightsError(
                f"{path} is not an SCRFD face detector ({str(error).strip()[:200]}). det_10g.onnx of "
                "InsightFace's pack buffalo_l is one."
            ) from error
        return detector

    def __repr__(self) -> str:
        return f"Scrfd(sha256={self.sha256[:12]!r})"

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
        session, layout = _session(self.content)
        canvas, scale = _canvas(pixels, layout.size)
        batch = ((canvas.astype(np.float32) - _MEAN) * np.float32(_SCALE)).transpose(2, 0, 1)[np.newaxis]
        outputs = session.run(None, {layout.picture: np.ascontiguousarray(batch)})
        faces = np.concatenate(_decoded(outputs, layout, canvas.shape, min_score))
        faces[:, :14] /= scale
        faces = faces[_unsuppressed(faces)]
        faces[:, 2:4] -= faces[:, :2]
        return faces


@functools.lru_cache(maxsize=2)
def _session(content: bytes) -> tuple[Any, _Layout]:
    session = open_session(content, n_threads=resolve_threads())
    n_outputs = len(session.get_outputs())
    if n_outputs in _WITHOUT_LANDMARKS:
        raise WeightsError(
            "gives no landmarks, by which faces are aligned; take the form with them, such as det_10g.onnx or "
            "scrfd_10g_bnkps.onnx."
        )
    if n_outputs not in _LAYOUTS:
        raise WeightsError(
            f"is not an SCRFD face detector: it has {n_outputs} outputs, and those have 9 or 15."
        )
    picture = session.get_inputs()[0]
    sides = picture.shape[2:4]
    fixed = (int(sides[0]), int(sides[1])) if all(isinstance(side, int) for side in sides) else None
    return session, _Layout(picture.name, *_LAYOUTS[n_outputs], fixed)


after_fork(_session.cache_clear)


def _canvas(pixels: NDArray[np.uint8], fixed: tuple[int, int] | None) -> tuple[NDArray[np.uint8], float]:
    """Return the network's input, with the picture in its upper left corner, and the scale of the picture."""
    import cv2

    longest = max(pixels.shape[:2])
    side = _SIDE if longest <= _SIDE else -(-longest // 32) * 32  # a multiple of the largest cell
    height, width = fixed or (side, side)
    if pixels.shape[0] / pixels.shape[1] > height / width:
        size = int(height * pixels.shape[1] / pixels.shape[0]), height
    else:
        size = width, int(width * pixels.shape[0] / pixels.shape[1])
    size = max(size[0], 1), max(size[1], 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(pixels, size)
    return canvas, size[1] / pixels.shape[0]


def _decoded(
    outputs: list[NDArray[np.float32]], layout: _Layout, shape: tuple[int, ...], min_score: float
) -> list[NDArray[np.float64]]:
    """Return candidates per stride: left, top, right, bottom, five landmarks, score; in pixels of the canvas.

    Each cell of a stride has one or more anchors. Each anchor gives a score, the distances of the box's four
    sides from the cell's corner, and the positions of the landmarks relative to that corner, in units of
    cells.
    """
    found = []
    n_strides = len(layout.strides)
    for place, stride in enumerate(layout.strides):
        scores, sides, points = (
            np.asarray(outputs[place + n_strides * part], np.float64).reshape(-1, width)
            for part, width in enumerate((1, 4, 10))
        )
        rows, columns = np.mgrid[: shape[0] // stride, : shape[1] // stride]
        corners = np.stack([columns, rows], axis=-1).reshape(-1, 2) * float(stride)
        corners = corners.repeat(layout.n_anchors, axis=0)
        if len(corners) != len(scores):
            raise WeightsError(
                f"is not an SCRFD face detector: it has {len(scores)} candidates at a stride of {stride} pixels, "
                f"where {len(corners)} belong."
            )
        sure = scores[:, 0] >= min_score
        corners, sides, points = corners[sure], sides[sure] * stride, points[sure] * stride
        boxes = np.hstack([corners - sides[:, :2], corners + sides[:, 2:]])
        found.append(np.hstack([boxes, points + np.tile(corners, 5), scores[sure]]))
    return found


def _unsuppressed(faces: NDArray[np.float64]) -> list[int]:
    """Return the candidates that none with a higher score overlaps by more than 0.4, by descending score."""
    order = (-faces[:, 14]).argsort(kind="stable")
    areas = (faces[:, 2] - faces[:, 0] + 1) * (faces[:, 3] - faces[:, 1] + 1)
    kept = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        low = np.maximum(faces[first, :2], faces[rest, :2])
        high = np.minimum(faces[first, 2:4], faces[rest, 2:4])
        shared = np.maximum(high - low + 1, 0).prod(axis=1)
        order = rest[shared / (areas[first] + areas[rest] - shared) <= _OVERLAP]
    return kept


def is_scrfd(path: Path) -> bool:
    """Tell an SCRFD file from a YuNet file by its outputs: YuNet has four kinds of outputs per stride."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # the code that reads the file next reports the error
        return False
    names = [output.name for output in model.graph.output]
    return len(names) in (*_LAYOUTS, *_WITHOUT_LANDMARKS) and not any(
        name.startswith("cls_") for name in names
    )


def find_scrfd() -> Path | None:
    """Return an SCRFD file in InsightFace's or UniFace's folder, the best first, or None."""
    places = [insightface_folder() / file for file in _IN_PACKS] + [
        uniface_folder() / file for file in _OF_UNIFACE
    ]
    return next((path for path in places if path.is_file()), None)


def locate_scrfd() -> Path:
    """Return an SCRFD file.

    Raises
    ------
    WeightsNotFoundError
        If there is none on this machine.
    """
    path = find_scrfd()
    if path is None:
        raise WeightsNotFoundError(
            f"The face detector SCRFD is not on this machine: there is none of {', '.join(_IN_PACKS)} in "
            f"{insightface_folder()} (INSIGHTFACE_HOME moves it), nor {' or '.join(_OF_UNIFACE)} in "
            f"{uniface_folder()}. `agegender download insightface/buffalo_s` fetches InsightFace's smaller pack, for "
            'non-commercial research only; or pass the path of the file in place of "scrfd".'
        )
    return path
