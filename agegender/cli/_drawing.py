"""Boxes and labels in pictures, readable at any size."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Marked", "annotate"]

COLORS = ("#ffb000", "#5ee0ff", "#9dff6e", "#ff8ad8", "#c9b6ff", "#ffffff")
# A smaller picture is enlarged first, so that readable text fits.
_LEAST_SIDE = 480

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marked:
    """A face to draw: its box (left, top, width, height, in pixels), its label and its colour."""

    box: Box
    label: str
    color: str


def annotate(
    pixels: NDArray[np.uint8], faces: Iterable[Marked], *, enlarge: bool = True
) -> NDArray[np.uint8]:
    """Return a picture with a box and a label for each face.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        RGB.
    faces : iterable of Marked
        Labels are placed in this order.
    enlarge : bool, default=True
        Whether a small picture is enlarged by a whole factor, so that the text has room.

    Returns
    -------
    ndarray of shape (h', w', 3), uint8
    """
    factor = -(-_LEAST_SIDE // max(pixels.shape[:2])) if enlarge else 1
    picture = Image.fromarray(pixels)
    if factor > 1:
        size = picture.width * factor, picture.height * factor
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    drawn, marked = ImageDraw.Draw(picture), list(faces)
    boxes = [_rectangle(face.box, factor) for face in marked]
    taken: list[Box] = []
    for face, box in zip(marked, boxes, strict=True):
        text = _text_size(box, picture.size)
        drawn.rectangle(box, outline="black", width=max(3, text // 5))
        drawn.rectangle(box, outline=face.color, width=max(2, text // 8))
    for face, box in zip(marked, boxes, strict=True):
        _write(drawn, face, box, taken, boxes, picture.size)
    return np.asarray(picture)


def _rectangle(box: Box, factor: int) -> Box:
    x, y, width, height = (side * factor for side in box)
    return x, y, x + width, y + height


def _text_size(box: Box, size: tuple[int, int]) -> int:
    """Return a font size that suits the face and is readable when the whole picture is shown."""
    least = max(13.0, 0.02 * max(size))
    return round(min(max(least, 0.11 * (box[2] - box[0])), 0.05 * max(size), 96))


def _write(
    drawn: ImageDraw.ImageDraw,
    face: Marked,
    box: Box,
    taken: list[Box],
    boxes: Sequence[Box],
    size: tuple[int, int],
) -> None:
    font = _font(_text_size(box, size))
    left, top, right, bottom = drawn.textbbox((0, 0), face.label, font=font)
    pad = max(2, round(font.size / 5))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    place = _place(box, (width, height), size, [*taken, *(other for other in boxes if other is not box)])
    taken.append((*place, place[0] + width, place[1] + height))
    drawn.rectangle(taken[-1], fill="black")
    drawn.text((place[0] + pad - left, place[1] + pad - top), face.label, font=font, fill=face.color)


def _place(
    box: Box, label: tuple[float, float], size: tuple[int, int], others: list[Box]
) -> tuple[float, float]:
    """Return the position at which a label covers least: above the face, below it, or inside its box."""
    width, height = label
    rows = (box[1] - height, box[3], box[3] - height, box[1])
    columns = (box[0], (box[0] + box[2] - width) / 2, box[2] - width)
    places = [
        (min(max(0.0, x), max(0.0, size[0] - width)), min(max(0.0, y), max(0.0, size[1] - height)))
        for y in rows
        for x in columns
    ]
    return min(places, key=lambda place: _hidden(place, label, others))


def _hidden(place: tuple[float, float], label: tuple[float, float], others: list[Box]) -> float:
    """Return how many pixels of other faces and labels a label would cover."""
    (x, y), (width, height) = place, label
    across = (min(x + width, other[2]) - max(x, other[0]) for other in others)
    down = (min(y + height, other[3]) - max(y, other[1]) for other in others)
    return sum(max(0.0, a) * max(0.0, d) for a, d in zip(across, down, strict=True))


@functools.lru_cache(maxsize=32)
def _font(size: int) -> Any:
    """Return Pillow's built-in font. It has only Latin-1 characters, so that the hyphen is the only dash."""
    return ImageFont.load_default(size)
