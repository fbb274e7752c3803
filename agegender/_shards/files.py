"""A folder of shards as one table: find its files, compare their footers, read their columns."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._utils.stores import find, open_place
from agegender._utils.urls import is_url, join, public
from agegender._utils.validation import optional_import

__all__ = ["ShardFile", "ShardFolder"]

KEY = b"agegender"
FORMAT = 1
_NAME = re.compile(r"part-(\d+)-of-(\d+)\.parquet")
# The values in which two shards of one list may differ.
_OF_EACH = frozenset({"shard", "n_rows", "paths", "version"})
_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ShardFile:
    """One file: the `number`-th of `total` parts."""

    place: str
    number: int
    total: int
    made_of: dict[str, Any]
    dtype: np.dtype[Any]

    @property
    def indices(self) -> NDArray[np.int64]:
        """The positions of its pictures in the list."""
        n_rows: int = self.made_of["n_rows"]
        return self.number - 1 + self.total * np.arange(n_rows, dtype=np.int64)

    def names_and_errors(self) -> tuple[list[str], dict[int, str]]:
        """Return the pictures' names, and the reasons why some have no row, by position in the file."""
        with open_place(self.place) as opened, _parquet().ParquetFile(opened) as file:
            table = file.read(columns=["path", "error"])
        errors = table["error"].combine_chunks()
        failed = np.flatnonzero(errors.is_valid().to_numpy(zero_copy_only=False)).tolist()
        return table["path"].to_pylist(), {place: errors[place].as_py() for place in failed}

    def rows(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield the positions in the file that have a row, and these rows, 16 MB at a time."""
        shape = self.made_of["row_shape"]
        width = int(np.prod(shape))
        start = 0
        with open_place(self.place) as opened, _parquet().ParquetFile(opened) as file:
            size = max(1, _BATCH_BYTES // (4 * width))
            for batch in file.iter_batches(size, columns=["embedding"], use_threads=False):
                column = batch.column(0)
                valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
                yield start + valid, column.flatten().to_numpy().reshape(-1, *shape)
                start += len(column)


class ShardFolder:
    """All shards of one list, in the order of their numbers.

    Parameters
    ----------
    folder : path or URL
    allow_missing : bool, default=False
        Whether parts may be missing.

    Raises
    ------
    FileNotFoundError
        If there are no shards.
    ValueError
        If some are missing or damaged, belong to another number of parts, or were made with other settings.
    """

    def __init__(self, folder: str | os.PathLike[str], *, allow_missing: bool = False) -> None:
        self.folder = folder if is_url(folder) else str(Path(folder).expanduser())
        self.files = [self._open(name) for name in self._names()]
        self._check(allow_missing)
        self.made_of = {key: value for key, value in self.files[0].made_of.items() if key not in _OF_EACH}

    def _names(self) -> list[str]:
        if is_url(self.folder):
            listed = [name for name in find(self.folder) if "/" not in name]
        elif Path(self.folder).is_dir():
            listed = os.listdir(self.folder)
        else:
            raise FileNotFoundError(f"There is no folder {self.folder!r} of shards.")
        names = sorted(name for name in listed if _NAME.fullmatch(name))
        if not names:
            raise FileNotFoundError(
                f"There are no shards in {public(self.folder)!r}: files named part-000001-of-000100.parquet, as "
                "`agegender embed LIST --shard i/n --out FOLDER` writes them."
            )
        return names

    def _open(self, name: str) -> ShardFile:
        place = join(self.folder, name)
        try:
            with open_place(place) as opened, _parquet().ParquetFile(opened) as file:
                schema = file.schema_arrow
                n_rows, metadata = file.metadata.num_rows, schema.metadata or {}
        except (OSError, ValueError) as error:  # pyarrow raises these kinds of errors
            raise ValueError(f"{public(place)} is damaged; embed this shard again.") from error
        made_of = json.loads(metadata.get(KEY, b"{}"))
        if made_of.get("format") != FORMAT:
            raise ValueError(
                f"{public(place)} says of itself that it has the format {made_of.get('format')!r}; this version of "
                f"agegender reads {FORMAT}."
            )
        found = _NAME.fullmatch(name)
        assert found is not None
        number, total = int(found[1]), int(found[2])
        if made_of["shard"] != f"{number}/{total}" or made_of["n_rows"] != n_rows:
            raise ValueError(
                f"{public(place)} says of itself that it is shard {made_of['shard']} of {made_of['n_rows']} rows; "
                f"its name says {number}/{total}, and it has {n_rows}. Was it renamed or changed? Embed it again."
            )
        dtype = np.dtype(schema.field("embedding").type.value_type.to_pandas_dtype())
        return ShardFile(place, number, total, made_of, dtype)

    def _check(self, allow_missing: bool) -> None:
        first = self.files[0]
        for other in self.files[1:]:
            if other.total != first.total:
                raise ValueError(
                    f"{public(self.folder)!r} has shards of {first.total} and of {other.total}; keep those of one "
                    "number in a folder."
                )
            differ = [
                key
                for key in sorted((first.made_of.keys() | other.made_of.keys()) - _OF_EACH)
                if first.made_of.get(key) != other.made_of.get(key)
            ]
            if differ:
                raise ValueError(
                    f"{public(other.place)} is of another making than {public(first.place)}: "
                    f"{_told(first, other, differ)}. Rows of two networks or settings cannot be trained on together; "
                    "embed one of them again."
                )
        missing = sorted(set(range(1, first.total + 1)) - {file.number for file in self.files})
        if missing and not allow_missing:
            listed = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
            raise ValueError(
                f"{len(missing)} of the {first.total} shards are not in {public(self.folder)!r}: {listed}. Embed "
                "them, or pass allow_missing=True to go on without them."
            )


def _told(first: ShardFile, other: ShardFile, keys: list[str]) -> str:
    """Return the names of the values that differ, also of values within recipes."""
    told = []
    for key in keys:
        a, b = first.made_of.get(key), other.made_of.get(key)
        if key == "recipes" and a and b and len(a) == len(b):
            told += [
                f"{name} {there.get(name)!r} instead of {here.get(name)!r}"
                for here, there in zip(a, b, strict=True)
                for name in sorted(here.keys() | there.keys())
                if here.get(name) != there.get(name)
            ]
        else:
            told.append(f"{key} {b!r} instead of {a!r}")
    return "; ".join(told)


def _parquet() -> Any:
    return optional_import("pyarrow.parquet", "parquet")
