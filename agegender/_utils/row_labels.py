"""Row labels (the index of a pandas Series or frame) that must not contradict each other."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["check_row_order"]


def check_row_order(X: Any, **others: Any) -> None:
    """Raise an error if an argument has the row labels of X in another order.

    Rows are matched by position, not by label. Arguments with another set of labels, or without labels, are
    accepted.

    Parameters
    ----------
    X : object
        The data; checked only if it is a pandas Series or frame.
    **others : object
        Arguments with one row per row of X, by the name of the parameter.

    Raises
    ------
    ValueError
        If one of them is a pandas Series or frame with the same labels in another order.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.Series(["anna.jpg", "bert.jpg"], index=[7, 9])
    >>> check_row_order(X, y=pd.DataFrame({"age": [31, 54], "gender": [1, 0]}, index=[7, 9]))
    >>> check_row_order(X, y=pd.DataFrame({"age": [54, 31], "gender": [0, 1]}, index=[9, 7]))
    Traceback (most recent call last):
    ...
    ValueError: y has the index labels of X in another order: row 0 is 7 in X and 9 in y. Rows are matched by their \
place, so this would give pictures the ages of others. Use y.loc[X.index]; if the rows are in X's order and only the \
labels are not, y.reset_index(drop=True).
    """
    index = _index(X)
    if index is None:
        return
    for name, other in others.items():
        theirs = _index(other)
        if theirs is None or len(theirs) != len(index) or theirs.equals(index):
            continue
        if Counter(index) == Counter(theirs):
            place = next(i for i in range(len(index)) if index[i] != theirs[i])
            here, there = index.astype(object)[place], theirs.astype(object)[place]
            raise ValueError(
                f"{name} has the index labels of X in another order: row {place} is {here!r} in X and "
                f"{there!r} in {name}. Rows are matched by their place, so this would give pictures the ages "
                f"of others. Use {name}.loc[X.index]; if the rows are in X's order and only the labels are not, "
                f"{name}.reset_index(drop=True)."
            )


def _index(values: Any) -> Any:
    """Return the index of a pandas Series or frame, or None for anything else."""
    return values.index if hasattr(values, "iloc") else None
