"""A head as one Keras model: standardised input, checked outputs, averaged ensemble members."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["average", "build"]

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]


def build(
    head: Any, row_shape: tuple[int, ...], n_ages: int, n_genders: int, moments: Moments | None, seed: int
) -> Any:
    """Return a Keras model of a head.

    Parameters
    ----------
    head : callable
        ``(input_shape, n_ages, n_genders) -> keras.Model``.
    row_shape : tuple of int
        Shape of one row of X.
    n_ages, n_genders : int
        Number of units of the two outputs.
    moments : tuple of two ndarrays, or None
        Mean and variance of the last axis' features, for the first layer; if None, there is no such layer.
    seed : int
        Determines the initial weights and dropout.

    Raises
    ------
    ValueError
        If the callable did not return a model with the two softmax outputs.
    """
    import keras

    with _seeded(seed):
        model = head(row_shape, n_ages, n_genders)
    if not isinstance(model, keras.Model):
        raise ValueError(f"The head returned a {type(model).__name__}; it should return a keras.Model.")
    _check_outputs(model, row_shape, n_ages, n_genders)
    inputs = keras.Input(row_shape)
    return keras.Model(inputs, model(_standardize(inputs, moments) if moments else inputs))


def average(members: list[Any]) -> Any:
    """Return one model whose outputs are the mean of its members' outputs."""
    import keras

    if len(members) == 1:
        return members[0]
    inputs = keras.Input(members[0].input_shape[1:])
    outputs = [member(inputs) for member in members]
    return keras.Model(inputs, [keras.layers.Average()(list(same)) for same in zip(*outputs, strict=True)])


def _standardize(inputs: Any, moments: Moments) -> Any:
    import keras

    # Not keras.layers.Normalization, whose constants tf2onnx exports as further inputs.
    layer = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-12, trainable=False, name="standardize"
    )
    outputs = layer(inputs)
    layer.set_weights(list(moments))
    return outputs


def _check_outputs(model: Any, row_shape: tuple[int, ...], n_ages: int, n_genders: int) -> None:
    outputs = model(np.zeros((1, *row_shape), dtype=np.float32), training=False)
    if not isinstance(outputs, list | tuple) or len(outputs) != 2:
        found = f"{len(outputs)} outputs" if isinstance(outputs, list | tuple | dict) else "one output"
        raise ValueError(f"The head's model has {found}; it should have a list of two: ages, then genders.")
    for name, width, output in zip(("age", "gender"), (n_ages, n_genders), outputs, strict=True):
        if tuple(output.shape) != (1, width):
            raise ValueError(
                f"The head's {name} output has the shape {tuple(output.shape[1:])} a row; it should be ({width},)."
            )
        if not np.isclose(float(np.sum(output)), 1.0, atol=1e-3):
            raise ValueError(f"The head's {name} output does not sum to 1; end it with activation='softmax'.")


_seeding = RLock()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Build a model whose initial weights and dropout depend only on `seed`; restore the global generators.

    Keras draws the seed of every layer without an explicit seed from Python's ``random``.
    """
    with _seeding:
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
