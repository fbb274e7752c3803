"""The three networks of MTCNN as ONNX graphs: the weights of the ``mtcnn`` wheel, and operations that are fast.

ONNX Runtime keeps maps of 8 or 16 channels per block in its fast layout, which has no PReLU. So channels are
padded to whole blocks with zeros, and PReLU(x) is written as ReLU((1 − a)·x) + a·x with two depthwise convolutions.
The normalisation of pixels is part of the first convolution. The numbers are those of the original networks to
2·10⁻⁶.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._detectors.arrays import read_arrays
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["WEIGHTS", "build", "check_weights", "read_weights"]

WEIGHTS = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
"""The sha256 of each file of weights."""

_BLOCK = 16
_MEAN, _SCALE = 127.5, 1 / 128


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


def read_weights(name: str) -> list[NDArray[np.float32]]:
    """Read a network's arrays: a file of joblib, which is read only if its sha256 is known.

    Raises
    ------
    WeightsNotFoundError
        If the wheel is not installed.
    WeightsError
        If its file has another content.
    """
    path = _weights_file(name)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != WEIGHTS[name]:
        raise WeightsError(
            f"{path} is not the file of mtcnn 1.0.0: pip install --force-reinstall mtcnn==1.0.0"
        )
    return read_arrays(content)


def build(name: str, weights: list[NDArray[np.float32]]) -> bytes:
    """Return one of the networks as an ONNX model.

    Parameters
    ----------
    name : {"pnet", "rnet", "onet"}
    weights : list of ndarray
        From `read_weights`.

    Returns
    -------
    bytes
        A model from uint8 RGB pictures (n, height, width, 3) to one output of the network's heads, in this order: the
        moves of a box's four sides; with ``onet``, the landmarks (ten numbers); two logits, not a face and a
        face. It is (n, 6, rows, columns) for ``pnet`` and (n, 6) or (n, 16) for the others.
    """
    return _BUILDERS[name](weights)


class _Graph:
    """An ONNX graph that is being built; its weights are taken in order from a list of Keras arrays."""

    def __init__(self, weights: list[NDArray[np.float32]]) -> None:
        self.weights = iter(weights)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        # The number of channels of the last map without padding, and the map's height and width before Flatten.
        self.channels = 3

    def add(self, operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """Append an operator on tensors, by their names, and constants; return the name of its result."""
        from onnx import helper, numpy_helper

        names = []
        for value in inputs:
            if not isinstance(value, str):
                self.constants.append(
                    numpy_helper.from_array(np.ascontiguousarray(value), f"constant{len(self.constants)}")
                )
                value = self.constants[-1].name
            names.append(value)
        result = f"tensor{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [result], **attributes))
        return result

    def pixels(self) -> str:
        """Turn pictures to floats with channels first."""
        from onnx import TensorProto

        return self.add("Cast", self.add("Transpose", "pictures", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)

    def convolve(self, tensor: str) -> str:
        """Append a convolution; the first one also normalises the pixels."""
        kernel, bias = next(self.weights), next(self.weights)
        first = tensor == "tensor1"
        if first:
            kernel, bias = kernel * _SCALE, bias - _MEAN * _SCALE * kernel.sum(axis=(0, 1, 2))
        n_in = kernel.shape[2] if first else _whole(kernel.shape[2])
        return self.add("Conv", tensor, *_padded(kernel, bias, n_in, _whole(kernel.shape[3])))

    def rectify(self, tensor: str) -> str:
        """Append a PReLU of a map, as two depthwise convolutions."""
        slope = next(self.weights).ravel()
        slope = np.concatenate([slope, np.zeros(_whole(len(slope)) - len(slope), np.float32)])
        if (slope < 1).all():
            # ONNX Runtime fuses the ReLU into the convolution before it.
            positive = self.add("Relu", self._scale(tensor, 1 - slope))
        else:
            positive = self._scale(self.add("Relu", tensor), 1 - slope)
        return self.add("Add", self._scale(tensor, slope), positive)

    def _scale(self, tensor: str, factors: NDArray[np.float32]) -> str:
        n = len(factors)
        return self.add("Conv", tensor, factors.reshape(n, 1, 1, 1), group=n, kernel_shape=[1, 1])

    def pool(self, tensor: str, side: int, padding: str = "SAME_UPPER") -> str:
        return self.add("MaxPool", tensor, kernel_shape=[side, side], strides=[2, 2], auto_pad=padding)

    def connect(self, tensor: str, side: int) -> str:
        """Append the dense layer on a map of `side` × `side` positions, and its PReLU."""
        weight, bias, slope = (next(self.weights) for _ in range(3))
        # The networks were trained with columns first; the map is flattened with channels first.
        weight = weight.reshape(side, side, -1, weight.shape[1]).transpose(2, 1, 0, 3)
        flat = self.add("Flatten", tensor)
        return self.add("PRelu", self.add("Gemm", flat, weight.reshape(-1, weight.shape[3]), bias), slope)

    def heads(self, tensor: str, number: int) -> str:
        """Append all heads as one layer."""
        kernels, biases = zip(*((next(self.weights), next(self.weights)) for _ in range(number)), strict=True)
        kernel, bias = np.concatenate(kernels, axis=-1), np.concatenate(biases)
        if kernel.ndim == 2:
            return self.add("Gemm", tensor, kernel, bias)
        return self.add("Conv", tensor, kernel.transpose(3, 2, 0, 1), bias)

    def build(self, output: str) -> bytes:
        from onnx import TensorProto, helper

        picture = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", "height", "width", 3])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "mtcnn", [picture], [result], self.constants)
        opsets = [helper.make_opsetid("", 13)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _whole(channels: int) -> int:
    """Return a number of channels that fills whole blocks."""
    return -(-channels // _BLOCK) * _BLOCK


def _padded(
    kernel: NDArray[np.float32], bias: NDArray[np.float32], n_in: int, n_out: int
) -> Sequence[NDArray[np.float32]]:
    """Return the weights of a convolution with further channels of zeros."""
    weight = np.zeros((n_out, n_in, *kernel.shape[:2]), np.float32)
    weight[: kernel.shape[3], : kernel.shape[2]] = kernel.transpose(3, 2, 0, 1)
    return weight, np.concatenate([bias, np.zeros(n_out - len(bias))]).astype(np.float32)


def _build_pnet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.pool(graph.rectify(graph.convolve(graph.pixels())), 2)
    x = graph.rectify(graph.convolve(x))
    x = graph.rectify(graph.convolve(x))
    return graph.build(graph.heads(x, 2))


def _build_rnet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.pool(graph.rectify(graph.convolve(graph.pixels())), 3)
    x = graph.pool(graph.rectify(graph.convolve(x)), 3, "VALID")
    x = graph.connect(graph.rectify(graph.convolve(x)), 3)
    return graph.build(graph.heads(x, 2))


def _build_onet(weights: list[NDArray[np.float32]]) -> bytes:
    graph = _Graph(weights)
    x = graph.pool(graph.rectify(graph.convolve(graph.pixels())), 3)
    x = graph.pool(graph.rectify(graph.convolve(x)), 3, "VALID")
    x = graph.pool(graph.rectify(graph.convolve(x)), 2)
    x = graph.connect(graph.rectify(graph.convolve(x)), 3)
    return graph.build(graph.heads(x, 3))


_BUILDERS = {"pnet": _build_pnet, "rnet": _build_rnet, "onet": _build_onet}
