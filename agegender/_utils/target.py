"""The target y: ages in years and one of two genders, each checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_target", "gender_labels"]


def check_target(y: Any, *, max_age: int = 100) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Split a target into ages and genders, each checked.

    Parameters
    ----------
    y : array-like of shape (n_samples, 2) or DataFrame with columns ``age`` and ``gender``
        Age in years, 0 … `max_age`, and one of two genders. Labels may be strings in a frame only.
    max_age : int, default=100
        The highest age allowed, in years.

    Returns
    -------
    ages : ndarray of shape (n_samples,), float64
    genders : ndarray of shape (n_samples,)
        The labels, unchanged; their number is checked by the caller.

    Raises
    ------
    ValueError
        If the shape is wrong, a value is missing, or an age is not a number from 0 to `max_age`.

    Examples
    --------
    >>> ages, genders = check_target([[31, 0], [4.5, 1]])
    >>> ages
    array([31. ,  4.5])
    """
    ages, genders = _columns(y)
    ages = _check_ages(ages, max_age)
    missing = np.flatnonzero(_is_missing(genders))
    if missing.size:
        raise ValueError(
            f"y has {missing.size} missing genders, the first in row {missing[0]}; drop these rows."
        )
    return ages, genders


def gender_labels(genders: NDArray[Any]) -> NDArray[Any]:
    """Return the two sorted gender labels; integers as int.

    Raises
    ------
    ValueError
        If there are not two, or one is text and the other a number.

    Examples
    --------
    >>> gender_labels(np.array([1.0, 0.0, 1.0]))
    array([0, 1])
    """
    labels = list(dict.fromkeys(genders.tolist()))
    if len(labels) != 2:
        shown = ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
        if len(labels) == 1:
            raise ValueError(f"y has 1 class of gender only, {shown}; add rows of the other.")
        raise ValueError(
            f"y has {len(labels)} genders, {shown}; keep rows of two, or merge labels that mean the same."
        )
    if isinstance(labels[0], str) != isinstance(labels[1], str):
        raise ValueError(f"y mixes text and numbers as gender labels: {labels[0]!r} and {labels[1]!r}.")
    if all(isinstance(label, float) and label.is_integer() for label in labels):
        labels = [int(label) for label in labels]
    return np.array(sorted(labels))


def _columns(y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None: ages and genders, shape (n, 2).")
    names = getattr(y, "columns", None)
    if names is not None:
        lacking = [name for name in ("age", "gender") if name not in list(names)]
        if lacking:
            raise ValueError(
                f"y is a frame without the column {lacking[0]!r}; it has {list(map(str, names))}. "
                "Rename or select its columns: age (years) and gender (two labels)."
            )
        return np.asarray(y["age"]), np.asarray(y["gender"])
    array = np.asarray(y)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"y has shape {array.shape}; it should be (n_samples, 2): age in years, then gender. "
            "np.column_stack([ages, genders]) makes one from two lists."
        )
    if array.dtype.kind not in "biuf":
        array = _numeric(array)
    return array[:, 0], array[:, 1]


def _numeric(array: NDArray[Any]) -> NDArray[np.float64]:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"y has values that are not numbers ({error}); gender as text is read from a DataFrame with the "
            "columns age and gender."
        ) from error


def _check_ages(ages: NDArray[Any], max_age: int) -> NDArray[np.float64]:
    try:
        years = np.asarray(ages, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Ages should be numbers of years: {error}.") from error
    unknown = np.flatnonzero(~np.isfinite(years))
    if unknown.size:
        raise ValueError(
            f"y has {unknown.size} ages that are NaN or infinite, the first in row {unknown[0]}; "
            "drop these rows."
        )
    outside = np.flatnonzero((years < 0) | (years > max_age))
    if outside.size:
        row = outside[0]
        raise ValueError(
            f"y has {outside.size} ages outside 0…{max_age} years, the first {years[row]:g} in row {row}; "
            "drop these rows or raise max_age."
        )
    return years


def _is_missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype.kind in "biu":
        return np.zeros(len(labels), dtype=bool)
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    import pandas as pd

    return np.asarray(pd.isna(labels), dtype=bool)
