"""How ages lie, and how small a difference a set can show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from agegender.inspection._distribution import age_table, empty_ages, fold_table, heaping, power_table

NAMES = ("male", "female")


def test_whipple_index_is_100_for_even_ages_and_500_where_all_end_in_0_or_5() -> None:
    assert heaping(np.arange(100.0))["whipple"] == 100
    assert heaping(np.array([25.0, 30, 60, 40]))["whipple"] == 500


def test_heaping_is_judged_in_the_united_nations_words() -> None:
    rng = np.random.default_rng(0)
    even = rng.integers(23, 63, 8000).astype(float)
    rounded = np.where(rng.random(8000) < 0.2, np.round(even / 5) * 5, even)
    assert heaping(even)["judgement"] in ("highly accurate", "fairly accurate")
    assert heaping(rounded)["judgement"] == "very rough"
    assert heaping(rounded)["p_value"] < 1e-10


def test_a_set_of_children_has_no_index() -> None:
    assert heaping(np.array([3.0, 5.0]))["whipple"] is None


def test_every_year_is_counted_and_empty_ones_are_named() -> None:
    table = age_table(np.array([20.0, 20, 23]), np.array([0, 1, 1]), NAMES)
    assert table.to_dict("list") == {
        "age": [20, 21, 22, 23],
        "male": [1, 0, 0, 0],
        "female": [1, 0, 0, 1],
        "n": [2, 0, 0, 1],
    }
    assert empty_ages(table) == [21, 22]


def test_folds_are_described() -> None:
    ages, genders, fold = np.array([10.0, 30, 35, 12]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    table = fold_table(ages, genders, fold, NAMES)
    assert table["n"].tolist() == [2, 2]
    assert table["mean_age"].tolist() == [20, 23.5]
    assert table["30–39"].tolist() == [1, 1]


def test_a_difference_that_the_set_can_show_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    n, found = 200, 0
    ages, genders = np.full(n, 30.0), np.repeat([0, 1], n // 2)
    error = rng.normal(5, 2, n)
    row = power_table(ages, genders, NAMES, pd.DataFrame(index=range(n)), error, np.ones(n)).iloc[0]
    assert row["n"] == 100
    for _ in range(300):
        first, second = rng.normal(5, 2, 100), rng.normal(5 + row["age_mae_difference"], 2, 100)
        found += ttest_ind(first, second).pvalue < 0.05
    assert found / 300 == pytest.approx(0.8, abs=0.09)


def test_columns_of_labels_are_groupings_and_paths_are_not() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"path": [f"{i}.jpg" for i in range(40)], "race": ["a", "b"] * 20, "size": range(40)}
    )
    ages, genders = rng.uniform(20, 60, 40), rng.integers(0, 2, 40)
    table = power_table(ages, genders, NAMES, frame, rng.uniform(0, 9, 40), np.ones(40))
    assert set(table["grouping"]) == {"gender", "age band", "race"}
