"""Find out from a network's first operations whether it contains its normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import OnnxGraph, attribute

__all__ = ["own_range"]

# These pass pixels on unchanged, perhaps at other positions.
_PASSES_ON = frozenset(["Cast", "Dropout", "Identity", "Pad", "Resize", "Squeeze", "Transpose", "Unsqueeze"])
Affine = tuple[NDArray[np.float64], NDArray[np.float64]]


def own_range(graph: Any) -> float | None:
    """Return 255 or 1 if a network itself normalises pixels from 0 to this value, or None.

    Parameters
    ----------
    graph : OnnxGraph or KerasGraph

    Returns
    -------
    float or None
        None if the first operations are not a normalisation but, for example, a convolution.
    """
    gain, offset = np.ones(1), np.zeros(1)
    steps = _onnx_steps(graph) if isinstance(graph, OnnxGraph) else _keras_steps(graph.model)
    for factor, shift in steps:
        gain, offset = gain * factor, offset * factor + shift
    return _range(float(np.median(gain)), float(np.median(offset)))


def _range(gain: float, offset: float) -> float | None:
    """Return the highest pixel value for which gain·x + offset is a normalisation, or None."""
    if gain <= 0:
        return None
    middle = -offset / gain
    if 30 < middle < 225 or (abs(offset) < 1e-6 and gain < 0.05):
        return 255.0
    if 0.2 < middle < 0.8 and gain > 1.5:
        return 1.0
    return None


def _onnx_steps(graph: OnnxGraph) -> Iterator[Affine]:
    name = graph.input
    while True:
        readers = [node for node in graph.nodes if name in node.input and node.op_type != "Shape"]
        if len(readers) != 1:
            return
        node = readers[0]
        if node.op_type not in _PASSES_ON:
            step = _onnx_affine(graph, node, name)
            if step is None:
                return
            yield step
        name = node.output[0]


def _onnx_affine(graph: OnnxGraph, node: Any, name: str) -> Affine | None:
    """Return the factor and the summand of an operation, or None if it does anything else."""
    if node.op_type == "BatchNormalization":
        numbers = [graph.constant(entry) for entry in node.input[1:5]]
        if any(number is None for number in numbers):
            return None
        scale, bias, mean, variance = (np.asarray(number, np.float64) for number in numbers)
        gain = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return gain, bias - gain * mean
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = node.input[0] == name
    constant = graph.constant(node.input[1] if first else node.input[0])
    if constant is None or constant.size not in (1, 3):
        return None
    number = constant.astype(np.float64).ravel()
    one, none = np.ones(1), np.zeros(1)
    if node.op_type == "Mul" or (node.op_type == "Div" and first and number.all()):
        return (number if node.op_type == "Mul" else 1 / number), none
    if node.op_type == "Add":
        return one, number
    if node.op_type == "Sub":
        return (one, -number) if first else (-one, number)
    return None


def _keras_steps(model: Any) -> Iterator[Affine]:
    for layer in model.layers[1:]:
        step = _keras_affine(layer)
        if step is None:
            return
        yield step


def _keras_affine(layer: Any) -> Affine | None:
    from keras import layers

    if isinstance(layer, layers.Rescaling):
        return np.ravel(np.asarray(layer.scale, np.float64)), np.ravel(np.asarray(layer.offset, np.float64))
    if isinstance(layer, layers.Normalization) and not layer.invert:
        mean, variance = (np.ravel(np.asarray(number, np.float64)) for number in (layer.mean, layer.variance))
        gain = 1 / np.sqrt(np.maximum(variance, 1e-14))
        return gain, -mean * gain
    if isinstance(layer, layers.ZeroPadding2D):
        return np.ones(1), np.zeros(1)
    return None
