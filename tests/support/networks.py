"""Small ONNX networks, each with something that real ones have and that is easily got wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16


class Builder:
    """Collects nodes and seeded weights; every method returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def drawn(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.rng.uniform(low, high, shape).astype(np.float32))

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(
        self, x: str, into: int, out: int, kernel: int = 3, name: str | None = None, **attributes: Any
    ) -> str:
        fan_in = into * kernel * kernel
        weight = self.constant(
            self.rng.normal(0, fan_in**-0.5, (out, into, kernel, kernel)).astype(np.float32)
        )
        pads = attributes.pop("pads", [kernel // 2] * 4)
        return self.add("Conv", x, weight, name=name, pads=pads, **attributes)

    def normalised(self, x: str, channels: int) -> str:
        numbers = [self.drawn(channels, low=0.5, high=1.5) for _ in range(4)]
        return self.add("BatchNormalization", x, *numbers, epsilon=1e-3)

    def dense(self, x: str, into: int, out: int, name: str | None = None) -> str:
        return self.add("MatMul", x, self.drawn(into, out, low=-0.2, high=0.2), name=name)

    def model(
        self,
        outputs: dict[str, list],
        picture: list | None = None,
        *,
        opset: int = 13,
        elem: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        shape = ["N", 3, SIDE, SIDE] if picture is None else picture
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("picture", elem, shape)],
            [helper.make_tensor_value_info(name, elem, dims) for name, dims in outputs.items()],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def plain_run(model: onnx.ModelProto, pictures: np.ndarray, tensor: str) -> np.ndarray:
    """What ONNX Runtime gives for a tensor of the model as it stands, without its optimisations."""
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    if tensor not in [output.name for output in shown.graph.output]:
        shown.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run([tensor], {"picture": pictures})[0]


def plain() -> onnx.ModelProto:
    """Convolution, PReLU, a map over 4×4 positions, flattened, two dense layers."""
    b = Builder()
    x = b.add(
        "PRelu",
        b.normalised(b.conv("picture", 3, 16, strides=[2, 2]), 16),
        b.drawn(16, 1, 1, low=-0.3, high=1.6),
    )
    x = b.add("Relu", b.conv(x, 16, 32, strides=[2, 2]), name="map")
    x = b.add("Flatten", x, name="flat")
    x = b.add("Relu", b.dense(x, 512, 20), name="hidden")
    b.dense(x, 20, 8, name="out")
    return b.model({"out": ["N", 8]})


def channels_last() -> onnx.ModelProto:
    """As converters from TensorFlow write it: transposed at both ends, flattened by a computed shape."""
    b = Builder(1)
    x = b.add("Transpose", "picture", perm=[0, 3, 1, 2])
    x = b.conv(x, 3, 16, strides=[2, 2])
    negative = b.add("Mul", b.add("Relu", b.add("Neg", x)), b.drawn(1, 16, 1, 1, low=-1.5, high=0.3))
    x = b.add("Add", b.add("Relu", x), negative, name="keras_prelu")
    x = b.add("Mul", x, b.drawn(1, 16, 1, 1, low=0.5, high=1.5))
    x = b.add("Add", x, b.drawn(1, 16, 1, 1))
    x = b.add("Transpose", b.conv(x, 16, 32, strides=[2, 2]), perm=[0, 2, 3, 1], name="map")
    n = b.add("Gather", b.add("Shape", "picture"), b.constant(np.array([0], np.int64)))
    shape = b.add("Concat", n, b.constant(np.array([512], np.int64)), axis=0)
    x = b.add("Reshape", x, shape, name="flat")
    b.dense(x, 512, 8, name="out")
    return b.model({"out": ["N", 8]}, ["N", SIDE, SIDE, 3])


def squeezed() -> onnx.ModelProto:
    """A squeeze-and-excitation block, whose convolutions on one position are no last dense layer; no dense layer."""
    b = Builder(2)
    x = b.add("Relu", b.conv("picture", 3, 16, strides=[4, 4]), name="before")
    gate = b.conv(b.add("GlobalAveragePool", x), 16, 4, 1)
    gate = b.add("Sigmoid", b.conv(b.add("Relu", gate), 4, 16, 1))
    x = b.add("Mul", x, gate, name="map")
    b.add("Flatten", b.add("GlobalAveragePool", x), name="out")
    return b.model({"out": ["N", 16]})


def unit_length() -> onnx.ModelProto:
    """The dense layer is a convolution on one position; the embedding is divided by its own length."""
    b = Builder(3)
    x = b.add("Relu", b.conv("picture", 3, 16, strides=[4, 4]), name="map")
    x = b.conv(x, 1, 16, 4, name="one", pads=[0] * 4, group=16)
    x = b.add("Flatten", b.conv(x, 16, 8, 1))
    length = b.add("Sqrt", b.add("ReduceSum", b.add("Mul", x, x), b.constant(np.array([1], np.int64))))
    b.add("Div", x, length, name="out")
    return b.model({"out": ["N", 8]})


def two_outputs() -> onnx.ModelProto:
    """The map is the first output, the embedding the second; constants stand in nodes."""
    b = Builder(4)
    x = b.add("Relu", b.conv("picture", 3, 16, strides=[4, 4]), name="map")
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    weight = numpy_helper.from_array(b.rng.normal(size=(16, 8)).astype(np.float32))
    b.nodes.append(helper.make_node("Constant", [], ["weight"], value=weight))
    b.add("Gemm", x, "weight", name="out")
    return b.model({"map": ["N", 16, 4, 4], "out": ["N", 8]})


def one_at_a_time() -> onnx.ModelProto:
    """Made for one picture: its shapes say 1."""
    b = Builder(5)
    x = b.add("Relu", b.conv("picture", 3, 16, strides=[4, 4]), name="map")
    x = b.add("Reshape", x, b.constant(np.array([1, 256], np.int64)), name="flat")
    x = b.add("Reshape", b.dense(x, 256, 8), b.constant(np.array([1, -1], np.int64)), name="out")
    return b.model({"out": [1, 8]}, [1, 3, SIDE, SIDE])


def mixes_pictures() -> onnx.ModelProto:
    """Made for one picture, in a way that takes several for one."""
    b = Builder(6)
    x = b.add("Flatten", b.conv("picture", 3, 16, strides=[4, 4]))
    x = b.add("Sub", x, b.add("ReduceMean", x, axes=[0]))
    b.add("Add", b.dense(x, 256, 8), b.drawn(8), name="out")
    return b.model({"out": [1, 8]}, [1, 3, SIDE, SIDE])


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "plain": plain,
    "channels_last": channels_last,
    "squeezed": squeezed,
    "unit_length": unit_length,
    "two_outputs": two_outputs,
    "one_at_a_time": one_at_a_time,
}
