"""Computations on the rows of an array that may be larger than memory: missing rows, equal rows, moments."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks", "find_missing", "moments", "release", "row_groups", "take"]

BLOCK_BYTES = 32 * 2**20
TAKEN_BYTES = 4 * 2**20
SAMPLED_VALUES = 512
SAMPLED_ROWS = 20_000


def blocks(n_rows: int, row_shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of rows, each about 32 MiB large as float32."""
    step = max(1, BLOCK_BYTES // (4 * max(1, math.prod(row_shape))))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def release(X: NDArray[Any]) -> None:
    """Release the pages of a memory map that were read; they stay only in the system's cache."""
    base = _memory_map(X)
    mapped = getattr(base, "_mmap", None)
    # A copy-on-write map (mode "c") would lose its changes.
    if base is not None and mapped is not None and base.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def take(X: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return a copy of some rows, given in ascending order, without keeping pages of a memory map.

    The system also maps a large region around each row that is read; for rows spread over a file, this is
    finally the whole file. Therefore the pages are released after every few megabytes.
    """
    if _memory_map(X) is None:
        return X[rows]
    values = np.empty((len(rows), *X.shape[1:]), X.dtype)
    step = max(1, TAKEN_BYTES // (X.itemsize * max(1, math.prod(X.shape[1:]))))
    for start in range(0, len(rows), step):
        values[start : start + step] = X[rows[start : start + step]]
        release(X)
    return values


def _memory_map(X: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """Return the memory map that an array is, or is a view of."""
    base: Any = X
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base


def find_missing(X: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of rows with a NaN in them.

    Raises
    ------
    ValueError
        If a value is infinite, or too large for float32.
    """
    missing = np.zeros(len(X), dtype=bool)
    if X.dtype.kind != "f":
        return missing
    for rows in blocks(len(X), X.shape[1:]):
        with np.errstate(over="ignore"):
            block = X[rows].astype(np.float32, copy=False).reshape(rows.stop - rows.start, -1)
        finite = np.isfinite(block)
        if not finite.all():
            missing[rows] = np.isnan(block).any(axis=1)
            if (~finite & ~np.isnan(block)).any():
                raise ValueError("Input X contains infinity or a value too large for float32.")
        release(X)
    return missing


def row_groups(X: NDArray[Any], groups: Any = None) -> NDArray[np.int64]:
    """Number the sets of rows that belong together: rows that are equal, and rows of one of the user's groups.

    At most 512 evenly spaced values of a wide row are compared.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    groups : array-like of shape (n_samples,), default=None
        More groups; a row with a missing value is its own group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes = [_equal_rows(X)]
    if groups is not None:
        codes.append(_user_groups(groups, len(X)))
    n_nodes, sources, targets = len(X), [], []
    for code in codes:
        known = np.flatnonzero(code >= 0)
        sources.append(known)
        targets.append(code[known] + n_nodes)
        n_nodes += int(code.max(initial=-1)) + 1
    edges = (np.concatenate(sources), np.concatenate(targets))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_nodes, n_nodes))
    labels = connected_components(graph, directed=False)[1][: len(X)]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _equal_rows(X: NDArray[Any]) -> NDArray[np.int64]:
    import pandas as pd

    stride = max(1, math.ceil(math.prod(X.shape[1:]) / SAMPLED_VALUES))
    digests: list[bytes] = []
    for rows in blocks(len(X), X.shape[1:]):
        sample = np.ascontiguousarray(X[rows].reshape(rows.stop - rows.start, -1)[:, ::stride])
        digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in sample]
        release(X)
    return pd.factorize(np.array(digests, dtype=object))[0].astype(np.int64)


def _user_groups(groups: Any, n_rows: int) -> NDArray[np.int64]:
    import pandas as pd

    if np.ndim(groups) != 1 or len(groups) != n_rows:
        raise ValueError(
            f"groups has shape {np.shape(groups)}; it should have one value for each of the {n_rows} rows of X."
        )
    return pd.factorize(np.asarray(groups))[0].astype(np.int64)


def moments(X: NDArray[Any], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance over the last axis' features (or channels) of the chosen rows of X.

    If there are very many rows, 20,000 evenly spaced ones are used. Constant features get a variance of one,
    so that they are zero after standardisation.
    """
    rows = rows[:: max(1, len(rows) // SAMPLED_ROWS)]
    n_features = X.shape[-1]
    count, mean, squares = 0, np.zeros(n_features), np.zeros(n_features)
    for part in blocks(len(rows), X.shape[1:]):
        values = X[rows[part]].astype(np.float32, copy=False).reshape(-1, n_features)
        release(X)
        block_mean = values.mean(axis=0, dtype=np.float64)
        centred = values - block_mean.astype(np.float32)
        # Chan's update: sums of squares about the mean lose no digits if the mean is large.
        shift, total = block_mean - mean, count + len(values)
        squares += np.einsum("ij,ij->j", centred, centred) + shift**2 * (count * len(values) / total)
        mean, count = mean + shift * (len(values) / total), total
    variance = squares / max(count, 1)
    constant = variance <= (1e-6 * np.abs(mean)) ** 2
    return mean, np.where(constant, 1.0, variance)
