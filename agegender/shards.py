"""Embeddings of very many pictures as Parquet files; each machine writes a part of the list.

A shard is one file with every n-th picture of a list; each machine selects its part. A file is either complete
or missing, and its footer describes its content. Existing files are not computed again. pyarrow, polars and
pandas can read them.
"""

from __future__ import annotations

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
from sklearn.utils import Bunch

from agegender._shards.description import described_extractor
from agegender._shards.files import ShardFolder
from agegender._shards.listing import listed, unsigned
from agegender._shards.reading import read_rows
from agegender._utils.stores import StoreError, exists, open_place, put_whole
from agegender._utils.urls import is_url, join, public
from agegender._utils.validation import did_you_mean, optional_import

if TYPE_CHECKING:
    from agegender.backbones import Backbone
    from agegender.extractor import EmbeddingExtractor

__all__ = [
    "Shard",
    "ShardReport",
    "list_pictures",
    "open_shards",
    "parse_shard",
    "shard_extractor",
    "write_shard",
]

Source: TypeAlias = str | os.PathLike[str] | Sequence[str]

KEY = b"agegender"
FORMAT = 1
BLOCK_BYTES = 64 * 2**20
_COLUMNS = frozenset({"path", "age", "gender", "group", "ages", "genders", "min_age", "max_age"})


@dataclass(frozen=True)
class Shard:
    """One part of a list of pictures.

    Parameters
    ----------
    number : int
        From 1 to `total`.
    total : int
        The number of parts.

    Raises
    ------
    ValueError
        If there is no such part.

    See Also
    --------
    agegender.shards.parse_shard : Read a shard such as "3/100".
    agegender.shards.write_shard : Embed one part of a list into a Parquet file.

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
                f"shard {self.number}/{self.total} does not exist: shards are numbered from 1 to {self.total}."
            )

    def of(self, pictures: Any) -> Iterator[str]:
        """Return the pictures of the part: every `total`-th of the list, starting with the `number`-th."""
        return itertools.islice(pictures, self.number - 1, None, self.total)

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"part-{self.number:06d}-of-{self.total:06d}.parquet"

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """Read a shard such as ``"3/100"``.

    Raises
    ------
    ValueError
        If it is not two integers, or there is no such shard.

    See Also
    --------
    agegender.shards.Shard : One part of a list.

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
    """The result of writing a shard.

    Attributes
    ----------
    path : pathlib.Path or str
    n_images : int
        Number of rows.
    n_failures : int
        Number of pictures that could not be embedded; the column ``error`` contains the reasons.
    skipped : bool
        Whether the file existed already.
    seconds : float
        Wall-clock time.

    See Also
    --------
    agegender.shards.write_shard : Embed one part of a list into a Parquet file.
    """

    path: Path | str
    n_images: int
    n_failures: int
    skipped: bool
    seconds: float


def list_pictures(source: Source, *, column: str = "path") -> tuple[Path | str | None, Iterator[str]]:
    """List pictures, in an order that is the same on every machine.

    Parameters
    ----------
    source : path, URL, or sequence of str
        A folder, searched with its subfolders in the order of names (links to a folder above are not followed);
        a ``.csv``, ``.tsv`` or ``.parquet`` file; any other file as text, with one path or URL per line; or the paths
        themselves. A URL that ends neither like a table nor in ``.txt``, ``.lst`` or ``.list`` is that of a folder.
    column : str, default="path"
        Column of a table.

    Returns
    -------
    folder : pathlib.Path, str or None
        The folder to which paths are relative: the folder itself, or that of the file; text for a URL. None for a
        sequence.
    pictures : iterator of str
        Paths as in the list; for a folder, relative to it.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If a table has no such column, or a URL in the list contains a password or a query.

    See Also
    --------
    agegender.shards.write_shard : Embed one part of a list into a Parquet file.
    agegender.shards.open_shards : Read the rows of all parts.
    """
    if not isinstance(source, (str, os.PathLike)):
        return None, unsigned(os.fspath(picture) for picture in source)
    place = source if is_url(source) else str(Path(source).expanduser())
    folder, pictures = listed(place, column)
    return folder if is_url(folder) else Path(folder), pictures


def write_shard(
    source: Source,
    folder: str | os.PathLike[str],
    extractor: EmbeddingExtractor,
    shard: str | Shard = "1/1",
    *,
    column: str = "path",
) -> ShardReport:
    """Embed one part of a list of pictures into a Parquet file; do nothing if the file exists.

    The file is written under a temporary name, flushed to the disk and renamed. So it is either complete or
    missing, even if two machines write the same shard. Its columns are ``path`` (as in the list), ``embedding``
    (a fixed number of numbers; null if the picture could not be embedded) and ``error`` (the reason, or null).

    Parameters
    ----------
    source : path, or sequence of str
        As in :func:`list_pictures`; every machine must see the same list.
    folder : path or URL
        The folder of the file. It can be shared by all machines, or each machine can have its own. For a URL the file
        is written to a temporary folder first, and stored when it is complete.
    extractor : EmbeddingExtractor
        Its `on_error` is treated as "nan". With ``cache=None``, an interrupted shard starts again; finished
        files are kept.
    shard : str or Shard, default="1/1"
        ``"i/n"``: the i-th of n parts, counted from 1.
    column : str, default="path"
        Column of a table of paths.

    Returns
    -------
    ShardReport

    Raises
    ------
    ValueError
        If the file exists and has other content: another network, layer, crop, …, or another list.
    ImportError
        If pyarrow is not installed.

    See Also
    --------
    agegender.shards.list_pictures : List pictures in a fixed order.
    agegender.EmbeddingExtractor : From pictures to embeddings.

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
    path = join(folder, part.file_name) if is_url(folder) else Path(folder).expanduser() / part.file_name
    made_of = _description(extractor, part, names)
    n_failures = _failures_of_finished(path, made_of)
    skipped = n_failures is not None
    if n_failures is None:
        pictures = names if root is None else [join(str(root), name) for name in names]
        n_failures = _write(pa, path, names, pictures, extractor, made_of)
    return ShardReport(path, len(names), n_failures, skipped, time.perf_counter() - started)


def open_shards(
    folder: str | os.PathLike[str],
    labels: Any = None,
    *,
    rows_file: str | os.PathLike[str] | None = None,
    allow_missing: bool = False,
    verbose: int = 0,
    **columns: Any,
) -> Bunch:
    """Read the rows of all shards of a list, in the list's order, and join a table of labels to them.

    The rows are written once into one file that is mapped into memory:
    :meth:`agegender.AgeGenderClassifier.fit` trains on it from disk, whatever its size. Every picture of the
    list and of the table ends either in ``frame`` or in ``excluded``.

    Parameters
    ----------
    folder : path or URL
        Where :func:`write_shard` wrote all parts of one list.
    labels : path, URL or DataFrame, default=None
        A table of labels as in :func:`agegender.datasets.load_table`, with the pictures named as they stand in the
        list. None reads rows alone.
    rows_file : path, default=None
        An ``.npy`` file to write the rows to; one that lies there is replaced. None takes a temporary file without a
        name (in ``TMPDIR``), which is gone when the rows are.
    allow_missing : bool, default=False
        Whether to go on where some parts are missing.
    verbose : int, default=0
        1 shows a progress bar.
    **columns
        ``path``, ``age``, ``gender``, ``group``, ``ages``, ``genders``, ``min_age`` and ``max_age`` of
        :func:`agegender.datasets.load_table`.

    Returns
    -------
    rows : :class:`~sklearn.utils.Bunch`
        data : memmap of shape (n_pictures, ...)
            Rows, in the list's order.
        target : ndarray of shape (n_pictures, 2) or None
            Age in years, and gender (0 male, 1 female).
        groups : ndarray of shape (n_pictures,), int
            Pictures that belong together share a number: by the column `group`, else by name.
        frame : DataFrame
            One row per picture in the order of ``data``: ``path``, the labels, and ``place``, its number in the list.
        excluded : DataFrame
            ``path`` and ``reason``, which begins with "failed:", "no label:", "no row:", or as in ``load_table``.
        made_of : dict
            What the shards' footers say of the network and the preparation of pictures.
        target_names, gender_names : list of str
            Names of the columns of ``target`` and of its genders.
        DESCR : str
            Description and terms of the data set.

    Raises
    ------
    FileNotFoundError
        If there are no shards.
    ValueError
        If shards are missing, damaged or of different makings, the labels contradict each other, or nothing is left.

    See Also
    --------
    shard_extractor : What computes such rows of new pictures.
    agegender.AgeGenderPipeline.from_parts : The two joined to a whole predictor.

    Examples
    --------
    >>> from agegender import AgeGenderClassifier, AgeGenderPipeline
    >>> rows = open_shards("embeddings/", labels="table.csv")  # doctest: +SKIP
    >>> head = AgeGenderClassifier().fit(rows.data, rows.target, groups=rows.groups)  # doctest: +SKIP
    >>> model = AgeGenderPipeline.from_parts(shard_extractor(rows), head)  # doctest: +SKIP
    """
    if strange := sorted(set(columns) - _COLUMNS):
        raise TypeError(
            f"open_shards has no parameter {strange[0]!r}.{did_you_mean(strange[0], _COLUMNS)} Those of load_table "
            f"that it takes are {', '.join(sorted(_COLUMNS))}."
        )
    target = None if rows_file is None else Path(rows_file).expanduser()
    if target is not None and target.suffix != ".npy":
        raise ValueError(f"rows_file={str(target)!r} should end in .npy.")
    return read_rows(ShardFolder(folder, allow_missing=allow_missing), labels, columns, target, verbose)


def shard_extractor(
    shards: str | os.PathLike[str] | Bunch, backbone: str | Backbone | Sequence[str | Backbone] | None = None
) -> EmbeddingExtractor:
    """Return the extractor that computes such rows as shards hold, as their footers describe it.

    Parameters
    ----------
    shards : path, URL or Bunch
        The folder, or what :func:`open_shards` returned.
    backbone : str, Backbone, or tuple of these, default=None
        The network, or networks in their order, if a name in the footers is none that can be loaded: of a file of
        one's own.

    Returns
    -------
    EmbeddingExtractor
        Its `recipes` are those of the shards, to the last bit.

    Raises
    ------
    ValueError
        If the footers disagree, or no extractor of this version gives such rows: another network, another version of
        the preprocessing, a detector of one's own.

    See Also
    --------
    agegender.shards.open_shards : Read the rows of all shards.

    Examples
    --------
    >>> shard_extractor("embeddings/").layer  # doctest: +SKIP
    'conv_6dw7_7_batchnorm'
    """
    made_of = shards.made_of if isinstance(shards, Bunch) else ShardFolder(shards, allow_missing=True).made_of
    return described_extractor(made_of, backbone)


def _description(extractor: EmbeddingExtractor, part: Shard, names: list[str]) -> dict[str, Any]:
    """Return the description in a file's footer: the recipe of its numbers, and the list of its pictures."""
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


def _failures_of_finished(path: Path | str, made_of: dict[str, Any]) -> int | None:
    """Return the number of failures in a finished file, or None if there is no file; refuse other content."""
    if not exists(str(path)):
        return None
    parquet = optional_import("pyarrow.parquet", "parquet")
    with open_place(str(path)) as opened:
        try:
            with parquet.ParquetFile(opened) as file:
                n_rows, metadata = file.metadata.num_rows, file.schema_arrow.metadata or {}
                errors = file.read(columns=["error"])
        except StoreError:
            raise
        except (OSError, ValueError, KeyError):  # pyarrow raises these errors
            return None
    found = json.loads(metadata.get(KEY, b"{}"))
    found.pop("version", None)
    if n_rows != found.get("n_rows"):
        return None
    other = [name for name, value in made_of.items() if found.get(name) != value]
    if other:
        raise ValueError(
            f"{public(str(path))} has other content ({', '.join(other)} differ): another network or setting, or "
            "another list of pictures. Write to another folder, or delete it."
        )
    return n_rows - errors["error"].null_count


def _write(
    pa: Any,
    path: Path | str,
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

    put_whole(str(path), write)
    return len(failed)


def _table(pa: Any, schema: Any, names: list[str], rows: Any, failed: dict[int, str], start: int) -> Any:
    errors = [failed.get(start + place) for place in range(len(names))]
    mask = pa.array([error is not None for error in errors])
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    kind = schema.field("embedding").type
    embeddings = pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    shown = [name.encode("utf-8", "replace").decode() for name in names]
    return pa.Table.from_arrays([pa.array(shown), embeddings, pa.array(errors, pa.string())], schema=schema)
