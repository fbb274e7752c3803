"""A report as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agegender.reports._reference import ALL
from agegender.reports._tables import FIGURES
from agegender.reports._words import difference_text, figure_text, figure_title, interval_text

if TYPE_CHECKING:
    import pandas as pd

    from agegender.reports._fields import ReportTables

__all__ = ["overview"]


def overview(report: ReportTables) -> Any:
    """Return the metrics, overall and by each single grouping, for rich to print."""
    from rich.console import Group
    from rich.text import Text

    counts = report.counts
    heading = Text(f"{report.title}: {counts['predicted']:,} of {counts['pictures']:,} pictures")
    names = [name for name in report.by_group["grouping"].unique() if " × " not in name]
    compared = [_beside(report)] if len(report.baselines) else []
    by_group = (_by_group(report, name) for name in names)
    parts = (*_unseen(report), *compared, *_reference(report), *by_group)
    return Group(heading, _overall(report.overall), *parts)


def _unseen(report: ReportTables) -> list[Any]:
    """Return the metrics without pictures of the training data, if there were any."""
    from rich.text import Text

    if not (n := report.counts["trained_on"]):
        return []
    told = f"{n:,} of these pictures are among those that the model was trained on. Without them:"
    return [Text(told), _overall(report.unseen)]


def _overall(figures: pd.DataFrame) -> Any:
    from rich.table import Table

    table = Table("figure", "value", "95 % interval", "pictures")
    for figure, row in figures.iterrows():
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


def _reference(report: ReportTables) -> list[Any]:
    """Return both reports side by side, if there is a reference."""
    from rich.text import Text

    if not len(report.reference):
        return []
    told = f"Beside the reference: {report.reference_title}. A star: the difference is more than chance."
    parts = report.reference.groupby("grouping", sort=False)
    return [Text(told), *(_both(str(grouping), part) for grouping, part in parts)]


def _both(grouping: str, part: pd.DataFrame) -> Any:
    """Return a table with three columns per row: this report's value, the reference's, their difference."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column(Text(grouping)), "figure", "here", "reference", "difference", "")
    for group, rows in part.groupby("group", sort=False):
        named = Text("" if grouping == ALL else str(group))
        for record in rows.to_dict("records"):
            if not record["n"] and not record["reference_n"]:
                continue
            name = record["figure"]
            values = [figure_text(name, record[column]) for column in ("value", "reference")]
            difference = difference_text(name, record["difference"])
            table.add_row(named, figure_title(name), *values, difference, "*" if record["clear"] else "")
            named = Text("")
    return table


def _by_group(report: ReportTables, grouping: str) -> Any:
    from rich.table import Column, Table
    from rich.text import Text

    shown = [name for name in FIGURES if report.by_group[name].notna().any()]
    table = Table(Column(Text(grouping)), "pictures", *(figure_title(name) for name in shown))
    part = report.by_group[report.by_group["grouping"] == grouping]
    for record in part.to_dict("records"):
        cells = [figure_text(name, record[name]) for name in shown]
        table.add_row(Text(record["group"]), f"{record['n']:,}", *cells)
    return table
