"""``agegender cache``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from agegender.cli._options import CacheOption
from agegender.cli._output import out_console, tell

if TYPE_CHECKING:
    from agegender.cache import EmbeddingCache

app = typer.Typer(help="The cache of embeddings on disk.", no_args_is_help=True)

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)


@app.command()
def info(cache: CacheOption = "auto") -> None:
    """Show the path and the content of the cache."""
    held = _open(cache).info()
    tell(f"{held.path}: {held.n_rows:,} rows, {held.n_bytes / 1e6:,.1f} MB")
    if not held.recipes:
        return
    from rich.table import Table

    table = Table("network", "layer", "crop", "rows", "MB", "last used")
    for entry in held.recipes:
        recipe = entry.recipe
        table.add_row(
            recipe.network[:12],
            recipe.layer,
            f"{recipe.crop:g}",
            f"{entry.n_rows:,}",
            f"{entry.n_bytes / 1e6:,.1f}",
            f"{entry.last_used}",
        )
    out_console.print(table)


@app.command()
def prune(
    max_size: Annotated[str, typer.Option(help="Largest size of the file: 5GB, 500MB, 1.5GiB.")],
    cache: CacheOption = "auto",
) -> None:
    """Delete the least recently used rows until the cache has at most a given size.

    Example: `agegender cache prune --max-size 5GB`
    """
    max_bytes = parse_size(max_size)
    store = _open(cache)
    n_dropped = store.prune(max_bytes)
    held = store.info()
    tell(f"Deleted {n_dropped:,} rows; {held.n_rows:,} stay, {held.n_bytes / 1e6:,.1f} MB.")


@app.command()
def verify(cache: CacheOption = "auto") -> None:
    """Read every row and delete damaged ones; if there were any, the exit code is 1."""
    store = _open(cache)
    n_rows = store.info().n_rows
    n_dropped = store.verify()
    n_lost = n_rows - store.info().n_rows
    if n_lost == 0:
        tell(f"{n_rows:,} rows, none damaged.")
        return
    tell(
        f"{n_lost:,} of {n_rows:,} rows were damaged and deleted, {n_dropped:,} of them found by their checksum; "
        "they will be computed again."
    )
    raise typer.Exit(1)


@app.command()
def clear(
    cache: CacheOption = "auto",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete all cached rows; they can be computed again."""
    store = _open(cache)
    held = store.info()
    if not yes:
        typer.confirm(
            f"Delete {held.n_rows:,} rows ({held.n_bytes / 1e6:,.1f} MB) of {held.path}?", abort=True
        )
    store.clear()
    tell(f"Deleted {held.n_rows:,} rows.")


def parse_size(text: str) -> int:
    """Read a size such as 5GB (10⁹ bytes each), 1.5GiB (2³⁰ each) or a number of bytes."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"--max-size {text!r} is not a size such as 5GB, 500MB or 1.5GiB.")
    number, prefix, binary = found.groups()
    power = " kMGT".lower().index(prefix.lower() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)


def _open(cache: str) -> EmbeddingCache:
    from agegender.cache import open_cache

    store = open_cache(cache)
    if store is None or cache == "none":
        raise ValueError("--cache none names no cache.")
    return store
