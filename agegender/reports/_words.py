"""Names and formats of metrics, on the page and in the terminal."""

from __future__ import annotations

import math

from agegender.reports._tables import FIGURES

__all__ = ["difference_text", "figure_text", "figure_title", "figure_unit", "interval_text"]

TITLES = {
    "share": "Share of pictures",
    "age_mae": "Mean absolute error",
    "age_bias": "Bias",
    "age_cs5": "Within 5 years",
    "age_coverage": "Inside the interval",
    "gender_accuracy": "Gender right",
}


def figure_title(figure: str) -> str:
    """Return the name of a metric."""
    return TITLES[figure]


def figure_unit(figure: str) -> str:
    """Return the unit of a metric; metrics that are not in `FIGURES` are shares."""
    return "%" if FIGURES.get(figure, ("", True))[1] else "years"


def figure_text(figure: str, value: float, *, unit: bool = True) -> str:
    """Return a value with its unit.

    Examples
    --------
    >>> figure_text("age_mae", 4.518), figure_text("age_cs5", 0.664), figure_text("age_bias", float("nan"))
    ('4.52 years', '66.4 %', '–')
    """
    if math.isnan(value):
        return "–"
    ending = f" {figure_unit(figure)}" if unit else ""
    if figure_unit(figure) == "%":
        return f"{100 * value:.1f}{ending}"
    sign = "+" if figure == "age_bias" else ""
    return f"{value:{sign}.2f}{ending}".replace("-", "−")


def difference_text(figure: str, value: float, *, unit: bool = True) -> str:
    """Return a difference with its sign; of shares in percentage points.

    Examples
    --------
    >>> difference_text("age_mae", 0.5), difference_text("gender_accuracy", -0.031)
    ('+0.50 years', '−3.1 points')
    """
    if math.isnan(value):
        return "–"
    if figure_unit(figure) == "%":
        text = f"{100 * value:+.1f}{' points' if unit else ''}"
    else:
        text = f"{value:+.2f}{' years' if unit else ''}"
    return text.replace("-", "−")


def interval_text(figure: str, low: float, high: float) -> str:
    """Return the ends of an interval without the unit.

    Examples
    --------
    >>> interval_text("age_cs5", 0.6579, 0.6714)
    '65.8 … 67.1'
    """
    if math.isnan(low):
        return ""
    return f"{figure_text(figure, low, unit=False)} … {figure_text(figure, high, unit=False)}"
