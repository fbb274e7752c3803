import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agegender._fitting.holdout import balance_weights, split


def people(n, n_groups, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.unique(rng.integers(n_groups, size=n), return_inverse=True)[1]
    return rng.integers(0, 101, n).astype(float), rng.integers(0, 2, n), groups


def test_validation_has_its_share_and_is_alike_in_age_and_gender():
    ages, genders, groups = people(4000, 3900)
    training, validation = split(ages, genders, groups, 0.1, np.random.default_rng(1))
    assert len(validation) == pytest.approx(400, abs=4)
    assert ages[validation].mean() == pytest.approx(ages[training].mean(), abs=1)
    assert np.quantile(ages[validation], [0.1, 0.9]) == pytest.approx(np.quantile(ages, [0.1, 0.9]), abs=2)
    assert genders[validation].mean() == pytest.approx(genders.mean(), abs=0.03)


@settings(deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9]),
    st.integers(0, 2**32 - 1),
)
def test_groups_never_straddle_and_no_row_is_lost(n, n_groups, fraction, seed):
    ages, genders, groups = people(n, n_groups, seed)
    training, validation = split(ages, genders, groups, fraction, np.random.default_rng(seed))
    assert sorted([*training, *validation]) == list(range(n))
    assert not set(groups[training]) & set(groups[validation])
    assert len(training) > 0
    assert (len(validation) > 0) == (fraction > 0 and len(set(groups)) > 1)


def test_nearly_everything_held_out_leaves_one_group():
    ages, genders, groups = people(40, 10**6)
    training, held_out = split(ages, genders, groups, 0.99, np.random.default_rng(0))
    assert (len(training), len(held_out)) == (1, 39)


def test_each_drawing_is_another():
    ages, genders, groups = people(200, 10**6)
    rng = np.random.default_rng(0)
    first, second = (split(ages, genders, groups, 0.1, rng)[1].tolist() for _ in range(2))
    assert first != second


def test_weights_even_out_the_ages_and_keep_their_mean():
    ages = np.repeat([20.0, 40.0, 60.0], [1000, 500, 250])
    weights = balance_weights(ages, "age", np.random.default_rng(0))
    totals = [weights[ages == age].sum() for age in (20, 40, 60)]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-6)
    assert weights.mean() == pytest.approx(1)


def test_a_rare_age_is_not_weighted_without_bound():
    ages = np.repeat([20.0, 40.0, 60.0, 90.0], [1000, 1000, 1000, 1])
    weights = balance_weights(ages, "age", np.random.default_rng(0))
    assert weights[-1] / weights[0] == pytest.approx(5 * 1000 / (3001 / 4), rel=1e-3)


def test_a_group_too_large_for_the_validation_part_is_trained_on():
    ages, genders = np.arange(100.0) % 80, np.arange(100) % 2
    groups = np.r_[np.zeros(60, int), np.arange(1, 41)]
    for seed in range(20):
        _, validation = split(ages, genders, groups, 0.1, np.random.default_rng(seed))
        assert len(validation) == pytest.approx(10, abs=1)


def test_surplus_rows_of_over_full_ages_are_dropped():
    ages = np.repeat([20.0, 40.4, 60.0], [80, 30, 10])
    weights = balance_weights(ages, "age-drop", np.random.default_rng(0))
    assert set(weights) == {0.0, 1.0}
    assert [int(weights[ages == age].sum()) for age in (20, 40.4, 60)] == [40, 30, 10]


def test_without_balance_all_rows_weigh_the_same():
    assert balance_weights(np.arange(5.0), None, np.random.default_rng(0)).tolist() == [1] * 5
