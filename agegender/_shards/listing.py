"""Lists of pictures: a folder, a table's column or lines of text, on this machine or behind a URL."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agegender._utils.stores import find, open_place
from agegender._utils.urls import is_url, parent, public, suffix_of
from agegender._utils.validation import optional_import
from agegender.images import SUFFIXES

__all__ = ["listed", "unsigned"]

_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_TEXTS = (".txt", ".lst", ".list")


def listed(source: str, column: str) -> tuple[str, Iterator[str]]:
    """Return a list's base for relative paths, and its pictures; see `agegender.shards.list_pictures`."""
    suffix = suffix_of(source)
    if not is_url(source):
        if Path(source).is_dir():
            return source, _walk(Path(source), "")
        if not Path(source).is_file():
            raise FileNotFoundError(f"There is no folder and no list {source!r}.")
    elif suffix not in (*_TABLES, *_TEXTS, ".parquet"):
        return source, (name for name in find(source) if suffix_of(name) in SUFFIXES)
    root = parent(source) if is_url(source) else os.path.dirname(source)
    if suffix == ".parquet":
        return root, unsigned(_parquet_column(source, column))
    if suffix in _TABLES:
        return root, unsigned(_csv_column(source, _TABLES[suffix], column))
    return root, unsigned(_lines(source))


def unsigned(names: Iterator[str]) -> Iterator[str]:
    """Yield names; refuse a name with a password or a signature, because a shard would contain it.

    Raises
    ------
    ValueError
        If there is such a URL; the message does not show it.
    """
    for name in names:
        if is_url(name) and public(name) != name:
            raise ValueError(
                f"The list has {public(name)} with a password or a query in its URL, which would be written into the "
                "shard. Leave it out, and give the store's credentials by its own ways (environment, ~/.aws, …)."
            )
        yield name


def _walk(folder: Path, below: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield the pictures of a folder in the order of names, with one folder in memory at a time."""
    place = os.stat(folder / below)
    inside = (*above, (place.st_dev, place.st_ino))
    with os.scandir(folder / below) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{below}{entry.name}"
        if _is_folder(entry):
            status = entry.stat()
            # A link to a parent folder would be followed for ever.
            if (status.st_dev, status.st_ino) not in inside:
                yield from _walk(folder, f"{name}/", inside)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _lines(place: str) -> Iterator[str]:
    with io.TextIOWrapper(open_place(place), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            name = line.rstrip("\r\n")
            if name:
                yield name


def _csv_column(place: str, separator: str, column: str) -> Iterator[str]:
    with io.TextIOWrapper(open_place(place), encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator)
        number = _number(column, next(rows, []), place)
        for row in rows:
            if row:
                yield row[number]


def _parquet_column(place: str, column: str) -> Iterator[str]:
    parquet = optional_import("pyarrow.parquet", "parquet")
    with open_place(place) as opened, parquet.ParquetFile(opened) as file:
        _number(column, file.schema_arrow.names, place)
        for batch in file.iter_batches(columns=[column]):
            yield from map(str, batch.column(0).to_pylist())


def _number(column: str, names: Sequence[str], place: str) -> int:
    if column not in names:
        raise ValueError(f"{public(place)} has no column {column!r}; it has {', '.join(map(repr, names))}.")
    return list(names).index(column)
