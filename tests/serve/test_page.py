"""The page in a real browser: Debian's Chromium, driven by Playwright, with a camera that a file plays."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import find_axe
from PIL import Image
from serving import Served, beside, blank, encode, serve

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
expect = sync_api.expect
expect.set_options(timeout=20_000)

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(
    launch: Callable[..., Any], portraits: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A browser whose camera shows a drawn face that sways."""
    film = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    face = Image.open(io.BytesIO(portraits[0])).resize((360, 360))
    with film.open("wb") as file:
        for step in range(30):
            frame = Image.new("RGB", (640, 480), "lightgrey")
            frame.paste(face, (140 + round(15 * np.sin(step / 30 * 2 * np.pi)), 60))
            file.write(encode(np.asarray(frame)))
    return launch("--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={film}")


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end, nothing may have failed in it or been asked of another site."""
    contexts, complaints = [], []

    def opened(address: str | None = None, *, size: Any = DESKTOP, of: Any = None, **settings: Any) -> Any:
        home = address or f"http://127.0.0.1:{served.port}"
        context = (of or browser).new_context(viewport=size, accept_downloads=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if "Policy" in message.text else None
        )
        page.on(
            "request",
            lambda request: request.url.startswith((home, f"blob:{home}")) or complaints.append(request.url),
        )
        page.goto(home)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def files(tmp_path: Path, portraits: list[bytes]) -> dict[str, Path]:
    contents = {
        "anna.jpg": portraits[0],
        "=bert.jpg": portraits[1],
        "both.jpg": beside(*portraits),
        "nobody.jpg": blank(),
        "notes.txt": b"words and no picture",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def choose(page: Any, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector(".state.busy", state="detached")


def card(page: Any, name: str) -> Any:
    return page.get_by_role("article", name=name)


def drop(page: Any, *paths: Path) -> None:
    """Drop files as the browser itself does."""
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def test_chosen_photographs_show_what_the_service_answers(
    open_page: Callable[..., Any], served: Served, files: dict[str, Path]
) -> None:
    page = open_page()
    expect(page.locator("#chip-text")).to_have_text("model · mtcnn")
    expect(page.locator("#note")).to_contain_text("never decide about a person")
    choose(page, files["both.jpg"], files["anna.jpg"])
    expect(page.locator("#count")).to_have_text("2 pictures · 3 faces")
    faces = served.faces([files["both.jpg"].read_bytes()])[0]
    rows = card(page, "both.jpg").locator(".face")
    for place, face in enumerate(faces):
        word = ("male", "female")[face["gender"]]
        expect(rows.nth(place).locator(".age")).to_have_text(str(round(face["age"])))
        expect(rows.nth(place)).to_contain_text(f"{word} {round(100 * face['gender_proba'])} %")
        expect(rows.nth(place)).to_contain_text(f"{round(face['age_low'])}–{round(face['age_high'])} years")
    # The boxes lie where the faces are.
    image = card(page, "both.jpg").locator("img").bounding_box()
    scale = image["width"] / 600  # of the picture's own pixels
    for place, face in enumerate(faces):
        box = card(page, "both.jpg").locator(".box").nth(place).bounding_box()
        assert box["x"] - image["x"] == pytest.approx(scale * face["x"], abs=3)
        assert box["width"] == pytest.approx(scale * face["width"], abs=3)


def test_a_contact_sheet_is_saved_as_csv_and_json(
    open_page: Callable[..., Any], served: Served, files: dict[str, Path]
) -> None:
    page = open_page()
    choose(page, *files.values())
    saved = {}
    for kind in ("csv", "json"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save {kind.upper()}").click()
        assert download.value.suggested_filename == f"faces.{kind}"
        saved[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    pictures = json.loads(saved["json"])["pictures"]
    assert [picture["name"] for picture in pictures] == list(files)
    assert "text, not a picture" in pictures[4]["error"]
    expected = served.faces([files["both.jpg"].read_bytes()])[0]
    rows = list(csv.DictReader(io.StringIO(saved["csv"])))
    assert [row["picture"] for row in rows] == ["anna.jpg", "'=bert.jpg", "both.jpg", "both.jpg"]
    for row, face in zip(rows[2:], expected, strict=True):
        assert list(row) == ["picture", *face]
        words = {name: face.pop(name) for name in ("reliable", "doubts")}
        assert {name: float(row[name]) for name in face} == pytest.approx(face, abs=1e-4)
        assert (row["reliable"], row["doubts"]) == (str(words["reliable"]).lower(), words["doubts"])


def test_what_shows_no_face_and_what_is_no_picture_is_said_plainly(
    open_page: Callable[..., Any], files: dict[str, Path]
) -> None:
    page = open_page()
    choose(page, files["nobody.jpg"], files["notes.txt"])
    expect(card(page, "nobody.jpg").locator(".state")).to_have_text("No face was found.")
    expect(card(page, "notes.txt").locator(".state")).to_contain_text("This file is text, not a picture")
    expect(page.get_by_role("button", name="Save CSV")).to_be_disabled()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card")).to_have_count(0)


def test_dropped_and_pasted_pictures_are_read(open_page: Callable[..., Any], files: dict[str, Path]) -> None:
    page = open_page(bypass_csp=True)
    page.get_by_role("tab", name="Camera").click()
    drop(page, files["anna.jpg"], files["nobody.jpg"])
    expect(page.get_by_role("tab", name="Photographs")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#count")).to_have_text("2 pictures · 1 face")
    page.evaluate(
        """text => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "image.png", { type: "image/png" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        base64.b64encode(files["=bert.jpg"].read_bytes()).decode(),
    )
    expect(page.locator("#count")).to_have_text("3 pictures · 2 faces")
    expect(card(page, "pasted-3.png").locator(".face")).to_have_count(1)


def test_the_whole_distribution_is_shown_on_hover_focus_and_tap(
    open_page: Callable[..., Any], files: dict[str, Path]
) -> None:
    page = open_page()
    choose(page, files["both.jpg"])
    tip = page.locator("#tip")
    expect(tip).to_be_hidden()
    page.locator(".box").nth(1).hover()
    expect(tip).to_be_visible()
    expect(tip.locator("strong")).to_have_text(re.compile(r"^\d+\.\d years$"))
    assert len(tip.locator(".stroke").get_attribute("d").split("L")) == 101
    expect(page.locator(".face").nth(1)).to_have_class("face on")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.locator(".box").nth(0).focus()
    expect(tip).to_be_visible()
    phone = open_page(size=PHONE, has_touch=True, is_mobile=True)
    choose(phone, files["both.jpg"])
    phone.locator(".box").nth(0).tap()
    expect(phone.locator("#tip")).to_be_visible()


def test_options_change_what_is_said(open_page: Callable[..., Any], files: dict[str, Path]) -> None:
    page = open_page()
    choose(page, files["anna.jpg"])
    before = page.locator(".face .more span").inner_text()
    page.get_by_text("Options").click()
    page.get_by_label("The interval holds the true age in").select_option("0.5")
    expect(page.locator(".face .more span")).not_to_have_text(before)
    page.get_by_label("Say no age if wider than").select_option("10")
    page.get_by_label("Say no gender if below").select_option("0.99")
    expect(page.locator(".face .age")).to_have_text("I don’t know")
    expect(page.locator(".face .more b")).to_have_text("gender: I don’t know")
    expect(page.locator(".box span")).to_have_text("?")


def test_by_keyboard_alone(open_page: Callable[..., Any], files: dict[str, Path]) -> None:
    page = open_page()
    # From here on the browser hands file dialogs over: asked for at the key press, it may come too late.
    page.on("filechooser", lambda chooser: None)
    expect(page.locator("#about-open")).to_be_enabled()
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the pictures")
    page.keyboard.press("Tab")
    expect(focused).to_have_id("about-open")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="The model")).to_contain_text("calibration pictures")
    page.keyboard.press("Escape")
    expect(focused).to_have_id("about-open")
    page.keyboard.press("Tab")
    expect(focused).to_have_id("tab-photos")
    page.keyboard.press("ArrowRight")
    expect(focused).to_have_id("tab-camera")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    page.keyboard.press("ArrowRight")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(focused).to_have_id("files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(files["both.jpg"]))
    expect(page.locator(".face")).to_have_count(2)
    for _ in range(5):
        page.keyboard.press("Tab")
    expect(focused).to_have_class(re.compile("box"))
    expect(focused).to_have_attribute(
        "aria-label", re.compile(r"^Face 1: \d+ (fe)?male \d+ %, from \d+ to \d+ years$")
    )
    expect(page.locator("#tip")).to_be_visible()
    expect(page.locator("#said")).to_contain_text("both.jpg: 2 faces")


def test_the_camera_live(open_page: Callable[..., Any], served: Served) -> None:
    page = open_page()
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#live-faces .face")).to_have_count(1)
    expect(page.locator("#live-boxes .box")).to_have_count(1)
    expect(page.locator("#rate")).to_have_text(re.compile(r"^\d+ frames/s · \d+ ms behind$"))
    stage, box = page.locator("#stage").bounding_box(), page.locator("#live-boxes .box").bounding_box()
    assert box["x"] + box["width"] / 2 == pytest.approx(stage["x"] + stage["width"] / 2, rel=0.1)
    assert served.count('agegender_live_frames_total{outcome="dropped"}') == 0
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#stage-text")).to_have_text("The camera is off.")
    expect(page.locator("#live-faces .face")).to_have_count(0)
    served.wait_for('agegender_running{what="cameras"}', 0)


def test_a_camera_that_is_refused_is_said_plainly(
    open_page: Callable[..., Any], launch: Callable[..., Any]
) -> None:
    page = open_page(of=launch("--deny-permission-prompts"))
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#stage-text")).to_contain_text("The camera was refused")
    expect(page.get_by_role("button", name="Start the camera")).to_be_enabled()


def test_a_server_that_is_stopped_is_said_plainly_and_found_again(
    open_page: Callable[..., Any], model: Any, files: dict[str, Path]
) -> None:
    with serve(model) as first:
        page = open_page(f"http://127.0.0.1:{first.port}")
        choose(page, files["anna.jpg"])
        page.get_by_role("tab", name="Camera").click()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#live-faces .face")).to_have_count(1)
    expect(page.locator("#stage-text")).to_contain_text("The server")
    page.get_by_role("tab", name="Photographs").click()
    choose(page, files["=bert.jpg"])
    expect(page.get_by_role("alert")).to_contain_text("The server is gone")
    expect(card(page, "=bert.jpg").locator(".state")).to_have_text("The server does not answer.")
    expect(card(page, "anna.jpg").locator(".face")).to_have_count(1)
    with serve(model, port=first.port):
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(card(page, "=bert.jpg").locator(".face")).to_have_count(1)


def test_a_key_is_asked_for(open_page: Callable[..., Any], model: Any, files: dict[str, Path]) -> None:
    key = "a-key-of-more-than-sixteen-letters"
    with serve(model, keys=[key]) as guarded:
        page = open_page(f"http://127.0.0.1:{guarded.port}")
        asked = page.get_by_role("dialog", name="An API key is needed")
        page.get_by_label("API key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(asked).to_contain_text("none of this service’s keys")
        page.get_by_label("API key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(asked).to_be_hidden()
        choose(page, files["anna.jpg"])
        expect(page.locator(".face")).to_have_count(1)
        page.get_by_role("tab", name="Camera").click()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#live-faces .face")).to_have_count(1)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    open_page: Callable[..., Any], files: dict[str, Path], size: Any, scheme: str
) -> None:
    axe = find_axe()
    if axe is None:
        pytest.skip("axe-core is not here (npm install axe-core, or AGEGENDER_AXE=axe.min.js)")
    page = open_page(size=size, color_scheme=scheme, bypass_csp=True)
    expect(page.locator("#about-open")).to_be_enabled()
    page.evaluate(axe.read_text(encoding="utf-8"))

    def violations() -> list[str]:
        found = page.evaluate("axe.run()")["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    assert violations() == []
    page.get_by_text("Options").click()
    choose(page, *files.values())
    assert violations() == []
    page.locator(".box").nth(0).focus()
    assert violations() == []
    page.locator("#about-open").click()
    assert violations() == []
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#live-faces .face")).to_have_count(1)
    assert violations() == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_screen(
    open_page: Callable[..., Any], files: dict[str, Path], width: int
) -> None:
    page = open_page(size={"width": width, "height": 800}, bypass_csp=True)
    page.get_by_text("Options").click()
    choose(page, *files.values())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("tab", name="Camera").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_there_are_pictures_and_no_buttons(
    open_page: Callable[..., Any], files: dict[str, Path]
) -> None:
    page = open_page(color_scheme="dark")
    choose(page, files["both.jpg"], files["anna.jpg"])
    page.emulate_media(media="print")
    for hidden in ("#drop", "#save-csv", ".tabs", "#about-open"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(card(page, "both.jpg").locator(".face")).to_have_count(2)
    expect(page.locator("#note")).to_be_visible()
