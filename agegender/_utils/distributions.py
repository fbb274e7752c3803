"""Mean and quantiles of distributions over ages, with NumPy alone; `agegender.metrics` has them too."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["age_quantile", "expected_age"]


def expected_age(proba: ArrayLike) -> NDArray[np.float64]:
    """Return the weighted average Σ k·p(k) of distributions over the ages 0, 1, 2 and so on.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)

    Returns
    -------
    ndarray of shape (n_samples,)
        Ages in years.

    See Also
    --------
    agegender.metrics.age_quantile : Quantiles of age distributions.

    Examples
    --------
    >>> expected_age([[0.0, 0.5, 0.5]])
    array([1.5])
    """
    proba = np.asarray(proba, dtype=np.float64)
    # Each row is summed in the same order, so that its age does not depend on other rows.
    return (proba * np.arange(proba.shape[1])).sum(axis=1)


def age_quantile(proba: ArrayLike, q: float) -> NDArray[np.float64]:
    """Return the `q`-quantile of distributions over the ages 0, 1, 2 and so on.

    The probability of age k is spread evenly over k ± ½ years, so that quantiles are not whole years.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)
    q : float
        From 0 to 1.

    Returns
    -------
    ndarray of shape (n_samples,)
        Ages in years, 0 … n_ages − 1.

    See Also
    --------
    agegender.metrics.expected_age : Mean of age distributions.
    agegender.calibration.age_interval : Intervals of the age.

    Examples
    --------
    >>> age_quantile([[0.25, 0.5, 0.25]], 0.5)
    array([1.])
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q={q!r} should be a fraction from 0 to 1.")
    proba = np.asarray(proba, dtype=np.float64)
    reached = np.cumsum(proba, axis=1)
    goal = q * reached[:, -1:]
    rows = np.arange(len(proba))
    age = np.minimum((reached < goal).sum(axis=1), proba.shape[1] - 1)
    mass = proba[rows, age]
    inside = goal[:, 0] - (reached[rows, age] - mass)
    share = np.divide(inside, mass, out=np.full(len(proba), 0.5), where=mass > 0)
    quantile = np.clip(age - 0.5 + share, 0, proba.shape[1] - 1)
    return np.where(np.isnan(goal[:, 0]), np.nan, quantile)
