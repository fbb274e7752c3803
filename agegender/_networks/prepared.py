"""The package's own network without the package onnx: its layers and its runnable graph are recorded beside its file.

The graph for prediction is most of the bytes of the network's weights between a few small pieces of other bytes. The
record holds these pieces, and where the weights stand in the file, so that the file stays as it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from agegender._networks.layers import Layers
from agegender._networks.shipped import SHIPPED, Shipped

if TYPE_CHECKING:
    from agegender._networks.description import Description

__all__ = ["joined", "prepared_graph", "prepared_layers", "record"]

# Smaller weights are recorded as they are.
_LEAST_BYTES = 256


@dataclass(frozen=True)
class _Weights:
    """Bytes of the network's file, float16 numbers if they are to be widened to float32."""

    start: int
    size: int
    half: bool

    def read(self, content: bytes) -> bytes:
        found = content[self.start : self.start + self.size]
        return np.frombuffer(found, "<f2").astype("<f4").tobytes() if self.half else found


def prepared_layers(backbone: Description) -> Layers | None:
    """Return the recorded layers of the package's own network; None for other networks."""
    shipped = _shipped(backbone)
    if shipped is None:
        return None
    layers = _read(shipped)["layers"]
    shapes = {name: tuple(shape) for name, shape in layers["shapes"].items()}
    return Layers(**layers | {"shapes": shapes})


def prepared_graph(backbone: Description, tensor: str, pooled: bool) -> bytes | None:
    """Return what :func:`agegender._networks.rewrite.runnable` makes of the package's own network.

    None for other networks, layers and normalisations.
    """
    shipped = _shipped(backbone)
    if shipped is None or pooled or _normalised(backbone) != _normalised(shipped):
        return None
    recorded = _read(shipped)
    if tensor != recorded["tensor"]:
        return None
    pieces = (
        base64.b64decode(piece) if isinstance(piece, str) else _Weights(**piece)
        for piece in recorded["pieces"]
    )
    return joined(pieces, backbone.read_bytes())


def joined(pieces: Iterable[bytes | _Weights], content: bytes) -> bytes:
    """Return a graph from its pieces and the content of the network's file."""
    return b"".join(piece if isinstance(piece, bytes) else piece.read(content) for piece in pieces)


def record(content: bytes, layers: Layers, tensor: str, graph: bytes) -> str:
    """Return the record of a network, a text in JSON.

    Parameters
    ----------
    content : bytes
        The network's file.
    layers : Layers
    tensor : str
        The tensor that the graph computes.
    graph : bytes
        The result of :func:`agegender._networks.rewrite.runnable`.
    """
    found = sorted(_found(content, graph))
    pieces: list[Any] = []
    end = 0
    for start, weights in found:
        pieces += [graph[end:start], weights]
        end = start + len(weights.read(content))
    pieces.append(graph[end:])
    assert joined(pieces, content) == graph
    written = [
        base64.b64encode(piece).decode() if isinstance(piece, bytes) else asdict(piece) for piece in pieces
    ]
    return json.dumps({"layers": asdict(layers), "tensor": tensor, "pieces": written}) + "\n"


def _found(content: bytes, graph: bytes) -> Iterable[tuple[int, _Weights]]:
    """Yield the places of large weights in a graph, and where they come from."""
    import onnx

    for weight in onnx.load_model_from_string(content).graph.initializer:
        raw = weight.raw_data
        if len(raw) < _LEAST_BYTES:
            continue
        weights = _Weights(content.index(raw), len(raw), weight.data_type == onnx.TensorProto.FLOAT16)
        if (place := graph.find(weights.read(content))) >= 0:
            yield place, weights


def _shipped(backbone: Description) -> Shipped | None:
    for shipped in SHIPPED.values():
        if (shipped.sha256, shipped.input_size) == (backbone.sha256, backbone.input_size):
            return shipped
    return None


def _normalised(network: Description | Shipped) -> tuple[Any, ...]:
    return network.color, network.mean, network.scale


@cache
def _read(shipped: Shipped) -> Any:
    return json.loads(shipped.record_path.read_text("utf-8"))
