"""What commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from agegender.extractor import ExtractionReport

out_console = Console()
err_console = Console(stderr=True)


def say(text: str, quiet: bool) -> None:
    """Tell on standard error how the work goes."""
    if not quiet:
        err_console.print(text, soft_wrap=True, highlight=False)


def account(report: ExtractionReport) -> str:
    """Put into words what an extractor did."""
    return (
        f"Embedded {report.n_images:,} pictures ({report.n_unique:,} different): {report.n_cached:,} from the "
        f"cache, {report.n_computed:,} through the network, {report.seconds:.1f} s."
    )


def gender_word(label: Any) -> str:
    """Return the word for a gender label."""
    from agegender.datasets._common import GENDERS

    return GENDERS[int(label)] if label in (0, 1) else str(label)


def end_with_failures(failures: list[Any]) -> None:
    """Name the pictures that could not be used; the exit code is 1 where there are any."""
    for failure in failures:
        err_console.print(f"[red]Not read:[/red] {failure.picture}: {failure.reason}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)
