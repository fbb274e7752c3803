"""MTCNN, a face detector of three small networks, on ONNX Runtime.

The weights are read from a file of the ``mtcnn`` wheel. The package itself is not imported, because it uses
TensorFlow, whose import takes ten seconds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agegender._detectors.mtcnn_graphs import WEIGHTS, build, read_weights
from agegender._machine.fork import after_fork
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads

__all__ = ["Mtcnn"]

Boxes = NDArray[np.float64]

# The proposal network takes windows of 12 × 12 pixels, with a step of 2.
CELL, STRIDE = 12, 2
SHRINK = 0.709
SMALLEST = 20
PASSES = {"pnet": 0.6, "rnet": 0.7}
OVERLAP_IN_SCALE, OVERLAP = 0.5, 0.7
# Number of boxes that are compared at once with all that follow, so that memory stays small in a crowd.
_COMPARED = 256
# Levels below this scale are computed from the picture's integral image, if it has at most so many values.
_FEW, _MOST_SUMMED = 0.16, 8_000_000


class Mtcnn:
    """Multi-task cascaded convolutional networks: proposals, refinement, output with landmarks.

    Several threads can call it at the same time.

    References
    ----------
    Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks",
    IEEE Signal Processing Letters 23(10), 2016.
    """

    name = "mtcnn"
    min_score = 0.9
    max_side = 640
    min_face_size: float | None = None
    sure_score = 0.99
    search_again = True
    sha256 = WEIGHTS["onet"]

    def __repr__(self) -> str:
        return "Mtcnn()"

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

        Raises
        ------
        WeightsNotFoundError
            If the ``mtcnn`` wheel is not installed.
        """
        boxes = _refine(pixels, _propose(pixels))
        return _finish(pixels, boxes, min_score)


class _Level(NamedTuple):
    """A level of an image pyramid: its scale, its width and height, and what gives its pixels."""

    scale: float
    size: tuple[int, int]
    scaled: Callable[[tuple[int, int]], NDArray[np.uint8]]


def _propose(pixels: NDArray[np.uint8]) -> Boxes:
    """Run the proposal network on an image pyramid; return boxes (n, 5): left, top, right, bottom, score."""
    levels = _pyramid(pixels)
    if len(levels) < 2 or resolve_threads() == 1:
        found = [_proposals(level) for level in levels]
    else:
        # The first level takes as long as all others together.
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(_proposals, levels))
    return _square(_suppress(np.concatenate([np.empty((0, 5)), *found]), OVERLAP))


def _pyramid(pixels: NDArray[np.uint8]) -> list[_Level]:
    """Return the levels of an image pyramid, the largest first."""
    import cv2

    height, width = pixels.shape[:2]
    whole = functools.partial(cv2.resize, pixels, interpolation=cv2.INTER_AREA)
    levels, sums, scale = list[_Level](), None, CELL / SMALLEST
    while min(height, width) * scale >= CELL:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        if scale < _FEW and sums is None and pixels.size <= _MOST_SUMMED:
            sums = np.asarray(cv2.integral(pixels, sdepth=cv2.CV_64F))
        scaled = whole if sums is None else functools.partial(_averaged, sums)
        levels.append(_Level(scale, size, scaled))
        scale *= SHRINK
    return levels


def _averaged(sums: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture down as INTER_AREA does, from its integral image, in a time that depends on the result."""
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    rows = np.diff(_between(sums, np.linspace(0, height, size[1] + 1)), axis=0).transpose(1, 0, 2)
    cells = np.diff(_between(rows, np.linspace(0, width, size[0] + 1)), axis=0).transpose(1, 0, 2)
    return np.asarray(np.rint(cells * (size[0] * size[1] / (height * width))), np.uint8)


def _between(values: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate linearly along the first axis."""
    low = np.minimum(places.astype(np.intp), len(values) - 2)
    below = values[low]
    return np.asarray(below + (values[low + 1] - below) * (places - low)[:, np.newaxis, np.newaxis])


def _proposals(level: _Level) -> Boxes:
    """Run the proposal network on one level of the pyramid; return boxes in pixels of the picture."""
    copy = np.asarray(level.scaled(level.size))
    return _suppress(_cells(_run("pnet", copy[np.newaxis])[0], level.scale), OVERLAP_IN_SCALE)


def _cells(heads: NDArray[np.float32], scale: float) -> Boxes:
    """Return the cells that may contain a face, after the network's correction, in pixels of the picture."""
    logits = heads[5] - heads[4]
    row, column = np.nonzero(logits > _logit(PASSES["pnet"]))
    corner = STRIDE * np.stack([column, row], axis=1) + 1.0
    boxes = np.concatenate([corner, corner + (CELL - 1)], axis=1)
    boxes += (CELL - 1) * heads[:4, row, column].T
    return np.column_stack([boxes / scale, _expit(logits[row, column])])


def _refine(pixels: NDArray[np.uint8], boxes: Boxes) -> Boxes:
    """Run the refinement network on the proposals."""
    if not len(boxes):
        return boxes
    boxes = _moved(boxes, _run("rnet", _patches(pixels, boxes, 24)))
    return _square(_suppress(boxes[boxes[:, 4] > PASSES["rnet"]], OVERLAP))


def _finish(pixels: NDArray[np.uint8], boxes: Boxes, min_score: float) -> NDArray[np.float64]:
    """Run the output network on the remaining boxes; it also finds the landmarks."""
    if not len(boxes):
        return np.empty((0, 15))
    heads = _run("onet", _patches(pixels, boxes, 48))
    shares = heads[:, 4:14].reshape(-1, 2, 5).transpose(0, 2, 1)
    points = shares * _sides(boxes)[:, np.newaxis] + boxes[:, np.newaxis, :2] - 1
    rows = np.concatenate([_moved(boxes, heads), points.reshape(-1, 10)], axis=1)
    rows = _suppress(rows[rows[:, 4] >= min_score], OVERLAP, of_smaller=True)
    return np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2], rows[:, 5:], rows[:, 4:5]], axis=1)


def _sides(boxes: Boxes) -> NDArray[np.float64]:
    return boxes[:, 2:4] - boxes[:, :2] + 1


def _moved(boxes: Boxes, heads: NDArray[np.float32]) -> Boxes:
    """Move the sides of boxes by fractions of their lengths, and give them new scores."""
    scores = _expit(heads[:, -1] - heads[:, -2])
    return np.column_stack([boxes[:, :4] + heads[:, :4] * np.tile(_sides(boxes), 2), scores])


def _square(boxes: Boxes) -> Boxes:
    """Make boxes square around their centres."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    half = np.max(boxes[:, 2:4] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half, boxes[:, 4:]], axis=1)


def _suppress(boxes: Boxes, overlap: float, *, of_smaller: bool = False) -> Boxes:
    """Keep the best one of overlapping boxes; the result is sorted by score.

    The overlap is a fraction of the two boxes' union, or of the smaller box.
    """
    left = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept = [left[:0]]
    while len(left):
        best = left[:_COMPARED]
        covers = _overlaps(best, left, of_smaller) > overlap
        chosen = _unsuppressed(np.triu(covers[:, : len(best)], 1))
        kept.append(best[chosen])
        left = left[_COMPARED:][~covers[chosen, _COMPARED:].any(axis=0)]
    return np.concatenate(kept)


def _unsuppressed(covers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the boxes that no better one of the result covers; ``covers[i, j]`` is False unless i is better than j.

    Step k is right about the first k boxes at least; a few steps suffice, because few boxes are in a chain.
    """
    chosen = np.ones(len(covers), dtype=bool)
    while True:
        now = np.logical_not(np.any(covers[chosen], axis=0))
        if np.array_equal(now, chosen):
            return chosen
        chosen = now


def _overlaps(boxes: Boxes, others: Boxes, of_smaller: bool) -> NDArray[np.float64]:
    """Return what two boxes share, as a fraction of their union or of the smaller one, for all pairs."""
    # Side by side and not as (n, n, 2): NumPy takes five times as long to go along an axis of two.
    low_x, low_y, high_x, high_y = boxes[:, :4].T[:, :, np.newaxis]
    width = np.minimum(high_x, others[:, 2]) - np.maximum(low_x, others[:, 0])
    height = np.minimum(high_y, others[:, 3]) - np.maximum(low_y, others[:, 1])
    shared = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
    areas, other_areas = (np.prod(some[:, 2:4] - some[:, :2], axis=1) for some in (boxes, others))
    either = np.minimum if of_smaller else np.add
    whole = either(areas[:, np.newaxis], other_areas) - (0 if of_smaller else shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _patches(pixels: NDArray[np.uint8], boxes: Boxes, side: int) -> NDArray[np.uint8]:
    """Crop boxes from a picture, with grey outside of it, and scale them to a network's input."""
    import cv2

    height, width = pixels.shape[:2]
    patches = np.empty((len(boxes), side, side, 3), np.uint8)
    for patch, (left, top, right, bottom) in zip(
        patches, np.rint(boxes[:, :4]).astype(int).tolist(), strict=True
    ):
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        inside = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if left < 0 or top < 0 or right > width or bottom > height:
            whole = np.full((bottom - top, right - left, 3), 127, np.uint8)
            y, x = max(0, -top), max(0, -left)
            whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
            inside = whole
        kind = cv2.INTER_AREA if right - left > side else cv2.INTER_LINEAR
        cv2.resize(inside, (side, side), dst=patch, interpolation=kind)
    return patches


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _expit(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    # The hyperbolic tangent does not overflow.
    return np.asarray(0.5 + 0.5 * np.tanh(logits.astype(np.float64) / 2))


def _run(name: str, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    heads: NDArray[np.float32] = _session(name).run(None, {"pictures": pictures})[0]
    return heads


@functools.cache
def _session(name: str) -> Any:
    """Return a network, which is opened once per process."""
    return open_session(build(name, read_weights(name)), n_threads=resolve_threads())


after_fork(_session.cache_clear)
