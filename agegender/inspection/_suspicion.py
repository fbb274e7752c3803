"""Probabilities that labels are wrong, from out-of-fold distributions.

A label is assumed to belong to its picture with the probability 1 − e, and to any other picture of the set
with the probability e. Let p(a) be the age distribution that a model predicts for a picture that it was not
trained on, and q(a) the distribution of ages in the set. By Bayes' rule, a label a belongs to another picture
with the probability e·q(a) / ((1 − e)·p(a) + e·q(a)). The width of p and e are chosen by maximum likelihood
of the labels of all pictures. Therefore an overconfident model does not make labels suspicious. Flipped
genders are treated in the same way. If a trained model has read the pictures too, its weight beside the models of
the folds is chosen by the labels as well: a model that says nothing more has no weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

__all__ = ["AgeDoubt", "GenderDoubt", "doubt_ages", "doubt_genders", "log_odds_of", "with_witnesses"]

TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
WIDTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
BELLS = (None, 4.0, 6.0, 8.0, 10.0, 12.0)
"""Standard deviations (years) of a normal distribution around the mean, mixed in with weight ½; None: none.

If there are few training pictures, a model's mean is more informative than the shape of its distribution."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a trained model's distribution in the mean of it and the distribution of the folds' models."""

ROUNDS = 20
MOST_RATE = 0.4
PRIOR_RATE, PRIOR_WEIGHT = 0.01, 100
"""Prior share of wrong labels, and the number of pictures that the prior counts as."""

FLOOR = 1e-6
OCCURRENCE_WIDTH = 2.0
WITNESS_WIDTH = 6.0
"""Standard deviation, in years, of the labels of one photograph if none of them is wrong."""


@dataclass(frozen=True)
class AgeShape:
    """How the age distributions of models are changed, so that they are calibrated on the labels.

    Attributes
    ----------
    temperature : float
        Distributions are raised to the power of 1 / temperature.
    width : float
        The standard deviation of the normal distribution that they are smoothed with, in years.
    bell : float or None
        The standard deviation of the normal distribution around their mean that makes up half of them, in
        years.
    """

    temperature: float
    width: float
    bell: float | None

    def __call__(self, proba: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the changed distributions."""
        shaped = _widened(_tempered(proba, self.temperature), self.width)
        return shaped if self.bell is None else (shaped + _bells(proba, self.bell)) / 2


@dataclass(frozen=True, eq=False)
class AgeDoubt:
    """Suspicions about age labels.

    Attributes
    ----------
    proba : ndarray of shape (n_pictures, n_ages)
        Out-of-fold age distributions, after calibration on the labels.
    label_proba : ndarray of shape (n_pictures,)
        The probability of the label's year in them.
    suspicion : ndarray of shape (n_pictures,)
        The probability that the label belongs to another picture.
    log_odds : ndarray of shape (n_pictures,)
        Its log-odds, which are more precise near 1.
    rate : float
        The estimated share of wrong labels.
    shape : AgeShape
        The changes of the models' distributions.
    share : float
        The share of the trained model's distribution.
    """

    proba: NDArray[np.float64]
    label_proba: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    rate: float
    shape: AgeShape
    share: float = 0.0


@dataclass(frozen=True, eq=False)
class GenderDoubt:
    """Suspicions about gender labels.

    Attributes
    ----------
    proba : ndarray of shape (n_pictures,)
        Out-of-fold probabilities of the second gender, after calibration on the labels.
    suspicion, log_odds, rate, temperature
        As in `AgeDoubt`; the suspicion is the probability that the label is flipped.
    share : float
        The share of the trained model's log-odds in the weights of both.
    """

    proba: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    rate: float
    temperature: float
    share: float = 0.0


def doubt_ages(
    age_proba: NDArray[np.float64],
    ages: NDArray[np.float64],
    copies: Iterable[NDArray[np.intp]] = (),
    trained: NDArray[np.float64] | None = None,
) -> AgeDoubt:
    """Estimate the probability that each age label is wrong.

    Parameters
    ----------
    age_proba : ndarray of shape (n_pictures, n_ages)
        Out-of-fold distributions over the ages 0, 1, ….
    ages : ndarray of shape (n_pictures,)
        Labels in years.
    copies : iterable of ndarray of int
        Pictures that show the same photograph; their labels are used as evidence about one another.
    trained : ndarray of shape (n_pictures, n_ages), default=None
        The distributions of a trained model that has not seen the pictures; NaN if it could not read one.

    Returns
    -------
    AgeDoubt

    Examples
    --------
    >>> proba = np.tile(np.eye(101)[30], (200, 1))
    >>> ages = np.repeat([30.0, 31.0, 30.0, 70.0], [98, 50, 51, 1])
    >>> doubt_ages(proba, ages).suspicion.argmax()
    np.int64(199)
    """
    year = np.clip(np.floor(ages + 0.5), 0, age_proba.shape[1] - 1).astype(np.intp)
    occurrence = _occurrence(year, age_proba.shape[1])
    shares = (0.0,) if trained is None else SHARES
    fits = {share: _fit_ages(_joined(age_proba, trained, share), year, occurrence) for share in shares}
    share = max(fits, key=lambda share: fits[share].likelihood)
    rate, shape = fits[share].rate, fits[share].shape
    proba = with_witnesses(shape(_joined(age_proba, trained, share)), year, rate, occurrence, copies)
    of_label = proba[np.arange(len(year)), year]
    log_odds = np.log(rate * occurrence[year]) - np.log((1 - rate) * of_label + 1e-300)
    return AgeDoubt(proba, of_label, expit(log_odds), log_odds, rate, shape, share)


def _joined(
    own: NDArray[np.float64], trained: NDArray[np.float64] | None, share: float
) -> NDArray[np.float64]:
    """Return the weighted mean of both distributions; the own one where the trained model has none."""
    if trained is None or not share:
        return own
    other = np.where(np.isfinite(trained), trained, own)
    return (1 - share) * own + share * other


def _occurrence(year: NDArray[np.intp], n_ages: int) -> NDArray[np.float64]:
    """Return the smoothed frequency of each age, which is never zero."""
    counts = np.bincount(year, minlength=n_ages) + 1.0
    return _widened((counts / counts.sum())[np.newaxis], OCCURRENCE_WIDTH)[0]


def _tempered(proba: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powered = (proba + FLOOR) ** (1 / temperature)
    return powered / powered.sum(axis=1, keepdims=True)


def _widened(proba: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    return proba @ _kernel(proba.shape[1], width).T


def _kernel(n_ages: int, width: float) -> NDArray[np.float64]:
    """Return the normal distribution that each age is smoothed to, one column per age."""
    years = np.arange(n_ages)
    bells = norm.pdf(years[:, np.newaxis] - years, 0, width)
    return np.asarray(bells / bells.sum(axis=0))


def _bells(proba: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return a normal distribution around the mean of each distribution."""
    years = np.arange(proba.shape[1])
    bells = norm.pdf(years, (proba @ years)[:, np.newaxis], width) + 1e-12
    return np.asarray(bells / bells.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class _Fit:
    """The rate and the shape with the highest likelihood of the labels, and this likelihood."""

    likelihood: float
    rate: float
    shape: AgeShape


def _fit_ages(proba: NDArray[np.float64], year: NDArray[np.intp], occurrence: NDArray[np.float64]) -> _Fit:
    best = _Fit(-np.inf, PRIOR_RATE, AgeShape(1.0, 2.0, None))
    rows, wrong = np.arange(len(year)), occurrence[year]
    kernels = {width: _kernel(proba.shape[1], width)[year] for width in WIDTHS}
    bells = {bell: _bells(proba, bell)[rows, year] for bell in BELLS if bell is not None}
    for temperature in TEMPERATURES:
        tempered = _tempered(proba, temperature)
        for width, kernel in kernels.items():
            # Each smoothed distribution, only at the year of its label.
            smooth = np.einsum("ij,ij->i", tempered, kernel)
            for bell in BELLS:
                right = smooth if bell is None else (smooth + bells[bell]) / 2
                rate, likelihood = _rate(right, wrong)
                if likelihood > best.likelihood:
                    best = _Fit(likelihood, rate, AgeShape(temperature, width, bell))
    return best


def _rate(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of wrong labels with the highest likelihood of the labels, and this likelihood."""
    rate = 0.03
    for _ in range(ROUNDS):
        expected = (rate * wrong / ((1 - rate) * right + rate * wrong + 1e-300)).sum()
        share = (expected + PRIOR_RATE * PRIOR_WEIGHT) / (len(right) + PRIOR_WEIGHT)
        rate = min(float(share), MOST_RATE)
    likelihood = np.log((1 - rate) * right + rate * wrong + 1e-300).sum()
    before = PRIOR_WEIGHT * (PRIOR_RATE * np.log(rate) + (1 - PRIOR_RATE) * np.log1p(-rate))
    return rate, float(likelihood + before)


def with_witnesses(
    proba: NDArray[np.float64],
    year: NDArray[np.intp],
    rate: float,
    occurrence: NDArray[np.float64],
    copies: Iterable[NDArray[np.intp]],
) -> NDArray[np.float64]:
    """Return distributions that take the labels of a picture's copies into account.

    Given the true age, the label of each other copy is within about six years of it or, with the probability
    `rate`, any age. By Bayes' rule, this is combined with the models' distributions.

    Parameters
    ----------
    proba : ndarray of shape (n_pictures, n_ages)
    year : ndarray of shape (n_pictures,), int
        The years of the labels.
    rate : float
    occurrence : ndarray of shape (n_ages,)
    copies : iterable of ndarray of int
        Rows of pictures that show the same photograph.

    Returns
    -------
    ndarray of shape (n_pictures, n_ages)
    """
    joined = proba.copy()
    kernel = _kernel(proba.shape[1], WITNESS_WIDTH)
    for rows in copies:
        said = (1 - rate) * kernel[year[rows]] + rate * occurrence[year[rows], np.newaxis]
        for place, row in enumerate(rows.tolist()):
            product = proba[row] * np.prod(np.delete(said, place, axis=0), axis=0)
            joined[row] = product / product.sum()
    return joined


def doubt_genders(
    gender_proba: NDArray[np.float64],
    genders: NDArray[np.intp],
    copies: Iterable[NDArray[np.intp]] = (),
    trained: NDArray[np.float64] | None = None,
) -> GenderDoubt:
    """Estimate the probability that each gender label is flipped.

    Parameters
    ----------
    gender_proba : ndarray of shape (n_pictures,)
        Out-of-fold probabilities of the second gender.
    genders : ndarray of shape (n_pictures,), int
        Labels, 0 or 1.
    copies : iterable of ndarray of int
        Pictures that show the same photograph.
    trained : ndarray of shape (n_pictures,), default=None
        The probabilities of a trained model that has not seen the pictures; NaN if it could not read one.

    Returns
    -------
    GenderDoubt

    Examples
    --------
    >>> found = doubt_genders(np.repeat([0.02, 0.98], 50), np.repeat([0, 1, 0], [50, 49, 1]))
    >>> found.suspicion.argmax(), bool(found.suspicion[99] > 0.5)
    (np.int64(99), True)
    """
    odds, share = _joined_odds(log_odds_of(gender_proba), genders, trained)
    best = (-np.inf, PRIOR_RATE, 1.0)
    for temperature in TEMPERATURES:
        second = expit(odds / temperature)
        right = np.where(genders == 1, second, 1 - second)
        rate, likelihood = _rate(right, 1 - right)
        best = max(best, (likelihood, rate, temperature))
    _, rate, temperature = best
    odds = odds / temperature
    joined = odds.copy()
    told = np.where(genders == 1, 1.0, -1.0) * logit(1 - rate)
    for rows in copies:
        joined[rows] += told[rows].sum() - told[rows]
    towards_label = np.where(genders == 1, joined, -joined)
    log_odds = logit(rate) - towards_label
    return GenderDoubt(expit(joined), expit(log_odds), log_odds, rate, temperature, share)


def _joined_odds(
    own: NDArray[np.float64], genders: NDArray[np.intp], trained: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], float]:
    """Return the log-odds that a logistic regression on both readings gives, and the trained model's share."""
    from sklearn.linear_model import LogisticRegression

    there = np.isfinite(own if trained is None else trained)
    if trained is None or len(np.unique(genders[there])) < 2:
        return own, 0.0
    both = np.column_stack([own[there], log_odds_of(trained[there])])
    model = LogisticRegression().fit(both, genders[there])
    joined = own.copy()
    joined[there] = model.decision_function(both)
    weights = np.abs(model.coef_[0]) * both.std(axis=0)
    return joined, float(weights[1] / max(weights.sum(), 1e-12))


def log_odds_of(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-odds of probabilities, finite for 0 and 1."""
    return np.asarray(logit(np.clip(proba, FLOOR, 1 - FLOOR)))
