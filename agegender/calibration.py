"""Calibration: age intervals with a promised coverage, and calibrated gender probabilities.

The raw probabilities of a network are overconfident or underconfident. This is measured on a calibration set
that is used neither for training nor for early stopping. The intervals of the age come from distributional
conformal prediction [1]_, which promises their coverage for pictures like those of the calibration set,
whatever the network. The probabilities of the gender are calibrated by temperature scaling [2]_.

References
----------
.. [1] V. Chernozhukov, K. Wüthrich, Y. Zhu, Distributional conformal prediction, PNAS 118(48), 2021.
.. [2] C. Guo et al., On calibration of modern neural networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agegender._utils.distributions import age_quantile, expected_age
from agegender.exceptions import ModelFileError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEVELS",
    "UNCALIBRATED",
    "Calibration",
    "age_interval",
    "age_position",
    "calibrate",
    "calibrate_on_views",
    "calibration_of",
    "check_coverage",
    "fit_temperature",
    "likelier_labels",
    "prediction_columns",
    "prediction_frame",
    "scale_genders",
]

LEVELS = np.linspace(0.01, 0.99, 99)
"""The coverages that a calibration contains, 0.01, 0.02 … 0.99; others are interpolated."""

HOTTEST = 10.0
PRIOR_SPREAD = 0.5
MOST_ODDS = 700.0  # the exponential of larger ones is infinite


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration, as plain numbers.

    Attributes
    ----------
    n_pictures : int
        Size of the calibration set; 0 if there is no calibration.
    half_widths : tuple of float
        For the coverages 0.01, 0.02 … 0.99: the interval reaches from the quantile ½ − w to the quantile ½ + w
        of the predicted distribution. A calibrated model has half of each coverage; ½ is the whole range.
    temperature : float
        The log-odds of the gender are divided by it; above 1 if the model is overconfident.

    See Also
    --------
    agegender.calibration.calibrate : Calibrate a model on held-out predictions.
    agegender.calibration.calibration_of : The calibration of a fitted estimator.
    """

    n_pictures: int
    half_widths: tuple[float, ...]
    temperature: float

    def _check_safe(self) -> None:
        """Look at what a safe file held."""
        if not isinstance(self.half_widths, tuple) or len(self.half_widths) != len(LEVELS):
            raise ModelFileError("its calibration is none")
        if not np.isfinite([*self.half_widths, self.temperature]).all() or self.temperature <= 0:
            raise ModelFileError("its calibration holds values that are no numbers")


UNCALIBRATED = Calibration(0, tuple((LEVELS / 2).tolist()), 1.0)
"""No calibration: raw probabilities are used."""


def calibrate(
    age_proba: ArrayLike, gender_proba: ArrayLike, ages: ArrayLike, genders: ArrayLike
) -> Calibration:
    """Calibrate a model on pictures that were not used for training.

    Parameters
    ----------
    age_proba : array-like of shape (n_samples, n_ages)
        Predicted distributions over the ages 0, 1, 2 and so on.
    gender_proba : array-like of shape (n_samples, 2)
        Predicted probabilities of the two genders.
    ages : array-like of shape (n_samples,)
        True ages in years.
    genders : array-like of shape (n_samples,)
        True genders as column numbers, 0 or 1.

    Returns
    -------
    Calibration

    See Also
    --------
    agegender.calibration.Calibration : The result of a calibration.
    agegender.calibration.fit_temperature : The temperature of gender probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> certain = np.tile([0.05, 0.05, 0.8, 0.05, 0.05], (99, 1))  # of two years, while the truth is anything
    >>> found = calibrate(certain, np.tile([0.9, 0.1], (99, 1)), np.arange(99) % 5, np.arange(99) % 2)
    >>> low, high = age_interval(certain[:1], 0.8, found)
    >>> round(float(low[0]), 3), round(float(high[0]), 3)
    (0.0, 4.0)
    >>> found.temperature > 2
    True
    """
    scores = np.sort(np.abs(age_position(age_proba, ages) - 0.5))
    # The smallest score that covers at least that share, with the new picture counted too.
    ranks = np.ceil(np.round((len(scores) + 1) * LEVELS, 9)).astype(np.int64)
    half_widths = np.append(scores, 0.5)[np.minimum(ranks - 1, len(scores))]
    return Calibration(len(scores), tuple(half_widths.tolist()), fit_temperature(gender_proba, genders))


def calibrate_on_views(
    outputs: Sequence[tuple[ArrayLike, ArrayLike]], ages: ArrayLike, genders: ArrayLike
) -> Calibration:
    """Calibrate a model on several views of the same pictures, so that its intervals hold for each of the views.

    Parameters
    ----------
    outputs : sequence of tuple of two array-likes
        The predicted probabilities of ages and genders per view, as in `calibrate`.
    ages, genders : array-like of shape (n_samples,)
        As in `calibrate`.

    Returns
    -------
    Calibration
        Half the widths are those of the view that needs the widest intervals, level by level. The temperature is
        that of all views together.

    See Also
    --------
    agegender.calibration.calibrate : Calibrate a model on held-out predictions.
    agegender.views.DEGRADED : Views of pictures unlike those of the training.

    Examples
    --------
    >>> sharp, vague = np.eye(40)[np.arange(40)], np.full((40, 40), 1 / 40)
    >>> even = np.full((40, 2), 0.5)
    >>> found = calibrate_on_views([(sharp, even), (vague, even)], np.arange(40), np.arange(40) % 2)
    >>> found.half_widths == calibrate(vague, even, np.arange(40), np.arange(40) % 2).half_widths
    True
    """
    each = [calibrate(*output, ages, genders) for output in outputs]
    together = np.concatenate([np.asarray(proba) for _, proba in outputs])
    temperature = fit_temperature(together, np.tile(np.asarray(genders), len(each)))
    half_widths = np.max([one.half_widths for one in each], axis=0)
    return Calibration(each[0].n_pictures, tuple(half_widths.tolist()), temperature)


def calibration_of(estimator: Any) -> Calibration:
    """Return the calibration of a fitted estimator, pipeline or search.

    See Also
    --------
    agegender.calibration.Calibration : The result of a calibration.
    """
    for attribute in ("best_estimator_", "classifier_"):
        estimator = getattr(estimator, attribute, estimator)
    if hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    found: Calibration = getattr(estimator, "calibration_", UNCALIBRATED)
    return found


def age_interval(
    proba: ArrayLike, coverage: float = 0.9, calibration: Calibration = UNCALIBRATED
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval that contains the true age with the probability `coverage`.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)
        Predicted distributions over the ages 0, 1, 2 and so on.
    coverage : float, default=0.9
        The share of pictures whose true age should be inside the interval, from 0.01 to 0.99.
    calibration : Calibration, default=UNCALIBRATED
        By default the raw distributions are used.

    Returns
    -------
    low, high : ndarray of shape (n_samples,)
        Ages in years; NaN for a row of NaN.

    See Also
    --------
    agegender.calibration.age_position : Positions of true ages in their distributions.
    agegender.metrics.age_quantile : Quantiles of age distributions.

    Examples
    --------
    >>> low, high = age_interval([[0.1, 0.2, 0.4, 0.2, 0.1]], 0.8)
    >>> float(low[0]), float(high[0])
    (0.5, 3.5)
    """
    check_coverage(coverage)
    proba = np.asarray(proba, dtype=np.float64)
    half_width = float(np.interp(coverage, LEVELS, calibration.half_widths))
    if half_width < 0.5:
        return age_quantile(proba, 0.5 - half_width), age_quantile(proba, 0.5 + half_width)
    # Because of rounding, the probabilities may sum to less than the quantile.
    missing = np.where(np.isnan(proba).any(axis=1), np.nan, 0.0)
    return missing, missing + proba.shape[1] - 1


def check_coverage(coverage: float) -> None:
    """Raise a ValueError if the coverage is out of range.

    See Also
    --------
    agegender.calibration.age_interval : Intervals of the age.
    """
    if not LEVELS[0] <= coverage <= LEVELS[-1]:
        raise ValueError(f"coverage={coverage!r} should be a fraction from 0.01 to 0.99, such as 0.9.")


def age_position(proba: ArrayLike, ages: ArrayLike) -> NDArray[np.float64]:
    """Return the position of each true age in its predicted distribution: the probability of being younger.

    The inverse of `age_quantile`, with the mass of age k spread evenly over k ± ½ years. For a calibrated model
    these positions are uniformly distributed from 0 to 1 (the probability integral transform).

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_ages)
    ages : array-like of shape (n_samples,)
        True ages in years.

    Returns
    -------
    ndarray of shape (n_samples,)

    See Also
    --------
    agegender.calibration.age_interval : Intervals of the age.

    Examples
    --------
    >>> age_position([[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]], [1, 0])
    array([0.5  , 0.125])
    """
    proba, ages = np.asarray(proba, dtype=np.float64), np.asarray(ages, dtype=np.float64)
    year = np.clip(np.floor(ages + 0.5), 0, proba.shape[1] - 1).astype(np.int64)
    rows = np.arange(len(ages))
    reached = np.cumsum(proba, axis=1)
    mass = proba[rows, year]
    inside = np.clip(ages + 0.5 - year, 0, 1)
    return np.clip((reached[rows, year] - mass * (1 - inside)) / reached[:, -1], 0, 1)


def fit_temperature(proba: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature that maximises the likelihood of the true labels.

    Parameters
    ----------
    proba : array-like of shape (n_samples, 2)
    labels : array-like of shape (n_samples,)
        True column numbers, 0 or 1.

    Returns
    -------
    float
        From 0.1 to 10.

    See Also
    --------
    agegender.calibration.scale_genders : Apply a temperature to gender probabilities.

    Notes
    -----
    The logarithm has a prior of 0 ± ½, so that a small set without an error does not give infinite confidence.

    Examples
    --------
    >>> round(fit_temperature([[0.9, 0.1]] * 100, [1] * 30 + [0] * 70), 1)
    2.2
    """
    from scipy.optimize import minimize_scalar

    odds = _log_odds(np.asarray(proba, dtype=np.float64))
    against = np.where(np.asarray(labels) == 1, -odds, odds)

    def surprise(log_temperature: float) -> float:
        likelihood = np.logaddexp(0, against / np.exp(log_temperature)).sum()
        return float(likelihood + 0.5 * (log_temperature / PRIOR_SPREAD) ** 2)

    limit = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(surprise, bounds=(-limit, limit), method="bounded").x))


def scale_genders(proba: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return gender probabilities whose log-odds are divided by the temperature.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, 2), float32
    temperature : float

    Returns
    -------
    ndarray of shape (n_samples, 2), float32

    See Also
    --------
    agegender.calibration.fit_temperature : The temperature of gender probabilities.

    Examples
    --------
    >>> scale_genders(np.array([[0.9, 0.1]], dtype=np.float32), 2.0).round(2)
    array([[0.75, 0.25]], dtype=float32)
    """
    if temperature == 1:
        return proba
    odds = np.clip(_log_odds(proba.astype(np.float64)) / temperature, -MOST_ODDS, MOST_ODDS)
    second = 1 / (1 + np.exp(-odds))
    return np.column_stack([1 / (1 + np.exp(odds)), second]).astype(np.float32)


def _log_odds(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    least = np.log(np.maximum(proba, 1e-30))
    return least[:, 1] - least[:, 0]


def prediction_frame(
    ages: NDArray[np.floating],
    genders: NDArray[np.floating],
    labels: NDArray[Any],
    *,
    calibration: Calibration = UNCALIBRATED,
    coverage: float = 0.9,
    max_age_range: float | None = None,
    min_gender_proba: float | None = None,
) -> pd.DataFrame:
    """Return one row per picture: age, age_low, age_high (years), gender, gender_proba.

    Parameters
    ----------
    ages : ndarray of shape (n_samples, n_ages)
    genders : ndarray of shape (n_samples, 2)
    labels : ndarray of shape (2,)
        The labels of the columns of `genders`.
    calibration : Calibration
        For the intervals; the gender probabilities must be calibrated already.
    coverage, max_age_range, min_gender_proba
        As in `AgeGenderClassifier.predict_frame`.

    See Also
    --------
    agegender.calibration.age_interval : Intervals of the age.
    agegender.calibration.likelier_labels : The more probable labels.
    agegender.calibration.prediction_columns : The same without pandas.
    """
    import pandas as pd

    return pd.DataFrame(
        prediction_columns(
            ages,
            genders,
            labels,
            calibration=calibration,
            coverage=coverage,
            max_age_range=max_age_range,
            min_gender_proba=min_gender_proba,
        )
    )


def prediction_columns(
    ages: NDArray[np.floating],
    genders: NDArray[np.floating],
    labels: NDArray[Any],
    *,
    calibration: Calibration = UNCALIBRATED,
    coverage: float = 0.9,
    max_age_range: float | None = None,
    min_gender_proba: float | None = None,
) -> dict[str, NDArray[Any]]:
    """Return the columns of :func:`prediction_frame` as arrays, without pandas.

    Parameters
    ----------
    ages, genders, labels, calibration, coverage, max_age_range, min_gender_proba
        As in :func:`prediction_frame`.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)

    See Also
    --------
    agegender.calibration.prediction_frame : Predictions as a table.

    Examples
    --------
    >>> import numpy as np
    >>> columns = prediction_columns(np.full((1, 3), 1 / 3), np.array([[0.2, 0.8]]), np.array([0, 1]))
    >>> {name: column[0].item() for name, column in columns.items() if name in ("age", "gender")}
    {'age': 1.0, 'gender': 1}
    """
    low, high = age_interval(ages, coverage, calibration)
    proba = genders.max(axis=1).astype(np.float64)
    columns = {
        "age": expected_age(ages),
        "age_low": low,
        "age_high": high,
        "gender": likelier_labels(genders, labels),
        "gender_proba": proba,
    }
    if max_age_range is not None:
        _doubt(columns, "age", high - low <= max_age_range)
    if min_gender_proba is not None:
        _doubt(columns, "gender", proba >= min_gender_proba)
    return columns


def likelier_labels(genders: NDArray[np.floating], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the more probable label of each row, NaN for a row of NaN.

    See Also
    --------
    agegender.calibration.prediction_frame : Predictions as a table.
    """
    return _without(labels[genders.argmax(axis=1)], np.isnan(genders[:, 0]))


def _doubt(columns: dict[str, NDArray[Any]], name: str, sure: NDArray[np.bool_]) -> None:
    """Abstain if the model is not sure."""
    columns[name] = _without(columns[name], ~sure)
    columns[f"{name}_sure"] = sure


def _without(values: NDArray[Any], left_out: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values with NaN at some places; whole numbers become floats, text becomes objects."""
    if not left_out.any():
        return values
    values = values.astype(object if values.dtype.kind in "OUS" else np.float64)
    values[left_out] = np.nan
    return values
