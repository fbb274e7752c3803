"""Rewriting ONNX networks into graphs that ONNX Runtime runs faster, with the same output."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import OnnxGraph, ancestors

__all__ = ["PICTURES", "handed_out", "rewritten", "runnable"]

PICTURES = "agegender_pictures"
_PREFIX = "agegender/"
# The block size, in channels, of ONNX Runtime's blocked layout.
_BLOCK = 16

Numbers = float | tuple[float, float, float]


def runnable(
    graph: OnnxGraph,
    tensor: str,
    *,
    color: str = "rgb",
    mean: Numbers = 0.0,
    scale: Numbers = 1.0,
    pooled: bool = False,
    rewrite: bool = True,
) -> bytes:
    """Return an ONNX model from uint8 RGB pictures (n, h, w, 3) to one of the network's tensors.

    Parameters
    ----------
    graph : OnnxGraph
    tensor : str
        The tensor to compute; operations after it are removed.
    color : {"rgb", "bgr"}, default="rgb"
        The colour order of the network's input.
    mean, scale : float or tuple of three floats
        The input of the network is (x − mean)·scale, in its colour order.
    pooled : bool, default=False
        Average the map over its positions.
    rewrite : bool, default=True
        Replace slow operations of ONNX Runtime by fast ones that give the same numbers.

    Returns
    -------
    bytes
        A model with one float32 output: maps are (n, h, w, channels), maps of one position are flat, and
        other tensors keep their shape.
    """
    model = graph.cut(tensor)
    body = _Body(graph)
    nodes = body.faster(list(model.graph.node)) if rewrite else list(model.graph.node)
    before = body.prelude(color, mean, scale)
    after, output = body.ending(tensor, pooled)
    nodes = ancestors([*before, *nodes, *after], [output])
    return _assemble(model, graph, nodes, body.weights, output)


def rewritten(graph: OnnxGraph, tensor: str) -> Any:
    """Return the network from its own input to one of its tensors, with fast operations, as an ONNX model."""
    from onnx import numpy_helper

    model = graph.cut(tensor)
    body = _Body(graph)
    nodes = body.faster(list(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(body.weights[name], name) for name in body.weights)
    return model


def handed_out(graph: OnnxGraph, tensor: str) -> Any:
    """Return the network from its own input to one of its tensors, in its public form, as an ONNX model.

    The output is float32; maps have channels last, and maps of one position are flat. The operations are the
    network's own.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = graph.cut(tensor)
    body = _Body(graph)
    after, output = body.ending(tensor, pooled=False)
    model.graph.node.extend(after)
    model.graph.initializer.extend(numpy_helper.from_array(body.weights[name], name) for name in body.weights)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    return model


def _assemble(
    model: Any, graph: OnnxGraph, nodes: list[Any], weights: dict[str, NDArray[Any]], output: str
) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    read = {name for node in nodes for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        numpy_helper.from_array(weights[name], name) for name in weights if name in read
    )
    shape = ["pictures", *graph.input_size, 3]
    model.graph.input.append(helper.make_tensor_value_info(PICTURES, TensorProto.UINT8, shape))
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


class _Body:
    """New nodes for a graph, and their constants."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.weights: dict[str, NDArray[Any]] = {}

    def prelude(self, color: str, mean: Numbers, scale: Numbers) -> list[Any]:
        """From uint8 (n, h, w, 3) RGB to the network's input."""
        from onnx import TensorProto

        # Channels first, because swapping colours then moves whole planes.
        chain = _Chain(self, PICTURES).add("Transpose", perm=[0, 3, 1, 2])
        if color == "bgr":
            chain.add("Gather", np.array([2, 1, 0], np.int64), axis=1)
        chain.add("Cast", to=TensorProto.FLOAT)
        if np.any(np.asarray(mean) != 0):
            chain.add("Sub", _by_channel(mean))
        if np.any(np.asarray(scale) != 1):
            chain.add("Mul", _by_channel(scale))
        layout = self.graph.layouts[self.graph.input]
        if layout != "nchw":
            chain.add("Transpose", perm=["nchw".index(axis) for axis in layout])
        chain.add("Cast", to=self.graph.types[self.graph.input])
        return chain.ending_as(self.graph.input)

    def ending(self, tensor: str, pooled: bool) -> tuple[list[Any], str]:
        """From a tensor to the output: float32, channels last, maps of one position flat."""
        from onnx import TensorProto

        chain = _Chain(self, tensor)
        layout = self.graph.layouts.get(tensor)
        one_position = len(self.graph.output_shape(tensor) or ()) == 1
        if layout is not None and (pooled or one_position):
            if layout != "nchw":
                chain.add("Transpose", perm=[layout.index(axis) for axis in "nchw"])
            if pooled:
                chain.add("GlobalAveragePool")
            chain.add("Flatten")
        elif layout is not None and layout != "nhwc":
            chain.add("Transpose", perm=[layout.index(axis) for axis in "nhwc"])
        if self.graph.types[tensor] != TensorProto.FLOAT:
            chain.add("Cast", to=TensorProto.FLOAT)
        return chain.nodes, chain.end

    def faster(self, nodes: list[Any]) -> list[Any]:
        """Replace slow operations by fast ones with the same output."""
        return self.with_blocked_arithmetic(self.without_prelu(nodes))

    def without_prelu(self, nodes: list[Any]) -> list[Any]:
        """Write PReLU(x) = dw₁(ReLU(x)) + dw₂(x), because the blocked layout has convolutions but no PReLU.

        dw₁ and dw₂ are depthwise 1×1 convolutions with the weights 1 − a and a.
        """
        made_by = {name: node for node in nodes for name in node.output}
        written = []
        for node in nodes:
            found = self._prelu(node, made_by)
            if found is None:
                written.append(node)
                continue
            x, slope = found
            positive = _Chain(self, x, node.output[0]).add("Relu").depthwise(1 - slope)
            both = _Chain(self, x, f"{node.output[0]}/x").depthwise(slope)
            sum_of = _Chain(self, positive.end, f"{node.output[0]}/sum").add("Add", both.end)
            written += positive.nodes + both.nodes + sum_of.ending_as(node.output[0])
        return written

    def with_blocked_arithmetic(self, nodes: list[Any]) -> list[Any]:
        """Write x·w + b, with w and b per channel, as a convolution, because it needs no reordering."""
        made_by = {name: node for node in nodes for name in node.output}
        readers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        written, taken = [], set()
        for node in nodes:
            scaled = self._scaled(node)
            # Directly after a convolution, ONNX Runtime folds it into the weights.
            if scaled is None or _kind(made_by.get(scaled[0])) == "Conv":
                written += [] if node.output[0] in taken else [node]
                continue
            x, weight = scaled
            last, bias = node, None
            if len(after := readers.get(node.output[0], [])) == 1 and after[0].op_type == "Add":
                bias = self._constant_beside(after[0], node.output[0])
                last = node if bias is None else after[0]
            written += _Chain(self, x, last.output[0]).depthwise(weight, bias).ending_as(last.output[0])
            taken.add(last.output[0])
        return written

    def _scaled(self, node: Any) -> tuple[str, NDArray[np.float32]] | None:
        """Return the input of a product with one constant per channel, and the constants."""
        if node.op_type != "Mul":
            return None
        for x in node.input:
            weight = self._constant_beside(node, x)
            if weight is not None:
                return str(x), weight
        return None

    def _constant_beside(self, node: Any, x: str) -> NDArray[np.float32] | None:
        """Return the other operand of a sum or product with `x`, if it is one constant per channel."""
        others = [name for name in node.input if name != x]
        return self._per_channel(x, others[0]) if len(others) == 1 else None

    def _prelu(self, node: Any, made_by: dict[str, Any]) -> tuple[str, NDArray[np.float32]] | None:
        """Return the input of a PReLU and its slope per channel, or None if `node` does not end a PReLU."""
        x, slope = None, None
        if node.op_type == "PRelu":
            x, slope = node.input[0], self._per_channel(node.input[0], node.input[1])
        elif node.op_type == "Add":
            x, slope = self._keras_prelu(node, made_by)
        return None if x is None or slope is None else (x, slope)

    def _keras_prelu(
        self, node: Any, made_by: dict[str, Any]
    ) -> tuple[str | None, NDArray[np.float32] | None]:
        """Recognise ReLU(x) + k·ReLU(−x), the form in which Keras writes a PReLU of slope −k."""
        for plain, scaled in (node.input, node.input[::-1]):
            relu: Any = made_by.get(plain)
            product: Any = made_by.get(scaled)
            if _kind(relu) != "Relu" or _kind(product) != "Mul":
                continue
            for mirrored, factor in (product.input, product.input[::-1]):
                second: Any = made_by.get(mirrored)
                negated: Any = made_by.get(second.input[0]) if _kind(second) == "Relu" else None
                if _kind(negated) == "Neg" and negated.input[0] == relu.input[0]:
                    k = self._per_channel(relu.input[0], factor)
                    return relu.input[0], None if k is None else -k
        return None, None

    def _per_channel(self, x: str, name: str) -> NDArray[np.float32] | None:
        """Return a constant as one number per channel of the map `x`, or None."""
        from onnx import TensorProto

        shape, value = self.graph.shapes.get(x), self.graph.constant(name)
        if self.graph.layouts.get(x) != "nchw" or shape is None or value is None:
            return None
        channels = shape[1]
        if not channels or channels % _BLOCK or self.graph.types.get(x) != TensorProto.FLOAT:
            return None
        padded = value.reshape((1,) * (4 - value.ndim) + value.shape) if value.ndim <= 4 else value
        if padded.ndim != 4 or padded.shape not in ((1, channels, 1, 1), (1, 1, 1, 1)):
            return None
        return np.broadcast_to(padded.reshape(-1), (channels,)).astype(np.float32)


class _Chain:
    """A chain of nodes, each reading the previous one."""

    def __init__(self, body: _Body, start: str, name: str | None = None) -> None:
        self.body = body
        self.end = start
        self.nodes: list[Any] = []
        self._name = f"{_PREFIX}{name or start}"

    def add(self, kind: str, *others: NDArray[Any] | str, **attributes: Any) -> _Chain:
        """Append a node that reads the chain's end and `others`, constants or names."""
        from onnx import helper

        output = f"{self._name}/{len(self.nodes)}_{kind}"
        names = []
        for number, other in enumerate(others):
            if isinstance(other, str):
                names.append(other)
                continue
            names.append(f"{output}/{number}")
            self.body.weights[names[-1]] = other
        self.nodes.append(helper.make_node(kind, [self.end, *names], [output], **attributes))
        self.end = output
        return self

    def depthwise(self, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> _Chain:
        """Append a 1×1 convolution that scales and shifts each channel."""
        channels = len(weight)
        numbers = [weight.reshape(channels, 1, 1, 1)] + ([] if bias is None else [bias])
        return self.add("Conv", *numbers, group=channels, kernel_shape=[1, 1])

    def ending_as(self, name: str) -> list[Any]:
        """Return the nodes; the output of the last one is `name`."""
        self.nodes[-1].output[0] = self.end = name
        return self.nodes


def _by_channel(numbers: Numbers) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32).reshape(-1, 1, 1)


def _kind(node: Any | None) -> str:
    return "" if node is None else str(node.op_type)
