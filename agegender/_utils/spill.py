"""Storage for rows that are larger than the memory limit: a memory map of a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["reserve", "rows_on_disk"]


@contextmanager
def rows_on_disk(shape: tuple[int, ...], dtype: str, limit: float) -> Iterator[NDArray[Any] | None]:
    """Yield a memory map for rows of more than `limit` bytes, or None for fewer.

    The file is in Python's temporary directory (``TMPDIR``). On POSIX it never has a name, so that nothing is
    left, however the process ends.

    Parameters
    ----------
    shape : tuple of int
    dtype : str
    limit : float
        Bytes.

    Raises
    ------
    OSError
        If there is not enough space on the disk.

    Examples
    --------
    >>> with rows_on_disk((10, 3), "float32", limit=100) as rows:
    ...     rows.shape, type(rows).__name__
    ((10, 3), 'memmap')
    >>> with rows_on_disk((10, 3), "float32", limit=200) as rows:
    ...     print(rows)
    None
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes <= limit:
        yield None
        return
    with tempfile.TemporaryFile(prefix="agegender-") as file:
        reserve(file, n_bytes)
        yield np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def reserve(file: IO[bytes], n_bytes: int) -> None:
    """Reserve the disk space now: writing to a map on a full disk kills the process without a message.

    Raises
    ------
    OSError
        If there is not enough space on the disk.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{n_bytes / 1e9:,.1f} GB of activations, more than memory_limit, do not fit into "
            f"{tempfile.gettempdir()!r} ({error.strerror}); point TMPDIR to a larger disk, or take the extractor's "
            "dtype='float16' or a smaller layer",
        ) from error
