"""Axes, and colours that colour-blind people can distinguish (Okabe and Ito, 2008)."""

from __future__ import annotations

from typing import Any

__all__ = ["BLUE", "GREEN", "GREY", "INK", "LINES", "ORANGE", "SKY", "VERMILION", "new_axes", "tidy"]

BLUE, ORANGE, VERMILION, GREEN, SKY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9"
INK, GREY = "#30343b", "#8a9099"
LINES = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", SKY)


def new_axes(ax: Any, figsize: tuple[float, float] = (6.0, 4.0)) -> Any:
    """Return the given axes, or those of a new figure."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=figsize, layout="constrained")[1]


def tidy(ax: Any, *, grid: str = "y") -> None:
    """Keep two axis lines and a light grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=INK, labelsize="small")
    ax.grid(axis=grid, color="#e6e8eb", linewidth=0.8)
    ax.set_axisbelow(True)
    for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
        label.set_color(INK)
