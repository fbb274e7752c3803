"""Networks that normalise by themselves are told by their first operations."""

from __future__ import annotations

import warnings
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from networks import Builder

from agegender import Backbone, EmbeddingExtractor
from agegender.exceptions import NormalizationWarning

MEAN, STD = np.array([123.7, 116.3, 103.5], np.float32), np.array([58.4, 57.1, 57.4], np.float32)


def network(*steps: tuple[str, object], flipped: bool = False, last: bool = False) -> onnx.ModelProto:
    """A small network that does some arithmetic with the picture first."""
    b = Builder()
    x = b.add("Cast", "picture", to=1)
    if last:
        x = b.add("Transpose", x, perm=[0, 3, 1, 2])
    for kind, value in steps:
        if kind == "BatchNormalization":
            x = b.add(kind, x, *(b.constant(np.asarray(part, np.float32)) for part in value))
        else:
            constant = b.constant(np.asarray(value, np.float32))
            x = b.add(kind, *((constant, x) if flipped else (x, constant)))
    x = b.add("Relu", b.conv(x, 3, 8, strides=[4, 4]), name="map")
    b.dense(b.add("Flatten", b.add("GlobalAveragePool", x)), 8, 4, name="out")
    shape = ["N", networks.SIDE, networks.SIDE, 3] if last else None
    return b.model({"out": ["N", 4]}, shape)


channels = (1, 3, 1, 1)
ones = np.ones(3)


@pytest.mark.parametrize(
    ("model", "scale"),
    [
        (network(("Sub", 127.5), ("Mul", 1 / 128)), "1.0"),
        (network(("Div", 255.0)), "1.0"),
        (network(("Sub", MEAN.reshape(channels)), ("Div", STD.reshape(channels))), "1.0"),
        (network(("Mul", 1 / 255), ("Sub", [[[0.485]]]), ("Div", 0.229), last=True), "1.0"),
        (network(("Add", -117.0)), "1.0"),
        (network(("BatchNormalization", (ones, 0 * ones, MEAN, STD**2))), "1.0"),
        (network(("Sub", 0.485), ("Div", 0.229)), "1 / 255"),
    ],
)
def test_the_call_that_mends_it_is_named(model: onnx.ModelProto, scale: str, tmp_path: Path) -> None:
    path = networks.saved(model, tmp_path / "own.onnx")
    call = f"Backbone.from_onnx({str(path)!r}, mean=0.0, scale={scale})"
    with pytest.warns(NormalizationWarning, match="normalises by itself") as caught:
        Backbone.from_onnx(path)
    assert call in str(caught[0].message)
    assert caught[0].filename == __file__
    with pytest.warns(NormalizationWarning):
        EmbeddingExtractor(str(path), cache=None).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = eval(call, {"Backbone": Backbone})
        Backbone.from_onnx(path, mean=127.5, scale=1 / 128)
    assert told.mean == 0.0


@pytest.mark.parametrize(
    "model",
    [
        network(),
        network(("Mul", 2.0)),
        network(("Sub", 0.1), ("Mul", 0.9)),
        network(("BatchNormalization", (ones, 0 * ones, 0.02 * ones, 0.3 * ones))),
        network(("Sub", 1.0), flipped=True),
        networks.NETWORKS["channels_last"](),
    ],
)
def test_others_take_the_common_normalisation_without_a_word(model: onnx.ModelProto, tmp_path: Path) -> None:
    assert Backbone.from_onnx(networks.saved(model, tmp_path / "n.onnx")).mean == 127.5


def test_what_a_file_states_is_taken_without_a_word(tmp_path: Path) -> None:
    path = networks.saved(network(("Div", 255.0)), tmp_path / "own.onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    small = Backbone.from_onnx(path, mean=0.0, scale=1.0).quantize(list(pictures), max_error=1.0)
    assert Backbone.from_onnx(small.save(tmp_path / "small.onnx")).scale == 1.0


def test_a_keras_network_that_rescales_is_told_too() -> None:
    import keras

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, outputs)
    with pytest.warns(NormalizationWarning, match=r"Backbone.from_keras\(model, mean=0.0, scale=1.0\)"):
        Backbone.from_keras(model)
    Backbone.from_keras(model, mean=0.0, scale=1.0)
    Backbone.from_keras(keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs))))


def test_a_real_network_that_normalises_by_itself(shared: Path) -> None:
    path = shared / "weights" / "mobilefacenet_arcface.onnx"
    with pytest.warns(NormalizationWarning, match="mean=0.0, scale=1.0"):
        Backbone.from_onnx(path)
    faceres = Backbone.from_onnx(shared / "weights" / "hse_faceres.onnx")
    assert faceres.scale == 1 / 128
