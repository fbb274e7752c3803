"""Columns as a pandas table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from agegender._utils.pictures import table_index

__all__ = ["as_table"]


def as_table(columns: Mapping[str, NDArray[Any]], X: Any, *, by_picture: bool = False) -> Any:
    """Return columns as a pandas frame; a column of more than one axis becomes one of arrays.

    Parameters
    ----------
    columns : mapping of str to ndarray
    X : object
        What a user passed as X; if it is a pandas Series or frame, the rows get its index labels.
    by_picture : bool, default=False
        Whether a row belongs to the picture that its column `picture` tells; otherwise, to the picture in its place.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> X = pd.Series(["anna.jpg", "bert.jpg"], index=[7, 9])
    >>> columns = {"picture": np.array([1, 1]), "age": np.array([31.0, 54.0])}
    >>> as_table(columns, X, by_picture=True)
       picture   age
    9        1  31.0
    9        1  54.0
    """
    import pandas as pd

    frame = pd.DataFrame({name: list(each) if each.ndim > 1 else each for name, each in columns.items()})
    index = table_index(X)
    if index is None:
        return frame
    return frame.set_axis(index[columns["picture"]] if by_picture else index)
