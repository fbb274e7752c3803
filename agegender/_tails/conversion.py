"""Conversion of an ONNX graph to Keras, and the register of the operators that can be converted.

Maps are always channels last in Keras, independent of their order in the ONNX graph. An ONNX Transpose of a
map therefore only changes the names of its axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.graph import OnnxGraph

__all__ = ["CONVERTERS", "MAPS", "Conversion", "Converter", "NotConverted", "Value", "converts"]

MAPS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Value:
    """A tensor of the network: a Keras tensor, and the axes of the ONNX tensor, such as "nchw" or "nc"."""

    tensor: Any
    layout: str

    @property
    def is_map(self) -> bool:
        """Whether the tensor has height and width."""
        return len(self.layout) == 4

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a map."""
        return tuple(self.tensor.shape[1:3])

    def axis(self, number: int) -> str:
        """Return the name of an ONNX axis; negative numbers count from the end."""
        return self.layout[number]


@dataclass
class Conversion:
    """The conversion of a graph to Keras, with the tensors made so far.

    Attributes
    ----------
    graph : OnnxGraph
    converters : dict of str to callable
        The function that makes the output, per kind of node.
    normalise : callable
        Makes a layer for batch normalisation from Keras' parameters for it.
    values : dict of str to Value
        The tensors, by their names in ONNX.
    layers : list of keras.Layer
        The layers with weights that were made for the current node.
    makers : dict of str to onnx.NodeProto
        The node that computes each tensor.
    read : set of str
        The tensors that at least one node reads.
    """

    graph: OnnxGraph
    converters: Mapping[str, Converter]
    normalise: Callable[..., Any]
    values: dict[str, Value] = field(default_factory=dict)
    layers: list[Any] = field(default_factory=list)
    makers: dict[str, Any] = field(init=False)
    read: set[str] = field(init=False)
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.makers = {name: node for node in self.graph.nodes for name in node.output if name}
        self.read = {name for node in self.graph.nodes for name in node.input if name}

    def convert(self, node: Any) -> list[Any]:
        """Make a node's output, and return the layers with weights that were made for it.

        Raises
        ------
        ValueError
            If there is no Keras layer for it; the message names the operator and its position.
        """
        self.layers = []
        if node.op_type not in self.converters or self.read.intersection(node.output[1:]):
            known = ", ".join(sorted(self.converters))
            raise ValueError(f"{_where(node)} has no counterpart in Keras here; there are {known}.")
        try:
            self.values[node.output[0]] = self.converters[node.op_type](node, self)
        except NotConverted as error:
            raise ValueError(f"{_where(node)} {error}.") from None
        return self.layers

    def input(self, node: Any, number: int = 0) -> Value:
        """Return a value that a node reads; a constant there cannot be converted."""
        if node.input[number] not in self.values:
            raise NotConverted(f"reads the constant {node.input[number]!r} where pictures are expected")
        return self.values[node.input[number]]

    def map(self, node: Any) -> Value:
        """Return the map that a node reads."""
        value = self.input(node)
        if not value.is_map:
            raise NotConverted("reads a vector where a map is expected")
        return value

    def constant(self, node: Any, number: int) -> NDArray[Any] | None:
        """Return a constant that a node reads, or None if it does not read one."""
        if number >= len(node.input) or not node.input[number]:
            return None
        value = self.graph.constant(node.input[number])
        if value is None:
            raise NotConverted(f"reads {node.input[number]!r}, which should be a constant")
        return value.astype(np.float32) if value.dtype.kind == "f" else value

    def weight(self, node: Any, number: int) -> NDArray[np.float32]:
        """Return a constant that a node requires."""
        value = self.constant(node, number)
        if value is None:
            raise NotConverted(f"lacks its input number {number}")
        return value.astype(np.float32)

    def apply(self, layer: Any, tensor: Any, weights: Sequence[NDArray[Any]] = ()) -> Any:
        """Call a layer, and set its weights."""
        outputs = layer(tensor)
        if weights:
            layer.set_weights(list(weights))
            self.layers.append(layer)
        return outputs

    def name(self, node: Any) -> str:
        """Return a layer name made from a node's output, which Keras accepts and which is not used yet."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", node.output[0]).strip("_.-") or node.op_type.lower()
        number = self._names[plain] = self._names.get(plain, -1) + 1
        return f"{plain}_again{number}" if number else plain

    def aligned(self, constant: NDArray[Any], value: Value) -> NDArray[Any]:
        """Return a constant that ONNX broadcasts to `value`, with the axes of the Keras tensor."""
        if constant.ndim > len(value.layout):
            raise NotConverted(f"has a constant of shape {constant.shape}, more axes than its other operand")
        whole = constant.reshape((1,) * (len(value.layout) - constant.ndim) + constant.shape)
        return whole.transpose([value.layout.index(axis) for axis in "nhwc"]) if value.is_map else whole


class NotConverted(Exception):
    """The reason why a node cannot be converted, as the end of a sentence about it."""


Converter = Callable[[Any, Conversion], Value]

CONVERTERS: dict[str, Converter] = {}


def converts(*kinds: str) -> Callable[[Converter], Converter]:
    def register(converter: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(kinds, converter))
        return converter

    return register


def _where(node: Any) -> str:
    name = f" of the node {node.name!r}" if node.name else ""
    return f"The operator {node.op_type}{name}, which gives {node.output[0]!r},"
