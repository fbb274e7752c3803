"""The part of rows that is held out, to stop by or to test on, and the weights that balance the rest by age."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balance_weights", "split"]

LARGEST_WEIGHT = 5.0
KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)


def split(
    ages: NDArray[np.floating],
    genders: NDArray[np.integer],
    groups: NDArray[np.integer],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows into a part to train on and one held out, whole groups on one side, alike in age and gender.

    Groups are lined up by size, gender and age, and every so-many-th is taken: a systematic sample, which stratifies
    as finely as there are groups and needs no bins.

    Parameters
    ----------
    ages, genders, groups : ndarray of shape (n_samples,)
        Groups are numbered from zero without gaps.
    fraction : float
        The fraction of rows to hold out; zero for none. It is met to within one group.
    rng : numpy.random.Generator

    Returns
    -------
    training, held_out : ndarray of int64
        Row numbers in ascending order. Nothing is held out where everything is one group; otherwise neither is empty.
    """
    sizes = np.bincount(groups)
    if fraction == 0 or len(sizes) < 2:
        return np.arange(len(ages)), np.arange(0)
    goal = fraction * len(ages)
    # A group larger than the whole part held out would take its place.
    eligible = np.flatnonzero(sizes <= max(goal, sizes.min()))
    share = min(goal / sizes[eligible].sum(), max(fraction, 0.5))
    mean_age = np.bincount(groups, weights=ages) / sizes
    gender = np.bincount(groups, weights=genders) / sizes
    keys = (
        rng.random(len(eligible)),
        np.round(mean_age[eligible]),
        np.round(gender[eligible]),
        sizes[eligible],
    )
    lined_up = eligible[np.lexsort(keys)]
    reached = np.floor(np.arange(1, len(lined_up) + 1) * share + rng.random())
    chosen = lined_up[np.diff(reached, prepend=0.0) > 0]
    if not len(chosen):
        chosen = rng.permutation(eligible)[:1]
    elif len(chosen) == len(sizes):
        chosen = rng.permutation(chosen)[1:]
    held_out = np.isin(groups, chosen)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def balance_weights(
    ages: NDArray[np.floating], balance: str | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a weight for each row that evens out the ages; zero drops the row.

    ``"age"`` weighs rows by the inverse of how frequent their age is, an age rarer than a fifth of the average
    counted as a fifth; ``"age-drop"`` drops rows at random from ages fuller than the average of the ages that occur.
    """
    if balance is None:
        return np.ones(len(ages))
    return BALANCES[balance](np.floor(ages + 0.5).astype(np.int64), rng)


def _weigh(years: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    counts = np.bincount(years, minlength=len(KERNEL)).astype(np.float64)
    # Neighbouring ages lend each other rows: a single picture at 93 is not worth a hundred.
    nearby = np.convolve(counts, KERNEL, mode="same")
    floor = nearby[counts > 0].mean() / LARGEST_WEIGHT
    weights = 1.0 / np.maximum(nearby, floor)[years]
    return weights / weights.mean()


def _drop(years: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    counts = np.bincount(years)
    limit = int(np.ceil(len(years) / np.count_nonzero(counts)))
    shuffled = rng.permutation(len(years))
    by_age = shuffled[np.argsort(years[shuffled], kind="stable")]
    rank = np.arange(len(years)) - np.repeat(np.cumsum(counts) - counts, counts)
    weights = np.zeros(len(years))
    weights[by_age[rank < limit]] = 1.0
    return weights


BALANCES = {"age": _weigh, "age-drop": _drop}
