"""How likely a label is to be wrong, from distributions of models that did not see it.

A label is taken to be of this picture with the probability 1 − e, and of any other picture of the set with the
probability e. Given what a model that did not see the picture says of its age, p(a), Bayes' rule tells how likely a
label a is to be another picture's: e·q(a) / ((1 − e)·p(a) + e·q(a)), where q is how often ages occur in the set. How
wide p must be made, and e, are those under which the labels are likeliest, over all pictures: a model that is too
sure of itself does not make labels suspicious. A flipped gender is judged likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

__all__ = ["AgeDoubt", "GenderDoubt", "doubt_ages", "doubt_genders", "with_witnesses"]

TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
WIDTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
BELLS = (None, 4.0, 6.0, 8.0, 10.0, 12.0)
"""Standard deviations, in years, of a bell around the mean age that is half of the distribution; None is no bell.

Where few pictures were trained on, a model's mean tells more than the shape of its distribution."""

ROUNDS = 20
MOST_RATE = 0.4
PRIOR_RATE, PRIOR_WEIGHT = 0.01, 100
"""What the share of wrong labels is held to be beforehand, and how many pictures that counts as."""

FLOOR = 1e-6
OCCURRENCE_WIDTH = 2.0
WITNESS_WIDTH = 6.0
"""Years by which labels of the same photograph differ though none is wrong (a standard deviation)."""


@dataclass(frozen=True)
class AgeShape:
    """What is made of models' distributions over ages, so that labels are as likely as they say.

    Attributes
    ----------
    temperature : float
        They are raised to the power of 1 over it.
    width : float
        The standard deviation of the bell that they are smoothed with, years.
    bell : float or None
        The standard deviation of the bell around their mean that makes up half of them, years.
    """

    temperature: float
    width: float
    bell: float | None

    def __call__(self, proba: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distributions in this shape."""
        shaped = _widened(_tempered(proba, self.temperature), self.width)
        return shaped if self.bell is None else (shaped + _bells(proba, self.bell)) / 2


@dataclass(frozen=True, eq=False)
class AgeDoubt:
    """Age labels in doubt.

    Attributes
    ----------
    proba : ndarray of shape (n_pictures, n_ages)
        What models say of the age, as wide as the labels show that it must be.
    label_proba : ndarray of shape (n_pictures,)
        Of it, the probability of the label's year.
    suspicion : ndarray of shape (n_pictures,)
        The probability that the label is another picture's.
    log_odds : ndarray of shape (n_pictures,)
        Its log-odds, which tell more than 0.99999 does.
    rate : float
        The share of labels that are wrong, as estimated.
    shape : AgeShape
        What was made of the models' distributions.
    """

    proba: NDArray[np.float64]
    label_proba: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    rate: float
    shape: AgeShape


@dataclass(frozen=True, eq=False)
class GenderDoubt:
    """Gender labels in doubt.

    Attributes
    ----------
    proba : ndarray of shape (n_pictures,)
        What models say of the second gender, as sure as the labels show that they may be.
    suspicion, log_odds, rate, temperature
        As in `AgeDoubt`: the probability that the label is flipped, and so on.
    """

    proba: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    rate: float
    temperature: float


def doubt_ages(
    age_proba: NDArray[np.float64], ages: NDArray[np.float64], copies: Iterable[NDArray[np.intp]] = ()
) -> AgeDoubt:
    """Tell how likely each age label is to be wrong.

    Parameters
    ----------
    age_proba : ndarray of shape (n_pictures, n_ages)
        Out-of-fold distributions over the ages 0, 1, ….
    ages : ndarray of shape (n_pictures,)
        Labels in years.
    copies : iterable of ndarray of int
        Pictures that show the same photograph, whose labels speak about one another.

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
    rate, shape = _fit_ages(age_proba, year, occurrence)
    proba = with_witnesses(shape(age_proba), year, rate, occurrence, copies)
    of_label = proba[np.arange(len(year)), year]
    log_odds = np.log(rate * occurrence[year]) - np.log((1 - rate) * of_label + 1e-300)
    return AgeDoubt(proba, of_label, expit(log_odds), log_odds, rate, shape)


def _occurrence(year: NDArray[np.intp], n_ages: int) -> NDArray[np.float64]:
    """Return how often each age occurs, smoothed, never zero."""
    counts = np.bincount(year, minlength=n_ages) + 1.0
    return _widened((counts / counts.sum())[np.newaxis], OCCURRENCE_WIDTH)[0]


def _tempered(proba: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powered = (proba + FLOOR) ** (1 / temperature)
    return powered / powered.sum(axis=1, keepdims=True)


def _widened(proba: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    return proba @ _kernel(proba.shape[1], width).T


def _kernel(n_ages: int, width: float) -> NDArray[np.float64]:
    """Return the bell that each age is spread to, a column an age."""
    years = np.arange(n_ages)
    bells = norm.pdf(years[:, np.newaxis] - years, 0, width)
    return np.asarray(bells / bells.sum(axis=0))


def _bells(proba: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return a bell around the mean of each distribution."""
    years = np.arange(proba.shape[1])
    bells = norm.pdf(years, (proba @ years)[:, np.newaxis], width) + 1e-12
    return np.asarray(bells / bells.sum(axis=1, keepdims=True))


def _fit_ages(
    proba: NDArray[np.float64], year: NDArray[np.intp], occurrence: NDArray[np.float64]
) -> tuple[float, AgeShape]:
    """Return the rate and shape under which the labels are likeliest."""
    best, found = -np.inf, (PRIOR_RATE, AgeShape(1.0, 2.0, None))
    rows, wrong = np.arange(len(year)), occurrence[year]
    kernels = {width: _kernel(proba.shape[1], width)[year] for width in WIDTHS}
    bells = {bell: _bells(proba, bell)[rows, year] for bell in BELLS if bell is not None}
    for temperature in TEMPERATURES:
        tempered = _tempered(proba, temperature)
        for width, kernel in kernels.items():
            # What smoothing makes of each distribution at its label's year alone.
            smooth = np.einsum("ij,ij->i", tempered, kernel)
            for bell in BELLS:
                right = smooth if bell is None else (smooth + bells[bell]) / 2
                rate, likelihood = _rate(right, wrong)
                if likelihood > best:
                    best, found = likelihood, (rate, AgeShape(temperature, width, bell))
    return found


def _rate(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of wrong labels under which labels are likeliest, and how likely they are then."""
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
    """Return distributions that take into account how copies of a picture are labelled.

    Each other copy's label is, given the true age, that age within some six years or, with the probability `rate`,
    any age at all; Bayes' rule joins it to what models say.

    Parameters
    ----------
    proba : ndarray of shape (n_pictures, n_ages)
    year : ndarray of shape (n_pictures,), int
        The labels' years.
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
    gender_proba: NDArray[np.float64], genders: NDArray[np.intp], copies: Iterable[NDArray[np.intp]] = ()
) -> GenderDoubt:
    """Tell how likely each gender label is to be flipped.

    Parameters
    ----------
    gender_proba : ndarray of shape (n_pictures,)
        Out-of-fold probabilities of the second gender.
    genders : ndarray of shape (n_pictures,), int
        Labels, 0 or 1.
    copies : iterable of ndarray of int
        Pictures that show the same photograph.

    Returns
    -------
    GenderDoubt

    Examples
    --------
    >>> found = doubt_genders(np.repeat([0.02, 0.98], 50), np.repeat([0, 1, 0], [50, 49, 1]))
    >>> found.suspicion.argmax(), bool(found.suspicion[99] > 0.5)
    (np.int64(99), True)
    """
    odds = logit(np.clip(gender_proba, FLOOR, 1 - FLOOR))
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
    return GenderDoubt(expit(joined), expit(log_odds), log_odds, rate, temperature)
