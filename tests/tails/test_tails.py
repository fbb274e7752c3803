"""The rest of a network as trainable layers: the same numbers at first, gradients where they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepface_networks
import keras
import networks
import numpy as np
import onnx
import pytest
import tensorflow as tf
from material import Material
from networks import NETWORKS, SIDE, Builder
from onnx import numpy_helper

from agegender._fitting.adam import learning_rate_factors
from agegender._tails.layers import FusedPReLU
from agegender._tails.tail import build_tail
from agegender.backbones import Backbone
from agegender.runtime import open_network


def pictures(backbone: Backbone, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *backbone.input_size, 3), dtype=np.uint8)


def assert_same(backbone: Backbone, layer: str, reads: str, **options: Any) -> Any:
    """The tail computes what the frozen network computes."""
    tail = build_tail(backbone, layer, reads, **options)
    shown = pictures(backbone)
    expected = open_network(backbone, reads)(shown)
    found = np.asarray(tail(open_network(backbone, layer)(shown), training=False))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    return tail


def onnx_backbone(model: onnx.ModelProto, folder: Path, **options: Any) -> Backbone:
    return Backbone.from_onnx(networks.saved(model, folder / "network.onnx"), **options)


def gradients(model: Any, rows: np.ndarray) -> list[float]:
    """The largest gradient of each trainable variable."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(rows, training=True) ** 2)
    found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return [0.0 if gradient is None else float(tf.reduce_max(tf.abs(gradient))) for gradient in found]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tail_gives_what_the_frozen_network_gives(name: str, tmp_path: Path) -> None:
    backbone = onnx_backbone(NETWORKS[name](), tmp_path, color="bgr", mean=(120, 125, 130), scale=1 / 60)
    for reads in ("embedding", "feature_map", "pooled"):
        assert_same(backbone, "input", reads)


@pytest.mark.parametrize("name", ["plain", "channels_last"])
def test_every_layer_that_all_paths_pass_can_be_cut_at(name: str, tmp_path: Path) -> None:
    backbone = onnx_backbone(NETWORKS[name](), tmp_path)
    inside = {"neg_2", "relu_3", "mul_4", "relu_5"} if name == "channels_last" else set()
    for layer in backbone.layers[:-1]:
        if layer in inside:
            with pytest.raises(ValueError, match=f"not all of the network's paths pass through '{layer}'"):
                build_tail(backbone, layer, "embedding")
        else:
            assert_same(backbone, layer, "embedding")


def test_the_tiny_network_of_the_other_tests(tiny_onnx: Path) -> None:
    backbone = Backbone.from_onnx(tiny_onnx)
    for layer, reads in (("input", "penultimate"), ("conv1", "penultimate"), ("relu2", "embedding")):
        assert_same(backbone, layer, reads)


def test_a_real_face_network(shared: Material) -> None:
    path = shared / "weights/mobilefacenet_arcface.onnx"
    backbone = Backbone.from_onnx(path, mean=0.0, scale=1.0)
    tail = assert_same(backbone, "_plus9", "penultimate")
    assert tail.input_shape[1:] == (14, 14, 128)
    assert_same(backbone, "input", "penultimate")


def _padded(b: Builder, x: str) -> str:
    x = b.add("Pad", x, b.constant(np.array([0, 0, 1, 2, 0, 0, 3, 0], np.int64)), b.constant(np.float32(0.7)))
    return b.conv(x, 8, 8, pads=[2, 0, 1, 1], strides=[2, 1])


def _gates(b: Builder, x: str) -> str:
    x = b.add("HardSwish", b.add("HardSigmoid", b.add("Tanh", b.add("LeakyRelu", x, alpha=0.2)), alpha=0.3))
    six = b.add("Clip", b.conv(x, 8, 8), b.constant(np.float32(0)), b.constant(np.float32(6)))
    return b.add("Clip", b.add("Sigmoid", six), b.constant(np.float32(0.4)), b.constant(np.float32(0.6)))


def _numbers(b: Builder, x: str) -> str:
    positive = b.add("Add", b.add("Mul", x, x), b.drawn(8, 1, 1, low=0.5, high=1.0))
    root = b.add("Sub", b.add("Sqrt", positive), b.add("Pow", positive, b.constant(np.float32(0.3))))
    return b.add("Div", b.add("Sub", b.drawn(1, 8, 1, 1), root), positive)


def _reduced(b: Builder, x: str) -> str:
    mean = b.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    gate = b.add("Unsqueeze", b.add("Softmax", mean, axis=-1), b.constant(np.array([2, 3], np.int64)))
    return b.add("Concat", b.add("Mul", x, gate), b.add("Identity", x), axis=1)


def _one_position(b: Builder, x: str) -> str:
    x = b.add("Squeeze", b.add("GlobalAveragePool", x), b.constant(np.array([2, 3], np.int64)))
    return b.add("Gemm", x, b.drawn(20, 8), b.drawn(20), transB=1, alpha=0.5, beta=2.0)


OPERATORS: dict[str, Callable[[Builder, str], str]] = {
    "grouped": lambda b, x: b.conv(x, 4, 6, group=2, strides=[2, 2]),
    "depthwise": lambda b, x: b.conv(x, 1, 16, group=8),
    "dilated": lambda b, x: b.conv(x, 8, 8, dilations=[2, 2], pads=[2, 2, 2, 2]),
    "asymmetric": _padded,
    "same_lower": lambda b, x: b.add("Conv", x, b.drawn(4, 8, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    "gates": _gates,
    "numbers": _numbers,
    "reduced": _reduced,
    "max_pool": lambda b, x: b.add(
        "MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1
    ),
    "average_pool": lambda b, x: b.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "counting_pool": lambda b, x: b.add(
        "AveragePool", x, kernel_shape=[2, 3], strides=[1, 2], pads=[1, 0, 0, 1], count_include_pad=1
    ),
    "one_position": _one_position,
}


def with_operator(kind: str) -> onnx.ModelProto:
    b = Builder(7)
    x = b.add("PRelu", b.conv("picture", 3, 8, strides=[2, 2]), b.drawn(8, 1, 1))
    b.add("Flatten", OPERATORS[kind](b, x), name="out")
    # Shapes that are declared wrongly would be found out: only that there are two axes is said.
    return b.model({"out": ["N", None]}, opset=14)


@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_of_face_networks_give_their_numbers_and_train(kind: str, tmp_path: Path) -> None:
    backbone = onnx_backbone(with_operator(kind), tmp_path)
    tail = assert_same(backbone, "input", "embedding")
    rows = open_network(backbone, "input")(pictures(backbone))
    assert min(gradients(tail, rows)) > 0


def test_an_operator_without_counterpart_is_named_with_its_place(tmp_path: Path) -> None:
    b = Builder()
    x = b.add("Relu", b.conv("picture", 3, 8, strides=[4, 4]), name="before")
    x = b.add("LRN", x, name="odd", size=3)
    b.dense(b.add("Flatten", x), 128, 8, name="out")
    backbone = onnx_backbone(b.model({"out": ["N", 8]}), tmp_path)
    with pytest.raises(
        ValueError, match=r"The operator LRN, which gives 'odd', has no counterpart.*there are Add"
    ):
        build_tail(backbone, "before", "embedding")
    assert_same(backbone, "odd", "embedding")


def test_what_cannot_be_cut_says_why(tmp_path: Path) -> None:
    backbone = onnx_backbone(NETWORKS["plain"](), tmp_path)
    for layer, reads, message in (
        ("flat", "feature_map", "'map' does not come after 'flat'"),
        ("map", "map", "nothing to train"),
        ("pooled", "embedding", "is averaged"),
        ("hiden", "embedding", "Did you mean 'hidden'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_tail(backbone, layer, reads)


def small_keras() -> Any:
    """Two branches, a layer used twice, a model in the model, dropout, statistics of its own."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            keras.layers.Conv2D(6, 3, padding="same"),
            keras.layers.BatchNormalization(),
        ],
        name="inner",
    )
    twice = keras.layers.Conv2D(6, 1, name="twice", kernel_regularizer="l2")
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="first")(inputs)
    x = keras.layers.PReLU(alpha_initializer="random_normal", shared_axes=[1, 2], name="slopes")(x)
    left = keras.layers.BatchNormalization(name="normal")(twice(x))
    x = keras.layers.Add(name="sum")([keras.ops.multiply(left, 0.2), inner(twice(x))])
    x = keras.layers.Dropout(0.5)(keras.layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = keras.layers.Dense(5, name="out")(keras.layers.GlobalAveragePooling2D(name="mean")(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


def test_a_keras_tail_gives_what_the_frozen_network_gives() -> None:
    backbone = Backbone.from_keras(small_keras(), color="bgr", mean=(120, 125, 130))
    for layer, reads in (
        ("input", "embedding"),
        ("slopes", "penultimate"),
        ("sum", "pooled"),
        ("first", "out"),
    ):
        for batch_norm in ("frozen", "affine", "trained"):
            assert not assert_same(backbone, layer, reads, batch_norm=batch_norm).losses
    with pytest.raises(ValueError, match="not all of the network's paths pass through 'normal'"):
        build_tail(backbone, "normal", "out")
    with pytest.raises(ValueError, match="'sum' does not come after 'mean'"):
        build_tail(backbone, "mean", "sum")


def test_training_a_tail_leaves_the_network_as_it_is() -> None:
    backbone = Backbone.from_keras(small_keras())
    before = open_network(backbone, "out")(pictures(backbone))
    tail = build_tail(backbone, "first", "out", batch_norm="trained")
    rows = open_network(backbone, "first")(pictures(backbone))
    for _ in range(3):
        tail(rows, training=True)
    for variable in tail.trainable_variables:
        variable.assign(variable + 1)
    assert_same(backbone, "first", "out")
    np.testing.assert_array_equal(open_network(backbone, "out")(pictures(backbone)), before)


@pytest.mark.slow
def test_deepface_s_facenet(tmp_path: Path) -> None:
    path = deepface_networks.save(deepface_networks.build("facenet"), tmp_path / "facenet_weights.h5")
    backbone = Backbone.load("facenet", weights=path)
    tail = assert_same(backbone, "Block8_3_Activation", "penultimate")
    assert {type(layer).__name__ for layer in tail.layers}.isdisjoint({"Lambda", "Dropout"})
    assert build_tail(backbone, "input").output_shape == (None, 1792)


def test_gradients_reach_exactly_the_blocks_named(tmp_path: Path) -> None:
    for backbone, first, middle in (
        (onnx_backbone(NETWORKS["plain"](), tmp_path), "conv_0", "map"),
        (Backbone.from_keras(small_keras()), "first", "sum"),
    ):
        rows = open_network(backbone, first)(pictures(backbone))
        whole = build_tail(backbone, first, "embedding", batch_norm="affine")
        late = build_tail(backbone, first, "embedding", batch_norm="affine", train_from=middle)
        own = build_tail(backbone, middle, "embedding", batch_norm="affine")
        names = [variable.path for variable in late.trainable_variables]
        assert names == [variable.path for variable in own.trainable_variables]
        assert set(names) < {variable.path for variable in whole.trainable_variables}
        assert min(gradients(whole, rows)) > 0
        assert min(gradients(late, rows)) > 0
        assert not build_tail(backbone, first, "embedding", rate=0).trainable_variables
        np.testing.assert_allclose(late(rows), whole(rows), atol=1e-6)


def statistics(tail: Any) -> list[np.ndarray]:
    return [np.array(weight) for weight in tail.non_trainable_variables if "moving" in weight.path]


@pytest.mark.parametrize("batch_norm", ["frozen", "affine", "trained"])
def test_batch_normalisation_is_trained_as_far_as_asked(batch_norm: str, tmp_path: Path) -> None:
    for backbone, first in (
        (onnx_backbone(NETWORKS["plain"](), tmp_path), "conv_0"),
        (Backbone.from_keras(small_keras()), "first"),
    ):
        tail = build_tail(backbone, first, "embedding", batch_norm=batch_norm)
        rows = open_network(backbone, first)(pictures(backbone))
        before, predicted = statistics(tail), np.asarray(tail(rows, training=False))
        trained = np.asarray(tail(rows, training=True))
        still = all(np.array_equal(a, b) for a, b in zip(before, statistics(tail), strict=True))
        assert before
        assert still == (batch_norm != "trained")
        assert np.allclose(trained, predicted, atol=1e-5) == (batch_norm != "trained")
        scales = [variable for variable in tail.trainable_variables if "gamma" in variable.path]
        assert bool(scales) == (batch_norm != "frozen")


def test_every_variable_has_the_rate_of_its_layer(tmp_path: Path) -> None:
    backbone = onnx_backbone(NETWORKS["plain"](), tmp_path)
    tail = build_tail(backbone, "map", "embedding", rate=0.25)
    inputs = keras.Input((4, 4, 32))
    model = keras.Sequential(
        [keras.Input((4, 4, 32)), keras.Model(inputs, tail(inputs)), keras.layers.Dense(3)]
    )
    assert learning_rate_factors(model) == [0.25, 0.25, 1.0, 1.0]
    assert all(layer.learning_rate_factor == 0.25 for layer in tail.layers)


def test_the_quick_prelu_has_the_gradients_of_keras_own() -> None:
    rng = np.random.default_rng(0)
    for shape in ((4, 5, 6, 8), (7, 8)):
        rows = rng.normal(size=shape).astype(np.float32)
        slopes = rng.uniform(-0.5, 1.5, (*([1] * (len(shape) - 2)), 8)).astype(np.float32)
        results = []
        for kind in (FusedPReLU, keras.layers.PReLU):
            layer = kind(shared_axes=[1, 2] if len(shape) == 4 else None)
            layer.build(shape)
            layer.set_weights([slopes])
            x = tf.constant(rows)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True) if kind is FusedPReLU else layer(x)
                loss = tf.reduce_sum(y**2)
            results.append([y, *tape.gradient(loss, [x, layer.alpha.value])])
        for quick, plain in zip(*results, strict=True):
            np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=1e-5)


def test_layers_are_named_after_the_tensors_that_they_give(tmp_path: Path) -> None:
    model = NETWORKS["two_outputs"]()
    backbone = onnx_backbone(model, tmp_path)
    weight = next(w for w in model.graph.initializer if w.dims[:] == [16, 3, 3, 3])
    found = build_tail(backbone, "input", "map").get_layer("conv_0").get_weights()[0]
    np.testing.assert_array_equal(found, numpy_helper.to_array(weight).transpose(2, 3, 1, 0))
