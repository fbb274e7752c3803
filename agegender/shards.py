"""Embeddings of very many pictures as Parquet files, a part of the list for each of many machines.

A shard is a file: every n-th picture of a list, which each machine picks out by itself. A file is whole or not
there, and says in its footer what it is; one that is there is not computed again. pyarrow, polars and pandas read it.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agegender._utils.files import write_whole
from agegender._utils.validation import optional_import
from agegender.images import SUFFIXES

if TYPE_CHECKING:
    from agegender.extractor import EmbeddingExtractor

__all__ = ["Shard", "ShardReport", "list_pictures", "parse_shard", "write_shard"]

Source: TypeAlias = str | os.PathLike[str] | Sequence[str]

KEY = b"agegender"
FORMAT = 1
BLOCK_BYTES = 64 * 2**20
_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True)
class Shard:
    """One of the parts that a list of pictures is dealt out to.

    Parameters
    ----------
    number : int
        From 1 to `total`.
    total : int
        How many parts there are.

    Raises
    ------
    ValueError
        If there is no such part.

    Examples
    --------
    >>> list(Shard(2, 3).of(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]))
    ['b.jpg', 'e.jpg']
    """

    number: int
    total: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            raise ValueError(
                f"shard {self.number}/{self.total} is none of {self.total}: they are counted from 1."
            )

    def of(self, pictures: Any) -> Iterator[str]:
        """Return the part's pictures: every `total`-th of the list, from the `number`-th on."""
        return itertools.islice(pictures, self.number - 1, None, self.total)

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return f"part-{self.number:06d}-of-{self.total:06d}.parquet"

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """Read a shard such as ``"3/100"``.

    Raises
    ------
    ValueError
        If it is not two whole numbers, or there is no such shard.

    Examples
    --------
    >>> parse_shard("3/100")
    Shard(number=3, total=100)
    """
    number, slash, total = text.partition("/")
    if not (slash and number.strip().isdecimal() and total.strip().isdecimal()):
        raise ValueError(f"shard {text!r} is not of the form i/n, such as 1/8 for the first of eight.")
    return Shard(int(number), int(total))


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes
    ----------
    path : pathlib.Path
    n_images : int
        Its rows.
    n_failures : int
        Pictures among them that could not be embedded; the column ``error`` has the reasons.
    skipped : bool
        It was there already.
    seconds : float
        Wall-clock time.
    """

    path: Path
    n_images: int
    n_failures: int
    skipped: bool
    seconds: float


def list_pictures(source: Source, *, column: str = "path") -> tuple[Path | None, Iterator[str]]:
    """List pictures, in an order that is the same on every machine.

    Parameters
    ----------
    source : path, or sequence of str
        A folder, searched with the folders inside it, in the order of names (a link back to a folder around it is
        not followed); a ``.csv``, ``.tsv`` or ``.parquet`` file; any other file as text, a path a line; or the paths
        themselves.
    column : str, default="path"
        Of a table.

    Returns
    -------
    folder : pathlib.Path or None
        What relative paths begin at: the folder itself, or that of the file. None for a sequence.
    pictures : iterator of str
        Paths as they stand in the list; of a folder, relative to it.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If a table has no such column.
    """
    if not isinstance(source, (str, os.PathLike)):
        return None, (os.fspath(picture) for picture in source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path, _walk(path, "")
    if not path.is_file():
        raise FileNotFoundError(f"There is no folder and no list {str(path)!r}.")
    if path.suffix == ".parquet":
        return path.parent, _parquet_column(path, column)
    if path.suffix in _TABLES:
        return path.parent, _csv_column(path, _TABLES[path.suffix], column)
    return path.parent, _lines(path)


def write_shard(
    source: Source,
    folder: str | os.PathLike[str],
    extractor: EmbeddingExtractor,
    shard: str | Shard = "1/1",
    *,
    column: str = "path",
) -> ShardReport:
    """Embed one part of a list of pictures into a Parquet file; do nothing where it is there already.

    The file is written under a temporary name, brought to the disk and renamed: it is whole or not there, and two
    machines with the same shard do no harm. Its columns are ``path`` (as in the list), ``embedding`` (a fixed number
    of numbers, null for a picture that could not be embedded) and ``error`` (why; else null).

    Parameters
    ----------
    source : path, or sequence of str
        As in :func:`list_pictures`; every machine must see the same list.
    folder : path
        Where the file will lie: a folder that all machines share, or one of each machine's own.
    extractor : EmbeddingExtractor
        Its `on_error` is taken for "nan". With ``cache=None`` a shard that was interrupted begins anew; finished
        files are what is kept.
    shard : str or Shard, default="1/1"
        ``"i/n"``: the i-th of n parts, counted from 1.
    column : str, default="path"
        Of a table of paths.

    Returns
    -------
    ShardReport

    Raises
    ------
    ValueError
        If the file is there and holds something else: of another network, layer, crop, …, or of another list.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> from agegender import EmbeddingExtractor
    >>> extractor = EmbeddingExtractor("compact", layer="pooled", cache=None)
    >>> write_shard("pictures.txt", "embeddings/", extractor, "3/100")  # doctest: +SKIP
    ShardReport(path=PosixPath('embeddings/part-000003-of-000100.parquet'), n_images=10000, ...)
    """
    pa = optional_import("pyarrow", "parquet")
    started = time.perf_counter()
    part = parse_shard(shard) if isinstance(shard, str) else shard
    root, listed = list_pictures(source, column=column)
    names = list(part.of(listed))
    path = Path(folder).expanduser() / part.file_name
    made_of = _description(extractor, part, names)
    n_failures = _failures_of_finished(path, made_of)
    skipped = n_failures is not None
    if n_failures is None:
        pictures = names if root is None else [os.path.join(root, name) for name in names]
        n_failures = _write(pa, path, names, pictures, extractor, made_of)
    return ShardReport(path, len(names), n_failures, skipped, time.perf_counter() - started)


def _description(extractor: EmbeddingExtractor, part: Shard, names: list[str]) -> dict[str, Any]:
    """Return what a file says of itself: the recipe of its numbers, and the list of its pictures."""
    listed = blake2b(digest_size=16)
    for name in names:
        listed.update(name.encode("utf-8", "surrogateescape") + b"\0")
    recipes = [json.loads(recipe.json) for recipe in extractor.recipes()]
    return {
        "format": FORMAT,
        "shard": str(part),
        "n_rows": len(names),
        "paths": listed.hexdigest(),
        "backbone": " + ".join(backbone.name for backbone in extractor.resolve_backbones()),
        "row_shape": list(extractor.row_shape()),
        "recipes": recipes,
    }


def _failures_of_finished(path: Path, made_of: dict[str, Any]) -> int | None:
    """Return how many failures a finished file has, None where none is; refuse one of another making."""
    if not path.is_file():
        return None
    parquet = optional_import("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            n_rows, metadata = file.metadata.num_rows, file.schema_arrow.metadata or {}
            errors = file.read(columns=["error"])
    except (OSError, ValueError, KeyError):  # pyarrow's errors are of these kinds
        return None
    found = json.loads(metadata.get(KEY, b"{}"))
    found.pop("version", None)
    if n_rows != found.get("n_rows"):
        return None
    other = [name for name, value in made_of.items() if found.get(name) != value]
    if other:
        raise ValueError(
            f"{path} is of another making ({', '.join(other)} differ): another network or setting, or another list "
            "of pictures. Write to another folder, or delete it."
        )
    return n_rows - errors["error"].null_count


def _write(
    pa: Any,
    path: Path,
    names: list[str],
    pictures: list[str],
    extractor: EmbeddingExtractor,
    made_of: dict[str, Any],
) -> int:
    from agegender._version import __version__

    parquet = optional_import("pyarrow.parquet", "parquet")
    patient = extractor.with_parameters(on_error="nan")
    width = int(np.prod(made_of["row_shape"]))
    numbers = pa.from_numpy_dtype(np.dtype(patient.row_dtype()))
    schema = pa.schema(
        [("path", pa.string()), ("embedding", pa.list_(numbers, width)), ("error", pa.string())],
        metadata={KEY: json.dumps({**made_of, "version": __version__}, sort_keys=True).encode()},
    )
    failed: dict[int, str] = {}

    def write(arriving: Path) -> None:
        with parquet.ParquetWriter(arriving, schema, compression="zstd") as writer:
            start = 0
            for rows in patient.transform_blocks(pictures, BLOCK_BYTES) if pictures else ():
                failed.update({failure.index: failure.reason for failure in patient.report_.failures})
                stop = start + len(rows)
                writer.write_table(_table(pa, schema, names[start:stop], rows, failed, start))
                start = stop

    write_whole(path, write)
    return len(failed)


def _table(pa: Any, schema: Any, names: list[str], rows: Any, failed: dict[int, str], start: int) -> Any:
    errors = [failed.get(start + place) for place in range(len(names))]
    mask = pa.array([error is not None for error in errors])
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    kind = schema.field("embedding").type
    embeddings = pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    shown = [name.encode("utf-8", "replace").decode() for name in names]
    return pa.Table.from_arrays([pa.array(shown), embeddings, pa.array(errors, pa.string())], schema=schema)


def _walk(folder: Path, below: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield the pictures of a folder in the order of names, one folder in memory at a time."""
    place = os.stat(folder / below)
    inside = (*above, (place.st_dev, place.st_ino))
    with os.scandir(folder / below) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{below}{entry.name}"
        if _is_folder(entry):
            status = entry.stat()
            # A link back to a folder that this one lies in would be followed for ever.
            if (status.st_dev, status.st_ino) not in inside:
                yield from _walk(folder, f"{name}/", inside)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            name = line.rstrip("\r\n")
            if name:
                yield name


def _csv_column(path: Path, separator: str, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator)
        place = _place(column, next(rows, []), path)
        for row in rows:
            if row:
                yield row[place]


def _parquet_column(path: Path, column: str) -> Iterator[str]:
    parquet = optional_import("pyarrow.parquet", "parquet")
    with parquet.ParquetFile(path) as file:
        _place(column, file.schema_arrow.names, path)
        for batch in file.iter_batches(columns=[column]):
            yield from map(str, batch.column(0).to_pylist())


def _place(column: str, names: Sequence[str], path: Path) -> int:
    if column not in names:
        raise ValueError(f"{path} has no column {column!r}; it has {', '.join(map(repr, names))}.")
    return list(names).index(column)
