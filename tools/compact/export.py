"""The trained network as an ONNX graph of a few plain operators, with every batch normalisation folded in.

Its weights are stored in half precision, which halves the file; a runtime turns them into float32 once, when it opens
the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from compact.network import EMBEDDING, PENULTIMATE, SIDE, CompactNet, Layer

OPSET, IR_VERSION = 17, 8
Weights = NDArray[np.float32]


def as_onnx(net: CompactNet) -> Any:
    """Return the network as a model: ``pictures`` (n, 3, 112, 112) to ``embedding`` (n, 128)."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    name = "pictures"
    for number, layer in enumerate(net.maps):
        name = graph.layer(layer, name, f"conv_{number}")
    name = _gather(graph, net, name)
    weight, bias = _array(net.embed.weight), _array(net.embed.bias)
    graph.add(
        "Gemm",
        [name, graph.keep("embed.weight", weight), graph.keep("embed.bias", bias)],
        "embedding",
        transB=1,
    )
    model = helper.make_model(
        helper.make_graph(
            [*graph.casts, *graph.nodes],
            "agegender compact",
            [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", EMBEDDING])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="agegender",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and weights, as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.casts: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def keep(self, name: str, weights: Weights) -> str:
        """Store weights: matrices in half precision with a cast to float32, vectors and numbers as they are."""
        from onnx import TensorProto, helper, numpy_helper

        if weights.ndim < 2:
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(weights), name))
            return name
        half = np.ascontiguousarray(weights, np.float16)
        self.weights.append(numpy_helper.from_array(half, f"{name}.half"))
        self.casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=name, to=TensorProto.FLOAT))
        return name

    def layer(self, layer: Layer, name: str, output: str) -> str:
        """Add a convolution with its normalisation folded in, and its bounds."""
        factor, offset = _affine(layer.norm)
        inputs = [
            name,
            self.keep(f"{output}.weight", _array(layer.conv.weight) * factor[:, None, None, None]),
            self.keep(f"{output}.bias", offset),
        ]
        kernel, stride, group = layer.conv.kernel_size[0], layer.conv.stride[0], layer.conv.groups
        pads = [layer.near] * 2 + [layer.far] * 2
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "group": group}
        linear = self.add("Conv", inputs, f"{output}_linear", **shape)
        bounds = [self._bound("zero", 0.0), self._bound("six", 6.0)]
        return self.add("Clip", [linear, *bounds], output)

    def _bound(self, name: str, value: float) -> str:
        if name not in {weights.name for weights in self.weights}:
            self.keep(name, np.array(value, np.float32))
        return name


def _gather(graph: _Graph, net: CompactNet, name: str) -> str:
    """Add the weighted sum over the places of the last map, as a depthwise convolution as large as the map."""
    factor, offset = _affine(net.norm)
    weights = _array(net.place_weights) * factor[:, None, None]
    inputs = [name, graph.keep("gather.weight", weights[:, None]), graph.keep("gather.bias", offset)]
    gathered = graph.add("Conv", inputs, "gathered", kernel_shape=list(weights.shape[1:]), group=PENULTIMATE)
    return graph.add("Flatten", [gathered], "face", axis=1)


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Weights, Weights]:
    """Return the factors and offsets that a batch normalisation comes to."""
    factor = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return factor, _array(norm.bias) - _array(norm.running_mean) * factor


def _array(tensor: Tensor | None) -> Weights:
    if tensor is None:
        raise ValueError("The layer has no such numbers.")
    return tensor.detach().float().numpy()
