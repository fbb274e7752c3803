"""The page in a real browser: it filters without a network, and is read by keyboard, on a phone and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chromium import find_axe

from agegender import AgeGenderClassifier, DenseHead, EmbeddingExtractor
from agegender.inspection import inspect_faces


@pytest.fixture(scope="module")
def browser(launch):
    return launch()


@pytest.fixture(scope="module")
def saved(browser, faces, backbone, tmp_path_factory) -> Path:
    found = inspect_faces(
        faces,
        extractor=EmbeddingExtractor(backbone, cache=None),
        classifier=AgeGenderClassifier(DenseHead(units=(8,)), epochs=1, calibration_fraction=0),
        detector=None,
        cv=2,
        near_copy=0.9999,
        gender_names={0: "</option><img src=x>", 1: 'a "quoted" name'},
        against=faces.data[:3],
    )
    return found.save(tmp_path_factory.mktemp("report"))


def open_page(browser: Any, saved: Path, **options: Any) -> Any:
    context = browser.new_context(**options)
    context.set_offline(True)
    page = context.new_page()
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text))
    page.goto(saved.as_uri())
    return page


def test_cards_are_filtered_by_keyboard_and_all_come_back(browser, saved: Path, faces) -> None:
    page = open_page(browser, saved)
    shown = page.locator("#shown")
    assert shown.inner_text() == "60 of 60 shown"
    assert page.locator("img[src=x]").count() == 0
    page.locator("[name=low]").focus()
    page.keyboard.type("50")
    old = int((faces.target[:, 0] >= 50).sum())
    assert shown.inner_text() == f"{old} of 60 shown"
    assert page.locator("#suspicious .card:visible").count() == old
    page.locator("[name=gender]").select_option('a "quoted" name')
    women = int(((faces.target[:, 0] >= 50) & (faces.target[:, 1] == 1)).sum())
    assert shown.inner_text() == f"{women} of 60 shown"
    page.locator("[type=reset]").press("Enter")
    page.wait_for_function("document.querySelector('#shown').textContent.startsWith('60')")
    page.locator("[name=text]").fill(Path(faces.data[7]).name.upper())
    assert shown.inner_text() == "1 of 60 shown"
    assert page.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_sticks_out(browser, saved: Path, width: int, scheme: str) -> None:
    page = open_page(
        browser, saved, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    axe = find_axe()
    if axe is None:
        pytest.skip("axe-core is not here (npm install axe-core, or AGEGENDER_AXE=axe.min.js)")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    assert [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]] == []


def test_paper_is_white_and_has_no_filters(browser, saved: Path) -> None:
    page = open_page(browser, saved, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(17, 20, 25)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(36, 39, 45)"
    assert not page.locator("#filters").is_visible()
