"""Debian's Chromium, driven by Playwright, and axe-core's rules of accessibility."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--use-fake-device-for-media-stream",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_axe() -> Path | None:
    """Return axe-core's script, from AGEGENDER_AXE or a node_modules folder above this file."""
    if told := os.environ.get("AGEGENDER_AXE"):
        return Path(told)
    places = [parent / "node_modules/axe-core/axe.min.js" for parent in Path(__file__).resolve().parents]
    return next((place for place in places if place.is_file()), None)


@contextmanager
def chromium() -> Iterator[Callable[..., Any]]:
    """Give a function that starts a browser with further flags; all of them are closed at the end."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    executable = os.environ.get("AGEGENDER_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("there is no Chromium (apt-get install chromium, or AGEGENDER_CHROMIUM=path)")
    with sync_api.sync_playwright() as playwright:
        opened = []

        def start(*flags: str) -> Any:
            opened.append(playwright.chromium.launch(executable_path=executable, args=[*FLAGS, *flags]))
            return opened[-1]

        yield start
        for browser in opened:
            browser.close()
