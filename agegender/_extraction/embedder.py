"""Rows filled: from the cache, else through the networks, here or on the workers of a cluster."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.chunks import Answer, Chunk
from agegender._extraction.contents import Contents, in_order
from agegender._extraction.report import ExtractionReport
from agegender._extraction.spread import Spread
from agegender._extraction.task import Run, Task, Wish
from agegender._machine.threads import is_spread
from agegender._utils.rows import release
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError

__all__ = ["Embedder", "Origin"]

# Rows are looked up in the cache so many bytes at a time: memory beside the output stays constant.
_LOOKUP_BYTES = 16 * 2**20
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Origin:
    """What a row is of.

    Parameters
    ----------
    picture : int
        The picture's place in X.
    digest : bytes
        The identity of its content.
    face : int, default=0
        Which of its faces, the largest first.
    """

    picture: int
    digest: bytes
    face: int = 0

    @property
    def key(self) -> bytes:
        """What the row is kept under: the largest face is found again whoever asked for it."""
        if not self.face:
            return self.digest
        return blake2b(self.digest + self.face.to_bytes(4, "little"), digest_size=16).digest()


class Embedder:
    """Fills rows of one call.

    Parameters
    ----------
    contents : Contents
    task : Task
    cache : EmbeddingCache or None
    dtype : {"float32", "float16", "uint8"}
        How the cache keeps rows, and how exact they are.
    report : ExtractionReport
        Counts what is done.
    fail : callable
        Is told the place and the error of a picture that cannot be embedded; may raise it.
    stop_at_failure : bool
        Whether `fail` raises: then a cluster begins nothing that lies behind the first failure.
    """

    def __init__(
        self,
        contents: Contents,
        task: Task,
        cache: EmbeddingCache | None,
        dtype: str,
        report: ExtractionReport,
        fail: Callable[[int, PictureError], None],
        stop_at_failure: bool,
    ) -> None:
        self.contents = contents
        self.task = task
        self.cache = cache
        self.dtype = dtype
        self.report = report
        self.fail = fail
        self.stop_at_failure = stop_at_failure
        self.all_kept = True
        self._recipes = task.recipes(dtype)

    def fill(
        self,
        rows: NDArray[Any],
        origins: Mapping[int, Origin],
        pool: ThreadPoolExecutor,
        held: Mapping[tuple[int, Wish], NDArray[np.uint8]] | None = None,
    ) -> Iterator[int]:
        """Fill rows; yield how many are done, again and again.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_views, ...)
            A memory map's pages are let go of as they are filled.
        origins : mapping of int to Origin
            What each row is of; keys differ.
        pool : ThreadPoolExecutor
            Decodes.
        held : mapping, default=None
            What the networks take of pictures that were decoded already, by picture and wish.
        """
        fill = _Fill(self, rows, origins, held or {})
        missing = fill.look_up()
        yield len(origins) - len(missing)
        if missing:
            yield from fill.compute(missing, pool)

    def keep(self, part: int, keys: list[bytes], rows: NDArray[Any]) -> None:
        """Store rows of one part."""
        if self.cache is not None:
            self.all_kept &= self.cache.store(self._recipes[part], keys, rows)

    def load(self, part: int, keys: list[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Fill the rows of one part that the cache has; return which."""
        found = np.zeros(len(keys), dtype=bool)
        if self.cache is None:
            return found
        # Rows kept in full serve if halves are asked for.
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
        """Return rows as exact as they are kept and as `out` holds them: the same whether cached or not."""
        if self.dtype != "float16" and out.dtype != np.float16:
            return rows
        if np.abs(rows).max(initial=0) > _LARGEST_HALF:
            raise ValueError(
                f"{self.task.name} gives numbers up to {np.abs(rows).max():g}, more than half precision holds "
                f'({_LARGEST_HALF:,.0f}); take dtype="float32".'
            )
        return rows.astype(np.float16)


class _Fill:
    """One call of `Embedder.fill`."""

    def __init__(
        self,
        embedder: Embedder,
        rows: NDArray[Any],
        origins: Mapping[int, Origin],
        held: Mapping[tuple[int, Wish], NDArray[np.uint8]],
    ) -> None:
        self.embedder = embedder
        self.task = embedder.task
        self.report = embedder.report
        self.rows = rows
        self.origins = origins
        self.held = held

    def look_up(self) -> dict[int, list[int]]:
        """Fill the rows that the cache has; return the parts that it lacks, by row."""
        order = list(self.origins)
        lacking: dict[int, list[int]] = {row: [] for row in order}
        for number, part in enumerate(self.task.parts):
            shape = self.rows[0, 0][part.columns].shape if len(self.rows) else (1,)
            step = max(1, _LOOKUP_BYTES // (4 * math.prod(shape)))
            kept = np.uint8 if self.embedder.dtype == "uint8" else np.float32
            buffer = np.empty((min(step, len(order)), *shape), dtype=kept)
            for start in range(0, len(order), step):
                block = order[start : start + step]
                out = buffer[: len(block)]
                found = self.embedder.load(number, [self.origins[row].key for row in block], out)
                self._put(np.array(block)[found], number, out[found])
                for place in np.flatnonzero(~found).tolist():
                    lacking[block[place]].append(number)
                release(self.rows)
        missing = {row: parts for row, parts in lacking.items() if parts}
        self.report.n_cached += len(order) - len(missing)
        return missing

    def compute(self, missing: dict[int, list[int]], pool: ThreadPoolExecutor) -> Iterator[int]:
        """Pass what is missing through the networks, a batch at a time."""
        size = max(1, self.task.batch_size // max(map(len, missing.values())))
        if is_spread() and len(missing) > size:
            yield from self._compute_elsewhere(missing, size)
            return
        wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)  # rows and parts, by picture
        for row, parts in missing.items():
            wanted[self.origins[row].picture] += [(row, part) for part in parts]

        opened: dict[int, Run] = {}

        def show(picture: int) -> list[NDArray[np.uint8]] | PictureError:
            return self._show(picture, wanted[picture])

        for pictures, shown in in_order(pool, show, list(wanted), size):
            done: list[tuple[int, int, NDArray[np.uint8]]] = []
            for picture, squares in zip(pictures, shown, strict=True):
                if isinstance(squares, PictureError):
                    self.embedder.fail(picture, squares)
                else:
                    done += [
                        (row, part, square)
                        for (row, part), square in zip(wanted[picture], squares, strict=True)
                    ]
            for places, rows in self.task.run([(part, square) for _, part, square in done], opened):
                self._keep([done[place][:2] for place in places], rows)
            release(self.rows)
            self._count({(row, part) for row, part, _ in done})
            yield len({row for picture in pictures for row, _ in wanted[picture]})

    def _show(
        self, picture: int, wanted: Sequence[tuple[int, int]]
    ) -> list[NDArray[np.uint8]] | PictureError:
        """Decode one picture to what the networks take, once for all that is wanted of it."""
        wishes = [(self.origins[row].face, part) for row, part in wanted]
        if all((picture, wish) in self.held for wish in wishes):
            return [self.held[picture, wish] for wish in wishes]
        digest = self.origins[wanted[0][0]].digest
        try:
            return self.task.show(self.embedder.contents.read(picture, digest), digest, wishes)
        except PictureError as error:
            return self.embedder.contents.named(picture, error)

    def _compute_elsewhere(self, missing: dict[int, list[int]], size: int) -> Iterator[int]:
        """Have the workers of a cluster compute what is missing."""
        elsewhere = _Elsewhere(self, missing)
        order = list(missing)
        spread = Spread(
            self.task,
            (order[start : start + size] for start in range(0, len(order), size)),
            chunk=elsewhere.chunk,
            picture=lambda row: self.embedder.contents.pictures[self.origins[row].picture],
            read=elsewhere.read,
            row_bytes=4 * math.prod(self.rows.shape[1:]),
        )
        elsewhere.spread = spread
        with closing(iter(spread)) as answers:
            for chunk, answer in answers:
                elsewhere.take(chunk, answer)
                for places, rows in answer.rows:
                    self._keep([(chunk.indices[place], part) for place, part in places], rows)
                    release(self.rows)
                self._count({(place, part) for places, _ in answer.rows for place, part in places})
                yield len(chunk.indices) - len(answer.unreached)
        if elsewhere.errors:
            # The one that a single machine would have come to first.
            self.embedder.fail(*min(elsewhere.errors.items()))

    def _count(self, done: set[tuple[int, int]]) -> None:
        self.report.n_computed += len({row for row, _ in done})
        for source, wanted in enumerate(self.task.sources):
            name = wanted.backbone.name
            n_rows = len({row for row, part in done if self.task.parts[part].source == source})
            if n_rows:
                self.report.n_computed_by[name] = self.report.n_computed_by.get(name, 0) + n_rows

    def _keep(self, places: list[tuple[int, int]], rows: NDArray[Any]) -> None:
        """Fill the rows of a batch, given by row and part, and store them."""
        indices, parts = np.array(places).T
        for part in np.unique(parts).tolist():
            of_part = np.flatnonzero(parts == part)
            self._put(indices[of_part], part, rows[of_part])
            keys = [self.origins[row].key for row in indices[of_part].tolist()]
            self.embedder.keep(part, keys, rows[of_part])

    def _put(self, indices: NDArray[np.intp], number: int, rows: NDArray[Any]) -> None:
        part = self.task.parts[number]
        self.rows[indices, part.view, part.columns] = self.embedder.rounded(rows, self.rows)


class _Elsewhere:
    """What the driver does for the workers of a cluster: chunks made, failures noted, faces kept."""

    def __init__(self, fill: _Fill, missing: dict[int, list[int]]) -> None:
        self.fill = fill
        self.missing = missing
        self.finder = fill.task.framing.finder
        self.errors: dict[int, PictureError] = {}
        self.spread: Spread | None = None

    def chunk(self, rows: list[int], pictures: list[str | images.Content]) -> Chunk:
        origins = [self.fill.origins[row] for row in rows]
        digests = [origin.digest for origin in origins]
        faces = {} if self.finder is None else self.finder.kept(digests)
        wishes = [
            [(origin.face, part) for part in self.missing[row]]
            for row, origin in zip(rows, origins, strict=True)
        ]
        return Chunk(rows, digests, wishes, pictures, faces)

    def read(self, row: int) -> images.Content | None:
        origin = self.fill.origins[row]
        try:
            return self.fill.embedder.contents.read(origin.picture, origin.digest)
        except PictureError as error:
            self._fail(row, error)
            return None

    def take(self, chunk: Chunk, answer: Answer) -> None:
        """Keep the faces of an answer, and note its failures."""
        if self.finder is not None:
            self.finder.keep(answer.faces)
        for place, error in answer.failed:
            picture = self.fill.origins[chunk.indices[place]].picture
            self._fail(chunk.indices[place], self.fill.embedder.contents.named(picture, error))

    def _fail(self, row: int, error: PictureError) -> None:
        picture = self.fill.origins[row].picture
        if not self.fill.embedder.stop_at_failure:
            self.fill.embedder.fail(picture, error)
            return
        self.errors[picture] = error
        assert self.spread is not None
        self.spread.limit = min(row for row in self.missing if self.fill.origins[row].picture in self.errors)
