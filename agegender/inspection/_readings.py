"""Out-of-fold distributions: predictions for pictures that, like their copies, were not trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from agegender._utils.progress import progress_bar
from agegender.cache import EmbeddingCache, Recipe

__all__ = ["Readings", "read_out_of_fold"]

VERSION = 2
"""Part of every cache key: increased whenever the same pictures and labels would give other distributions."""


@dataclass(frozen=True, eq=False)
class Readings:
    """Out-of-fold predictions of pictures.

    Attributes
    ----------
    age_proba : ndarray of shape (n_pictures, n_ages), float64
        Distributions over the ages 0, 1, …; the mean of several readings; NaN for a picture that was not
        read.
    gender_proba : ndarray of shape (n_pictures,), float64
        Probability of the second gender.
    fold : ndarray of shape (n_pictures,), int
        The test part that a picture is in, the first one of several; -1 for a picture that was not read.
    n_readings : ndarray of shape (n_pictures,), int
        The number of models that read it.
    single : ndarray of shape (n_readings, n_pictures), float64
        The mean age of each reading; NaN if there are fewer.
    told : bool
        Whether a trained model's reading of the gender is in `gender_proba`.
    """

    age_proba: NDArray[np.float64]
    gender_proba: NDArray[np.float64]
    fold: NDArray[np.intp]
    n_readings: NDArray[np.intp]
    single: NDArray[np.float64]
    told: bool = False


def read_out_of_fold(
    classifier: Any,
    rows: NDArray[np.floating],
    digests: Sequence[bytes],
    labels: NDArray[np.float64],
    groups: NDArray[np.intp],
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    *,
    cache: EmbeddingCache | None = None,
    verbose: int = 0,
) -> Readings:
    """Train on each fold's training part and predict its test part, unless the fold is in the cache.

    Parameters
    ----------
    classifier : AgeGenderClassifier or FewFacesModel
        Cloned for each fold.
    rows : ndarray of shape (n_pictures, …)
        Activations.
    digests : sequence of bytes
        The digests of the pictures.
    labels : ndarray of shape (n_pictures, 2)
        Age in years, and gender, 0 or 1.
    groups : ndarray of shape (n_pictures,), int
        Pictures that belong together, such as copies; the inner split does not separate them either.
    folds : sequence of (train, test)
        Row numbers; each picture is in at least one test part.
    cache : EmbeddingCache, default=None
    verbose : int, default=0

    Returns
    -------
    Readings
    """
    n, n_ages = len(labels), classifier.max_age + 1
    total, times = np.zeros((n, n_ages + 1)), np.zeros(n, dtype=np.intp)
    fold_of = np.full(n, -1, dtype=np.intp)
    means = np.full((_most_readings(folds, n), n), np.nan)
    with progress_bar(len(folds), "folds", verbose, unit="fold") as bar:
        for number, (train, test) in enumerate(folds):
            read = _read_fold(classifier, rows, digests, labels, groups, train, test, cache)
            total[test] += read
            means[times[test], test] = read[:, :-1] @ np.arange(n_ages) / read[:, :-1].sum(axis=1)
            fold_of[test[times[test] == 0]] = number
            times[test] += 1
            bar.update()
    with np.errstate(invalid="ignore"):
        average = total / times[:, np.newaxis]
    ages = average[:, :-1] / average[:, :-1].sum(axis=1, keepdims=True)
    return Readings(ages, average[:, -1], fold_of, times, means)


def _most_readings(folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], n: int) -> int:
    return int(np.bincount(np.concatenate([test for _, test in folds]), minlength=n).max(initial=0))


def _read_fold(
    classifier: Any,
    rows: NDArray[np.floating],
    digests: Sequence[bytes],
    labels: NDArray[np.float64],
    groups: NDArray[np.intp],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    cache: EmbeddingCache | None,
) -> NDArray[np.float32]:
    """Return a fold's distributions over ages, and the probability of the second gender in the last column."""
    recipe = _recipe(classifier, rows[train], labels[train], groups[train])
    contents = [digests[row] for row in test.tolist()]
    read = np.empty((len(test), classifier.max_age + 2), np.float32)
    if cache is not None and cache.load(recipe, contents, read).all():
        return read
    fitted = clone(classifier).fit(rows[train], labels[train], groups=groups[train])
    ages, genders = fitted.predict_proba(rows[test])
    read[:, :-1], read[:, -1] = ages, genders[:, 1]
    if cache is not None:
        # Copies have equal rows; one of each is kept.
        first = np.unique(np.array(contents, dtype=object), return_index=True)[1].tolist()
        cache.store(recipe, [contents[i] for i in first], read[first])
    return read


def _recipe(
    classifier: Any, rows: NDArray[np.floating], labels: NDArray[np.float64], groups: NDArray[np.intp]
) -> Recipe:
    """Return everything that determines the predictions of a fold's model."""
    hashed = hashlib.sha256(repr(sorted(classifier.get_params().items(), key=lambda item: item[0])).encode())
    together = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    for part in (np.asarray(rows, dtype=np.float32), np.asarray(labels, dtype=np.float64), together):
        hashed.update(np.ascontiguousarray(part).data)
    return Recipe(
        network=hashed.hexdigest(),
        layer=f"out-of-fold {VERSION}",
        input_size=(1, int(np.prod(rows.shape[1:]))),
        color="rgb",
        mean=0.0,
        scale=1.0,
        crop=0.0,
        faces=None,
        preprocessing=VERSION,
    )
