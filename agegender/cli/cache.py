"""``agegender cache``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from agegender.cli._options import CacheOption
from agegender.cli._output import out_console

app = typer.Typer(help="The embeddings kept on disk.", no_args_is_help=True)


@app.command()
def info(cache: CacheOption = "auto") -> None:
    """Say where the cache is and what it holds."""
    from agegender.cache import open_cache

    store = open_cache(cache)
    if store is None:
        raise ValueError("--cache none names no cache.")
    held = store.info()
    out_console.print(f"{held.path}: {held.n_rows:,} rows, {held.n_bytes / 1e6:,.1f} MB", soft_wrap=True)
    if not held.recipes:
        return
    table = Table("network", "layer", "crop", "rows", "MB")
    for entry in held.recipes:
        recipe = entry.recipe
        table.add_row(
            recipe.network[:12],
            recipe.layer,
            f"{recipe.crop:g}",
            f"{entry.n_rows:,}",
            f"{entry.n_bytes / 1e6:,.1f}",
        )
    out_console.print(table)


@app.command()
def clear(
    cache: CacheOption = "auto",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete every cached row. Nothing is lost but the time to compute them again."""
    from agegender.cache import open_cache

    store = open_cache(cache)
    if store is None:
        raise ValueError("--cache none names no cache.")
    held = store.info()
    if not yes:
        typer.confirm(
            f"Delete {held.n_rows:,} rows ({held.n_bytes / 1e6:,.1f} MB) of {held.path}?", abort=True
        )
    store.clear()
    out_console.print(f"Deleted {held.n_rows:,} rows.")
