"""describe and balance_ages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agegender.datasets import balance_ages, describe


@pytest.fixture
def faces() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": ["a", "b", "c", "d", "d"],
            "age": [3, 26, 26, 26, 47],
            "gender": [1, 0, 1, 1, 0],
            "race": ["asian", "white", "white", "white", "black"],
            "group": [0, 1, 1, 1, 2],
        },
        index=[9, 7, 5, 3, 1],
    )


def test_a_summary_counts_what_is_there(faces):
    summary = describe(faces)
    assert summary.n_pictures == 5
    assert summary.ages == pytest.approx(
        {"mean": 25.6, "sd": 15.566, "min": 3, "median": 26, "max": 47, "skew": -0.1291}, abs=1e-3
    )
    assert summary.by_age[26] == 3
    assert summary.by_age[27] == 0
    assert summary.by_age.index.tolist() == list(range(3, 48))
    assert summary.by_decade.to_numpy().tolist() == [[0, 1], [0, 0], [1, 2], [0, 0], [1, 0]]
    assert summary.genders.to_dict() == {0: 2, 1: 3}
    assert summary.races.to_dict() == {"white": 3, "asian": 1, "black": 1}
    assert summary.n_groups == 3
    assert summary.group_sizes.to_dict() == {1: 2, 3: 1}
    assert (summary.n_repeated, summary.n_repeated_paths) == (2, 1)


def test_a_summary_is_shown_as_text(faces):
    text = str(describe(faces))
    assert "5 pictures: 2 male, 3 female" in text
    assert "race labels: 3 white, 1 asian, 1 black" in text
    assert text.splitlines()[-1].split() == ["40–49", "█" * 13, "1"]


def test_ages_and_genders_are_enough_and_missing_groups_stand_alone():
    faces = pd.DataFrame({"age": [30.5, 30.5], "gender": ["woman", "man"]})
    summary = describe(faces)
    assert (summary.n_groups, summary.races, summary.ages["skew"]) == (2, None, 0.0)
    assert "1 man, 1 woman" in str(summary)
    assert describe(faces.assign(group=[None, None])).n_groups == 2


def test_frames_that_cannot_be_described_are_refused():
    with pytest.raises(ValueError, match=r"no column 'age'; it has .'years'"):
        describe(pd.DataFrame({"years": [3]}))
    with pytest.raises(ValueError, match="no column 'gender'"):
        describe(pd.DataFrame({"age": [3]}))
    with pytest.raises(ValueError, match="1 ages are missing"):
        describe(pd.DataFrame({"age": [3, np.nan], "gender": [0, 1]}))
    with pytest.raises(ValueError, match="no rows"):
        balance_ages(pd.DataFrame({"age": []}))


def test_only_ages_that_are_too_full_lose_pictures(faces):
    balanced = balance_ages(faces, max_per_age=2)
    assert balanced["age"].value_counts().to_dict() == {26: 2, 3: 1, 47: 1}
    assert balanced.index.tolist() == [i for i in faces.index if i in balanced.index]
    assert balanced.loc[9].equals(faces.loc[9])


def test_the_average_over_the_ages_that_occur_is_the_default():
    ages = [20] * 90 + [50] * 6 + [80] * 3
    assert balance_ages(pd.DataFrame({"age": ages}))["age"].value_counts().to_dict() == {20: 33, 50: 6, 80: 3}


def test_the_seed_decides_which_pictures_go():
    faces = pd.DataFrame({"age": [26] * 50})
    first = balance_ages(faces, max_per_age=5).index
    assert first.equals(balance_ages(faces, max_per_age=5).index)
    assert not first.equals(balance_ages(faces, max_per_age=5, random_state=1).index)
    with pytest.raises(ValueError, match="max_per_age=0"):
        balance_ages(faces, max_per_age=0)
