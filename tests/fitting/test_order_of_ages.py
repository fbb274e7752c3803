"""Rows in order of age, and rows of one group: what fit says of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_validate

from agegender import AgeGenderClassifier, DenseHead
from agegender._fitting.holdout import is_sorted_by_age
from agegender.exceptions import TrainingWarning
from agegender.model_selection import AgeGenderKFold, cross_val_predict_frame


def collection(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows in order of age, which they tell."""
    rng = np.random.default_rng(seed)
    ages = np.sort(rng.integers(0, 90, n))
    return np.column_stack([ages / 10, rng.normal(size=n)]), np.column_stack([ages, np.arange(n) % 2])


def model(**parameters) -> AgeGenderClassifier:
    return AgeGenderClassifier(DenseHead(), epochs=1, random_state=0, **parameters)


def told(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if issubclass(one.category, TrainingWarning)]


def test_sorted_ages_are_told_from_others() -> None:
    ages = np.sort(np.random.default_rng(0).integers(0, 90, 2000)).astype(float)
    by_name = np.array(sorted(map(str, ages.astype(int))), dtype=float)
    fold = np.delete(by_name, slice(400, 800))
    assert all(is_sorted_by_age(some) for some in (ages, ages[::-1], by_name, fold, ages[::40]))
    shuffled = [np.random.default_rng(seed).permutation(ages)[:60] for seed in range(200)]
    assert not any(map(is_sorted_by_age, shuffled))
    assert not is_sorted_by_age(np.full(100, 30.0))
    # Many pictures of one person in a row are not the whole collection in order.
    assert not is_sorted_by_age(np.repeat(np.random.default_rng(0).permutation(90), 5).astype(float))


@pytest.mark.slow
def test_an_unshuffled_cross_validation_of_sorted_ages_warns_once() -> None:
    X, y = collection()
    (said,) = told(lambda: cross_validate(model(), X, y, cv=5))
    assert "cv=AgeGenderKFold(5) from agegender.model_selection" in said
    assert len(told(lambda: GridSearchCV(model(), {"gender_weight": [1, 2]}, cv=KFold(3)).fit(X, y))) == 1


def test_folds_that_mix_are_not_warned_of() -> None:
    X, y = collection()
    for call in (
        lambda: cross_validate(model(), X, y, cv=AgeGenderKFold(3)),
        lambda: cross_validate(model(), X, y, cv=KFold(3, shuffle=True, random_state=0)),
        lambda: cross_val_predict_frame(model(), X, y, cv=3),
    ):
        assert told(call) == []
    assert told(lambda: model().fit(X, y)) == []  # all there is, in order: training shuffles


def test_a_loop_over_folds_of_sorted_ages_is_warned_of_too() -> None:
    X, y = collection(600)
    parts = [train for train, _ in KFold(5).split(X)]
    assert len(told(lambda: [model().fit(X[train], y[train]) for train in parts])) == 1
    mixed = [train for train, _ in AgeGenderKFold(5).split(X, y)]
    assert told(lambda: [model().fit(X[train], y[train]) for train in mixed]) == []


def test_rows_of_one_group_switch_early_stopping_off_and_this_is_said() -> None:
    X, y = collection()
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    (said,) = told(lambda: model().fit(X, y, groups=np.zeros(len(X))))
    assert "All 300 rows are one group" in said
    assert "early stopping and calibration are off" in said
    meant = model(validation_fraction=0.0, calibration_fraction=0.0)
    assert told(lambda: meant.fit(X, y, groups=np.zeros(len(X)))) == []


def test_cross_val_predict_says_why_it_gives_no_probabilities() -> None:
    X, y = collection()
    with pytest.raises(ValueError, match=r"gives no probabilities of ages.*cross_val_predict_frame"):
        cross_val_predict(model(), X, y, cv=AgeGenderKFold(2), method="predict_proba")
    assert cross_val_predict(model(), X, y, cv=AgeGenderKFold(2)).shape == (300, 2)
