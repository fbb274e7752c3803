"""The page of promises: each test that it names is there, and each section has its figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


@pytest.mark.parametrize("promise", sorted(set(re.findall(r"`(tests/\w+\.py::\w+)`", PAGE))))
def test_each_promise_is_held_by_a_test_that_exists(promise: str) -> None:
    file, _, name = promise.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text("utf-8")


def test_each_section_of_figures_was_made_and_its_promises_were_kept() -> None:
    made = re.findall(r"<!-- figures: (\w+) -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert made
    for section, figures in made:
        assert "| Check | Result | Promise kept |" in figures, section
        assert "**no**" not in figures, section
