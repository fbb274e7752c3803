import numpy as np
import pytest

from agegender._utils import rows as _rows
from agegender._utils.rows import blocks, find_missing, moments, release, row_groups, take


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 4 * 6 * 10)


def test_blocks_cover_all_rows_once(small_blocks):
    assert [(part.start, part.stop) for part in blocks(25, (2, 3))] == [(0, 10), (10, 20), (20, 25)]
    assert list(blocks(0, (2, 3))) == []


def test_rows_with_a_nan_are_missing_whatever_block_they_are_in(small_blocks):
    X = np.zeros((25, 6), np.float16)
    X[[3, 24], [0, 5]] = np.nan
    assert np.flatnonzero(find_missing(X)).tolist() == [3, 24]
    assert not find_missing(np.zeros((2, 3), np.uint8)).any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_values_beyond_float32_are_refused(value):
    with pytest.raises(ValueError, match="infinity or a value too large for float32"):
        find_missing(np.array([[0.0, value]]))


def test_equal_rows_form_a_group(small_blocks):
    X = np.arange(25 * 6, dtype=np.float32).reshape(25, 6)
    X[20] = X[1]
    codes = row_groups(X)
    assert codes[20] == codes[1]
    assert len(set(codes)) == 24
    assert set(codes) == set(range(24))


def test_wide_rows_are_compared_by_a_sample_of_their_values():
    X = np.random.default_rng(0).normal(size=(4, 40, 40, 3)).astype(np.float16)
    X[3] = X[0]
    assert row_groups(X).tolist() == [0, 1, 2, 0]


def test_groups_join_through_equal_rows():
    X = np.array([[1.0], [2.0], [2.0], [3.0], [4.0]])
    codes = row_groups(X, ["anna", "anna", "bert", "carl", None])
    assert codes[0] == codes[1] == codes[2]
    assert len(set(codes)) == 3


def test_missing_groups_stand_alone():
    codes = row_groups(np.arange(4.0)[:, None], [np.nan, np.nan, 7, 7])
    assert len(set(codes)) == 3
    assert codes[2] == codes[3]


def test_groups_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="one value for each of the 3 rows"):
        row_groups(np.zeros((3, 1)), [1, 2])


def test_moments_are_numpys_own_over_the_chosen_rows(small_blocks):
    X = np.random.default_rng(0).normal(5, 3, size=(100, 4)).astype(np.float32)
    rows = np.flatnonzero(np.arange(100) % 3)
    mean, variance = moments(X, rows)
    assert mean == pytest.approx(X[rows].mean(axis=0, dtype=np.float64), rel=1e-5)
    assert variance == pytest.approx(X[rows].var(axis=0, dtype=np.float64), rel=1e-4)


def test_moments_of_a_map_are_those_of_its_channels():
    X = np.random.default_rng(0).normal(size=(20, 3, 3, 2)) * [1, 10] + [0, 50]
    mean, variance = moments(X, np.arange(20))
    assert mean == pytest.approx(X.mean(axis=(0, 1, 2)), rel=1e-3, abs=1e-6)
    assert variance == pytest.approx(X.var(axis=(0, 1, 2)), rel=1e-3)


def test_features_that_do_not_vary_are_not_blown_up():
    X = np.array([[7.1, 1e6, 0.0]] * 5, np.float32)
    assert moments(X, np.arange(5))[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_releasing_a_memory_map_loses_nothing(tmp_path, mode):
    np.save(tmp_path / "x.npy", np.ones((4, 5000)))
    X = np.load(tmp_path / "x.npy", mmap_mode=mode)
    if mode != "r":
        X[1] = 2
    release(np.asarray(X)[1:])
    assert X.sum() == (20_000 if mode == "r" else 25_000)


def test_rows_taken_from_a_map_let_go_of_its_pages_on_the_way(tmp_path, monkeypatch):
    written = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (100, 6))
    written[:] = np.arange(600).reshape(100, 6)
    written.flush()
    X = np.load(tmp_path / "rows.npy", mmap_mode="r").reshape(100, 2, 3)
    rows = np.arange(1, 100, 3)
    released = []
    monkeypatch.setattr(_rows, "TAKEN_BYTES", 10 * 24)
    monkeypatch.setattr(_rows, "release", released.append)
    taken = take(X, rows)
    np.testing.assert_array_equal(taken, np.arange(600).reshape(100, 2, 3)[rows])
    assert not isinstance(taken, np.memmap)
    assert len(released) == 4
