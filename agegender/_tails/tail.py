"""The part of a network after one of its layers, as trainable Keras layers that start with its weights.

The network itself is never changed. Its tail is a copy, which is made for every model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from agegender._networks.graph import OnnxGraph
from agegender._networks.keras import KerasGraph, check_keras, quiet_keras
from agegender._networks.opening import forget_network, layers_of, read_network
from agegender._utils.validation import check_choice

if TYPE_CHECKING:
    from agegender.backbones import Backbone

__all__ = ["NORMALISATIONS", "build_tail"]

NORMALISATIONS = ("frozen", "affine", "trained")
_SIZES = ("Shape", "Size")

Trains = Callable[[str], bool]


def build_tail(
    backbone: Backbone,
    layer: str,
    reads: str = "penultimate",
    *,
    batch_norm: str = "frozen",
    rate: float = 1.0,
    train_from: str | None = None,
) -> Any:
    """Return the part of a network between two of its layers, as a Keras model with its weights.

    Parameters
    ----------
    backbone : Backbone
    layer : str
        The layer where the model begins. Everything that reaches `reads` must pass through it. The input of
        the model has the shape `Backbone.output_shape(layer)`. With "input", the model takes RGB pictures of
        values 0 … 255.
    reads : str, default="penultimate"
        The layer where the model ends; its output has the shape `Backbone.output_shape(reads)`.
    batch_norm : {"frozen", "affine", "trained"}, default="frozen"
        What is trained in batch normalisation: nothing; scale and shift, with fixed statistics; or
        everything, with normalisation by the statistics of each batch.
    rate : float, default=1.0
        Learning rate of these layers as a multiple of the common one, stored on each of them as
        ``learning_rate_factor``. If 0, none of them is trained.
    train_from : str, default=None
        A layer between the two; layers before it keep their weights.

    Raises
    ------
    ValueError
        If there is no such layer, if not everything passes through it, or if an operation has no Keras
        equivalent.
    """
    check_choice("batch_norm", batch_norm, NORMALISATIONS, "build_tail")
    check_keras()
    import keras

    start, end = _tensors(backbone, layer, reads)
    middle = start if train_from is None else _tensors(backbone, train_from, reads)[0]
    inputs = keras.Input(backbone.output_shape(layer))
    build = _onnx_tail if backbone.format == "onnx" else _keras_tail
    try:
        with quiet_keras():
            outputs, trained = build(backbone, inputs, start, end, middle, batch_norm)
            tail = keras.Model(inputs, _handed_out(outputs, backbone, reads), name="tail")
    except _NoTail as error:
        raise ValueError(f"{backbone.name}: {error}") from None
    finally:
        forget_network()
    for part in [tail, *tail.layers]:
        part.learning_rate_factor = float(rate)
    for part in tail.layers if rate == 0 else [part for part in tail.layers if id(part) not in trained]:
        part.trainable = False
    return tail


class _NoTail(Exception):
    """The reason why there is no tail between two layers, as a sentence about the network."""


def _tensors(backbone: Backbone, layer: str, reads: str) -> tuple[str, str]:
    """Return the names of the tensors from which two layers are computed; an empty name is the picture."""
    layers = layers_of(backbone)
    start, pooled = layers.find(backbone.resolve_layer(layer))
    if pooled:
        raise ValueError(
            f"{backbone.name}: {layer!r} is averaged over the map, and the network goes on from the map itself, "
            f"{start!r}; cut there."
        )
    end, _ = layers.find(backbone.resolve_layer(reads))
    if not end or start == end:
        raise ValueError(
            f"{backbone.name}: between layer={layer!r} and {reads!r} there is nothing to train; cut earlier."
        )
    return start, end


def _handed_out(outputs: Any, backbone: Backbone, reads: str) -> Any:
    """Reshape the last tensor to the shape of the layer's output in this library."""
    from keras import layers

    shape = backbone.output_shape(reads)
    if tuple(outputs.shape[1:]) == shape:
        return outputs
    if backbone.resolve_layer(reads).startswith("pooled("):
        return layers.GlobalAveragePooling2D()(outputs)
    return layers.Reshape(shape)(outputs)


def _not_all_pass(start: str) -> _NoTail:
    return _NoTail(
        f"not all of the network's paths pass through {start!r}; cut where they have come together, such as after a "
        "sum or a concatenation."
    )


def _not_before(start: str, end: str) -> _NoTail:
    return _NoTail(f"{end!r} does not come after {start!r}; cut earlier, or read a later layer.")


def _normalised(backbone: Backbone, pictures: Any) -> Any:
    """Convert RGB pictures of values 0 … 255 to the network's input, with one fixed 1×1 convolution."""
    from keras import layers

    layer = layers.Conv2D(3, 1, trainable=False, name="picture_values")
    outputs = layer(pictures)
    mean, scale = (
        np.broadcast_to(np.asarray(numbers, np.float32), 3) for numbers in (backbone.mean, backbone.scale)
    )
    order = np.eye(3, dtype=np.float32)[:, ::-1] if backbone.color == "bgr" else np.eye(3, dtype=np.float32)
    layer.set_weights([(order * scale)[None, None], -mean * scale])
    return outputs


def _batch_normalization(batch_norm: str, trains: bool, **parameters: Any) -> Any:
    """Return a layer for batch normalisation, made with Keras' parameters for it."""
    from keras import layers

    if trains and batch_norm == "affine":
        from agegender._tails.layers import FixedBatchNormalization

        return FixedBatchNormalization(**parameters | {"trainable": True})
    return layers.BatchNormalization(**parameters | {"trainable": trains and batch_norm == "trained"})


# ONNX


def _onnx_tail(
    backbone: Backbone, inputs: Any, start: str, end: str, middle: str, batch_norm: str
) -> tuple[Any, set[int]]:
    from agegender._tails.conversion import Conversion
    from agegender._tails.operators import CONVERTERS

    graph = read_network(backbone)
    assert isinstance(graph, OnnxGraph)
    start = start or graph.input
    nodes = _onnx_nodes(graph, start, end)
    kept = _outputs(_onnx_nodes(graph, start, middle)) if middle not in ("", start) else set()
    conversion = Conversion(graph, CONVERTERS, partial(_batch_normalization, batch_norm, True))
    conversion.values[start] = _onnx_start(backbone, graph, inputs, start)
    trained: set[int] = set()
    for node in nodes:
        trains = node.output[0] not in kept
        conversion.normalise = partial(_batch_normalization, batch_norm, trains)
        made = conversion.convert(node)
        trained.update(id(layer) for layer in made if trains and layer.trainable)
    value = conversion.values[end]
    return value.tensor, trained


def _outputs(nodes: list[Any]) -> set[str]:
    return {name for node in nodes for name in node.output}


def _onnx_start(backbone: Backbone, graph: OnnxGraph, inputs: Any, start: str) -> Any:
    from keras import layers

    from agegender._tails.conversion import MAPS, Value

    if start == graph.input:
        return Value(_normalised(backbone, inputs), graph.layouts[start])
    rank, layout = len(graph.shapes[start]), graph.layouts.get(start, "")
    if rank == 2:
        return Value(inputs, "nc")
    if layout not in MAPS:
        raise _NoTail(f"{start!r} is neither a vector nor a map whose axes are known; cut elsewhere.")
    if len(inputs.shape) == 2:
        inputs = layers.Reshape((1, 1, inputs.shape[1]))(inputs)
    return Value(inputs, layout)


def _onnx_nodes(graph: OnnxGraph, start: str, end: str) -> list[Any]:
    """Return the operations from one tensor to another that depend on the pictures, in execution order."""
    pictured = {graph.input}
    for node in graph.nodes:
        if node.op_type not in _SIZES and pictured.intersection(node.input):
            pictured.update(name for name in node.output if name)
    needed, kept = {end}, []
    for node in reversed(graph.nodes):
        if (
            needed.intersection(node.output)
            and start not in node.output
            and pictured.intersection(node.input)
        ):
            kept.append(node)
            needed.update(pictured.intersection(node.input))
    if start not in needed:
        raise _not_before(start, end)
    if start != graph.input and graph.input in needed:
        raise _not_all_pass(start)
    return kept[::-1]


# Keras


def _keras_tail(
    backbone: Backbone, inputs: Any, start: str, end: str, middle: str, batch_norm: str
) -> tuple[Any, set[int]]:
    graph = read_network(backbone)
    assert isinstance(graph, KerasGraph)
    begin = graph.cut(start).outputs[0] if start else graph.model.inputs[0]
    kept = []
    if middle not in ("", start):
        kept = _calls(begin, graph.cut(middle).outputs[0], start, middle)
    copies = _Copies(batch_norm, {id(call.operation) for call in kept})
    made = {id(begin): inputs if start else _normalised(backbone, inputs)}
    if tuple(inputs.shape[1:]) != tuple(begin.shape[1:]):
        made[id(begin)] = _reshaped(inputs, begin.shape[1:])
    last = graph.cut(end).outputs[0]
    for call in _calls(begin, last, start, end):
        args, kwargs = call.arguments.fill_in(made)
        outputs = copies.call(call.operation, args, kwargs)
        flat = outputs if isinstance(outputs, list | tuple) else [outputs]
        made.update((id(was), now) for was, now in zip(call.outputs, flat, strict=True))
    return made[id(last)], copies.trained


def _reshaped(tensor: Any, shape: Any) -> Any:
    from keras import layers

    return layers.Reshape(tuple(shape))(tensor)


def _calls(begin: Any, last: Any, start: str, end: str) -> list[Any]:
    """Return the calls of layers from one Keras tensor to another, in a possible execution order."""
    found: dict[int, Any] = {}
    met_start, waiting = False, [(last, False)]
    while waiting:
        tensor, its_inputs_are_done = waiting.pop()
        met_start = met_start or tensor is begin
        call = _maker(tensor)
        if tensor is begin or id(call) in found:
            continue
        if call.is_input:
            # Reached only if another path bypasses the start, or if the start does not come before the end.
            raise _not_all_pass(start) if _leads_to(begin, last) else _not_before(start, end)
        if its_inputs_are_done:
            found[id(call)] = call
        else:
            waiting += [(tensor, True), *((read, False) for read in call.input_tensors)]
    return list(found.values())


def _leads_to(begin: Any, last: Any) -> bool:
    waiting, seen = [last], set()
    while waiting:
        tensor = waiting.pop()
        if tensor is begin:
            return True
        if id(tensor) not in seen:
            seen.add(id(tensor))
            waiting += _maker(tensor).input_tensors
    return False


def _maker(tensor: Any) -> Any:
    operation, number, _ = tensor._keras_history
    return operation._inbound_nodes[number]


class _Copies:
    """Copies of a network's layers; each layer is copied once, even if the network uses it several times."""

    def __init__(self, batch_norm: str, kept: set[int]) -> None:
        self.batch_norm = batch_norm
        self.kept = kept
        self.trained: set[int] = set()
        self._made: dict[int, Any] = {}

    def call(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """Apply an operation of the network to new tensors."""
        from keras import layers

        drops = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout, layers.GaussianNoise)
        if isinstance(operation, drops):
            return args[0]
        if isinstance(operation, layers.Lambda):
            return _written_out(operation, args, kwargs)
        copy = self._made.get(id(operation))
        if copy is not None:
            return copy(*args, **kwargs)
        copy = self._made[id(operation)] = self._copied(operation, id(operation) not in self.kept)
        outputs = copy(*args, **kwargs)
        if isinstance(operation, layers.Layer):
            copy.set_weights(operation.get_weights())
            if copy.trainable:
                self.trained.add(id(copy))
        return outputs

    def _copied(self, operation: Any, trains: bool) -> Any:
        import keras

        if isinstance(operation, keras.Model):
            return keras.models.clone_model(
                operation, clone_function=lambda layer: self._copied(layer, trains), recursive=True
            )
        config = operation.get_config()
        if not isinstance(operation, keras.layers.Layer):
            return type(operation).from_config(config)
        config |= {name: None for name in config if name.endswith("_regularizer")}
        if type(operation) is keras.layers.BatchNormalization:
            return _batch_normalization(self.batch_norm, trains, **config)
        copy = _kind(operation).from_config(config)
        copy.trainable = trains
        return copy


def _kind(layer: Any) -> Any:
    """Return the class for a layer's copy: a class that trains faster, if there is one."""
    from keras import layers

    from agegender._tails.layers import FusedPReLU

    return FusedPReLU if type(layer) is layers.PReLU else type(layer)


def _written_out(layer: Any, args: Any, kwargs: Any) -> Any:
    """Replace a Lambda layer by Keras operations, because code cannot be stored in a saved model."""
    given = {name: value for name, value in kwargs.items() if value is not None}  # None: mostly unused masks
    try:
        return layer.function(*args, **given, **(layer.arguments or {}))
    except Exception as error:  # any error of the code with a symbolic tensor
        raise _NoTail(
            f"the layer {layer.name!r} is a Lambda, code that cannot be copied "
            f"({str(error).strip().splitlines()[0][:200]}); cut after it."
        ) from error
