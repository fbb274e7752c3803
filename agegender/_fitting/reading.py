"""Rows as tensors: all at once if they fit in memory, otherwise chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.rows import take

__all__ = ["RowReader", "tensor"]

# Up to this size, all rows are kept in one tensor; otherwise they are read in chunks, with two chunks in memory.
HELD_BYTES = 512 * 2**20
CHUNK_BYTES = 128 * 2**20

Chunk = tuple[Any, NDArray[np.int64], slice]


class RowReader:
    """Reads rows of an array for training.

    Parameters
    ----------
    X : ndarray
        In memory or as a memory map.
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X
        self._held = tensor(X) if X.nbytes <= HELD_BYTES else None

    def chunks(self, rows: NDArray[np.int64]) -> Iterator[Chunk]:
        """Yield a tensor of rows, the indices to use in order, and the slice of `rows` that it contains."""
        if self._held is not None:
            yield self._held, rows, slice(0, len(rows))
            return
        size = max(1, CHUNK_BYTES // (self.X.itemsize * math.prod(self.X.shape[1:])))
        parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, rows, parts[0])
            for following in [*parts[1:], None]:
                chunk = coming.result()
                if following is not None:
                    coming = reader.submit(self._read, rows, following)
                yield chunk
                del chunk

    def _read(self, rows: NDArray[np.int64], part: slice) -> Chunk:
        # In ascending order, the disk is read sequentially.
        wanted, picks = np.unique(rows[part], return_inverse=True)
        return tensor(take(self.X, wanted)), picks, part


def tensor(values: NDArray[Any]) -> Any:
    """Return an array as a tensor of TensorFlow."""
    import tensorflow as tf

    return tf.convert_to_tensor(values)
