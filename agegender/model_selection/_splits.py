"""Splits in which every part has the same ages and genders, and no group stands on both sides."""

from __future__ import annotations

import heapq
import numbers
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from agegender._fitting.holdout import split
from agegender._utils.grouping import group_numbers
from agegender._utils.row_labels import check_row_order
from agegender._utils.target import check_target

BAND_YEARS = 5
# What one fold's share of all pictures counts beside its shares of the strata, when a large group is placed.
SIZE_WEIGHT = 4.0


class AgeGenderKFold(BaseCrossValidator):
    """K folds of nearly equal size, alike in age and gender, that keep groups whole.

    Pictures are stratified by five-year band of age and gender, shuffled, and dealt to the folds; all pictures
    of one group go to one fold, the largest groups first. A band too small to reach every fold is no error: its
    pictures go to the folds that have fewest.

    scikit-learn's own ``cv=5`` is for such targets an unshuffled ``KFold``, which on files sorted by name, as
    UTKFace's are by age, tests on ages that were never trained on.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=True
        Whether to draw at random which pictures of a band go where. Without, they are dealt in order.
    random_state : int, RandomState instance or None, default=0
        Decides the draw. The same number gives the same folds.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : The same aim for a single label of classes.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.model_selection import AgeGenderKFold
    >>> y = np.array([[20, 0], [21, 0], [20, 1], [22, 1], [60, 0], [61, 0], [60, 1], [63, 1]])
    >>> for train, test in AgeGenderKFold(2).split(y, y):
    ...     print(y[test].tolist())
    [[21, 0], [20, 1], [61, 0], [60, 1]]
    [[20, 0], [22, 1], [60, 0], [63, 1]]
    """

    # scikit-learn's metadata routing: cross_validate(…, params={"groups": groups}) reaches split.
    __metadata_request__split = {"groups": True}  # noqa: RUF012

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored; here because scikit-learn's splitters take them.

        Returns
        -------
        n_splits : int
            The number of folds.
        """
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the rows to train on and the rows to test on, fold by fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, …)
            Only its length is looked at.
        y : array-like of shape (n_samples, 2) or (n_samples,), or DataFrame
            Age in years and gender, or ages alone.
        groups : array-like of shape (n_samples,), default=None
            Pictures with equal labels stay together; one with a missing label (NaN, None) stands alone, and so
            does each when `groups` is None.

        Yields
        ------
        train, test : ndarray of int
            Row numbers in ascending order.

        Raises
        ------
        ValueError
            If `n_splits` is below 2 or above the number of groups, or the lengths differ.
        """
        folds = self._folds(X, y, groups)
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)

    def _folds(self, X: Any, y: Any, groups: ArrayLike | None) -> NDArray[np.intp]:
        if not isinstance(self.n_splits, numbers.Integral) or self.n_splits < 2:
            raise ValueError(
                f"AgeGenderKFold: n_splits={self.n_splits!r}; it should be an integer of at least 2."
            )
        strata = _strata(y)
        if X is not None and _length(X) != len(strata):
            raise ValueError(
                f"X has {_length(X)} rows and y has {len(strata)}; they should be the same pictures."
            )
        check_row_order(X, y=y, groups=groups)
        labels = _checked_groups(groups, len(strata))
        n_groups = labels.max(initial=-1) + 1
        if self.n_splits > n_groups:
            raise ValueError(
                f"AgeGenderKFold: n_splits={self.n_splits} is more than the number of groups, {n_groups} "
                f"(among {len(strata)} pictures); take fewer folds."
            )
        return _deal(
            strata, labels, self.n_splits, check_random_state(self.random_state) if self.shuffle else None
        )


def grouped_split(
    y: Any,
    groups: ArrayLike | None = None,
    *,
    test_size: float = 0.1,
    random_state: int | np.random.RandomState | None = 0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split once, alike in age and gender on both sides and with every group whole.

    Parameters
    ----------
    y : array-like of shape (n_samples, 2) or (n_samples,), or DataFrame
        Age in years and gender, or ages alone.
    groups : array-like of shape (n_samples,), default=None
        Pictures with equal labels stay together; one with a missing label (NaN, None) stands alone, and so
        does each when `groups` is None.
    test_size : float, default=0.1
        The fraction of pictures on the second side, between 0 and 1, met to within one group. Each side has one
        group at least.
    random_state : int, RandomState instance or None, default=0
        Decides the draw.

    Returns
    -------
    train, test : ndarray of int
        Row numbers in ascending order.

    Raises
    ------
    ValueError
        If `test_size` is not between 0 and 1, there are fewer than two groups, or the lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from agegender.model_selection import grouped_split
    >>> train, test = grouped_split(np.repeat([20.0, 40.0], 10), test_size=0.3)
    >>> len(train), len(test)
    (14, 6)
    """
    if not 0 < test_size < 1:
        raise ValueError(f"grouped_split: test_size={test_size!r}; it should be a fraction between 0 and 1.")
    ages, genders = _ages_and_genders(y)
    labels = _checked_groups(groups, len(ages))
    n_groups = int(labels.max(initial=-1)) + 1
    if n_groups < 2:
        raise ValueError(f"A split needs two groups at least; these {len(ages)} pictures form {n_groups}.")
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    return split(ages, genders, labels, test_size, rng)


def _strata(y: Any) -> NDArray[np.intp]:
    """Return a number for each row's band of age and gender."""
    ages, sexes = _ages_and_genders(y)
    bands = np.unique(ages // BAND_YEARS, return_inverse=True)[1]
    return np.unique(bands * (sexes.max(initial=0) + 1) + sexes, return_inverse=True)[1]


def _ages_and_genders(y: Any) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return ages, and genders as numbers from zero; of ages alone, one gender."""
    if getattr(y, "columns", None) is None and np.ndim(y) == 1:
        y = np.column_stack([np.asarray(y), np.zeros(len(y))])
    ages, genders = check_target(y, max_age=sys.maxsize)
    return ages, np.unique(genders, return_inverse=True)[1]


def _length(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _checked_groups(groups: ArrayLike | None, n_samples: int) -> NDArray[np.intp]:
    if groups is None:
        return np.arange(n_samples)
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"groups has shape {labels.shape}; it should be ({n_samples},), one label for each row of y."
        )
    return group_numbers(labels)


def _deal(
    strata: NDArray[np.intp], labels: NDArray[np.intp], n_folds: int, rng: np.random.RandomState | None
) -> NDArray[np.intp]:
    """Return each row's fold: groups of several rows first, then the rows that stand alone."""
    sizes = np.bincount(labels)
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    several = order[sizes[order] > 1]
    several = several[np.argsort(-sizes[several], kind="stable")]
    by_label = np.argsort(labels, kind="stable")
    ends = np.cumsum(sizes)
    folds = np.full(len(strata), -1, dtype=np.intp)
    counts = np.zeros((strata.max(initial=-1) + 1, n_folds))
    _deal_groups([by_label[ends[g] - sizes[g] : ends[g]] for g in several], strata, counts, folds)
    alone = by_label[ends[order[sizes[order] == 1]] - 1]
    # The largest strata last: where sizes leave no choice, it is they that can bear it.
    stratum_sizes = np.bincount(strata)
    _deal_rows(alone[np.lexsort((strata[alone], stratum_sizes[strata[alone]]))], strata, counts, folds)
    return folds


def _deal_groups(
    groups: list[NDArray[np.intp]],
    strata: NDArray[np.intp],
    counts: NDArray[np.float64],
    folds: NDArray[np.intp],
) -> None:
    """Give each group to the fold that has least of its strata, and least of all."""
    rarity = 1.0 / np.bincount(strata)
    weight = SIZE_WEIGHT / len(strata)
    totals = counts.sum(axis=0)
    for rows in groups:
        of = strata[rows]
        fold = int(np.argmin(rarity[of] @ counts[of] + weight * len(rows) * totals))
        folds[rows] = fold
        np.add.at(counts[:, fold], of, 1.0)
        totals[fold] += len(rows)


def _deal_rows(
    rows: NDArray[np.intp], strata: NDArray[np.intp], counts: NDArray[np.float64], folds: NDArray[np.intp]
) -> None:
    """Give each row to the fold with room that has least of its stratum, and of these to the emptiest."""
    totals = counts.sum(axis=0).tolist()
    room = -(-len(strata) // len(totals))
    starts = np.flatnonzero(np.diff(strata[rows], prepend=-1))
    for stratum in np.split(rows, starts[1:]) if len(rows) else []:
        of = counts[strata[stratum[0]]].tolist()
        hands = [(of[fold], total, fold) for fold, total in enumerate(totals) if total < room]
        heapq.heapify(hands)
        for row in stratum.tolist():
            have, total, fold = heapq.heappop(hands)
            folds[row] = fold
            totals[fold] = total + 1
            if totals[fold] < room:
                heapq.heappush(hands, (have + 1, total + 1, fold))
