"""Similar pictures: pairs above a similarity, and the nearest neighbours of each, computed in blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosine_pairs", "directions", "nearest", "thumbnail_correlation"]

SIMILAR = 0.5
"""Correlation of grey copies, mean face included, that versions of one photograph have at least."""

BLOCK_CELLS = 4_000_000
"""Similarities in memory at a time: 16 MB of float32."""


def directions(rows: NDArray[np.floating], centre: NDArray[np.floating] | None = None) -> NDArray[np.float32]:
    """Return rows minus their centre, scaled to unit length; zeros for a row with a NaN.

    Without centring, the component that all faces share would make all rows similar.

    Parameters
    ----------
    rows : ndarray of shape (n_pictures, …)
    centre : ndarray, default=None
        The point that is subtracted; if None, the mean of the rows.

    Returns
    -------
    ndarray of shape (n_pictures, n_features), float32
    """
    flat = np.asarray(rows, dtype=np.float32).reshape(len(rows), int(np.prod(rows.shape[1:])))
    known: NDArray[np.bool_] = np.asarray(np.isfinite(flat).all(axis=1))
    middle = flat[known].mean(axis=0) if centre is None and known.any() else centre
    shifted = np.where(known[:, np.newaxis], flat - (0.0 if middle is None else np.ravel(middle)), 0.0)
    lengths = np.linalg.norm(shifted, axis=1, keepdims=True)
    return np.asarray(shifted / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def cosine_pairs(
    first: NDArray[np.float32], second: NDArray[np.float32] | None, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the pairs of rows whose cosine similarity is at least `threshold`, and the similarities.

    Parameters
    ----------
    first : ndarray of shape (n, n_features), float32
        Of unit length.
    second : ndarray of shape (m, n_features), float32, or None
        If None, the rows of `first` are compared with one another, each pair once.
    threshold : float

    Returns
    -------
    rows, others : ndarray of int
    similarity : ndarray of float64

    Examples
    --------
    >>> rows = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    >>> cosine_pairs(rows, None, 0.9)[:2]
    (array([0]), array([2]))
    """
    found = []
    step = max(1, BLOCK_CELLS // max(len(first if second is None else second), 1))
    for start in range(0, len(first), step):
        against = first[start:] if second is None else second
        similar = first[start : start + step] @ against.T
        rows, others = np.nonzero(similar >= threshold)
        later = others > rows if second is None else np.ones(len(rows), dtype=bool)
        shift = start if second is None else 0
        values = similar[rows[later], others[later]].astype(np.float64)
        found.append((rows[later] + start, others[later] + shift, values))
    if not found:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    rows, others, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, others, values


def nearest(
    rows: NDArray[np.float32], groups: NDArray[np.intp], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the nearest rows of other groups.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32
        Of unit length.
    groups : ndarray of shape (n,), int
        The group of each row; rows of the same group are skipped.
    count : int
        The number of neighbours per row.

    Returns
    -------
    others : ndarray of shape (n, count), int
        The most similar first.
    similarity : ndarray of shape (n, count), float64
        -inf if there are fewer neighbours.
    """
    count = min(count, max(len(rows) - 1, 0))
    others = np.zeros((len(rows), count), dtype=np.intp)
    values = np.zeros((len(rows), count))
    step = max(1, BLOCK_CELLS // max(len(rows), 1))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        similar = rows[part] @ rows.T
        similar[groups[part, np.newaxis] == groups] = -np.inf
        best = np.argpartition(-similar, count - 1, axis=1)[:, :count] if count else others[part]
        of_best = np.take_along_axis(similar, best, axis=1)
        order = np.argsort(-of_best, axis=1, kind="stable")
        others[part] = np.take_along_axis(best, order, axis=1)
        values[part] = np.take_along_axis(of_best, order, axis=1)
    return others, values


def thumbnail_correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], centre: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the correlations of pairs of grey copies minus the mean face; the second is also mirrored.

    Minus the mean face, pictures without contrast are alike. Their correlation is that of the copies as they are.

    Parameters
    ----------
    first, second : ndarray of shape (n_pairs, side, side), float32
    centre : ndarray of shape (side, side), float32
        The mean of all pictures.

    Returns
    -------
    ndarray of shape (n_pairs,), float64
        The higher of the two correlations.
    """
    middle = centre - centre.mean()

    def correlation(others: NDArray[np.float32]) -> NDArray[np.float64]:
        pair = [thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True) for thumbnails in (first, others)]
        plain, centred = (
            np.prod([directions(part, taken) for part in pair], axis=0).sum(axis=1)
            for taken in (np.zeros_like(middle), middle)
        )
        return np.where(plain < SIMILAR, plain, centred).astype(np.float64)

    return np.maximum(correlation(second), correlation(second[:, :, ::-1]))
