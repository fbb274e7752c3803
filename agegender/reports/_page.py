"""A report as one HTML page that loads nothing."""

from __future__ import annotations

import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from agegender._version import __version__
from agegender.reports._charts import charts
from agegender.reports._parts import environment, style, thumbnail
from agegender.reports._words import difference_text, figure_text, figure_title, figure_unit, interval_text

if TYPE_CHECKING:
    from agegender.reports._fields import ReportTables

__all__ = ["render"]

LISTED_GAPS = 8


def render(report: ReportTables) -> str:
    """Return the page."""
    page = environment("reports")
    page.globals |= {"text": figure_text, "interval": interval_text}
    page.globals |= {"difference": difference_text}
    page.globals |= {"title_of": figure_title, "unit_of": figure_unit}
    template = page.from_string(files(__package__).joinpath("page.html.jinja").read_text("utf-8"))
    text: str = template.render(
        style=style(),
        report=report,
        version=__version__,
        charts=charts(report),
        overall=report.overall.to_dict("index"),
        unseen=report.unseen.to_dict("index"),
        groupings=[(name, table.to_dict("records")) for name, table in _groupings(report)],
        gaps=_clear_gaps(report),
        genders=report.genders.to_dict("records"),
        baselines=report.baselines.to_dict("records"),
        reference=_reference(report),
        worst=_worst(report),
        isnan=lambda value: isinstance(value, float) and math.isnan(value),
    )
    return text


def _groupings(report: ReportTables) -> Any:
    return report.by_group.groupby("grouping", sort=False)


def _reference(report: ReportTables) -> list[tuple[str, list[str], list[tuple[str, list[dict[Any, Any]]]]]]:
    """Return the groupings of the reference: their figures, and the values of each group."""
    found = []
    for grouping, part in report.reference.groupby("grouping", sort=False):
        known = part[part["value"].notna() | part["reference"].notna()]
        figures = known["figure"].unique().tolist()
        shown = part[part["figure"].isin(figures)]
        groups = [(str(name), rows.to_dict("records")) for name, rows in shown.groupby("group", sort=False)]
        found.append((str(grouping), figures, groups))
    return found


def _clear_gaps(report: ReportTables) -> list[dict[Any, Any]]:
    """Return the largest significant gaps, those of single groupings first."""
    clear = report.gaps[report.gaps["clear"]]
    crossed = clear["grouping"].str.contains(" × ")
    single = clear[~crossed].to_dict("records")
    return (single + clear[crossed].to_dict("records"))[: max(LISTED_GAPS, len(single))]


def _worst(report: ReportTables) -> list[dict[Any, Any]]:
    """Return the worst predictions whose picture can be shown, or all of them if no pictures were given."""
    records: list[dict[Any, Any]] = report.worst.to_dict("records")
    if not len(report.worst_pictures):
        return [record | {"thumbnail": None} for record in records]
    shown = [thumbnail(picture) for picture in report.worst_pictures]
    found = [record | {"thumbnail": image} for record, image in zip(records, shown, strict=True) if image]
    return found or [record | {"thumbnail": None} for record in records]
