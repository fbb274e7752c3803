"""Keras networks: finding layers in a model's graph, cutting the model at a layer, saving it as bytes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agegender._machine.fork import check_tensorflow
from agegender._machine.precision import single_precision
from agegender._machine.threads import limit_tensorflow
from agegender._networks.layers import Layers, bottlenecks
from agegender.exceptions import WeightsError

__all__ = [
    "KerasGraph",
    "check_keras",
    "check_weights_are_from",
    "check_weights_are_numbers",
    "keras_junctions",
    "keras_layers",
    "keras_snapshot",
    "load_keras",
    "name_layers_by_order",
    "picture_size",
    "quiet_keras",
]

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store


def check_keras() -> None:
    """Raise an error if Keras cannot run TensorFlow networks in this process."""
    check_tensorflow()
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"Keras runs on {backend!r} here; networks in Keras form need KERAS_BACKEND=tensorflow, set before "
            "Keras is imported. Networks in ONNX form need no Keras at all."
        )
    limit_tensorflow()


@contextmanager
def quiet_keras() -> Iterator[None]:
    """Use models in single precision and without Keras' warnings."""
    with single_precision(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"keras\..*")
        warnings.filterwarnings("ignore", message=".*np\\.object.*", category=FutureWarning)
        yield


def picture_size(model: Any) -> tuple[int, int]:
    """Return the height and width of the pictures that a model takes.

    Raises
    ------
    ValueError
        If the model is not functional or sequential, or its input is not pictures of one size with three
        colours.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or not getattr(model, "outputs", None):
        raise ValueError(
            f"{type(model).__name__} has no fixed graph of layers; pass a functional or sequential model, built."
        )
    shape = tuple(inputs[0].shape)
    if len(inputs) != 1 or len(shape) != 4 or shape[3] != 3 or None in shape[1:]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ValueError(
            f"The model takes {shapes}; a backbone takes one input of shape (None, height, width, 3), "
            "its sides fixed: make it with input_shape=(height, width, 3)."
        )
    for layer in model.layers:
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise ValueError(
                f"Layer {layer.name!r} works channels first; backbones in Keras form work channels last."
            )
    return int(shape[1]), int(shape[2])


class KerasGraph:
    """A functional Keras model that takes pictures, and the part of it that ends at an operation."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.input_size = picture_size(model)

    def layers(self) -> Layers:
        """Find the named layers."""
        return keras_layers(self.model)

    def cut(self, name: str) -> Any:
        """Return a model that computes only the operation `name` and what it depends on."""
        import keras

        output = next(op.output for op in _operations(self.model) if op.name == name)
        return keras.Model(self.model.inputs[0], output)


def keras_layers(model: Any) -> Layers:
    """Find the named layers of a functional model from its structure."""
    made_by, shapes = _made_by(model), _shapes(model)
    by_name = {op.name: op for op in made_by.values()}
    embedding = _embedding(model, made_by, shapes)
    path = keras_path(model)
    maps = [name for name in path if len(shapes[name]) == 3]
    dense = [by_name[name] for name in path if _is_dense(by_name[name])]
    return Layers(
        shapes=shapes,
        embedding=embedding,
        penultimate=_source(made_by[id(_inputs(dense[-1])[0])], made_by, flat=True) if dense else None,
        feature_map=_source(by_name[maps[-1]], made_by) if maps else None,
    )


def keras_junctions(model: Any) -> list[str]:
    """Return, in order, the layers that join branches and through which every path passes; cuts are there."""
    made_by = {op.name: op for op in _made_by(model).values()}
    return [name for name in keras_path(model) if len(_inputs(made_by[name])) > 1]


def keras_path(model: Any) -> list[str]:
    """Return, in order, the layers through which every path from picture to embedding passes, the embedding last."""
    made_by, shapes = _made_by(model), _shapes(model)
    # Tensors from outside the model, above all the pictures, count as the start.
    steps = [
        ([_name(made_by.get(id(tensor))) for tensor in _inputs(op)], [op.name]) for op in made_by.values()
    ]
    path = bottlenecks(steps, "", _embedding(model, made_by, shapes))
    return [name for name in path if name in shapes]


def name_layers_by_order(model: Any) -> None:
    """Number layers without an explicit name from the start of the model.

    Keras numbers them over all models of the process. The same layer would therefore have another name, and
    other cached rows, in the next run. A layer that replaced a layer of another class and took its name is
    numbered too.
    """
    kinds = [_kind(layer) for layer in model.layers]
    numbered = re.compile(rf"({'|'.join(set(kinds))})(_\d+)?")
    counts: dict[str, int] = {}
    for kind, layer in zip(kinds, model.layers, strict=True):
        if numbered.fullmatch(layer.name):
            number = counts[kind] = counts.get(kind, -1) + 1
            layer.name = f"{kind}_{number}" if number else kind


def _kind(layer: Any) -> str:
    """Return the default name that Keras gives to layers of a class."""
    kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()


def keras_snapshot(model: Any) -> bytes:
    """Return a model as the bytes of a ``.keras`` file; equal layers and weights always give equal bytes."""
    import keras

    picture_size(model)
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.outputs
    plain = keras.Model(model.inputs[0], outputs, name=model.name)  # without optimizer and losses
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain.save(path)
        with zipfile.ZipFile(path) as saved:
            files = {name: saved.read(name) for name in saved.namelist()}
    config = json.loads(files["config.json"], object_hook=_without_addresses)
    files["config.json"] = json.dumps(config, sort_keys=True).encode()
    files["metadata.json"] = json.dumps({"keras_version": "3", "date_saved": ""}).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), files[name])
    return content.getvalue()


def load_keras(content: bytes, source: str) -> Any:
    """Load the content of a ``.keras`` file, called `source` in errors, without running code from the file.

    Raises
    ------
    WeightsError
        If it is damaged, or contains layers that Keras does not know.
    """
    check_keras()
    import keras

    try:
        with quiet_keras(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"  # Keras reads from a path only
            path.write_bytes(content)
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # keras raises many kinds of exceptions
        raise WeightsError(
            f"{source} cannot be loaded by Keras ({str(error).strip()[:300]}). Custom layers need "
            "keras.saving.register_keras_serializable; Lambda layers, which contain code, are not loaded."
        ) from error


def check_weights_are_numbers(model: Any, source: str) -> None:
    """Raise an error if a weight is NaN or infinite."""
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise WeightsError(
                f"{source} is damaged: {weight.path} contains values that are not finite. Download it again."
            )


def check_weights_are_from(model: Any, path: Path) -> None:
    """Raise an error if a weight is not in an HDF5 file, because it would be random."""
    import h5py

    held: set[tuple[tuple[int, ...], bytes]] = set()

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            held.add(_fingerprint(item[()]))

    with h5py.File(path, "r") as file:
        file.visititems(note)
    lacking = [weight.path for weight in model.weights if _fingerprint(weight) not in held]
    if lacking:
        raise WeightsError(
            f"{path} does not contain {len(lacking)} of the network's {len(model.weights)} weights, such as "
            f"{lacking[0]}. Nothing is predicted with weights that were not loaded. Delete it and download it again."
        )


def _fingerprint(values: Any) -> tuple[tuple[int, ...], bytes]:
    array = np.ascontiguousarray(values, dtype=np.float32)
    return array.shape, hashlib.sha256(array.data).digest()


def _without_addresses(entry: dict[str, Any]) -> dict[str, Any]:
    """Remove the memory addresses with which Keras records that layers share a dtype or an initializer."""
    entry.pop("shared_object_id", None)
    return entry


def _operations(model: Any) -> list[Any]:
    """Return, in order, the operations that run once and output one tensor, without the input."""
    import keras

    if not hasattr(model, "operations"):
        model = keras.Model(model.inputs[0], model.outputs)
    found = []
    for op in model.operations:
        try:
            output = op.output
        except (AttributeError, ValueError):  # a layer used in several places has no single output
            continue
        if hasattr(output, "shape") and not isinstance(op, keras.layers.InputLayer):
            found.append(op)
    return found


def _made_by(model: Any) -> dict[int, Any]:
    """Return the operations by their output tensors."""
    return {id(op.output): op for op in _operations(model)}


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    found = {op.name: _output_shape(op.output) for op in _operations(model)}
    return {name: shape for name, shape in found.items() if shape is not None}


def _name(op: Any) -> str:
    return "" if op is None else str(op.name)


def _inputs(op: Any) -> list[Any]:
    try:
        read = op.input
    except (AttributeError, ValueError):
        return []
    return list(read) if isinstance(read, list | tuple) else [read]


def _output_shape(tensor: Any) -> tuple[int, ...] | None:
    shape = tuple(tensor.shape)
    if len(shape) < 2 or None in shape[1:] or "float" not in str(tensor.dtype):
        return None
    rest = tuple(int(side) for side in shape[1:])
    return rest[-1:] if len(rest) == 3 and rest[:2] == (1, 1) else rest


def _embedding(model: Any, made_by: dict[int, Any], shapes: dict[str, tuple[int, ...]]) -> str:
    names = [made_by[id(tensor)].name for tensor in model.outputs if id(tensor) in made_by]
    for name in names:
        if len(shapes.get(name, ())) == 1:
            return str(name)
    found = ", ".join(f"{name} {shapes.get(name)}" for name in names) or "none"
    raise ValueError(f"The model has no output of shape (n, d) for the embedding, only: {found}.")


def _is_dense(op: Any) -> bool:
    import keras

    if isinstance(op, keras.layers.Dense):
        return len(_output_shape(op.output) or ()) == 1
    read = _inputs(op)
    one_position = len(read) == 1 and len(_output_shape(read[0]) or ()) == 1
    return isinstance(op, keras.layers.Conv2D) and one_position and op.groups == 1


def _source(op: Any, made_by: dict[int, Any], *, flat: bool = False) -> str:
    """Follow an operation back to the one that computed its numbers."""
    from keras import layers

    passes_on = (
        layers.Dropout,
        layers.SpatialDropout2D,
        layers.GaussianNoise,
        layers.GaussianDropout,
        layers.Identity,
    )
    while isinstance(op, passes_on + ((layers.Flatten, layers.Reshape) if flat else ())):
        before = made_by.get(id(_inputs(op)[0]))
        if before is None or _output_shape(before.output) != _output_shape(op.output):
            break
        op = before
    return str(op.name)
