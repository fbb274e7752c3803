"""Checking X for estimators that take pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.stored import dataset_pictures, wrapped

__all__ = ["check_pictures", "table_index"]


def check_pictures(X: Any) -> Sequence[Any]:
    """Return X as a sequence of pictures, or raise an error that names what it is instead.

    Parameters
    ----------
    X : object
        What a user passes as X. Hugging Face or torch data sets, and columns of bytes, are not read here.

    Returns
    -------
    sequence of pictures

    Raises
    ------
    TypeError
        If X is a single picture or not a sequence.
    ValueError
        If it is empty, or an array of another shape than (n_samples, height, width, 3).

    Examples
    --------
    >>> check_pictures("anna.jpg")
    Traceback (most recent call last):
    ...
    TypeError: X is one picture ('anna.jpg'); pass a list of pictures: ['anna.jpg'].
    """
    if isinstance(X, (str, bytes, os.PathLike)):
        short = repr(X) if len(repr(X)) < 80 else f"{repr(X)[:60]}…"
        raise TypeError(f"X is one picture ({short}); pass a list of pictures: [{short}].")
    if hasattr(X, "tocsr"):
        raise TypeError(
            f"X is a sparse {type(X).__name__}; pass a list of pictures (paths, bytes, images, arrays)."
        )
    stored = dataset_pictures(X)
    if stored is not None:
        X = stored
    if isinstance(X, (Set, Mapping)):
        raise TypeError(_no_order(X))
    if hasattr(X, "columns"):
        X = _only_column(X)
    if not hasattr(X, "__len__") and hasattr(X, "__iter__"):
        X = list(X)
    if not hasattr(X, "__len__"):
        raise TypeError(f"X is a {type(X).__name__}; pass a list of pictures (paths, bytes, images, arrays).")
    pictures: Any = _array_pictures(X) if isinstance(X, np.ndarray) else X
    if hasattr(pictures, "to_numpy") and not _holds_bytes(pictures):  # a column of a pandas or polars frame
        pictures = pictures.to_numpy()
    if len(pictures) == 0:
        raise ValueError("Found array with 0 sample(s): X has no pictures, at least one is needed.")
    return wrapped(pictures)


def _holds_bytes(column: Any) -> bool:
    """Return whether a polars or pyarrow column contains bytes; a conversion would copy all of them."""
    kind = str(getattr(column, "dtype", getattr(column, "type", ""))).lower()
    return "binary" in kind or "struct" in kind


def table_index(X: Any) -> Any:
    """Return the index for a table about these pictures: that of X, if X is a pandas Series or frame.

    Parameters
    ----------
    X : object
        What a user passes as X.

    Returns
    -------
    pandas.Index or None
        None if X has no index; rows are then numbered.
    """
    return X.index if hasattr(X, "iloc") and hasattr(X, "index") else None


def _no_order(X: Set[Any] | Mapping[Any, Any]) -> str:
    if isinstance(X, Mapping):
        remedy = "list(X.values()), or list(X) if its keys are paths"
        return f"X is a {type(X).__name__}; pass a list of pictures: {remedy}."
    return f"X is a {type(X).__name__}, which has no order for rows to follow; pass a list of pictures: sorted(X)."


def _only_column(frame: Any) -> Any:
    names = list(frame.columns)
    if "path" in names:
        return frame["path"]
    if len(names) == 1:
        return frame[names[0]]
    raise ValueError(f"X is a frame with the columns {names}; pass its column of paths: X['…'].")


def _array_pictures(X: NDArray[Any]) -> NDArray[Any]:
    if X.dtype.kind in "OUST":
        if X.ndim == 2 and X.shape[1] == 1:
            return X[:, 0]
        if X.ndim == 1:
            return X
    elif X.ndim == 4 and X.shape[-1] in (1, 3):
        return X
    elif X.ndim == 3 and X.shape[-1] == 3:
        raise ValueError(f"X is one picture of shape {X.shape}; pass X[np.newaxis] or a list of pictures.")
    raise ValueError(
        f"X is an array of shape {X.shape} and type {X.dtype}; expected paths of shape (n_samples,) or RGB "
        "uint8 pixels of shape (n_samples, height, width, 3)."
    )
