"""Conversion to Keras of ONNX operators that pool, pad and reshape maps, and padding of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import attribute
from agegender._tails.conversion import MAPS, Conversion, NotConverted, Value, converts

__all__ = ["padded", "pads_of"]

Pads = tuple[tuple[int, int], tuple[int, int]]

LOWEST = -3e38


# Over the positions of a map


@converts("GlobalAveragePool")
def _global_average_pool(node: Any, c: Conversion) -> Value:
    from keras import layers

    value = c.map(node)
    return Value(layers.GlobalAveragePooling2D(keepdims=True)(value.tensor), value.layout)


@converts("ReduceMean", "ReduceSum")
def _reduce(node: Any, c: Conversion) -> Value:
    from keras import ops

    value = c.input(node)
    axes = c.constant(node, 1)
    numbers = attribute(node, "axes", None) if axes is None else axes.ravel().tolist()
    letters = {value.axis(number) for number in numbers or range(len(value.layout))}
    keeps = bool(attribute(node, "keepdims", 1))
    left = value.layout if keeps else "".join(axis for axis in value.layout if axis not in letters)
    if "n" in letters or left not in (value.layout, "nc"):
        raise NotConverted(f"runs over the axes {'/'.join(sorted(letters))} of {value.layout}")
    order = "nhwc" if value.is_map else value.layout
    function = ops.mean if node.op_type == "ReduceMean" else ops.sum
    over = tuple(sorted(order.index(axis) for axis in letters))
    return Value(function(value.tensor, axis=over, keepdims=keeps), left)


@converts("MaxPool")
def _max_pool(node: Any, c: Conversion) -> Value:
    from keras import layers

    value, size, strides = _pooled(node, c)
    tensor, padding = padded(value, pads_of(node, value, size), size, strides, (1, 1), LOWEST)
    return Value(layers.MaxPooling2D(size, strides=strides, padding=padding)(tensor), "nchw")


@converts("AveragePool")
def _average_pool(node: Any, c: Conversion) -> Value:
    from keras import layers

    value, size, strides = _pooled(node, c)
    pads = pads_of(node, value, size)
    average = layers.AveragePooling2D(size, strides=strides)(_zero_padded(value.tensor, pads))
    if np.any(pads) and not attribute(node, "count_include_pad", 0):
        covered = [
            _covered(side, before, after, width, step)
            for side, (before, after), width, step in zip(value.sides, pads, size, strides, strict=True)
        ]
        # The zeros of the border do not count: the sum is divided by the number of positions inside the map,
        # not by all positions.
        average = average * (math.prod(size) / np.multiply.outer(*covered))[None, :, :, None].astype(
            np.float32
        )
    return Value(average, "nchw")


def _covered(side: int, before: int, after: int, width: int, step: int) -> NDArray[np.int64]:
    """Return how many positions inside the map each window covers, along one side."""
    inside = np.pad(np.ones(side, np.int64), (before, after))
    return np.lib.stride_tricks.sliding_window_view(inside, width)[::step].sum(axis=1)


def _pooled(node: Any, c: Conversion) -> tuple[Value, tuple[int, ...], tuple[int, ...]]:
    if max(attribute(node, "dilations", [1])) > 1:
        raise NotConverted("is dilated")
    size = tuple(attribute(node, "kernel_shape", []))
    return c.map(node), size, tuple(attribute(node, "strides", [1, 1]))


@converts("Pad")
def _pad(node: Any, c: Conversion) -> Value:
    value = c.map(node)
    given = c.constant(node, 1)
    numbers = attribute(node, "pads", None) if given is None else given.tolist()
    fill = c.constant(node, 2)
    number = attribute(node, "value", 0.0) if fill is None else fill.item()
    if attribute(node, "mode", b"constant") != b"constant" or len(numbers or ()) != 8 or len(node.input) > 3:
        raise NotConverted("pads otherwise than with a constant on all axes")
    by_axis = {axis: (numbers[i], numbers[i + 4]) for i, axis in enumerate(value.layout)}
    if any(by_axis["n"] + by_axis["c"]) or min(numbers) < 0:
        raise NotConverted(f"pads by {numbers}, not height and width alone")
    return Value(_filled(value.tensor, (by_axis["h"], by_axis["w"]), number), value.layout)


def pads_of(node: Any, value: Value, size: Sequence[int]) -> Pads:
    """Return the padding of a convolution or pooling, before and after, along height and width."""
    mode = attribute(node, "auto_pad", b"NOTSET")
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    before, after = np.reshape(attribute(node, "pads", [0] * 4), (2, 2)).tolist()
    pads = []
    for i, side in enumerate(value.sides):
        if mode in (b"SAME_UPPER", b"SAME_LOWER"):
            first, last = _same_pads(side, size[i], strides[i], dilations[i])
            pads.append((first, last) if mode == b"SAME_UPPER" else (last, first))
        else:
            pads.append(
                (before[i], after[i] + _ceiling(node, side, before[i] + after[i], size[i], strides[i]))
            )
    return pads[0], pads[1]


def _ceiling(node: Any, side: int, padded: int, size: int, step: int) -> int:
    """Return the padding that ``ceil_mode`` adds after the last position, for the last incomplete window."""
    rest = (side + padded - size) % step
    if not attribute(node, "ceil_mode", 0) or not rest:
        return 0
    if attribute(node, "count_include_pad", 0):
        raise NotConverted("has both ceil_mode and count_include_pad")
    return step - rest


def _same_pads(side: int, size: int, step: int, dilation: int) -> tuple[int, int]:
    """Return the padding that TensorFlow adds for "same"."""
    total = max((math.ceil(side / step) - 1) * step + (size - 1) * dilation + 1 - side, 0)
    return total // 2, total - total // 2


def padded(
    value: Value,
    pads: Pads,
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    fill: float = 0.0,
) -> tuple[Any, str]:
    """Return a map to convolve and Keras' padding mode; Keras makes the padding itself if it can."""
    if not np.any(pads):
        return value.tensor, "valid"
    same = tuple(
        _same_pads(side, *numbers)
        for side, *numbers in zip(value.sides, size, strides, dilations, strict=True)
    )
    return (value.tensor, "same") if pads == same else (_filled(value.tensor, pads, fill), "valid")


def _filled(tensor: Any, pads: Pads, fill: float) -> Any:
    from keras import ops

    if not fill:
        return _zero_padded(tensor, pads)
    return ops.pad(tensor, ((0, 0), *pads, (0, 0)), mode="constant", constant_values=fill)


def _zero_padded(tensor: Any, pads: Pads) -> Any:
    from keras import layers

    return layers.ZeroPadding2D(pads)(tensor) if np.any(pads) else tensor


# Axes


@converts("Transpose")
def _transpose(node: Any, c: Conversion) -> Value:
    value = c.input(node)
    perm = attribute(node, "perm", list(range(len(value.layout)))[::-1])
    layout = "".join(value.layout[axis] for axis in perm)
    if layout[0] != "n":
        raise NotConverted(f"makes {layout} of {value.layout}")
    return Value(value.tensor, layout)


@converts("Flatten")
def _flatten(node: Any, c: Conversion) -> Value:
    if attribute(node, "axis", 1) != 1:
        raise NotConverted("keeps more than the pictures' axis")
    return Value(_flat(c.input(node)), "nc")


@converts("Reshape", "Squeeze", "Unsqueeze")
def _reshape(node: Any, c: Conversion) -> Value:
    from keras import layers

    value = c.input(node)
    shape = c.graph.shapes.get(node.output[0]) or ()
    if len(shape) == 2:
        return Value(_flat(value), "nc")
    channels = value.tensor.shape[-1]
    ones = math.prod(value.tensor.shape[1:]) == channels
    for layout in MAPS:
        if ones and tuple(shape[1:]) == tuple(channels if axis == "c" else 1 for axis in layout[1:]):
            return Value(layers.Reshape((1, 1, channels))(value.tensor), layout)
    if value.is_map and tuple(shape[1:]) == tuple(
        value.tensor.shape["nhwc".index(a)] for a in value.layout[1:]
    ):
        return value
    raise NotConverted(f"makes {_shown(shape)} of {value.layout}, neither vectors nor maps of one position")


def _flat(value: Value) -> Any:
    """Return a vector with its numbers in ONNX's order."""
    from keras import layers

    if not value.is_map:
        return value.tensor
    if value.layout != "nhwc" and value.sides != (1, 1):
        order = tuple("nhwc".index(axis) for axis in value.layout[1:])
        return layers.Flatten()(layers.Permute(order)(value.tensor))
    return layers.Flatten()(value.tensor)


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('n' if side is None else str(side) for side in shape)})"
