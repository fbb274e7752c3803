"""Metrics: age error in years, gender accuracy, and properties of age distributions.

True and predicted values are (n, 2) arrays or frames with the columns ``age`` and ``gender``, as in
`AgeGenderClassifier`, or just one column. Rows that were predicted as NaN (pictures that could not be read) are
ignored with a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import make_scorer

from agegender._utils.distributions import age_quantile, expected_age
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

    See Also
    --------
    agegender.metrics.age_cumulative_score : Share of ages with a small error.
    agegender.metrics.gender_accuracy : Accuracy of the gender.

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
    """Return CS@k, the fraction of ages with an error of at most `k` years.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``age``
        Ages in years.
    k : float, default=5
        The largest allowed error, in years.
    sample_weight : array-like of shape (n_samples,), default=None

    See Also
    --------
    agegender.metrics.age_mae : Mean absolute error of the age.

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
    """Return the accuracy of the gender.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples, 2) or (n_samples,), or frames with the column ``gender``
        Labels of the same type in both.
    sample_weight : array-like of shape (n_samples,), default=None

    See Also
    --------
    agegender.metrics.age_mae : Mean absolute error of the age.

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
            "number: use the same labels for both."
        )
    return float(np.average(truth == prediction, weights=weights))


SCORERS = {
    "neg_age_mae": make_scorer(age_mae, greater_is_better=False),
    "age_cs5": make_scorer(age_cumulative_score),
    "gender_accuracy": make_scorer(gender_accuracy),
}
"""Scorers by name, for ``scoring=`` in scikit-learn's searches and cross-validation; higher is better.

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
    """Return the ages or the genders of (n, 2) rows, of a frame, or of one column."""
    if name in getattr(values, "columns", ()):
        return np.asarray(values[name])
    array = np.asarray(values)
    if array.ndim == 1:
        return array
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"Got shape {array.shape}; expected (n_samples, 2), age and gender, or only the column {name!r}."
        )
    return array[:, 0 if name == "age" else 1]


def predicted_rows(
    name: str, truth: NDArray[Any], prediction: NDArray[Any], sample_weight: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
    """Return true values, predictions and weights without the rows that were not predicted, with a warning."""
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
            f"{np.count_nonzero(~present)} of {len(present)} rows have no predicted {name} and are ignored.",
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
