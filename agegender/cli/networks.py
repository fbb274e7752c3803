"""``agegender networks``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agegender.cli._output import out_console

if TYPE_CHECKING:
    import pandas as pd


# Screen width, in characters, from which every column is shown.
_WIDE = 160
# Characters of the licence on a narrower screen.
_TERMS = 15


def networks(
    name: Annotated[str | None, typer.Argument(help="One network, with its terms in full.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Only those whose file is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every network by name: whether its file is here and where, its size, terms, input and embedding.

    The list also contains the accuracy of heads on a network's layers, if it was measured, and how the
    network's numbers were checked. Nothing is downloaded.

    Example: `agegender networks --here`
    """
    from agegender.backbones import describe_backbones

    table = describe_backbones()
    if name is not None:
        table = table[table["name"] == _known(name, list(table["name"]))]
    elif here:
        table = table[table["here"]]
    if as_json:
        out_console.print_json(json.dumps(json.loads(table.to_json(orient="records", double_precision=10))))
    elif name is not None:
        _print_one(table.iloc[0])
    else:
        _print_all(table)


def _known(name: str, names: list[str]) -> str:
    from agegender._networks.naming import published_name
    from agegender._utils.validation import check_choice

    found = name if name in names else published_name(name) or name
    check_choice("NETWORK", found, names, "networks")
    return found


def _print_all(table: pd.DataFrame) -> None:
    """Print one line per network, with as many columns as fit on the screen."""
    from rich import box
    from rich.table import Column, Table

    wide = out_console.width >= _WIDE
    names = ["network", "here", "MB", "input", "numbers", "terms"]
    names += ["fed as", "worth", "compared with"] if wide else []
    columns = [Column(name, no_wrap=not wide) for name in names]
    shown = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in table.itertuples():
        size, terms = _whole(row.size), str(row.licence).split(";")[0].split(",")[0]
        cells = [
            str(row.name),
            "yes" if row.here else "no",
            f"{int(size) / 1e6:,.1f}" if size else "",
            str(row.input),
            _whole(row.embedding),
            terms if wide or len(terms) <= _TERMS else f"{terms[: _TERMS - 1]}…",
        ]
        cells += [str(row.fed_as), str(row.worth) or "not measured", str(row.checked)] if wide else []
        shown.add_row(*cells)
    out_console.print(shown)
    out_console.print(
        "No real weights were compared, except where it says so. `agegender networks NAME` tells where a file "
        "lies or would lie, what it is worth, what it was compared with, and its terms in full.",
        soft_wrap=True,
    )


def _print_one(row: pd.Series) -> None:
    size = _whole(row["size"])
    lines = {
        "network": row["name"],
        "file": f"{row['path']} ({'here' if row['here'] else 'not here'})",
        "size": f"{int(size):,} bytes" if size else "not known",
        "input": f"{row['input']}, fed as {row['fed_as']}",
        "embedding": f"{_whole(row['embedding']) or '?'} numbers",
        "worth": row["worth"] or "not measured here",
        "compared with": row["checked"],
        "terms": row["licence"] or "not stated",
    }
    for what, said in lines.items():
        out_console.print(f"{what + ':':15}{said}", soft_wrap=True, highlight=False, markup=False)


def _whole(value: Any) -> str:
    """Return a whole number as text, or empty text if it is not known."""
    import pandas as pd

    return "" if value is pd.NA else str(int(value))
