"""Keras in single precision, whatever dtype policy the process uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["single_precision"]


@contextmanager
def single_precision() -> Iterator[None]:
    """Make Keras layers in float32, and restore the dtype policy and float type of the process.

    Rows, losses and the exported head are float32. If the process uses ``mixed_float16`` or float64, layers
    made here would have another type, and a frozen network would give different numbers.
    """
    import keras

    policy, float_type = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(float_type)
        keras.config.set_dtype_policy(policy)
