"""Held-out rows for early stopping or testing, and weights that balance the other rows by age."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balance_weights", "is_sorted_by_age", "lacks_ages", "split"]

LARGEST_WEIGHT = 5.0
# The ages, in row order, are divided into this many blocks. The fraction of their variance that the blocks
# explain distinguishes sorted rows from random ones.
BLOCKS = 10
SORTED_SHARE, BY_CHANCE = 0.5, 1e-9
# The minimum number of rows that missing ages would have if they were as frequent as the neighbouring ages.
MISSING_ROWS = 20
KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)


def split(
    ages: NDArray[np.floating],
    genders: NDArray[np.integer],
    groups: NDArray[np.integer],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into a training and a held-out part, stratified by age and gender; groups are not split.

    Groups are sorted by size, gender and age, and groups are taken at a fixed interval (a systematic sample).
    This stratifies as finely as the number of groups allows, and needs no bins.

    Parameters
    ----------
    ages, genders, groups : ndarray of shape (n_samples,)
        Groups are numbered from zero without gaps.
    fraction : float
        The fraction of rows to hold out, accurate to one group; 0 for none.
    rng : numpy.random.Generator

    Returns
    -------
    training, held_out : ndarray of int64
        Indices in ascending order. If all rows are in one group, nothing is held out. Otherwise neither part
        is empty.
    """
    sizes = np.bincount(groups)
    if fraction == 0 or len(sizes) < 2:
        return np.arange(len(ages)), np.arange(0)
    goal = fraction * len(ages)
    # A group larger than the held-out part would be the whole held-out part.
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


def is_sorted_by_age(ages: NDArray[np.floating]) -> bool:
    """Tell whether rows are sorted by age so strongly that they cannot be in random order.

    If so, each tenth of the rows has different ages: ascending, descending, or in the order of names (1, 10,
    100, 11, 12, …). In random order, the probability that half of the variance is between tenths is less than
    10⁻⁹.

    Examples
    --------
    >>> ages = np.repeat(np.arange(1, 90), 5)
    >>> by_name = np.array(sorted(map(str, ages)), dtype=float)
    >>> is_sorted_by_age(by_name), is_sorted_by_age(np.random.default_rng(0).permutation(ages))
    (True, False)
    """
    from scipy.stats import f

    n, total = len(ages), float(np.var(ages)) if len(ages) else 0.0
    if n < 4 * BLOCKS or total == 0:
        return False
    parts = np.array_split(np.asarray(ages, np.float64), BLOCKS)
    between = sum(len(part) * (part.mean() - np.mean(ages)) ** 2 for part in parts) / (n * total)
    ratio = between / (BLOCKS - 1) * (n - BLOCKS) / max(1 - between, 1e-12)
    return bool(between > SORTED_SHARE and f.sf(ratio, BLOCKS - 1, n - BLOCKS) < BY_CHANCE)


def lacks_ages(ages: NDArray[np.floating]) -> bool:
    """Tell whether one range of ages is missing between others, as if a fold of sorted rows was removed.

    Examples
    --------
    >>> ages = np.repeat(np.arange(1, 90), 10)
    >>> lacks_ages(ages), lacks_ages(np.delete(ages, slice(300, 400))), lacks_ages(10 * (ages // 10))
    (False, True, False)
    """
    years = np.floor(np.asarray(ages, np.float64) + 0.5).astype(np.int64)
    counts = np.bincount(years)
    there = np.flatnonzero(counts)
    gaps = np.flatnonzero(np.diff(there) > 1)
    width = there[gaps + 1] - there[gaps] - 1
    beside = np.minimum(counts[there[gaps]], counts[there[gaps + 1]])
    # Ages rounded to fives or tens have gaps everywhere.
    return int(np.count_nonzero(width * beside >= MISSING_ROWS)) == 1


def balance_weights(
    ages: NDArray[np.floating], balance: str | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return weights that balance the ages; rows with weight 0 are dropped.

    ``"age"`` weights rows by the inverse frequency of their age; frequencies below a fifth of the average
    count as a fifth. ``"age-drop"`` drops rows at random from ages that have more rows than the average of
    the ages that occur.
    """
    if balance is None:
        return np.ones(len(ages))
    return BALANCES[balance](np.floor(ages + 0.5).astype(np.int64), rng)


def _weigh(years: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    counts = np.bincount(years, minlength=len(KERNEL)).astype(np.float64)
    # Counts are smoothed over neighbouring ages, so that a single picture at 93 does not count as much as a
    # hundred.
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
