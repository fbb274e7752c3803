"""Intervals that hold the truth as often as they say, and probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from agegender import AgeGenderClassifier, DenseHead
from agegender.calibration import (
    UNCALIBRATED,
    age_interval,
    age_position,
    calibrate,
    fit_temperature,
    scale_genders,
)
from agegender.metrics import age_quantile


def bells(centres, sd, n_ages=101):
    years = np.arange(n_ages)
    mass = np.exp(-0.5 * ((years - np.asarray(centres)[:, None]) / sd) ** 2)
    return mass / mass.sum(axis=1, keepdims=True)


def people(n, seed, spread=8.0):
    """Ages that lie around what is predicted, further off than the predictions say."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(25, 75, n)
    return centres, np.clip(centres + rng.normal(0, spread, n), 0, 100)


def test_the_position_of_an_age_is_the_inverse_of_the_quantile():
    proba = np.random.default_rng(0).dirichlet(np.ones(101), 50)
    for q in (0.05, 0.5, 0.93):
        assert age_position(proba, age_quantile(proba, q)) == pytest.approx(np.full(50, q))


@pytest.mark.parametrize("sd", [3.0, 8.0, 20.0], ids=["too sure", "right", "not sure enough"])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_cover_what_they_promise_whatever_the_model_believes(sd, coverage):
    centres, ages = people(1000, seed=0)
    found = calibrate(bells(centres, sd), np.full((1000, 2), 0.5), ages, np.arange(1000) % 2)
    centres, ages = people(5000, seed=1)
    low, high = age_interval(bells(centres, sd), coverage, found)
    assert np.mean((low <= ages) & (ages <= high)) == pytest.approx(coverage, abs=0.025)
    taken_at_its_word = age_interval(bells(centres, sd), coverage)
    wrong = np.mean((taken_at_its_word[0] <= ages) & (ages <= taken_at_its_word[1])) - coverage
    assert (wrong < -0.1, wrong > 0.05) == (sd == 3.0, sd == 20.0)


def test_too_few_pictures_to_promise_a_coverage_give_the_whole_range():
    centres, ages = people(8, seed=0)
    found = calibrate(bells(centres, 8), np.full((8, 2), 0.5), ages, np.arange(8) % 2)
    low, high = age_interval(np.vstack([bells([40], 8), np.full((1, 101), np.nan)]), 0.9, found)
    assert (low[0], high[0]) == (0, 100)
    assert np.isnan([low[1], high[1]]).all()
    low, high = age_interval(bells([40], 8), 0.8, found)
    assert 0 < low[0] < high[0] < 100


def test_the_interval_is_that_of_the_kth_score():
    proba = np.full((19, 10), 0.1)
    ages = np.linspace(-0.5, 9.5, 21)[1:-1]
    found = calibrate(proba, np.full((19, 2), 0.5), np.clip(ages, 0, 9), np.arange(19) % 2)
    # Of 19 scores, the 18th smallest covers 90 % of 20.
    scores = sorted(abs((age + 0.5) / 10 - 0.5) for age in np.clip(ages, 0, 9))
    assert found.half_widths[89] == pytest.approx(scores[17])
    assert found.n_pictures == 19


@pytest.mark.parametrize("coverage", [0, 1, 0.995, float("nan"), 90])
def test_a_coverage_that_cannot_be_had_is_refused(coverage):
    with pytest.raises(ValueError, match=r"from 0\.01 to 0\.99, such as 0\.9"):
        age_interval(bells([40], 8), coverage)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(true_temperature):
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-odds))
    too_sure = 1 / (1 + np.exp(-odds * true_temperature))
    proba = np.column_stack([1 - too_sure, too_sure]).astype(np.float32)
    temperature = fit_temperature(proba, labels.astype(int))
    assert temperature == pytest.approx(true_temperature, rel=0.05)
    scaled = scale_genders(proba, temperature)
    assert scaled[:, 1] == pytest.approx(1 / (1 + np.exp(-odds)), abs=0.02)
    assert scaled.sum(axis=1) == pytest.approx(np.ones(20_000), abs=1e-6)


def test_a_small_set_without_an_error_makes_no_model_certain():
    proba = np.tile(np.float32([[0.2, 0.8], [0.8, 0.2]]), (10, 1))
    scaled = scale_genders(proba, fit_temperature(proba, [1, 0] * 10))
    assert 0.8 < scaled.max() < 0.99


def noisy(n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    ages = np.clip(40 + 12 * X[:, 0] + rng.normal(0, 6, n), 0, 100)
    genders = (X[:, 1] + rng.normal(0, 0.7, n) > 0).astype(int)
    return X, np.column_stack([ages, genders])


def model(**params):
    return AgeGenderClassifier(DenseHead((16,)), epochs=15, learning_rate=0.02, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted():
    return model(calibration_fraction=0.25).fit(*noisy(2000, seed=0))


def test_a_fitted_classifier_covers_new_rows_and_knows_how_sure_it_is_of_a_gender(fitted):
    X, y = noisy(4000, seed=1)
    for coverage in (0.6, 0.9):
        frame = fitted.predict_frame(X, coverage=coverage)
        inside = (frame.age_low <= y[:, 0]) & (y[:, 0] <= frame.age_high)
        assert inside.mean() == pytest.approx(coverage, abs=0.04)
    assert fitted.calibration_.n_pictures == pytest.approx(500, abs=2)
    assert (frame.gender == y[:, 1]).mean() == pytest.approx(frame.gender_proba.mean(), abs=0.04)


def test_rows_kept_for_calibration_are_not_trained_on_and_groups_stay_whole():
    X, y = noisy(400, seed=0)
    # A model that could learn these rows by heart would be certain of them.
    people = np.arange(400) // 2
    first = model(calibration_fraction=0.5).fit(X, y, groups=people)
    assert first.calibration_.n_pictures == 200
    again = model(calibration_fraction=0.5).fit(X, y, groups=people)
    assert again.calibration_ == first.calibration_
    other = model(calibration_fraction=0.5).set_params(random_state=1).fit(X, y, groups=people)
    assert other.calibration_ != first.calibration_


def test_without_a_calibration_part_a_model_is_taken_at_its_word():
    X, y = noisy(300, seed=0)
    trained = model(calibration_fraction=0, max_age=100).fit(X, y)
    assert trained.calibration_ == UNCALIBRATED
    low = age_quantile(trained.predict_proba(X)[0], 0.05)
    assert trained.predict_frame(X).age_low.to_numpy() == pytest.approx(low)
    assert model().fit(X[:199], y[:199]).calibration_ == UNCALIBRATED


def test_limits_take_back_what_the_model_is_not_sure_of(fitted):
    X, _ = noisy(300, seed=2)
    X[7] = np.nan
    free = fitted.predict_frame(X)
    width = (free.age_high - free.age_low).median()
    frame = fitted.predict_frame(X, max_age_range=width, min_gender_proba=0.8)
    assert list(frame) == [*free, "age_sure", "gender_sure"]
    assert frame.age_sure.sum() == pytest.approx(150, abs=1)
    assert frame.age[frame.age_sure].equals(free.age[frame.age_sure])
    assert frame.age[~frame.age_sure].isna().all()
    assert frame.gender_sure.tolist() == (free.gender_proba >= 0.8).tolist()
    assert frame.gender[~frame.gender_sure].isna().all()
    assert frame.age_low.equals(free.age_low)
    assert not frame.age_sure[7]
