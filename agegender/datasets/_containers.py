"""Pictures in one file: a tar of a WebDataset, a Parquet column of bytes."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from agegender._utils.stored import StoredPictures
from agegender._utils.stores import StoreError, open_place, tried
from agegender._utils.urls import is_url, name_of, public, suffix_of
from agegender._utils.validation import optional_import
from agegender.images import MAX_FILE_BYTES, SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ParquetPictures", "TarPictures", "byte_column", "open_pictures"]

_BATCH_ROWS = 256
_TEXTS = ("cls", "txt", "age", "gender", "sex")
_CHANGED = "the tar is cut off, or changed since it was opened"
_PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst")


def open_pictures(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, column: str | None = None
) -> StoredPictures:
    """Return the pictures of a tar or of a Parquet column as a sequence that holds none of them.

    It goes wherever pictures do: ``extractor.transform(open_pictures("faces.tar"))``. For labels from the same file,
    pass the file to :func:`load_table`.

    Parameters
    ----------
    source : path, URL, or sequence of these
        A ``.tar`` file, as WebDataset writes them, not compressed; several of them; or a ``.parquet`` file.
    column : str, default=None
        Of a Parquet file: the column of encoded pictures, bytes or Hugging Face's pairs of bytes and path. None takes
        the only one.

    Returns
    -------
    sequence of pictures
        In the file's order. Of a tar the members are read where they lie; a Parquet column is unpacked once into a
        temporary file (in ``TMPDIR``), because it has no order to read single rows in.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is of no such kind, compressed, or holds no pictures.

    See Also
    --------
    agegender.datasets.load_table : Load your own table.

    Examples
    --------
    >>> import io, tarfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with tarfile.open(f"{folder}/faces.tar", "w") as tar:
    ...         entry = tarfile.TarInfo("anna.jpg")
    ...         entry.size = 4
    ...         tar.addfile(entry, io.BytesIO(b"data"))
    ...     [str(picture) for picture in open_pictures(f"{folder}/faces.tar")]  # doctest: +ELLIPSIS
    ['...faces.tar/anna.jpg']
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    places = [place if is_url(place) else str(Path(place).expanduser()) for place in sources]
    kinds = {suffix_of(place) for place in places}
    if kinds == {".tar"}:
        return StoredPictures(TarPictures(places))
    if kinds <= {".parquet", ".pq"} and len(places) == 1:
        return StoredPictures(ParquetPictures(places[0], column))
    packed = next((place for place in places if suffix_of(place) in _PACKED), None)
    if packed is not None:
        raise ValueError(
            f"{public(packed)!r} is compressed, so that no picture in it can be read by itself. Write it as a plain "
            ".tar; pictures hardly shrink."
        )
    raise ValueError(
        f"open_pictures takes .tar files or one .parquet file, not {', '.join(map(public, places[:3]))!r}."
    )


class TarPictures:
    """The pictures of one or more tars, by where their bytes lie.

    Parameters
    ----------
    places : sequence of str
        Paths or URLs.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.places = list(places)
        self._names: list[str] = []
        self._texts: dict[str, dict[str, tuple[int, int, int]]] = {}
        found: list[tuple[int, int, int]] = []
        self._looked = [None if is_url(place) else _looks(os.stat(place)) for place in self.places]
        for number, place in enumerate(self.places):
            for name, offset, size in _members(place):
                if suffix_of(name) in SUFFIXES:
                    self._names.append(f"{_shown(place)}/{name}")
                    found.append((number, offset, size))
                else:
                    key, _, kind = _key(name)
                    self._texts.setdefault(f"{_shown(place)}/{key}", {})[kind] = (number, offset, size)
        if not found:
            raise ValueError(f"No pictures in {', '.join(map(public, self.places[:3]))!r}.")
        self._where = np.array(found, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the tar's name and the member's."""
        return self._names[index]

    def picture(self, index: int) -> bytes:
        """Return a picture's bytes."""
        return self._bytes(*self._where[index].tolist())

    def labels(self) -> pd.DataFrame:
        """Return what has the same keys as the pictures: the fields of .json, and .cls, .txt and the like."""
        import pandas as pd

        return pd.DataFrame([self._fields(name) for name in self._names])

    def _fields(self, name: str) -> dict[str, Any]:
        folder, slash, file = name.rpartition("/")
        beside = self._texts.get(f"{folder}{slash}{file.partition('.')[0]}", {})
        fields: dict[str, Any] = {}
        for kind, where in beside.items():
            if kind == "json":
                said = json.loads(self._bytes(*where))
                fields |= said if isinstance(said, dict) else {"json": said}
            elif kind in _TEXTS:
                fields[kind] = self._bytes(*where).decode("utf-8", "replace").strip()
        return fields

    def _bytes(self, number: int, offset: int, size: int) -> bytes:
        if size > MAX_FILE_BYTES:
            raise ValueError(f"a member of {size:,} bytes; {MAX_FILE_BYTES:,} are the most that are read")
        place = self.places[number]
        read = _remote if is_url(place) else _local
        content = read(place, offset, size, self._looked[number])
        if len(content) != size:
            raise OSError(_CHANGED)
        return content


def _members(place: str) -> Iterator[tuple[str, int, int]]:
    try:
        with open_place(place) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg():
                    yield member.name, member.offset_data, member.size
                tar.members = []  # type: ignore[attr-defined]  # or it keeps all of them
    except tarfile.TarError as error:
        raise ValueError(f"{public(place)} is no plain tar file ({error}).") from None


def _key(name: str) -> tuple[str, str, str]:
    """Split a member's name as WebDataset does: at the first dot of its last part."""
    folder, slash, file = name.rpartition("/")
    key, dot, kind = file.partition(".")
    return f"{folder}{slash}{key}", dot, kind.lower()


def _shown(place: str) -> str:
    return name_of(place) if is_url(place) else place


def _remote(place: str, offset: int, size: int, looked: tuple[int, ...] | None) -> bytes:
    try:
        return tried(place, lambda system, path: bytes(system.cat_file(path, offset, offset + size)))
    except StoreError as error:
        raise StoreError(f"{public(place)} {error}") from None


def _local(place: str, offset: int, size: int, looked: tuple[int, ...] | None) -> bytes:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        if _looks(os.fstat(descriptor)) != looked:
            raise OSError(_CHANGED)
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def _looks(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns


class ParquetPictures:
    """The pictures of a Parquet column, unpacked once into a file without a name.

    Parameters
    ----------
    place : str
        Path or URL.
    column : str or None
        None is the only column of bytes.
    """

    def __init__(self, place: str, column: str | None = None) -> None:
        self.place = place
        parquet = optional_import("pyarrow.parquet", "parquet")
        with open_place(place) as opened, parquet.ParquetFile(opened) as file:
            self.column = byte_column(file.schema_arrow, column, public(place))
            self._n_rows: int = file.metadata.num_rows
        self._lock = threading.Lock()
        self._paths: dict[int, str] = {}
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._n_rows

    def name(self, index: int) -> str:
        """Return the file's name, and the row."""
        return f"{_shown(self.place)}[{index}]"

    def picture(self, index: int) -> bytes | str:
        """Return a picture's bytes; the path that stands in their place in a pair without bytes."""
        with self._lock:
            file = self._file or self._unpack()
        start, end = self._bounds[index : index + 2].tolist()
        if start == end:
            return self._paths.get(index, b"")
        return os.pread(file.fileno(), end - start, start)

    def _unpack(self) -> IO[bytes]:
        parquet = optional_import("pyarrow.parquet", "parquet")
        sizes = [0]
        unpacked = tempfile.TemporaryFile(prefix="agegender-")  # noqa: SIM115
        weakref.finalize(self, unpacked.close)
        with open_place(self.place) as opened, parquet.ParquetFile(opened) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[self.column], use_threads=False):
                for item in batch.column(0).to_pylist():
                    content = item.get("bytes") if isinstance(item, dict) else item
                    if content is None and isinstance(item, dict) and item.get("path"):
                        self._paths[len(sizes) - 1] = item["path"]
                    sizes.append(unpacked.write(content or b""))
        unpacked.flush()
        self._bounds = np.cumsum(np.array(sizes, dtype=np.int64))
        self._file = unpacked
        return unpacked

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetPictures, (self.place, self.column)


def byte_column(schema: Any, column: str | None, name: str) -> str:
    """Return the column of a Parquet file that holds encoded pictures.

    Raises
    ------
    ValueError
        If there is none, or several and none is named.
    """
    columns = {field.name for field in schema if _holds_bytes(field.type)}
    if column is not None:
        if column not in columns:
            raise ValueError(
                f"{name} has no column {column!r} of bytes; it has {', '.join(sorted(columns)) or 'none'}."
            )
        return column
    if len(columns) != 1:
        raise ValueError(
            f"{name} has {len(columns)} columns of bytes: {', '.join(sorted(columns)) or 'none'}; name one of them."
        )
    return columns.pop()


def _holds_bytes(kind: Any) -> bool:
    text = str(kind)
    return text in ("binary", "large_binary", "binary_view") or text.startswith("struct<bytes: binary")
