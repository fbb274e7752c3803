"""The trained network as an ONNX graph of a few plain operators, with every batch normalisation folded in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from compact.network import EMBEDDING, PENULTIMATE, SIDE, Block, CompactNet

OPSET, IR_VERSION = 17, 8
Weights = NDArray[np.float32]


def as_onnx(net: CompactNet) -> Any:
    """Return the network as a model: ``pictures`` (n, 3, 80, 80) to ``embedding`` (n, 128)."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    name = "pictures"
    blocks = 0
    for layer in net.maps:
        if isinstance(layer, Block):
            blocks += 1
            name = _block(graph, layer, name, f"block_{blocks}")
        elif isinstance(layer, nn.ReLU):
            name = graph.add("Relu", [name], name.removesuffix("_linear"))
        else:
            name = graph.convolution(layer, name, ("last_map" if blocks else "stem") + "_linear")
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
            graph.nodes,
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
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def keep(self, name: str, weights: Weights) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(weights), name))
        return name

    def convolution(self, layer: nn.Sequential, name: str, output: str) -> str:
        """Add a convolution with its normalisation folded in."""
        convolution, norm = layer
        factor, offset = _affine(norm)
        inputs = [
            name,
            self.keep(f"{output}.weight", _array(convolution.weight) * factor[:, None, None, None]),
            self.keep(f"{output}.bias", offset),
        ]
        kernel, stride, pad = convolution.kernel_size[0], convolution.stride[0], convolution.padding[0]
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.add("Conv", inputs, output, **shape)


def _block(graph: _Graph, block: Block, name: str, output: str) -> str:
    inner = graph.convolution(block.first, name, f"{output}_first_linear")
    inner = graph.add("Relu", [inner], f"{output}_first")
    inner = graph.convolution(block.second, inner, f"{output}_second")
    shortcut = name
    if not isinstance(block.shortcut, nn.Identity):
        shortcut = graph.convolution(block.shortcut, name, f"{output}_shortcut")
    return graph.add("Relu", [graph.add("Add", [inner, shortcut], f"{output}_linear")], output)


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
