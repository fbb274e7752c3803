"""The rows of one call: they are looked up in the cache, filled batch by batch, and stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.contents import Contents
from agegender._extraction.report import ExtractionReport
from agegender._extraction.task import Task
from agegender._utils.rows import release
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError

__all__ = ["Fill", "Origin", "Store"]

# Rows are looked up in the cache this many bytes at a time, so that memory besides the output stays constant.
_LOOKUP_BYTES = 16 * 2**20
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Origin:
    """The picture and face that a row belongs to.

    Parameters
    ----------
    picture : int
        The index of the picture in X.
    digest : bytes
        The hash of its content.
    face : int, default=0
        The number of the face in it, the largest first.
    """

    picture: int
    digest: bytes
    face: int = 0

    @property
    def key(self) -> bytes:
        """The cache key of the row; the largest face has the same key in every kind of call."""
        if not self.face:
            return self.digest
        return blake2b(self.digest + self.face.to_bytes(4, "little"), digest_size=16).digest()


class Store:
    """The place where a task's rows are stored, and their precision.

    Parameters
    ----------
    task : Task
    cache : EmbeddingCache or None
    dtype : {"float32", "float16", "uint8"}
        The type in which the cache stores rows, which is also their precision.
    """

    def __init__(self, task: Task, cache: EmbeddingCache | None, dtype: str) -> None:
        self.task = task
        self.cache = cache
        self.dtype = dtype
        self.all_kept = True
        self._recipes = task.recipes(dtype)

    def keep(self, part: int, keys: list[bytes], rows: NDArray[Any]) -> None:
        """Store rows of one part."""
        if self.cache is not None:
            self.all_kept &= self.cache.store(self._recipes[part], keys, rows)

    def load(self, part: int, keys: list[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Fill the rows of one part that the cache has; return which."""
        found = np.zeros(len(keys), dtype=bool)
        if self.cache is None:
            return found
        # If half precision is requested, rows stored in single precision can be used as well.
        for kind in ("float16", "float32") if self.dtype == "float16" else (self.dtype,):
            lacking = np.flatnonzero(~found)
            if len(lacking):
                block = out[lacking]
                there = self.cache.load(
                    replace(self._recipes[part], dtype=kind), [keys[i] for i in lacking], block
                )
                out[lacking[there]] = block[there]
                found[lacking[there]] = True
        return found

    def rounded(self, rows: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Return rows rounded to the types of the cache and `out`, so that cached and new rows are equal."""
        if self.dtype != "float16" and out.dtype != np.float16:
            return rows
        if np.abs(rows).max(initial=0) > _LARGEST_HALF:
            raise ValueError(
                f"{self.task.name} gives numbers up to {np.abs(rows).max():g}, more than half precision holds "
                f'({_LARGEST_HALF:,.0f}); take dtype="float32".'
            )
        return rows.astype(np.float16)


class Fill:
    """The rows that are being filled.

    Parameters
    ----------
    contents : Contents
    store : Store
    report : ExtractionReport
        Updated with counts.
    fail : callable
        Called with the index and the error of a picture that cannot be embedded; may raise the error.
    rows : ndarray of shape (n_rows, n_views, ...)
        If it is a memory map, filled pages are released from memory.
    origins : mapping of int to Origin
        The picture and face of each row; all keys differ.
    """

    def __init__(
        self,
        contents: Contents,
        store: Store,
        report: ExtractionReport,
        fail: Callable[[int, PictureError], None],
        rows: NDArray[Any],
        origins: Mapping[int, Origin],
    ) -> None:
        self.contents = contents
        self.store = store
        self.task = store.task
        self.report = report
        self.fail = fail
        self.rows = rows
        self.origins = origins

    def look_up(self) -> dict[int, list[int]]:
        """Fill the rows that the cache has; return the parts that it lacks, per row."""
        order = list(self.origins)
        lacking: dict[int, list[int]] = {row: [] for row in order}
        for number, part in enumerate(self.task.parts):
            shape = self.rows[0, 0][part.columns].shape if len(self.rows) else (1,)
            step = max(1, _LOOKUP_BYTES // (4 * math.prod(shape)))
            kept = np.uint8 if self.store.dtype == "uint8" else np.float32
            buffer = np.empty((min(step, len(order)), *shape), dtype=kept)
            for start in range(0, len(order), step):
                block = order[start : start + step]
                out = buffer[: len(block)]
                found = self.store.load(number, [self.origins[row].key for row in block], out)
                self._put(np.array(block)[found], number, out[found])
                for place in np.flatnonzero(~found).tolist():
                    lacking[block[place]].append(number)
                release(self.rows)
        missing = {row: parts for row, parts in lacking.items() if parts}
        self.report.n_cached += len(order) - len(missing)
        return missing

    def count(self, done: set[tuple[int, int]]) -> None:
        self.report.n_computed += len({row for row, _ in done})
        for source, wanted in enumerate(self.task.sources):
            name = wanted.backbone.name
            n_rows = len({row for row, part in done if self.task.parts[part].source == source})
            if n_rows:
                self.report.n_computed_by[name] = self.report.n_computed_by.get(name, 0) + n_rows

    def keep(self, places: list[tuple[int, int]], rows: NDArray[Any]) -> None:
        """Fill the rows of a batch, given by row and part, and store them."""
        indices, parts = np.array(places).T
        for part in sorted(set(parts.tolist())):  # np.unique would import numpy.ma, 20 ms of a first answer
            of_part = np.flatnonzero(parts == part)
            self._put(indices[of_part], part, rows[of_part])
            keys = [self.origins[row].key for row in indices[of_part].tolist()]
            self.store.keep(part, keys, rows[of_part])

    def _put(self, indices: NDArray[np.intp], number: int, rows: NDArray[Any]) -> None:
        part = self.task.parts[number]
        self.rows[indices, part.view, part.columns] = self.store.rounded(rows, self.rows)
