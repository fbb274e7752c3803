"""Conversion of ONNX operators to Keras layers with their weights: one small function per operator.

To add an operator, write one function decorated with ``@converts(kind)``. Operators on the positions of maps
and on axes are in `agegender._tails.maps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import attribute
from agegender._tails.conversion import CONVERTERS, Conversion, Converter, NotConverted, Value, converts
from agegender._tails.maps import padded, pads_of

__all__ = ["CONVERTERS"]

# Convolutions and dense layers


@converts("Conv")
def _conv(node: Any, c: Conversion) -> Value:
    value, kernel, bias = c.map(node), c.weight(node, 1), c.constant(node, 2)
    strides, dilations = (tuple(attribute(node, name, [1, 1])) for name in ("strides", "dilations"))
    if max(strides) > 1 and max(dilations) > 1:
        raise NotConverted(f"has strides {strides} and dilations {dilations}, which Keras does not combine")
    tensor, padding = padded(
        value, pads_of(node, value, kernel.shape[2:]), kernel.shape[2:], strides, dilations
    )
    options = {
        "strides": strides,
        "dilation_rate": dilations,
        "padding": padding,
        "use_bias": bias is not None,
    }
    groups = attribute(node, "group", 1)
    biases = [] if bias is None else [bias]
    if groups > 1 and kernel.shape[1] == 1:
        made = _depthwise(node, c, tensor, kernel, biases, options)
    elif groups > 1:
        made = _grouped(node, c, tensor, kernel, biases, options, groups)
    else:
        made = _plain_conv(c, tensor, kernel, biases, options | {"name": c.name(node)})
    return Value(made, "nchw")


def _plain_conv(c: Conversion, tensor: Any, kernel: Any, biases: list[Any], options: dict[str, Any]) -> Any:
    from keras import layers

    layer = layers.Conv2D(kernel.shape[0], kernel.shape[2:], **options)
    return c.apply(layer, tensor, [kernel.transpose(2, 3, 1, 0), *biases])


def _depthwise(
    node: Any, c: Conversion, tensor: Any, kernel: Any, biases: list[Any], options: dict[str, Any]
) -> Any:
    from keras import layers

    if len(set(options["strides"])) > 1:
        raise NotConverted(f"is depthwise with strides {options['strides']}; TensorFlow takes equal ones")
    channels = tensor.shape[-1]
    layer = layers.DepthwiseConv2D(
        kernel.shape[2:], depth_multiplier=kernel.shape[0] // channels, name=c.name(node), **options
    )
    by_channel = kernel.reshape(channels, -1, *kernel.shape[2:])
    return c.apply(layer, tensor, [by_channel.transpose(2, 3, 0, 1), *biases])


def _grouped(
    node: Any,
    c: Conversion,
    tensor: Any,
    kernel: Any,
    biases: list[Any],
    options: dict[str, Any],
    groups: int,
) -> Any:
    """Convolve each group separately, because TensorFlow cannot train a grouped convolution on CPUs."""
    from keras import layers, ops

    parts = []
    for part, own, bias in zip(
        ops.split(tensor, groups, axis=-1),
        np.split(kernel, groups),
        np.split(biases[0], groups) if biases else [None] * groups,
        strict=True,
    ):
        own_biases = [] if bias is None else [bias]
        parts.append(_plain_conv(c, part, own, own_biases, options | {"name": c.name(node)}))
    return layers.Concatenate()(parts)


@converts("Gemm")
def _gemm(node: Any, c: Conversion) -> Value:
    kernel, bias = c.weight(node, 1), c.constant(node, 2)
    if attribute(node, "transA", 0):
        raise NotConverted("transposes the pictures' axis (transA=1)")
    kernel = (kernel.T if attribute(node, "transB", 0) else kernel) * attribute(node, "alpha", 1.0)
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), (kernel.shape[1],)) * attribute(node, "beta", 1.0)
    return _dense(node, c, kernel, bias)


@converts("MatMul")
def _matmul(node: Any, c: Conversion) -> Value:
    return _dense(node, c, c.weight(node, 1), None)


def _dense(node: Any, c: Conversion, kernel: NDArray[Any], bias: NDArray[Any] | None) -> Value:
    from keras import layers

    value = c.input(node)
    if value.layout != "nc" or kernel.ndim != 2:
        raise NotConverted("multiplies something else than vectors by a matrix")
    layer = layers.Dense(kernel.shape[1], use_bias=bias is not None, name=c.name(node))
    return Value(c.apply(layer, value.tensor, [kernel] if bias is None else [kernel, bias]), "nc")


@converts("BatchNormalization")
def _batch_normalization(node: Any, c: Conversion) -> Value:
    value = c.input(node)
    if value.layout not in ("nchw", "nc"):
        raise NotConverted(f"normalises the second axis of {value.layout}, which is not the channels")
    layer = c.normalise(
        epsilon=attribute(node, "epsilon", 1e-5), momentum=attribute(node, "momentum", 0.9), name=c.name(node)
    )
    return Value(c.apply(layer, value.tensor, [c.weight(node, i) for i in range(1, 5)]), value.layout)


# Activations


@converts("PRelu")
def _prelu(node: Any, c: Conversion) -> Value:
    return _with_slope(node, c, c.input(node), c.weight(node, 1))


def _with_slope(node: Any, c: Conversion, value: Value, slope: NDArray[Any]) -> Value:
    from agegender._tails.layers import FusedPReLU

    slope = c.aligned(slope, value)[0]
    if slope.shape[-1] == 1:
        slope = slope.repeat(value.tensor.shape[-1], axis=-1)
    shared = [axis for axis, length in enumerate(slope.shape[:-1], start=1) if length == 1]
    layer = FusedPReLU(shared_axes=shared or None, name=c.name(node))
    return Value(c.apply(layer, value.tensor, [slope]), value.layout)


def _elementwise(make: Callable[[Any, Any, Conversion], Any]) -> Converter:
    """Return a converter for an elementwise operation."""

    def convert(node: Any, c: Conversion) -> Value:
        value = c.input(node)
        return Value(make(value.tensor, node, c), value.layout)

    return convert


def _op(name: str) -> Converter:
    """Return a converter to the operation `name` of keras.ops."""

    def make(tensor: Any, node: Any, c: Conversion) -> Any:
        from keras import ops

        return getattr(ops, name)(tensor)

    return _elementwise(make)


for _kind, _name in (("Relu", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("Neg", "negative")):
    converts(_kind)(_op(_name))
converts("Sqrt")(_op("sqrt"))
converts("Cast", "Dropout", "Identity")(_elementwise(lambda tensor, node, c: tensor))


@converts("LeakyRelu")
@_elementwise
def _leaky_relu(tensor: Any, node: Any, c: Conversion) -> Any:
    from keras import ops

    return ops.leaky_relu(tensor, negative_slope=attribute(node, "alpha", 0.01))


@converts("Clip")
@_elementwise
def _clip(tensor: Any, node: Any, c: Conversion) -> Any:
    from keras import ops

    # The limits are attributes in old graphs, and inputs in newer ones.
    limits = []
    for number, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        constant = c.constant(node, number)
        limits.append(attribute(node, name, default) if constant is None else constant.item())
    low, high = limits
    if low == 0:
        tensor, low = ops.relu6(tensor) if high == 6 else ops.relu(tensor), -np.inf
        high = np.inf if high == 6 else high
    tensor = tensor if low == -np.inf else ops.maximum(tensor, float(low))
    return tensor if high == np.inf else ops.minimum(tensor, float(high))


def _hard_sigmoid_of(tensor: Any, alpha: float, beta: float) -> Any:
    from keras import ops

    return ops.minimum(ops.relu(tensor * alpha + beta), 1.0)


@converts("HardSigmoid")
@_elementwise
def _hard_sigmoid(tensor: Any, node: Any, c: Conversion) -> Any:
    return _hard_sigmoid_of(tensor, attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5))


@converts("HardSwish")
@_elementwise
def _hard_swish(tensor: Any, node: Any, c: Conversion) -> Any:
    return tensor * _hard_sigmoid_of(tensor, 1 / 6, 0.5)


@converts("Softmax")
def _softmax(node: Any, c: Conversion) -> Value:
    from keras import ops

    value = c.input(node)
    if value.axis(attribute(node, "axis", -1)) != "c":
        raise NotConverted("runs over another axis than the channels")
    return Value(ops.softmax(value.tensor, axis=-1), value.layout)


# Arithmetic


def _arithmetic(name: str) -> Converter:
    """Return a converter to a Keras operation with two operands, of which one may be constant."""

    def convert(node: Any, c: Conversion) -> Value:
        from keras import ops

        known = [c.values[read] for read in node.input if read in c.values]
        if len({value.layout for value in known}) > 1:
            raise NotConverted(f"joins tensors of the axes {' and '.join(value.layout for value in known)}")
        operands = [
            c.values[read].tensor if read in c.values else _factor(c, node, number, known[0])
            for number, read in enumerate(node.input)
        ]
        return Value(getattr(ops, name)(*operands), known[0].layout)

    return convert


def _factor(c: Conversion, node: Any, number: int, value: Value) -> Any:
    constant = c.weight(node, number)
    return float(constant.item()) if constant.size == 1 else c.aligned(constant, value)


for _kind, _name in (("Sub", "subtract"), ("Mul", "multiply"), ("Div", "divide"), ("Pow", "power")):
    converts(_kind)(_arithmetic(_name))


@converts("Add")
def _add(node: Any, c: Conversion) -> Value:
    found = _keras_prelu(node, c)
    return _arithmetic("add")(node, c) if found is None else _with_slope(node, c, *found)


def _keras_prelu(node: Any, c: Conversion) -> tuple[Value, NDArray[Any]] | None:
    """Recognise ReLU(x) + k·ReLU(−x), Keras' form of a PReLU with slope −k, and return x and −k."""
    relu: Any
    product: Any
    second: Any
    negated: Any
    for plain, scaled in (node.input, node.input[::-1]):
        relu, product = c.makers.get(plain), c.makers.get(scaled)
        if _kind_of(relu) != "Relu" or _kind_of(product) != "Mul":
            continue
        for mirrored, factor in (product.input, product.input[::-1]):
            second = c.makers.get(mirrored)
            negated = c.makers.get(second.input[0]) if _kind_of(second) == "Relu" else None
            k = c.graph.constant(factor)
            if _kind_of(negated) == "Neg" and negated.input[0] == relu.input[0] in c.values and k is not None:
                return c.values[relu.input[0]], -k.astype(np.float32)
    return None


def _kind_of(node: Any | None) -> str:
    return "" if node is None else str(node.op_type)


@converts("Concat")
def _concat(node: Any, c: Conversion) -> Value:
    from keras import layers

    values = [c.input(node, number) for number in range(len(node.input))]
    layout = values[0].layout
    if any(value.layout != layout for value in values):
        raise NotConverted(f"joins tensors of the axes {', '.join(value.layout for value in values)}")
    axis = values[0].axis(attribute(node, "axis", 1))
    if axis == "n":
        raise NotConverted("joins pictures")
    axes = "nhwc" if values[0].is_map else layout
    return Value(layers.Concatenate(axis=axes.index(axis))([value.tensor for value in values]), layout)
