"""Near-copies among many: what the index finds against what comparing every two finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agegender.model_selection import _similar, similar_face_groups


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    """Rows of 64 numbers, every tenth of which has a near-copy of another length; some without a direction."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(30, 64))
    rows = (means[rng.integers(30, size=6000)] + rng.normal(size=(6000, 64))).astype(np.float32)
    rows[600:1200] = 3 * (rows[:600] + rng.normal(0, 0.15, (600, 64)))
    rows[[7, 4000]] = np.nan
    rows[5000] = 0
    return rows


def pairs(groups: np.ndarray) -> set[tuple[int, int]]:
    order = np.argsort(groups, kind="stable")
    same = np.flatnonzero(np.diff(groups[order]) == 0)
    return {tuple(sorted((order[place], order[place + 1]))) for place in same.tolist()}


def test_the_index_finds_nearly_all_and_nothing_else(embeddings: np.ndarray) -> None:
    exact = pairs(similar_face_groups(embeddings, 0.97))
    found = pairs(similar_face_groups(embeddings, 0.97, method="approximate"))
    assert len(exact) > 550
    assert found <= exact
    assert len(found) >= 0.99 * len(exact)


def test_rows_of_a_memory_map_are_read_in_parts(
    embeddings: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {
        method: similar_face_groups(embeddings, 0.97, method=method) for method in ("exact", "approximate")
    }
    np.save(tmp_path / "rows.npy", embeddings)
    monkeypatch.setattr(_similar, "BLOCK_ROWS", 1000)
    monkeypatch.setattr(_similar, "HELD_ROWS", 0)
    monkeypatch.setattr(_similar, "MOST_LINKS", 50)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for method, groups in whole.items():
        np.testing.assert_array_equal(similar_face_groups(mapped, 0.97, method=method), groups)


def test_an_unknown_method_is_told_of() -> None:
    with pytest.raises(ValueError, match="method='fast' is not one of 'exact', 'approximate'"):
        similar_face_groups(np.eye(3), method="fast")
