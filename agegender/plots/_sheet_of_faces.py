"""Pictures with boxes as a piece of HTML for notebooks: it holds the pictures, loads nothing and runs no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agegender.plots._marked import MarkedFace, MarkedPicture

__all__ = ["sheet"]

# Styles stand at the elements: notebooks that do not trust a page throw style sheets away.
_SHEET = "display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start;font:13px/1.4 sans-serif"
_FRAME = "position:relative;display:inline-block;overflow:hidden;max-width:100%;line-height:0"
_BOX = "position:absolute;box-sizing:border-box;border:2px solid;border-radius:3px"
_PLATE = (
    "position:absolute;left:-2px;padding:0 4px;color:#fff;font:600 12px/1.5 sans-serif;white-space:nowrap"
)
_DOT = "display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px"
_QUIET = "margin:0;opacity:.75"


def sheet(pictures: Sequence[MarkedPicture], n_pictures: int, max_side: int) -> str:
    """Return the HTML of pictures.

    Parameters
    ----------
    pictures : sequence of MarkedPicture
        Those that are shown.
    n_pictures : int
        How many there are.
    max_side : int
        Pixels of a picture's longer side.
    """
    figures = "".join(_figure(picture, max_side) for picture in pictures)
    hidden = n_pictures - len(pictures)
    more = (
        f'<p style="{_QUIET}">{hidden:,} more not shown: max_pictures={len(pictures)}.</p>' if hidden else ""
    )
    return f'<div><div style="{_SHEET}">{figures}</div>{more}</div>'


def _figure(picture: MarkedPicture, max_side: int) -> str:
    title, name = escape(picture.name), escape(picture.short_name)
    if picture.pixels is None:
        seen, told = "", f'<p style="{_QUIET}">{escape(picture.problem)}</p>'
    else:
        seen = _frame(picture, picture.pixels, max_side)
        told = "".join(map(_line, picture.faces)) or f'<p style="{_QUIET}">{picture.words}</p>'
    caption = f'<figcaption><b title="{title}">{name}</b>{told}</figcaption>'
    return f'<figure style="margin:0;max-width:{max_side}px">{seen}{caption}</figure>'


def _frame(picture: MarkedPicture, pixels: NDArray[np.uint8], max_side: int) -> str:
    """Return the picture with its boxes over it, in fractions of its sides."""
    alternative = escape(f"{picture.short_name}: {picture.words}")
    image = f'<img src="{_data(pixels, max_side)}" alt="{alternative}" style="max-width:100%;margin:0">'
    boxes = "".join(_box(face, pixels.shape) for face in picture.faces)
    return f'<div style="{_FRAME}">{image}{boxes}</div>'


def _box(face: MarkedFace, shape: tuple[int, ...]) -> str:
    height, width = shape[:2]
    x, y, w, h = face.box_in(shape)
    parts = {"left": x / width, "top": y / height, "width": w / width, "height": h / height}
    place = ";".join(f"{side}:{100 * share:.2f}%" for side, share in parts.items())
    # Above the box where there is room for it, else inside.
    above = "bottom:100%" if y > 0.12 * height else "top:-2px"
    plate = f'<span style="{_PLATE};{above};background:{face.color}">{escape(face.label)}</span>'
    style = f"{_BOX};border-color:{face.color};{place}"
    return f'<div aria-hidden="true" title="{escape(face.words)}" style="{style}">{plate}</div>'


def _line(face: MarkedFace) -> str:
    dot = f'<span style="{_DOT};background:{face.color}"></span>'
    return f'<div style="white-space:normal">{dot}{escape(face.words)}</div>'


def _data(pixels: NDArray[np.uint8], max_side: int) -> str:
    """Return a picture as a JPEG file inside an address."""
    image = Image.fromarray(pixels)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
