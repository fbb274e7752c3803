"""Suspicions that keep their word, whatever the models make of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from agegender.inspection._suspicion import doubt_ages, doubt_genders

YEARS = np.arange(101)


def read_ages(n=4000, spread=5.0, claimed=5.0, wrong=0.03, seed=0):
    """Return distributions of models that are off by `spread` and say `claimed`, labels, and which are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(5, 95, n)
    centres = truth + rng.normal(0, spread, n)
    proba = norm.pdf(YEARS, centres[:, np.newaxis], claimed)
    labels, planted = truth.astype(float), rng.random(n) < wrong
    labels[planted] = rng.permutation(truth)[: planted.sum()]
    return proba / proba.sum(axis=1, keepdims=True), labels, planted


@pytest.mark.parametrize("claimed", [2.5, 5.0])
def test_the_share_of_wrong_ages_is_estimated_also_from_models_that_are_too_sure(claimed: float) -> None:
    proba, labels, planted = read_ages(claimed=claimed)
    found = doubt_ages(proba, labels)
    assert found.rate == pytest.approx(planted.mean(), abs=0.008)
    assert found.suspicion.sum() == pytest.approx(planted.sum(), rel=0.25)


def test_an_age_suspicion_is_the_share_of_such_labels_that_are_wrong() -> None:
    proba, labels, planted = read_ages(n=20000)
    found = doubt_ages(proba, labels)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        part = (found.suspicion >= low) & (found.suspicion < high)
        assert found.suspicion[part].mean() == pytest.approx(planted[part].mean(), abs=0.2)


def test_suspicion_finds_wrong_ages_that_the_residual_misses() -> None:
    """Where children are read to a year and the old to ten, ten years off is much in one and nothing in the other."""
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 95, 6000)
    spread = 0.5 + truth / 9
    centres = truth + rng.normal(0, spread)
    proba = norm.pdf(YEARS, centres[:, np.newaxis], spread[:, np.newaxis]) + 1e-12
    proba /= proba.sum(axis=1, keepdims=True)
    labels, planted = truth.astype(float), rng.random(6000) < 0.03
    labels[planted] = rng.permutation(truth)[: planted.sum()]
    found = doubt_ages(proba, labels)
    residual = np.abs(labels - proba @ YEARS)
    k = int(planted.sum())
    by_residual = planted[np.argsort(-residual)[:k]].sum()
    assert planted[np.argsort(-found.log_odds)[:k]].sum() >= by_residual + 10


def test_copies_speak_about_one_another() -> None:
    proba, labels, _ = read_ages(n=300, wrong=0)
    proba[:3] = proba[0]
    labels[:3] = [30.0, 61.0, 62.0]
    alone = doubt_ages(proba, labels)
    joined = doubt_ages(proba, labels, [np.array([0, 1, 2])])
    assert joined.suspicion[0] > max(alone.suspicion[0], 0.5)
    assert joined.suspicion[1] < 0.5
    assert abs(joined.proba[0] @ YEARS - 61.5) < abs(alone.proba[0] @ YEARS - 61.5)
    np.testing.assert_allclose(joined.suspicion[3:], alone.suspicion[3:])


def test_flipped_genders_are_counted_and_found() -> None:
    rng = np.random.default_rng(2)
    n = 4000
    truth = rng.integers(0, 2, n)
    odds = np.where(truth == 1, 4.0, -4.0) + rng.normal(0, 2.5, n)
    labels, planted = truth.copy(), rng.random(n) < 0.02
    labels[planted] = 1 - labels[planted]
    found = doubt_genders(1 / (1 + np.exp(-odds)), labels)
    assert found.rate == pytest.approx(0.02, abs=0.01)
    assert planted[np.argsort(-found.log_odds)[: planted.sum()]].mean() > 0.6
    part = found.suspicion > 0.5
    assert planted[part].mean() == pytest.approx(found.suspicion[part].mean(), abs=0.15)


def test_a_copy_of_the_other_gender_makes_a_label_suspicious() -> None:
    proba = np.tile([0.1, 0.9], 100)
    labels = np.tile([0, 1], 100)
    labels[2] = 1
    alone = doubt_genders(proba, labels).suspicion[2]
    with_copies = doubt_genders(proba, labels, [np.array([2, 4, 6])]).suspicion[2]
    assert with_copies > alone
