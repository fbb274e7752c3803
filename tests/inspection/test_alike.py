"""Pairs and neighbours, against all pairs counted at once."""

from __future__ import annotations

import numpy as np
import pytest

from agegender.inspection import _alike
from agegender.inspection._alike import cosine_pairs, directions, nearest, thumbnail_correlation


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5)).astype(np.float32) + 3
    rows[7] = np.nan
    return rows


@pytest.mark.parametrize("cells", [100, 4_000_000])
def test_pairs_are_those_of_the_whole_table(rows, cells: int, monkeypatch) -> None:
    monkeypatch.setattr(_alike, "BLOCK_CELLS", cells)
    ways = directions(rows)
    table = np.triu(ways @ ways.T, 1)
    first, second, similarity = cosine_pairs(ways, None, 0.8)
    assert set(zip(first, second, strict=True)) == set(zip(*np.nonzero(table >= 0.8), strict=True))
    np.testing.assert_allclose(similarity, table[first, second], atol=1e-6)


def test_a_row_that_could_not_be_read_is_like_nothing(rows) -> None:
    first, second, _ = cosine_pairs(directions(rows), None, 0.01)
    assert 7 not in first
    assert 7 not in second


def test_directions_are_counted_from_the_mean(rows) -> None:
    """Rows that all share a large part would all be alike."""
    assert len(cosine_pairs(directions(rows, np.zeros(5)), None, 0.9)[0]) > 500
    assert len(cosine_pairs(directions(rows), None, 0.9)[0]) < 150


@pytest.mark.parametrize("cells", [100, 4_000_000])
def test_the_nearest_are_of_other_groups(rows, cells: int, monkeypatch) -> None:
    monkeypatch.setattr(_alike, "BLOCK_CELLS", cells)
    groups = np.arange(60) // 2
    ways = directions(rows)
    others, similarity = nearest(ways, groups, 3)
    table = ways @ ways.T
    table[groups[:, np.newaxis] == groups] = -np.inf
    np.testing.assert_allclose(similarity, -np.sort(-table, axis=1)[:, :3], atol=1e-6)
    assert (groups[others] != groups[:, np.newaxis]).all()


def test_a_mirrored_and_brightened_photograph_is_the_same_one() -> None:
    rng = np.random.default_rng(0)
    faces = rng.uniform(0, 255, (20, 16, 16)).astype(np.float32)
    changed = faces[:, :, ::-1] * 0.7 + 30
    centre = faces.mean(axis=0)
    assert thumbnail_correlation(faces, changed, centre).min() > 0.9
    assert thumbnail_correlation(faces, np.roll(changed, 1, axis=0), centre).max() < 0.5
    grey = np.full_like(faces, 90)
    grey[:, 8, 8] = 99
    assert thumbnail_correlation(grey, np.full_like(faces, 120), centre).max() == 0
    assert len(thumbnail_correlation(faces[:0], changed[:0], centre)) == 0
