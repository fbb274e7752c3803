"""Mixup: steps on mixtures of two rows and of their labels (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["neighbours"]


def neighbours(ages: NDArray[np.floating], bounds: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return for each row the row of its step that is next in the order of ages; the oldest gets the one before.

    Parameters
    ----------
    ages : ndarray of shape (n_rows,)
        In the order of the steps.
    bounds : ndarray of shape (n_steps + 1,)
        The first row of each step, and the end of the last one.

    Examples
    --------
    >>> neighbours(np.array([30.0, 70, 31, 5, 40]), np.array([0, 3, 5]))
    array([2, 2, 1, 4, 3], dtype=int32)
    """
    found = np.arange(bounds[-1], dtype=np.int32)
    for start, stop in pairwise(bounds):
        order = start + np.argsort(ages[start:stop], kind="stable")
        if len(order) > 1:
            found[order] = [*order[1:], order[-2]]
    return found
