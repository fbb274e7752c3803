"""The page of promises: each test that it names is there, and each section has its figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


@pytest.mark.parametrize("promise", sorted(set(re.findall(r"`(tests/\w+\.py::\w+)`", PAGE))))
def test_each_promise_is_held_by_a_test_that_exists(promise: str) -> None:
    file, _, name = promise.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8")
