"""What pages are made of, whatever they report on: the style, plots and pictures as text inside them."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from typing import Any

from agegender._utils.validation import optional_import
from agegender.exceptions import PictureError
from agegender.images import Picture, load

__all__ = ["SIZE", "THUMBNAIL", "draw", "environment", "style", "thumbnail"]

SIZE = (5.2, 3.7)
THUMBNAIL = 144


def environment(extra: str) -> Any:
    """Return what renders a page, or say which extra installs it."""
    jinja2 = optional_import("jinja2", extra)
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def style() -> Any:
    """Return the pages' style sheet, which needs no escaping."""
    markup = optional_import("markupsafe", "reports")
    return markup.Markup(files(__package__).joinpath("page.css").read_text("utf-8"))


def draw(plot: Any, size: tuple[float, float] = SIZE) -> str:
    """Return a plot as a data URI: what `plot` draws on axes of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    plot(figure.subplots())
    content = io.BytesIO()
    # Hexagons by the thousand are smaller as pixels.
    collections: list[Any] = list(figure.axes[0].collections)
    for collection in collections:
        collection.set_rasterized(len(collection.get_paths()) > 1 or len(collection.get_offsets()) > 200)
    figure.savefig(content, format="svg", dpi=160, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def thumbnail(picture: Picture, side: int = THUMBNAIL) -> str | None:
    """Return a small copy of a picture as a data URI; None where it cannot be read."""
    from PIL import Image

    try:
        image = Image.fromarray(load(picture))
    except (PictureError, TypeError):
        return None
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
