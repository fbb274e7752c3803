"""Layers, by names that are the same for all networks, and by the names of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agegender._utils.validation import did_you_mean

__all__ = ["LAYERS", "Layers", "bottlenecks"]

LAYERS = ("embedding", "penultimate", "pooled", "feature_map", "input")
"""The names of layers that are the same for all networks."""


@dataclass(frozen=True)
class Layers:
    """The layers of a network.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        The shape of each tensor for one picture: (h, w, channels) for maps, (channels,) for maps of one
        position.
    embedding : str
        The network's own output.
    penultimate : str or None
        The input of the last dense layer; None if there is no dense layer.
    feature_map : str or None
        The last map with more than one position; None if there is no map.
    """

    shapes: dict[str, tuple[int, ...]]
    embedding: str
    penultimate: str | None
    feature_map: str | None

    def find(self, layer: str) -> tuple[str, bool]:
        """Return the tensor that a layer is computed from, and whether it is averaged over its positions.

        The picture itself, "input", is not a tensor of the network: its name is empty.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        layer = layer if isinstance(layer, str) else repr(layer)
        word, _, inner = layer.removesuffix(")").partition("(")
        if layer == "input":
            return "", False
        if layer == "embedding":
            return self.embedding, False
        if layer == "penultimate":
            return _there(self.penultimate, layer, "dense layer"), False
        if layer in ("pooled", "feature_map"):
            return _there(self.feature_map, layer, "map of more than one position"), layer == "pooled"
        if layer in self.shapes:
            return layer, False
        if word == "tensor" and inner in self.shapes:
            return inner, False
        if word == "pooled" and len(self.shapes.get(inner, ())) == 3:
            return inner, True
        raise ValueError(
            f"there is no layer {layer!r}, but {', '.join(map(repr, LAYERS))}, and {len(self.shapes)} tensors of the "
            f"network, listed in Backbone.layers.{did_you_mean(layer, [*LAYERS, *self.shapes])}"
        )

    def name(self, layer: str) -> str:
        """Return the unique name of a layer that has several names."""
        tensor, pooled = self.find(layer)
        if pooled:
            return f"pooled({tensor})"
        if not tensor:
            return "input"
        return f"tensor({tensor})" if tensor in LAYERS and self.find(tensor) != (tensor, False) else tensor

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of a layer for one picture."""
        tensor, pooled = self.find(layer)
        return self.shapes[tensor][-1:] if pooled else self.shapes[tensor]


def _there(tensor: str | None, layer: str, what: str) -> str:
    if tensor is None:
        raise ValueError(
            f"there is no layer {layer!r}, because the network has no {what}; it has an 'embedding'."
        )
    return tensor


def bottlenecks(steps: Sequence[tuple[Sequence[str], Sequence[str]]], start: str, end: str) -> list[str]:
    """Return, in order, the tensors through which every path from `start` to `end` passes.

    `steps` are the network's operations in the order in which they run, each as (its inputs, its outputs).

    Examples
    --------
    >>> bottlenecks([(["x"], ["a"]), (["a"], ["b"]), (["a", "b"], ["c"]), (["c"], ["y"])], "x", "y")
    ['a', 'c', 'y']
    """
    needed = {end}
    kept: list[tuple[Sequence[str], Sequence[str]]] = []
    for inputs, outputs in reversed(steps):
        if needed.intersection(outputs):
            needed.update(inputs)
            kept.append((inputs, outputs))
    kept.reverse()
    last_use = {name: i for i, (inputs, _) in enumerate(kept) for name in inputs} | {end: len(kept)}
    alive = {start}
    found: list[str] = []
    for i, (_, outputs) in enumerate(kept):
        alive.update(name for name in outputs if name in last_use)
        alive = {name for name in alive if last_use[name] > i}
        if len(alive) == 1:
            found.extend(alive)
    return found
