"""deepface's networks with seeded random weights, in the file layout that deepface uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The models whose weights are in deepface's files: of VGG-Face the classifier, whose last layers deepface leaves out.
_LOADED: dict[int, tuple[Any, Any]] = {}


def build(name: str, seed: int = 0) -> Any:
    """Build a network through deepface's own functions, its weights drawn so that pictures stay distinguishable."""
    import importlib

    import keras
    from deepface.commons import weight_utils

    from agegender._networks.keras import quiet_keras
    from agegender._networks.published import PUBLISHED

    published = PUBLISHED[name]
    originals = weight_utils.download_weights_if_necessary, weight_utils.load_model_weights
    weight_utils.download_weights_if_necessary = lambda file_name, source_url: ""
    loaded: list[Any] = []

    def load(model: Any, weight_file: str) -> Any:
        loaded.append(model)
        return model

    weight_utils.load_model_weights = load
    try:
        with quiet_keras():
            keras.utils.set_random_seed(seed)
            module = importlib.import_module(f"deepface.models.{published.module}")
            model = getattr(module, published.builder)()
            _draw_what_starts_constant(model, seed)
            _measure_statistics(model, seed)
    finally:
        weight_utils.download_weights_if_necessary, weight_utils.load_model_weights = originals
    _LOADED[id(model)] = (model, loaded[-1])
    return model


def save(model: Any, path: Path) -> Path:
    """Write weights as Keras 2 did, which is how deepface publishes them."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, _LOADED.get(id(model), (model, model))[1])
    return path


def demography(n_outputs: int, seed: int) -> Any:
    """A small network of the layout of deepface's: (n, 224, 224, 3) in, probabilities out."""
    import networks

    b = networks.Builder(seed)
    x = b.add("Transpose", "picture", perm=[0, 3, 1, 2])
    x = b.add("Relu", b.conv(x, 3, 8, strides=[8, 8]))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    x = b.add("Mul", b.dense(x, 8, n_outputs), b.constant(np.float32(30)))
    b.add("Softmax", x, axis=1, name="out")
    return b.model({"out": ["N", n_outputs]}, ["N", 224, 224, 3])


def _draw_what_starts_constant(model: Any, seed: int) -> None:
    """Give slopes, scales and shifts values of their own, slopes above 1 and below 0 among them."""
    rng = np.random.default_rng(seed)
    ranges = {"gamma": (0.7, 1.3), "beta": (-0.3, 0.3), "alpha": (-0.1, 1.3)}
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ranges:
                weight.assign(rng.uniform(*ranges[weight.name], weight.shape))


def _measure_statistics(model: Any, seed: int) -> None:
    """Set the statistics of batch normalisation by one pass over coarse noise."""
    import keras

    height, width = model.input_shape[1:3]
    coarse = np.random.default_rng(seed).uniform(-1, 1, (8, height // 8 + 1, width // 8 + 1, 3))
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.float32)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(pictures, training=True)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
