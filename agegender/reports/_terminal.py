"""A report as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agegender.reports._tables import FIGURES
from agegender.reports._words import figure_text, figure_title, interval_text

if TYPE_CHECKING:
    from agegender.reports._fields import ReportTables

__all__ = ["overview"]


def overview(report: ReportTables) -> Any:
    """Return the figures over all, and by each single grouping, for rich to print."""
    from rich.console import Group
    from rich.text import Text

    counts = report.counts
    heading = Text(f"{report.title}: {counts['predicted']:,} of {counts['pictures']:,} pictures")
    names = [name for name in report.by_group["grouping"].unique() if " × " not in name]
    compared = [_beside(report)] if len(report.baselines) else []
    return Group(heading, _overall(report), *compared, *(_by_group(report, name) for name in names))


def _overall(report: ReportTables) -> Any:
    from rich.table import Table

    table = Table("figure", "value", "95 % interval", "pictures")
    for figure, row in report.overall.iterrows():
        name = str(figure)
        interval = interval_text(name, row["low"], row["high"])
        table.add_row(figure_title(name), figure_text(name, row["value"]), interval, f"{int(row['n']):,}")
    return table


def _beside(report: ReportTables) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("baseline", "figure", "baseline's", "model's", "difference", "95 % interval", "pictures")
    for record in report.baselines.to_dict("records"):
        name = record["figure"]
        values = [figure_text(name, record[column]) for column in ("value", "model", "difference")]
        interval = interval_text(name, record["low"], record["high"])
        title = figure_title(name)
        table.add_row(Text(record["baseline"]), title, *values, interval, f"{record['n']:,}")
    return table


def _by_group(report: ReportTables, grouping: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    shown = [name for name in FIGURES if report.by_group[name].notna().any()]
    table = Table(escape(grouping), "pictures", *(figure_title(name) for name in shown))
    part = report.by_group[report.by_group["grouping"] == grouping]
    for record in part.to_dict("records"):
        cells = [figure_text(name, record[name]) for name in shown]
        table.add_row(escape(record["group"]), f"{record['n']:,}", *cells)
    return table
