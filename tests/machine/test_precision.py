"""Keras' dtype policy, which belongs to the user's process."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from agegender import AgeGenderClassifier, Backbone, ConvHead, DenseHead
from agegender.runtime import close_networks, open_network


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16", "float64"])
def policy(request):
    before = keras.config.dtype_policy()
    yield request.param
    keras.config.set_dtype_policy(before)


def trained(head, X, y):
    return AgeGenderClassifier(head, epochs=2, ensemble=2, random_state=0, validation_fraction=0.2).fit(X, y)


@pytest.mark.parametrize("head", [DenseHead((8,), dropout=0.1, batch_norm=True), ConvHead((4,))])
def test_fit_gives_the_same_head_whatever_the_policy(policy: str, head) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5) if isinstance(head, DenseHead) else (60, 4, 4, 5)).astype(np.float32)
    y = np.column_stack([rng.integers(0, 90, 60), np.arange(60) % 2])
    expected = trained(head, X, y)
    keras.config.set_dtype_policy(policy)
    found = trained(head, X, y)
    assert keras.config.dtype_policy().name == policy
    for here, there in zip(found.predict_proba(X), expected.predict_proba(X), strict=True):
        np.testing.assert_array_equal(here, there)
    rows = found.keras_model_(X, training=False)
    np.testing.assert_allclose(rows[0], found.predict_proba(X)[0], atol=1e-5)


def test_a_keras_network_gives_the_same_rows_whatever_the_policy(policy: str) -> None:
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="map")(inputs)
    outputs = keras.layers.Dense(5, name="out")(keras.layers.Flatten()(x))
    network = Backbone.from_keras(keras.Model(inputs, outputs))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    expected = open_network(network, "embedding")(pictures)
    close_networks()
    keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(open_network(network, "embedding")(pictures), expected)


def test_the_float_type_is_put_back() -> None:
    keras.config.set_floatx("float64")
    try:
        rng = np.random.default_rng(0)
        y = np.column_stack([rng.integers(0, 90, 40), np.arange(40) % 2])
        trained(DenseHead(), rng.normal(size=(40, 5)), y)
        assert keras.config.floatx() == "float64"
    finally:
        keras.config.set_floatx("float32")
