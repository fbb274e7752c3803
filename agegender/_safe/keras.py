"""Checks of Keras files before loading: known layers only, and complete, finite weights."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from agegender._safe.archive import parse_json, read_members
from agegender.exceptions import ModelFileError

__all__ = ["check_hdf5", "check_keras_file"]

_WEIGHTS = "model.weights.h5"
_MEMBERS = ("config.json", "metadata.json", _WEIGHTS)

# Layers that only compute from their inputs and weights; none contains code, opens files or calls other programs.
_LAYERS = frozenset((
    "Activation", "ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention",
    "Average", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "CenterCrop", "Concatenate",
    "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Cropping1D", "Cropping2D", "Dense",
    "DepthwiseConv1D", "DepthwiseConv2D", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding", "Flatten",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GroupNormalization", "GroupQueryAttention", "Identity",
    "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling1D", "MaxPooling2D", "Maximum", "Minimum",
    "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "Permute", "RMSNormalization",
    "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom",
    "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing", "SeparableConv1D", "SeparableConv2D",
    "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpectralNormalization", "Subtract",
    "UnitNormalization", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
))  # fmt: skip
_MODELS = frozenset(["Functional", "Sequential"])
_MODEL_MODULES = ("keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential")
_POLICIES = frozenset(["DTypePolicy"])
# Keras' own numerical functions; every class in these modules is an operation on tensors.
_OPERATIONS = ("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.math", "keras.src.ops.image")
_DATA = ("keras.initializers", "keras.regularizers", "keras.constraints")
_VALUES = frozenset(["__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__"])
# Layers of this package, as Keras registers them.
_OWN = frozenset(
    f"agegender>{name}" for name in ("Degradation", "FixedBatchNormalization", "FusedPReLU", "RandomView")
)


def check_keras_file(content: bytes, source: str) -> None:
    """Raise an error if a ``.keras`` file has unknown layers or weights that are not finite.

    Neither Keras nor TensorFlow is imported, and nothing in the file is run.

    Raises
    ------
    ModelFileError
        If it contains a Lambda or another layer that is not on the list, code of any kind, or damaged
        weights.
    """
    try:
        members = read_members(content, _MEMBERS)
    except ModelFileError as error:
        raise ModelFileError(f"{source}: {error}") from error
    if lacking := sorted(set(_MEMBERS) - set(members)):
        raise ModelFileError(f"{source} has no {lacking[0]}")
    config = parse_json(members["config.json"], f"{source}: config.json")
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        raise ModelFileError(f"{source} is no functional or sequential Keras model")
    _check_config(config, source)
    check_hdf5(members[_WEIGHTS], source)


def _check_config(entry: Any, source: str) -> None:
    """Check everything from which Keras would create an object."""
    waiting = [entry]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict):
            if "class_name" in entry and not _is_known(entry):
                name = str(entry.get("registered_name") or entry["class_name"])
                raise ModelFileError(
                    f"{source} has {name[:80]!r} of {str(entry.get('module'))[:80]!r} in it, which is not among the "
                    "Keras layers that are known to run no code of the file's own"
                )
            waiting += entry.values()


def _is_known(entry: dict[str, Any]) -> bool:
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name")
    if name in _VALUES:
        return module is None
    if registered in _OWN:
        return registered == f"agegender>{name}"
    if registered not in (None, name):
        return False
    return (
        (module == "keras.layers" and name in _LAYERS)
        or (module in _MODEL_MODULES and name in _MODELS)
        or (module == "keras" and name in _POLICIES)
        or module in _DATA
        or module in _OPERATIONS
    )


def check_hdf5(content: bytes, source: str) -> None:
    """Raise an error unless an HDF5 file contains only numbers, which are all in the file and finite.

    Raises
    ------
    ModelFileError
        If it refers to other files, declares more numbers than it contains, or contains NaN or infinite
        numbers.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            datasets = _datasets(file, source)
            if sum(dataset.nbytes for dataset in datasets) > 2 * len(content):
                raise ModelFileError(f"{source} claims weights that are larger than the file")
            for dataset in datasets:
                if dataset.dtype.kind == "f" and not np.isfinite(dataset[()]).all():
                    raise ModelFileError(f"{source} has weights that are no numbers, in {dataset.name}")
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{source} holds damaged weights ({error})") from error


def _datasets(file: Any, source: str) -> list[Any]:
    import h5py

    found, seen, waiting = [], set(), [file]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"{source} points out of itself, at {group.name}/{name}")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
                raise ModelFileError(f"{source} holds something else than numbers, at {item.name}")
            elif item.external or item.is_virtual:
                raise ModelFileError(f"{source} keeps weights in other files, at {item.name}")
            else:
                found.append(item)
    return found
