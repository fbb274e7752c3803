"""Pictures with the faces found in them: boxes where they are, and words for everyone."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image

from agegender import load_pretrained
from agegender.plots import FacesDisplay

WORDS = {0: "male", 1: "female"}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Three pictures; the name of the second is one that a page must not take for its own."""
    names = ["party.jpg", "<script>alert('x') & \"y\".png", "empty.jpg"]
    for name in names:
        Image.new("RGB", (200, 100), "tan").save(tmp_path / name, "PNG")
    return [str(tmp_path / name) for name in names]


def table(**changes) -> pd.DataFrame:
    """Two faces in the first picture, one in the second, none in the third."""
    columns = {
        "picture": [0, 0, 1],
        "x": [20.0, 100.0, 0.0],
        "y": [50.0, 10.0, 0.0],
        "width": [50.0, 40.0, 200.0],
        "height": [40.0, 40.0, 100.0],
        "age": [31.4, 7.6, 58.0],
        "age_low": [25.0, 4.2, 50.0],
        "age_high": [38.2, 11.0, 70.9],
        "gender": [1, 0, 1],
        "gender_proba": [0.97, 0.8, 0.66],
    }
    return pd.DataFrame(columns | changes)


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def boxes(self) -> list[str]:
        return [str(box["style"]) for box in self.all("div") if "aria-hidden" in box]


def page_of(display: FacesDisplay) -> Page:
    return Page(display._repr_html_())


def test_boxes_stand_where_the_faces_are_in_fractions_of_the_picture(pictures: list[str]) -> None:
    page = page_of(FacesDisplay.from_predictions(pictures, table()))
    places = [re.findall(r"(left|top|width|height):([\d.]+)%", style) for style in page.boxes()]
    assert [[float(share) for _, share in place] for place in places] == [
        [10, 50, 25, 40],
        [50, 10, 20, 40],
        [0, 0, 100, 100],
    ]


def test_age_interval_gender_and_probability_are_told_in_words(pictures: list[str]) -> None:
    page = page_of(FacesDisplay.from_predictions(pictures, table(), gender_names=WORDS))
    assert "31 years (25 to 38), female, 97 %" in page.text
    assert "8 years (4 to 11), male, 80 %" in page.text
    assert "no face found" in page.text
    party, _, empty = (image["alt"] for image in page.all("img"))
    assert party == "party.jpg: 31 years (25 to 38), female, 97 %; 8 years (4 to 11), male, 80 %"
    assert empty == "empty.jpg: no face found"


def test_names_are_text_and_nothing_is_loaded_or_run(pictures: list[str]) -> None:
    display = FacesDisplay.from_predictions(pictures, table(), gender_names={1: "<i>w</i>"})
    page = page_of(display)
    assert "<script>alert('x') & \"y\".png" in page.text
    assert "<i>w</i>" in page.text
    assert {tag for tag, _ in page.elements} <= {"div", "figure", "img", "figcaption", "b", "p", "span"}
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert not {name for _, found in page.elements for name in found} - {
        "style", "title", "alt", "src", "aria-hidden"
    }  # fmt: skip


def test_pictures_are_inside_and_scaled_down() -> None:
    large = np.zeros((900, 1200, 3), np.uint8)
    large[:, :600] = 255
    page = page_of(FacesDisplay([large], table().iloc[:1], max_side=300))
    content = base64.b64decode(str(page.all("img")[0]["src"]).partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert shown.shape == (225, 300, 3)
    assert shown[100, 20].min() > 250
    assert shown[100, 280].max() < 5
    assert "picture 0" in page.text


def test_what_the_model_is_not_sure_of_is_said(pictures: list[str]) -> None:
    unsure = table(age=[np.nan, 7.6, 58.0], gender=[1.0, np.nan, 1.0])
    page = page_of(FacesDisplay.from_predictions(pictures, unsure, gender_names=WORDS))
    assert "age: not sure (25 to 38), female, 97 %" in page.text
    assert "8 years (4 to 11), gender: not sure" in page.text
    unnamed = page_of(FacesDisplay.from_predictions(pictures, unsure))
    assert "not sure (25 to 38), 1, 97 %" in unnamed.text


def test_a_picture_that_cannot_be_read_has_its_reason_and_spoils_no_other(
    pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    display = FacesDisplay.from_predictions(
        [*pictures, tmp_path / "notes.jpg", tmp_path / "gone.jpg"], table()
    )
    page = page_of(display)
    assert len(page.all("img")) == 3
    assert "notes.jpgis " in page.text
    assert "gone.jpgdoes not exist" in page.text
    assert len(display.plot().axes_) == 5


def test_rows_of_predict_frame_are_whole_pictures(pictures: list[str]) -> None:
    frame = table().drop(columns=["picture", "x", "y", "width", "height"])
    page = page_of(FacesDisplay.from_predictions(pictures, frame))
    assert len(page.boxes()) == 3
    assert all("width:100.00%;height:100.00%" in style for style in page.boxes())
    frame.iloc[2] = np.nan
    assert "no face found" in page_of(FacesDisplay.from_predictions(pictures, frame)).text


def test_many_pictures_are_counted_not_shown(pictures: list[str]) -> None:
    display = FacesDisplay.from_predictions(pictures * 400, table(), max_pictures=2)
    page = page_of(display)
    assert len(page.all("img")) == 2
    assert "1,198 more not shown: max_pictures=2." in page.text
    assert repr(display) == "<FacesDisplay: 3 faces in 1,200 pictures>"


def test_matplotlib_draws_the_boxes_in_pixels(pictures: list[str]) -> None:
    display = FacesDisplay.from_predictions(pictures, table(), gender_names=WORDS).plot(
        columns=2, linewidth=5
    )
    first, second, third = display.axes_
    assert [patch.get_bbox().bounds for patch in first.patches] == [(20, 50, 50, 40), (100, 10, 40, 40)]
    assert [text.get_text() for text in first.texts] == ["31 · female", "8 · male"]
    assert first.patches[0].get_linewidth() == 5
    assert len(second.patches) == 1
    assert len(third.patches) == 0
    assert display.figure_.get_axes() == [first, second, third]
    assert third.get_title() == "empty.jpg"


def test_axes_given_are_used(pictures: list[str]) -> None:
    figure, axes = pyplot.subplots(1, 3)
    display = FacesDisplay.from_predictions(pictures, table()).plot(axes=axes)
    assert display.figure_ is figure
    assert [len(ax.images) for ax in axes] == [1, 1, 1]
    with pytest.raises(ValueError, match="1 axes for 3 pictures"):
        display.plot(axes=axes[0])


def test_a_table_of_something_else_is_refused(pictures: list[str]) -> None:
    with pytest.raises(ValueError, match="lacks the columns age_low, gender_proba"):
        FacesDisplay(pictures, table().drop(columns=["age_low", "gender_proba"]))
    with pytest.raises(ValueError, match="lacks the columns height"):
        FacesDisplay(pictures, table().drop(columns="height"))
    with pytest.raises(ValueError, match=r"'picture' has \[0, 0, 1\].*among the 1 pictures"):
        FacesDisplay(pictures[:1], table())
    with pytest.raises(ValueError, match=r"3 rows for 2 pictures and no column 'picture'"):
        FacesDisplay(pictures[:2], table().drop(columns="picture"))
    with pytest.raises(TypeError, match="X is one picture"):
        FacesDisplay(pictures[0], table())


def test_a_table_without_faces_shows_the_pictures(pictures: list[str]) -> None:
    page = page_of(FacesDisplay.from_predictions(pictures, table().iloc[:0]))
    assert page.text.count("no face found") == 3


def test_a_fitted_model_finds_and_shows_the_faces_of_real_photographs(shared: Path) -> None:
    photos = [shared / "photos" / name for name in ("couple.jpg", "img4.jpg")]
    model = load_pretrained("compact")
    display = FacesDisplay.from_estimator(model, photos, coverage=0.8, gender_names=WORDS)
    page = page_of(display)
    assert len(page.boxes()) == len(display.table) >= 3
    pd.testing.assert_frame_equal(display.table, model.predict_faces(photos, coverage=0.8))
    crops = FacesDisplay.from_estimator(model, photos, faces=None)
    assert len(page_of(crops).boxes()) == 2
