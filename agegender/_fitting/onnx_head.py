"""Export of a Keras head to ONNX, and prediction with ONNX Runtime, which does not need Keras."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._machine.fork import after_fork, check_tensorflow
from agegender._machine.precision import single_precision
from agegender._machine.sessions import open_session
from agegender._machine.threads import resolve_threads

__all__ = ["from_keras_bytes", "run_keras", "run_onnx", "to_keras_bytes", "to_onnx"]

TOLERANCE = 1e-5
MAPS_A_THREAD = 4


def to_onnx(model: Any, rows: NDArray[np.float32]) -> bytes | None:
    """Export a Keras model, and check the result on a few rows.

    The result is None, with a warning, if the model has an operation that ONNX or its converter does not
    support.
    """
    expected = run_keras(model, rows)
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "head.onnx"
            model.export(path, format="onnx", verbose=False)
            content = path.read_bytes()
        found = run_onnx(content, rows)
        difference = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
        problem = f"its numbers differ by {difference:.1e}" if difference > TOLERANCE else None
    except Exception as error:  # tf2onnx raises many kinds of exceptions
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    if problem is None:
        return content
    warnings.warn(
        f"The head cannot be exported to ONNX ({problem}); it predicts with Keras, which imports TensorFlow.",
        UserWarning,
        stacklevel=4,
    )
    return None


def run_onnx(content: bytes, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the age and gender probabilities of rows, computed by ONNX Runtime."""
    session = _session(content)
    name = session.get_inputs()[0].name
    # With many maps at a time, the data of a network's blocks would not fit into the processor's cache.
    at_once = MAPS_A_THREAD * resolve_threads() if rows.ndim > 2 else len(rows)
    parts = [session.run(None, {name: rows[i : i + at_once]}) for i in range(0, len(rows), at_once)]
    ages, genders = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ages, genders


# A few sessions stay open, for loops of small calls.
@lru_cache(maxsize=8)
def _session(content: bytes) -> Any:
    return open_session(content, n_threads=resolve_threads())


after_fork(_session.cache_clear)


def to_keras_bytes(model: Any) -> bytes:
    """Return a model as the content of a ``.keras`` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.keras"
        model.save(path)
        return path.read_bytes()


@lru_cache(maxsize=4)
def from_keras_bytes(content: bytes) -> Any:
    """Return the Keras model that `to_keras_bytes` stored."""
    import keras

    from agegender._tails import degradation, layers  # noqa: F401 (register their layers with Keras)

    with single_precision(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.keras"
        path.write_bytes(content)
        return keras.saving.load_model(path, compile=False)


def run_keras(model: Any, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the age and gender probabilities of rows, computed by Keras."""
    check_tensorflow()
    age, gender = model(rows, training=False)
    return np.asarray(age), np.asarray(gender)


_exporting = Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress debug messages of tf2onnx and TensorFlow's graph optimiser."""
    logger = logging.getLogger("tf2onnx")
    with _exporting, warnings.catch_warnings(), open(os.devnull, "wb") as nowhere:
        warnings.simplefilter("ignore")
        level, screen = logger.level, os.dup(2)
        logger.setLevel(logging.CRITICAL)
        # The optimiser is written in C++ and writes directly to the descriptor, four lines per export.
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            logger.setLevel(level)
