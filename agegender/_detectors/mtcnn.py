"""MTCNN, a face detector of three small networks, on ONNX Runtime.

The weights are read from a file of the ``mtcnn`` wheel. The package itself is not imported, because it uses
TensorFlow, whose import takes ten seconds.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._detectors.arrays import read_arrays
from agegender._machine.fork import after_fork
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["Mtcnn", "check_weights"]

Boxes = NDArray[np.float64]

WEIGHTS = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
# The proposal network takes windows of 12 × 12 pixels, with a step of 2.
CELL, STRIDE = 12, 2
SHRINK = 0.709
SMALLEST = 20
PASSES = {"pnet": 0.6, "rnet": 0.7}
OVERLAP_IN_SCALE, OVERLAP = 0.5, 0.7


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


def _propose(pixels: NDArray[np.uint8]) -> Boxes:
    """Run the proposal network on an image pyramid; return boxes (n, 5): left, top, right, bottom, score."""
    found = [np.empty((0, 5))]
    scale = CELL / SMALLEST
    while min(pixels.shape[:2]) * scale >= CELL:
        moves, scores = _run("pnet", [_resize(pixels, scale)])
        found.append(_suppress(_cells(moves[0], scores[0, 1], scale), OVERLAP_IN_SCALE))
        scale *= SHRINK
    return _square(_suppress(np.concatenate(found), OVERLAP))


def _cells(moves: NDArray[np.float32], scores: NDArray[np.float32], scale: float) -> Boxes:
    """Return the cells that may contain a face, after the network's correction, in pixels of the picture."""
    row, column = np.nonzero(scores > PASSES["pnet"])
    corner = STRIDE * np.stack([column, row], axis=1) + 1.0
    boxes = np.concatenate([corner, corner + (CELL - 1)], axis=1)
    boxes += (CELL - 1) * moves[:, row, column].T
    return np.column_stack([boxes / scale, scores[row, column]])


def _refine(pixels: NDArray[np.uint8], boxes: Boxes) -> Boxes:
    """Run the refinement network on the proposals."""
    if not len(boxes):
        return boxes
    moves, scores = _run("rnet", _patches(pixels, boxes, 24))
    boxes = _moved(boxes, moves, scores)
    return _square(_suppress(boxes[boxes[:, 4] > PASSES["rnet"]], OVERLAP))


def _finish(pixels: NDArray[np.uint8], boxes: Boxes, min_score: float) -> NDArray[np.float64]:
    """Run the output network on the remaining boxes; it also finds the landmarks."""
    if not len(boxes):
        return np.empty((0, 15))
    moves, marks, scores = _run("onet", _patches(pixels, boxes, 48))
    shares = marks.reshape(-1, 2, 5).transpose(0, 2, 1)
    points = shares * _sides(boxes)[:, np.newaxis] + boxes[:, np.newaxis, :2] - 1
    rows = np.concatenate([_moved(boxes, moves, scores), points.reshape(-1, 10)], axis=1)
    rows = _suppress(rows[rows[:, 4] >= min_score], OVERLAP, of_smaller=True)
    return np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2], rows[:, 5:], rows[:, 4:5]], axis=1)


def _sides(boxes: Boxes) -> NDArray[np.float64]:
    return boxes[:, 2:4] - boxes[:, :2] + 1


def _moved(boxes: Boxes, moves: NDArray[np.float32], scores: NDArray[np.float32]) -> Boxes:
    """Move the sides of boxes by fractions of their lengths, and give them new scores."""
    return np.column_stack([boxes[:, :4] + moves * np.tile(_sides(boxes), 2), scores[:, 1]])


def _square(boxes: Boxes) -> Boxes:
    """Make boxes square around their centres."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    half = np.max(boxes[:, 2:4] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half, boxes[:, 4:]], axis=1)


def _suppress(boxes: Boxes, overlap: float, *, of_smaller: bool = False) -> Boxes:
    """Keep the best one of overlapping boxes; the result is sorted by score.

    The overlap is a fraction of the two boxes' union, or of the smaller box.
    """
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    left, kept = np.arange(len(boxes)), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[left, :2])
        shared = np.prod(np.maximum(0, np.minimum(boxes[best, 2:4], boxes[left, 2:4]) - corner), axis=1)
        whole = np.minimum(areas[best], areas[left]) if of_smaller else areas[best] + areas[left] - shared
        left = left[shared <= overlap * whole]
    return boxes[kept]


def _resize(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    import cv2

    height, width = pixels.shape[:2]
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _patches(pixels: NDArray[np.uint8], boxes: Boxes, side: int) -> list[NDArray[np.uint8]]:
    """Crop boxes from a picture, with grey outside of it, and scale them to a network's input."""
    import cv2

    height, width = pixels.shape[:2]
    patches = []
    for left, top, right, bottom in np.rint(boxes[:, :4]).astype(int):
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        inside = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if min(left, top, width - right, height - bottom) < 0:
            whole = np.full((bottom - top, right - left, 3), 127, np.uint8)
            y, x = max(0, -top), max(0, -left)
            whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
            inside = whole
        kind = cv2.INTER_AREA if right - left > side else cv2.INTER_LINEAR
        patches.append(cv2.resize(inside, (side, side), interpolation=kind))
    return patches


def _run(name: str, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    batch = (np.stack(pictures).astype(np.float32) - np.float32(127.5)) / np.float32(128)
    outputs: list[NDArray[np.float32]] = _session(name).run(None, {"pictures": batch})
    return outputs


@functools.cache
def _session(name: str) -> Any:
    """Return a network, which is opened once per process."""
    return open_session(_BUILDERS[name](_read_weights(name)), n_threads=resolve_threads())


after_fork(_session.cache_clear)


def _folder() -> Path | None:
    # find_spec does not run the package, which would import TensorFlow.
    spec = importlib.util.find_spec("mtcnn")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) / "assets" / "weights" if places else None


def check_weights() -> None:
    """Raise an error if the weights of the ``mtcnn`` wheel are not installed.

    Raises
    ------
    WeightsNotFoundError
    """
    for name in WEIGHTS:
        _weights_file(name)


def _weights_file(name: str) -> Path:
    folder = _folder()
    path = folder / f"{name}.lz4" if folder else None
    if path is None or not path.is_file():
        raise WeightsNotFoundError(
            "The face detector MTCNN takes its weights from the wheel mtcnn 1.0.0, which is not installed: "
            "pip install mtcnn==1.0.0"
        )
    return path


def _read_weights(name: str) -> list[NDArray[np.float32]]:
    """Read a network's arrays: a file of joblib, which is read only if its sha256 is known."""
    path = _weights_file(name)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != WEIGHTS[name]:
        raise WeightsError(
            f"{path} is not the file of mtcnn 1.0.0: pip install --force-reinstall mtcnn==1.0.0"
        )
    return read_arrays(content)


class _Graph:
    """An ONNX graph that is being built; its weights are taken in order from a list of Keras arrays."""

    def __init__(self, weights: list[NDArray[np.float32]]) -> None:
        self.weights = iter(weights)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, tensor: str, *constants: NDArray[Any], **attributes: Any) -> str:
        """Append an operator on a tensor and constants; return the name of its result."""
        from onnx import helper, numpy_helper

        inputs = [tensor]
        for constant in constants:
            inputs.append(f"constant{len(self.constants)}")
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(constant), inputs[-1]))
        result = f"tensor{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    def convolve(self, tensor: str) -> str:
        kernel, bias = next(self.weights), next(self.weights)
        return self.add("Conv", tensor, kernel.transpose(3, 2, 0, 1), bias)

    def rectify(self, tensor: str) -> str:
        slope = next(self.weights)
        return self.add("PRelu", tensor, slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)

    def pool(self, tensor: str, side: int, padding: str = "SAME_UPPER") -> str:
        return self.add("MaxPool", tensor, kernel_shape=[side, side], strides=[2, 2], auto_pad=padding)

    def connect(self, tensor: str) -> str:
        return self.add("Gemm", tensor, next(self.weights), next(self.weights))

    def flatten(self, tensor: str) -> str:
        """Flatten with columns first, as in the training of the networks."""
        return self.add("Flatten", self.add("Transpose", tensor, perm=[0, 3, 2, 1]))

    def build(self, outputs: Sequence[str]) -> bytes:
        from onnx import TensorProto, helper

        picture = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", "height", "width", 3])
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "mtcnn", [picture], results, self.constants)
        opsets = [helper.make_opsetid("", 13)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _build_pnet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.add("Transpose", "pictures", perm=[0, 3, 1, 2])
    x = graph.pool(graph.rectify(graph.convolve(x)), 2)
    x = graph.rectify(graph.convolve(x))
    x = graph.rectify(graph.convolve(x))
    moves = graph.convolve(x)
    return graph.build([moves, graph.add("Softmax", graph.convolve(x), axis=1)])


def _build_rnet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.add("Transpose", "pictures", perm=[0, 3, 1, 2])
    x = graph.pool(graph.rectify(graph.convolve(x)), 3)
    x = graph.pool(graph.rectify(graph.convolve(x)), 3, "VALID")
    x = graph.flatten(graph.rectify(graph.convolve(x)))
    x = graph.rectify(graph.connect(x))
    moves = graph.connect(x)
    return graph.build([moves, graph.add("Softmax", graph.connect(x), axis=1)])


def _build_onet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.add("Transpose", "pictures", perm=[0, 3, 1, 2])
    x = graph.pool(graph.rectify(graph.convolve(x)), 3)
    x = graph.pool(graph.rectify(graph.convolve(x)), 3, "VALID")
    x = graph.pool(graph.rectify(graph.convolve(x)), 2)
    x = graph.flatten(graph.rectify(graph.convolve(x)))
    x = graph.rectify(graph.connect(x))
    moves, marks = graph.connect(x), graph.connect(x)
    return graph.build([moves, marks, graph.add("Softmax", graph.connect(x), axis=1)])


_BUILDERS = {"pnet": _build_pnet, "rnet": _build_rnet, "onet": _build_onet}
