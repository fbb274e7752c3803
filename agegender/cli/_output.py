"""What commands print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

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


def fold_table(figures: Sequence[Sequence[float]]) -> Table:
    """Return a table of each fold's age MAE, CS@5 and gender accuracy, and of what they are on average."""
    import numpy as np

    table = Table("fold", "age MAE", "CS@5", "gender accuracy")
    for number, row in enumerate(figures, 1):
        table.add_row(str(number), *_cells(row))
    table.add_section()
    means, spreads = _cells(np.mean(figures, axis=0)), _cells(np.std(figures, axis=0))
    table.add_row("mean ± sd", *(f"{mean} ± {sd}" for mean, sd in zip(means, spreads, strict=True)))
    return table


def _cells(figures: Sequence[float]) -> list[str]:
    mae, cs5, gender = figures
    return [f"{mae:.2f}", f"{100 * cs5:.1f} %", f"{100 * gender:.1f} %"]


def import_tensorflow() -> None:
    """Import it without what its C++ parts print, before they can be told not to, of graphics cards not found."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def end_with_failures(failures: list[Any]) -> None:
    """Name the pictures that could not be used; the exit code is 1 where there are any."""
    for failure in failures:
        err_console.print(f"[red]Not read:[/red] {failure.picture}: {failure.reason}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)
