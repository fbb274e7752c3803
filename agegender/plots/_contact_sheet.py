"""A sheet of faces with true and predicted values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from agegender import images
from agegender.plots._axes import BLUE, GREY, INK, VERMILION

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["contact_sheet"]

SCALE = 2
"""Everything is drawn larger by this factor and then scaled down, because Pillow's shapes have hard edges."""

FACE, BELOW, GAP, MARGIN, HEADING = 180, 66, 20, 32, 88
OLDEST = 100
CORNER = 10
PAPER, CARD, LINE, PALE_BLUE = "#f1f3f5", "#ffffff", "#d9dde2", "#a9d3ee"


def contact_sheet(
    pictures: Sequence[images.Picture],
    frame: pd.DataFrame,
    *,
    title: str,
    note: str = "",
    gender_names: Mapping[Any, str] | None = None,
    columns: int = 6,
) -> Image.Image:
    """Draw a card per face: the picture, and the predicted and true age and gender.

    Below each face, a line shows the ages 0 to 100, with a bar for the interval, a ring for the predicted age
    and a diamond for the true age. A wrong gender is red.

    Parameters
    ----------
    pictures : sequence of pictures
        Faces; each is shown as a square.
    frame : DataFrame
        One row per picture, with the columns of `cross_val_predict_frame`.
    title, note : str
        Texts above the cards.
    gender_names : dict, default=None
        Words for gender labels; if None, the labels are shown.
    columns : int, default=6
        Cards per row.

    Returns
    -------
    PIL.Image.Image
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width = 2 * MARGIN + columns * (FACE + GAP) - GAP
    height = MARGIN + HEADING + rows * (FACE + BELOW + GAP) - GAP + MARGIN
    sheet = _Sheet(width, height)
    _draw_heading(sheet, width, title, note)
    for place, (picture, row) in enumerate(zip(pictures, frame.to_dict("records"), strict=True)):
        x = MARGIN + place % columns * (FACE + GAP)
        y = MARGIN + HEADING + place // columns * (FACE + BELOW + GAP)
        _draw_card(sheet, x, y, picture, row, gender_names or {})
    return sheet.image.resize((width, height), Image.Resampling.BOX)


class _Sheet:
    """A picture that is drawn on in its final coordinates."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (SCALE * width, SCALE * height), PAPER)
        self._pen = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str, radius: float = 0) -> None:
        corners = [SCALE * v for v in (left, top, right, bottom)]
        self._pen.rounded_rectangle(corners, SCALE * radius, fill)

    def ring(self, x: float, y: float, radius: float) -> None:
        corners = [SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self._pen.ellipse(corners, "white", BLUE, 2 * SCALE)

    def diamond(self, x: float, y: float, radius: float) -> None:
        for size, colour in ((radius + 1.5, CARD), (radius, VERMILION)):
            tips = [(x - size, y), (x, y - size), (x + size, y), (x, y + size)]
            self._pen.polygon([(SCALE * a, SCALE * b) for a, b in tips], colour)

    def text(self, x: float, y: float, words: str, size: int, colour: str, anchor: str = "ls") -> float:
        """Write on a base line, and return the width of the text in pixels."""
        font = _font(SCALE * size)
        self._pen.text((SCALE * x, SCALE * y), words, colour, font, anchor)
        return float(self._pen.textlength(words, font)) / SCALE

    def picture(self, x: int, y: int, picture: images.Picture) -> None:
        """Put a picture with rounded upper corners on a card."""
        # Enlarged without smoothing, so that scaling the sheet down restores the same pixels.
        face = Image.fromarray(images.load(picture)).resize((FACE, FACE), Image.Resampling.LANCZOS)
        face = face.resize((SCALE * FACE, SCALE * FACE), Image.Resampling.NEAREST)
        mask = Image.new("L", face.size, 0)
        below = SCALE * (FACE + CORNER)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, face.width - 1, below), SCALE * CORNER, 255)
        self.image.paste(face, (SCALE * x, SCALE * y), mask)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _draw_heading(sheet: _Sheet, width: int, title: str, note: str) -> None:
    sheet.text(MARGIN, MARGIN + 22, title, 26, INK)
    sheet.text(MARGIN, MARGIN + 50, note, 14, GREY)
    x, y = width - MARGIN - 336, MARGIN + 14
    sheet.diamond(x, y, 5)
    sheet.text(x + 12, y + 5, "true age", 14, INK)
    sheet.ring(x + 102, y, 5)
    sheet.text(x + 114, y + 5, "predicted age", 14, INK)
    sheet.box(x + 226, y - 3, x + 250, y + 3, PALE_BLUE, 3)
    sheet.text(x + 258, y + 5, "its interval", 14, INK)


def _draw_card(
    sheet: _Sheet, x: int, y: int, picture: images.Picture, row: Mapping[Any, Any], names: Mapping[Any, str]
) -> None:
    sheet.box(x - 1, y - 1, x + FACE + 1, y + FACE + BELOW + 1, LINE, CORNER + 1)
    sheet.box(x, y, x + FACE, y + FACE + BELOW, CARD, CORNER)
    sheet.picture(x, y, picture)
    left, right, base = x + 12, x + FACE - 12, y + FACE + 26
    true, taken = row["true_gender"], row["gender"]
    age = f"{row['age']:.0f}"
    sheet.text(left, base, age, 20, BLUE)
    sheet.text(left + 28, base, names.get(taken, str(taken)), 14, INK if taken == true else VERMILION)
    sheet.text(right, base, f"{names.get(true, str(true))}, {row['true_age']:.0f}", 14, GREY, "rs")
    _draw_ages(sheet, left, right, base + 22, row)


def _draw_ages(sheet: _Sheet, left: float, right: float, y: float, row: Mapping[Any, Any]) -> None:
    """Draw the line of ages from 0 to 100."""

    def place(age: float) -> float:
        return left + (right - left) * min(age, OLDEST) / OLDEST

    sheet.box(left, y - 0.5, right, y + 0.5, LINE)
    sheet.box(place(row["age_low"]), y - 3, place(row["age_high"]), y + 3, PALE_BLUE, 3)
    sheet.ring(place(row["age"]), y, 5)
    sheet.diamond(place(row["true_age"]), y, 5)
