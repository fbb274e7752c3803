"""An inspection as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agegender.inspection._words import findings

if TYPE_CHECKING:
    from agegender.inspection._tables import InspectionTables

__all__ = ["overview"]

LISTED = 10


def overview(found: InspectionTables) -> Any:
    """Return the findings and the most suspicious labels in a form that rich prints."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    heading = Text(f"{found.title}: {found.counts['pictures']:,} pictures")
    summary = Table(show_header=False)
    for name, sentence in findings(found):
        summary.add_row(name, Text(sentence))
    return Group(heading, summary, _suspicious(found))


def _suspicious(found: InspectionTables) -> Any:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("suspicion", "label", "read as", Column("picture", overflow="fold"), "why")
    for record in found.suspicious(LISTED).to_dict("records"):
        read = f"{record['age_low']:.0f}–{record['age_high']:.0f} {record['suggested_gender']}"
        cells = (f"{100 * record['suspicion']:.0f} %", f"{record['age']:g} {record['gender']}", read)
        table.add_row(*map(Text, (*cells, _short(record["picture"]), record["reason"])))
    return table


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"…{name[-39:]}"
