"""Quantising a backbone on pictures; the file contains its normalisation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._networks.description import Description
from agegender._networks.graph import OnnxGraph
from agegender._networks.integers import is_quantized, quantize_graph
from agegender._networks.onnx_files import read_graph
from agegender._networks.opening import read_network
from agegender._networks.terms import TRAINING, state_terms, stated_terms
from agegender.exceptions import WeightsError
from agegender.images import letterbox, load

__all__ = ["LEAST_PICTURES", "quantize_backbone", "quiet_converter"]

LEAST_PICTURES = 16


def quantize_backbone(
    backbone: Description, sample: Sequence[Any], *, max_error: float, verbose: int
) -> bytes:
    """Return a backbone's network in integers as an ONNX file that contains its normalisation and licence."""
    if not 0 < max_error <= 1:
        raise ValueError(f"max_error={max_error!r} should be a number above 0, of at most 1.")
    if len(sample) < LEAST_PICTURES:
        raise ValueError(
            f"{len(sample)} pictures are too few to measure ranges on; pass at least {LEAST_PICTURES}, better a "
            "hundred, like those that will be embedded."
        )
    graph = read_network(backbone) if backbone.format == "onnx" else _converted(backbone)
    if is_quantized(graph):
        raise ValueError(f"{backbone.name} is already quantised; use the float network.")
    layers = graph.layers()
    outputs = list(dict.fromkeys([layers.embedding, layers.penultimate or layers.embedding]))
    pictures = _network_inputs(backbone, graph, sample)
    try:
        with quiet_converter():
            found = quantize_graph(graph, pictures, outputs, max_error, verbose)
    except WeightsError as error:
        raise WeightsError(f"{backbone.name} cannot be quantised: {error}") from None
    used = {node.domain for node in found.model.graph.node}
    for entry in [entry for entry in found.model.opset_import if entry.domain not in used]:
        found.model.opset_import.remove(entry)  # ONNX Runtime's tools list every domain that they know
    terms = {name: getattr(backbone, name) for name in ("color", "mean", "scale", "licence")}
    measured = {
        "quantized_from": backbone.sha256,
        "operations_in_integers": f"{found.n_nodes - found.n_float} of {found.n_nodes}",
        "error": round(found.error, 4),
    }
    stated = stated_terms(graph.model, backbone.name)
    training = {name: stated[name] for name in TRAINING if name in stated}
    state_terms(found.model, {"name": f"{backbone.name}-int8"} | terms | measured | training)
    return bytes(found.model.SerializeToString())


def _network_inputs(backbone: Description, graph: OnnxGraph, sample: Sequence[Any]) -> NDArray[np.float32]:
    """Return pictures in the form of the network's input."""
    pixels = np.stack([letterbox(load(picture), backbone.input_size) for picture in sample])
    if backbone.color == "bgr":
        pixels = pixels[..., ::-1]
    mean, scale = (np.asarray(numbers, np.float32) for numbers in (backbone.mean, backbone.scale))
    axes = ["nhwc".index(axis) for axis in graph.layouts[graph.input]]
    return np.ascontiguousarray(((pixels.astype(np.float32) - mean) * scale).transpose(axes))


def _converted(backbone: Description) -> OnnxGraph:
    """Return a Keras network as ONNX."""
    from agegender._networks.keras import check_keras, quiet_keras

    check_keras()
    import tensorflow as tf
    import tf2onnx

    model = read_network(backbone).model
    signature = [tf.TensorSpec((None, *backbone.input_size, 3), tf.float32)]
    function = tf.function(lambda pictures: model(pictures, training=False))
    with quiet_keras(), quiet_converter():
        converted, _ = tf2onnx.convert.from_function(function, signature)
    return read_graph(converted.SerializeToString(), backbone.name)


@contextmanager
def quiet_converter() -> Iterator[None]:
    """Suppress log messages of converters."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
