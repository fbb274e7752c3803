"""Group labels of any kind as numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["group_numbers"]


def group_numbers(labels: ArrayLike) -> NDArray[np.intp]:
    """Number labels 0, 1, … in the order of first appearance.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        Numbers or text. A row with a missing label (NaN, None) gets its own number.

    Returns
    -------
    numbers : ndarray of shape (n_samples,), int

    Examples
    --------
    >>> import numpy as np
    >>> group_numbers(np.array(["ann", None, "bob", "ann", None], dtype=object))
    array([0, 2, 1, 0, 3])
    """
    import pandas as pd

    codes = pd.factorize(np.asarray(labels))[0].astype(np.intp)
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes
