"""Numbers from predictions: errors of age in years, shares of right genders, and what a distribution over ages says.

Truth and prediction are (n, 2) arrays or frames with the columns ``age`` and ``gender``, as `AgeGenderClassifier`
takes and gives them, or the one column alone. Rows that were predicted as NaN (pictures that could not be read) are
left out with a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import make_scorer

from agegender.exceptions import PictureWarning

__all__ = ["SCORERS", "age_cumulative_score", "age_mae", "age_quantile", "expected_age", "gender_accuracy"]


def age_mae(y_true: Any, y_pred: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean absolute error of the age, in years.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``age``
        Ages in years.
    sample_weight : array-like of shape (n_samples,), default=None

    Raises
    ------
    ValueError
        If lengths differ, a true age is missing, or nothing was predicted.

    Examples
    --------
    >>> age_mae([[30, 0], [41, 1]], [[33, 0], [40, 0]])
    2.0
    """
    error, weights = _age_errors(y_true, y_pred, sample_weight)
    return float(np.average(error, weights=weights))


def age_cumulative_score(
    y_true: Any, y_pred: Any, *, k: float = 5, sample_weight: ArrayLike | None = None
) -> float:
    """Return CS@k, the fraction of ages predicted within `k` years of the truth.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``age``
        Ages in years.
    k : float, default=5
        The error allowed, in years, inclusive.
    sample_weight : array-like of shape (n_samples,), default=None

    References
    ----------
    X. Geng, Z.-H. Zhou, K. Smith-Miles, Automatic age estimation based on facial aging patterns, TPAMI 29(12), 2007.

    Examples
    --------
    >>> age_cumulative_score([30, 41, 50, 7], [33, 40, 58, 7])
    0.75
    """
    error, weights = _age_errors(y_true, y_pred, sample_weight)
    return float(np.average(error <= k, weights=weights))


def gender_accuracy(y_true: Any, y_pred: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the fraction of genders predicted rightly.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``gender``
        Labels, of the same kind in both.
    sample_weight : array-like of shape (n_samples,), default=None

    Examples
    --------
    >>> gender_accuracy([[30, 0], [41, 1]], [[33, 0], [40, 0]])
    0.5
    """
    truth, prediction = target_column(y_true, "gender"), target_column(y_pred, "gender")
    truth, prediction, weights = predicted_rows("gender", truth, prediction, sample_weight)
    if isinstance(truth[0], str) != isinstance(prediction[0], str):
        raise ValueError(
            f"True genders are like {truth[0]!r} and predicted ones like {prediction[0]!r}; text never equals a "
            "number: give both in the same labels."
        )
    return float(np.average(truth == prediction, weights=weights))


def expected_age(proba: ArrayLike) -> NDArray[np.float64]:
    """Return the weighted average Σ k·p(k) of distributions over the ages 0, 1, 2 and so on.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)

    Returns
    -------
    ndarray of shape (n_samples,)
        Ages in years.

    Examples
    --------
    >>> expected_age([[0.0, 0.5, 0.5]])
    array([1.5])
    """
    proba = np.asarray(proba, dtype=np.float64)
    # Row by row in one order of summation, so that a row's age does not depend on its neighbours.
    return (proba * np.arange(proba.shape[1])).sum(axis=1)


def age_quantile(proba: ArrayLike, q: float) -> NDArray[np.float64]:
    """Return the `q`-quantile of distributions over the ages 0, 1, 2 and so on.

    The mass of age k is taken as spread evenly over k ± ½ years, so that quantiles are not whole years.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)
    q : float
        From 0 to 1.

    Returns
    -------
    ndarray of shape (n_samples,)
        Ages in years, 0 … n_ages − 1.

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


SCORERS = {
    "neg_age_mae": make_scorer(age_mae, greater_is_better=False),
    "age_cs5": make_scorer(age_cumulative_score),
    "gender_accuracy": make_scorer(gender_accuracy),
}
"""Scorers by name, for ``scoring=`` of scikit-learn's searches and validation; of all, higher is better.

scikit-learn's own scorers do not tell years from labels: ``"neg_mean_absolute_error"`` averages
the age's error with the gender's and gives about half the age MAE.
"""


def _age_errors(
    y_true: Any, y_pred: Any, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    truth = target_column(y_true, "age").astype(np.float64)
    prediction = target_column(y_pred, "age").astype(np.float64)
    truth, prediction, weights = predicted_rows("age", truth, prediction, sample_weight)
    return np.abs(truth - prediction), weights


def target_column(values: Any, name: str) -> NDArray[Any]:
    """Return the ages or the genders of (n, 2) rows, of a frame, or of the one column alone."""
    if name in getattr(values, "columns", ()):
        return np.asarray(values[name])
    array = np.asarray(values)
    if array.ndim == 1:
        return array
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"Got shape {array.shape}; expected (n_samples, 2), age and gender, or the column {name!r} alone."
        )
    return array[:, 0 if name == "age" else 1]


def predicted_rows(
    name: str, truth: NDArray[Any], prediction: NDArray[Any], sample_weight: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
    """Return truth, prediction and weights without the rows that were not predicted, warning of these."""
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    lengths = [len(values) for values in (truth, prediction, weights) if values is not None]
    if len(set(lengths)) > 1:
        raise ValueError(f"Truth, prediction and weights differ in length: {lengths}.")
    unknown = np.flatnonzero(_missing(truth))
    if unknown.size:
        raise ValueError(f"The true {name} of {unknown.size} rows is missing, the first in row {unknown[0]}.")
    present = ~_missing(prediction)
    if not present.any():
        raise ValueError(f"No {name} was predicted for any of the {len(prediction)} rows.")
    if not present.all():
        warnings.warn(
            f"{np.count_nonzero(~present)} of {len(present)} rows have no predicted {name} and are left out.",
            PictureWarning,
            stacklevel=4,
        )
    if weights is not None:
        weights = weights[present]
        _check_weights(weights)
    return truth[present], prediction[present], weights


def _check_weights(weights: NDArray[np.float64]) -> None:
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weight should be finite numbers that are not negative.")
    if not weights.any():
        raise ValueError(
            f"sample_weight is zero for all {len(weights)} rows that were predicted, and an average needs one that "
            "counts; give some rows a positive weight, or leave sample_weight out."
        )


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    import pandas as pd

    return np.asarray(pd.isna(values), dtype=bool)
