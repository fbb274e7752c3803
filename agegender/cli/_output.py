"""Output of commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.table import Table

    from agegender.extractor import ExtractionReport

# The output contains names of files, layers and users' columns, which must not be read as markup.
out_console = Console(markup=False, emoji=False, highlight=False)
err_console = Console(markup=False, emoji=False, highlight=False, stderr=True)


def tell(text: str) -> None:
    """Print the result of a command on standard output."""
    out_console.print(text, soft_wrap=True)


def say(text: str, quiet: bool = False) -> None:
    """Print a progress message on standard error."""
    if not quiet:
        err_console.print(text, soft_wrap=True)


def complain(label: str, text: str) -> None:
    """Print an error message on standard error."""
    err_console.print(Text.assemble((f"{label}:", "red"), f" {text}"), soft_wrap=True)


def shown(path: str | os.PathLike[str], width: int | None = None) -> str:
    """Return a path for display: relative to the working directory, and shortened in the middle to a width.

    Folders in the middle are left out first, then the middle of the name.

    Examples
    --------
    >>> shown("photos/2019/holiday/beach/anna.jpg", 24)
    'photos/…/beach/anna.jpg'
    >>> shown("photos/2019/a_very_long_name_of_a_photo.jpg", 24)
    'a_very_long_nam…hoto.jpg'
    """
    text = os.fspath(path)
    if os.path.isabs(text) and (near := os.path.relpath(text)) and not near.startswith(os.pardir):
        text = near
    text = text if text.isprintable() else repr(text)[1:-1]
    if width is None or len(text) <= width:
        return text
    first, *parts = Path(text).parts
    tails = ["/".join(parts[start:]) for start in range(1, len(parts))]
    starts = ("…",) if os.path.isabs(text) else (f"{first}/…", "…")
    for shorter in (f"{start}/{tail}" for start in starts for tail in [*tails, *parts[-1:]]):
        if len(shorter) <= width:
            return shorter
    name = Path(text).name
    head = (width - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}" if len(name) > width else name


def account(report: ExtractionReport) -> str:
    """Describe an extraction in words."""
    return (
        f"Embedded {report.n_images:,} pictures ({report.n_unique:,} different): {report.n_cached:,} from the "
        f"cache, {report.n_computed:,} through the network, {report.seconds:.1f} s."
    )


def fold_table(figures: Sequence[Sequence[float]]) -> Table:
    """Return a table of age MAE, CS@5 and gender accuracy per fold, with means."""
    import numpy as np
    from rich.table import Table

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
    """Import TensorFlow without the messages about missing GPUs that its C++ parts print."""
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
    """Print the pictures that could not be used; if there are any, the exit code is 1."""
    for failure in failures:
        complain("Not read", f"{shown(failure.picture)}: {failure.reason}")
    if failures:
        raise typer.Exit(1)
