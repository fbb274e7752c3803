"""Reading networks: their layers are cached, and the last network is kept until it is opened."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from agegender._machine.fork import after_fork
from agegender._networks.description import Description
from agegender._networks.prepared import prepared_layers
from agegender._networks.shipped import SHIPPED
from agegender.exceptions import WeightsError

if TYPE_CHECKING:
    from agegender._networks.converted import Converted
    from agegender._networks.graph import OnnxGraph
    from agegender._networks.keras import KerasGraph
    from agegender._networks.layers import Layers

    Graph: TypeAlias = OnnxGraph | KerasGraph

__all__ = [
    "forget_network",
    "keep_network",
    "layers_of",
    "needs_keras",
    "onnx_form",
    "pictures_of_training",
    "read_network",
]


_HDF5 = (".h5", ".hdf5")
# Small: a few hundred names and shapes per network.
_layers: dict[tuple[Any, ...], Layers] = {}
_trained_on: dict[tuple[Any, ...], NDArray[np.uint64]] = {}
_read: dict[tuple[Any, ...], Graph] = {}
_converted: dict[tuple[Any, ...], Converted] = {}
# Keras networks in use: all layers of a network share its weights.
_running: WeakValueDictionary[tuple[Any, ...], Graph] = WeakValueDictionary()
_lock = threading.RLock()


def layers_of(backbone: Description) -> Layers:
    """Return the layers of a network; its file is read only once."""
    with _lock:
        key = backbone.structure
        if key not in _layers and (prepared := prepared_layers(backbone)) is not None:
            _layers[key] = prepared
        if key not in _layers:
            converted = _kept_conversion(backbone)
            _layers[key] = converted.layers if converted else read_network(backbone).layers()
            if backbone.suffix == ".onnx":
                _trained_on[key] = read_network(backbone).trained_on()
        return _layers[key]


def pictures_of_training(backbone: Description) -> NDArray[np.uint64]:
    """Return the short digests of the pictures that a network is known to be trained on with age and gender.

    They are known for the package's own network and for fine-tuned networks that state them in their files.
    """
    for shipped in SHIPPED.values():
        if shipped.sha256 == backbone.sha256:
            return shipped.trained_on()
    if backbone.suffix != ".onnx":
        return np.empty(0, np.uint64)
    with _lock:
        if backbone.structure not in _trained_on:
            _trained_on[backbone.structure] = read_network(backbone).trained_on()
        return _trained_on[backbone.structure]


def onnx_form(backbone: Description, tensor: str) -> tuple[OnnxGraph, str] | None:
    """Return an HDF5 network's ONNX form, which is made at its first use, and the name of a tensor in it.

    None if there is no ONNX form, or if it does not contain this tensor: then Keras runs the network.
    """
    if backbone.suffix not in _HDF5:
        return None
    from agegender._networks.converted import make_conversion

    with _lock:
        found = _kept_conversion(backbone)
        if found is None:
            found = make_conversion(backbone.sha256, backbone.name, read_network(backbone), backbone.size)
        if found is None or tensor not in found.tensors:
            return None
        return found.graph, found.tensors[tensor]


def needs_keras(backbone: Description) -> bool:
    """Tell whether TensorFlow is needed to run a network: it is in Keras form, and no ONNX form was kept."""
    return backbone.suffix != ".onnx" and _kept_conversion(backbone) is None


def _kept_conversion(backbone: Description) -> Converted | None:
    """Return the ONNX form that was made earlier; the last one is kept in memory until `forget_network`."""
    if backbone.suffix not in _HDF5:
        return None
    from agegender._networks.converted import kept_conversion

    key = backbone.structure
    if key not in _converted:
        found = kept_conversion(backbone.sha256, backbone.name, backbone.input_size)
        if found is None:
            return None
        _converted.clear()
        _converted[key] = found
    return _converted[key]


def read_network(backbone: Description) -> Any:
    """Return the network in a file, an OnnxGraph or a KerasGraph.

    The last network is kept in memory until :func:`forget_network`, and a Keras network while it is in use.

    Raises
    ------
    WeightsNotFoundError
        If its file no longer exists.
    WeightsError
        If its file has another content.
    """
    with _lock:
        key = backbone.structure
        graph = _read.get(key) or _running.get(key) or _from_file(backbone)
        _read.clear()
        _read[key] = _running[key] = graph
        return graph


def keep_network(backbone: Description, graph: Graph) -> None:
    """Keep a network that has just been read, so that it is not read again."""
    with _lock:
        _read.clear()
        _read[backbone.structure] = graph


def forget_network() -> None:
    """Free the network that was read last, because its weights take memory."""
    with _lock:
        _read.clear()
        _converted.clear()


def _from_file(backbone: Description) -> Graph:
    source = str(backbone.path or f"{backbone.name}{backbone.suffix}")
    if backbone.suffix == ".onnx":
        from agegender._networks.onnx_files import read_graph

        graph = read_graph(backbone.read_bytes(), source, input_size=backbone.input_size)
        _check_published(backbone, graph.layers(), source)
        return graph
    from agegender._networks.keras import KerasGraph, load_keras

    if backbone.suffix == ".keras":
        return KerasGraph(load_keras(backbone.read_bytes(), source))
    from agegender._networks.deepface import build_keras
    from agegender._networks.published import PUBLISHED

    return KerasGraph(build_keras(PUBLISHED[backbone.name], backbone.ensure_file()))


def _check_published(backbone: Description, layers: Layers, source: str) -> None:
    """Raise an error for the ONNX file of another network under a name of deepface."""
    from agegender._networks.published import PUBLISHED

    published = PUBLISHED.get(backbone.name)
    if published is None or backbone.licence != published.licence:
        return
    n_numbers = layers.shapes[layers.embedding][-1]
    if n_numbers != published.n_numbers:
        raise WeightsError(
            f"{source} is not {backbone.name}: its embedding has {n_numbers} numbers; that of {backbone.name} has "
            f"{published.n_numbers}. Delete it and download it again from {' or '.join(published.urls('.onnx'))}."
        )


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


after_fork(_after_fork)
