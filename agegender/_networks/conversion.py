"""Convert a Keras network to ONNX: the graph with tf2onnx, then the weights; all numbers are checked."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.sessions import open_session
from agegender._networks.keras import KerasGraph, keras_junctions, quiet_keras
from agegender._networks.layers import Layers
from agegender.exceptions import WeightsError

__all__ = ["NOTE", "TOLERANCE", "convert_keras", "note_of"]

TOLERANCE = 1e-4
"""The allowed difference between a layer's numbers and Keras', as a share of the layer's largest number."""

NOTE = "agegender_conversion"
OPSET = 15
N_PICTURES = 3
_PICTURES = "pictures"


def convert_keras(graph: KerasGraph) -> bytes:
    """Return a Keras network as an ONNX file that also says which layer is which tensor.

    tf2onnx copies constants many times: 137 MB of weights take 10 GB and a minute. Therefore the weights are
    inputs during the conversion, and become constants afterwards.

    Raises
    ------
    WeightsError
        If the ONNX form gives other numbers than Keras for pictures of the network's input size.
    Exception
        Any error that tf2onnx raises.
    """
    layers = graph.layers()
    wanted = [*keras_junctions(graph.model), layers.penultimate, layers.feature_map, layers.embedding]
    names = [name for name in dict.fromkeys(wanted) if name is not None]
    with quiet_keras(), _quiet():
        tapped = _tapped(graph, names)
        model = _with_weights(*_traced(tapped, graph.input_size))
    tensors = dict(zip(names, (output.name for output in model.graph.output), strict=True))
    pictures = _some_pictures(graph.input_size)
    difference = _difference(tapped, model, pictures)
    if not difference <= TOLERANCE:
        raise WeightsError(f"its numbers differ from Keras' by {difference:.1e} of the largest")
    _keep_output(model, tensors[layers.embedding])
    entry = model.metadata_props.add()
    entry.key = NOTE
    entry.value = json.dumps({"layers": asdict(layers), "tensors": tensors, "difference": difference})
    return bytes(model.SerializeToString())


def note_of(model: Any) -> tuple[Layers, dict[str, str]]:
    """Return the layers of a converted network by their Keras names, and the tensors of layers that have one.

    Raises
    ------
    LookupError, TypeError, ValueError
        If the file was not made by `convert_keras`.
    """
    note = json.loads(next(entry.value for entry in model.metadata_props if entry.key == NOTE))
    layers = dict(note["layers"])
    shapes = {name: tuple(shape) for name, shape in layers.pop("shapes").items()}
    return Layers(shapes=shapes, **layers), dict(note["tensors"])


def _tapped(graph: KerasGraph, names: list[str]) -> Any:
    """Return a model that outputs every layer of a list."""
    import keras

    return keras.Model(graph.model.inputs[0], [graph.cut(name).outputs[0] for name in names])


def _traced(model: Any, input_size: tuple[int, int]) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return the model's ONNX graph with its weights as inputs, and the weights by name."""
    import tensorflow as tf
    import tf2onnx

    trainable, others = model.trainable_variables, model.non_trainable_variables
    weights = [*trainable, *others]
    signature = [tf.TensorSpec((None, *input_size, 3), tf.float32, name=_PICTURES)]
    signature += [tf.TensorSpec(w.shape, tf.float32, name=f"weight_{i}") for i, w in enumerate(weights)]

    @tf.function(input_signature=signature, autograph=False)
    def run(pictures: Any, *given: Any) -> Any:
        outputs, _ = model.stateless_call(
            given[: len(trainable)], given[len(trainable) :], pictures, training=False
        )
        return outputs

    traced, _ = tf2onnx.convert.from_function(run, input_signature=signature, opset=OPSET)
    return traced, {f"weight_{i}": np.asarray(weight, np.float32) for i, weight in enumerate(weights)}


def _with_weights(model: Any, weights: dict[str, NDArray[Any]]) -> Any:
    """Turn the weights among the inputs into constants, and compute everything that depends only on them."""
    import onnx
    from onnx import numpy_helper

    inputs = list(model.graph.input)
    del model.graph.input[:]
    for value in inputs:
        weight = weights.get(value.name.split(":")[0])
        if weight is None:
            model.graph.input.append(value)
        else:
            model.graph.initializer.append(numpy_helper.from_array(weight, value.name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        open_session(model.SerializeToString(), optimization="basic", optimized_path=path)
        return onnx.load(path)


def _some_pictures(input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return pictures of coarse noise from −1 to 1, in the network's input size."""
    height, width = input_size
    coarse = np.random.default_rng(0).uniform(-1, 1, (N_PICTURES, height // 8 + 1, width // 8 + 1, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.float32)


def _difference(tapped: Any, model: Any, pictures: NDArray[np.float32]) -> float:
    """Return the largest difference of any layer from Keras, as a share of the layer's largest number."""
    session = open_session(model.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: pictures})
    expected = tapped(pictures, training=False)
    worst = 0.0
    for theirs, ours in zip(expected if isinstance(expected, list) else [expected], found, strict=True):
        numbers = np.asarray(theirs)
        if numbers.shape != ours.shape:
            raise WeightsError(f"it gives {ours.shape} where Keras gives {numbers.shape}")
        worst = max(worst, float(np.abs(ours - numbers).max() / max(np.abs(numbers).max(), 1e-12)))
    return worst


def _keep_output(model: Any, name: str) -> None:
    """Keep the embedding as the only output; the other layers stay in the graph as tensors."""
    output = next(output for output in model.graph.output if output.name == name)
    del model.graph.output[:]
    model.graph.output.append(output)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages of the converter, because users cannot act on them."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
