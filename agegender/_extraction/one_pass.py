"""One pass over many pictures: hash, look up, compute what is missing, give copies the row of their first."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.chunks import Chunk
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.spread import Contents, Spread
from agegender._extraction.task import Task
from agegender._extraction.trusted import digest_unless_known
from agegender._machine.pools import reading_threads
from agegender._machine.threads import is_spread, resolve_threads
from agegender._utils.progress import progress_bar
from agegender._utils.rows import release
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError

__all__ = ["Extraction"]

# Rows are looked up in the cache so many bytes at a time: memory beside the output stays constant.
_LOOKUP_BYTES = 16 * 2**20
# Blocks of pictures read or decoded ahead of the one that is worked on.
_BLOCKS_AHEAD = 2
# Pictures hashed before the next ones are asked for.
_READ_BLOCK = 1024
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass
class Extraction:
    """One call of ``transform``: what is asked for, and how to get it.

    Parameters
    ----------
    pictures : sequence of pictures
    task : Task
        What is done with each picture.
    rows : ndarray of shape (n_samples, n_views, ...)
        Filled by the call; a memory map's pages are let go of as they are filled.
    dtype : {"float32", "float16", "uint8"}
        How the cache keeps rows.
    cache : EmbeddingCache or None
    trust_mtime : bool
        A file that looks as it did when this process hashed it is not hashed again.
    verbose : int
    skip_failures : bool
        A picture that cannot be read becomes a row of NaN, not an error.
    report : ExtractionReport
        Filled by the call.
    """

    pictures: Sequence[Any]
    task: Task
    rows: NDArray[Any]
    dtype: str
    cache: EmbeddingCache | None
    trust_mtime: bool
    verbose: int
    skip_failures: bool
    report: ExtractionReport
    _digests: dict[int, bytes] = field(default_factory=dict)  # of the first picture of each content
    _all_kept: bool = True

    def __post_init__(self) -> None:
        self._recipes = self.task.recipes(self.dtype)

    def __call__(self) -> None:
        with (
            reading_threads(resolve_threads(self.task.n_jobs)) as pool,
            progress_bar(len(self.pictures), self.task.backbone.name, self.verbose) as bar,
        ):
            try:
                first_of = self._first_of_each(pool)
                missing = self._look_up(list(self._digests))
                bar.update(len(self.pictures) - len(missing))
                for done in self._compute(missing, pool):
                    bar.update(done)
            except KeyboardInterrupt as error:
                error.add_note(self._how_to_go_on())
                raise
        self._scatter(first_of)

    def _how_to_go_on(self) -> str:
        computed = f"{self.report.n_computed} pictures were computed"
        if self.cache is None:
            return f"{computed} and, with cache=None, are lost."
        if not self._all_kept:
            return (
                f"{computed}; not all of them are kept, for the cache could not be written: see its warning."
            )
        return f"{computed} and are kept; the same call goes on from there."

    def _first_of_each(self, pool: ThreadPoolExecutor) -> dict[int, int]:
        """Map each readable picture's index to that of the first picture with the same content."""
        first_with: dict[bytes, int] = {}
        first_of: dict[int, int] = {}
        for block, digests in _in_order(pool, self._digest, range(len(self.pictures)), _READ_BLOCK):
            for index, digest in zip(block, digests, strict=True):
                if isinstance(digest, PictureError):
                    self._fail(index, digest)
                    continue
                first_of[index] = first = first_with.setdefault(digest, index)
                if first == index:
                    self._digests[index] = digest
        self.report.n_unique = len(self._digests)
        return first_of

    def _digest(self, index: int) -> bytes | PictureError:
        try:
            picture = self.pictures[index]
            return digest_unless_known(picture) if self.trust_mtime else images.digest(images.read(picture))
        except PictureError as error:
            return error

    def _look_up(self, firsts: list[int]) -> dict[int, list[int]]:
        """Fill the rows that the cache has; return the views that it lacks, by index."""
        lacking: dict[int, list[int]] = {index: [] for index in firsts}
        kept = np.uint8 if self.dtype == "uint8" else np.float32
        step = max(1, _LOOKUP_BYTES // (4 * math.prod(self.rows.shape[2:])))
        buffer = np.empty((min(step, len(firsts)), *self.rows.shape[2:]), dtype=kept)
        for start in range(0, len(firsts), step):
            indices = np.array(firsts[start : start + step])
            for view in range(len(self._recipes)):
                for index in self._load(indices, view, buffer):
                    lacking[index].append(view)
            release(self.rows)
        missing = {index: views for index, views in lacking.items() if views}
        self.report.n_cached = len(firsts) - len(missing)
        return missing

    def _load(self, indices: NDArray[np.intp], view: int, buffer: NDArray[Any]) -> list[int]:
        """Fill the rows of one view that the cache has, by way of the buffer; return the indices that it lacks."""
        if self.cache is None:
            return indices.tolist()
        recipe = self._recipes[view]
        # Rows kept in full serve where halves are asked for.
        kinds = ("float16", "float32") if self.dtype == "float16" else (self.dtype,)
        for kept in [replace(recipe, dtype=kind) for kind in kinds]:
            rows = buffer[: len(indices)]
            found = self.cache.load(kept, [self._digests[i] for i in indices], rows)
            self._put(indices[found], view, rows[found])
            indices = indices[~found]
        return indices.tolist()

    def _compute(self, missing: dict[int, list[int]], pool: ThreadPoolExecutor) -> Iterator[int]:
        """Pass what is missing through the network, a batch at a time; yield the number of pictures done."""
        if not missing:
            return
        size = max(1, self.task.batch_size // max(map(len, missing.values())))
        if is_spread() and len(missing) > size:
            yield from self._compute_elsewhere(missing, size)
            return
        network = self.task.open()

        def pixels(index: int) -> list[NDArray[np.uint8]] | PictureError:
            return self._pixels(index, missing[index])

        for indices, pictures in _in_order(pool, pixels, list(missing), size):
            wanted = []
            for index, picture in zip(indices, pictures, strict=True):
                if isinstance(picture, PictureError):
                    self._fail(index, picture)
                else:
                    wanted += [
                        (index, view, seen) for view, seen in zip(missing[index], picture, strict=True)
                    ]
            for start in range(0, len(wanted), self.task.batch_size):
                batch = wanted[start : start + self.task.batch_size]
                rows = network(np.stack([pixels for _, _, pixels in batch]))
                self._keep([(index, view) for index, view, _ in batch], rows)
            release(self.rows)
            self.report.n_computed += len({index for index, _, _ in wanted})
            yield len(indices)

    def _compute_elsewhere(self, missing: dict[int, list[int]], size: int) -> Iterator[int]:
        """Have the workers of a cluster compute what is missing; yield the number of pictures done."""
        order = list(missing)
        finder = self.task.framing.finder
        errors: dict[int, PictureError] = {}

        def chunk(indices: list[int], pictures: Contents) -> Chunk:
            digests = [self._digests[index] for index in indices]
            faces = {} if finder is None else finder.kept(digests)
            return Chunk(indices, digests, [missing[index] for index in indices], pictures, faces)

        def fail(index: int, error: PictureError) -> None:
            if self.skip_failures:
                self._fail(index, error)
            else:
                errors[index] = error
                spread.limit = min(errors)

        def read(index: int) -> images.Content | None:
            try:
                return self._read(index)
            except PictureError as error:
                fail(index, error)
                return None

        spread = Spread(
            self.task,
            (order[start : start + size] for start in range(0, len(order), size)),
            chunk=chunk,
            picture=self.pictures.__getitem__,
            read=read,
            row_bytes=4 * math.prod(self.rows.shape[1:]),
        )
        with closing(iter(spread)) as answers:
            for done, answer in answers:
                if finder is not None:
                    finder.keep(answer.faces)
                for place, error in answer.failed:
                    fail(done.indices[place], self._named(done.indices[place], error))
                if answer.rows is not None:
                    self._keep([(done.indices[place], view) for place, view in answer.places], answer.rows)
                    release(self.rows)
                self.report.n_computed += len({place for place, _ in answer.places})
                yield len(done.indices) - len(answer.unreached)
        if errors:
            # The one that a single machine would have come to first.
            self._fail(*min(errors.items()))

    def _keep(self, places: list[tuple[int, int]], rows: NDArray[Any]) -> None:
        """Fill the rows of a batch, given by index and view, and store them."""
        indices, views = np.array(places).T
        for view in np.unique(views):
            of_view = np.flatnonzero(views == view)
            self._put(indices[of_view], view, rows[of_view])
            if self.cache is not None:
                digests = [self._digests[i] for i in indices[of_view]]
                self._all_kept &= self.cache.store(self._recipes[view], digests, rows[of_view])

    def _put(self, indices: NDArray[np.intp], view: int, rows: NDArray[Any]) -> None:
        if self.rows.dtype == np.float16 and np.abs(rows).max(initial=0) > _LARGEST_HALF:
            raise ValueError(
                f"layer={self.task.layer!r} of {self.task.backbone.name} gives numbers up to {np.abs(rows).max():g}, "
                f'more than half precision holds ({_LARGEST_HALF:,.0f}); take dtype="float32".'
            )
        self.rows[indices, view] = rows

    def _pixels(self, index: int, views: list[int]) -> list[NDArray[np.uint8]] | PictureError:
        """Decode one picture to what the network takes, once for all its views."""
        try:
            return self.task.show(self._read(index), self._digests[index], views)
        except PictureError as error:
            return self._named(index, error)

    def _read(self, index: int) -> images.Content:
        """Read a picture once more, and see that it is still the one that was looked up."""
        content = images.read(self.pictures[index])
        if images.digest(content) != self._digests[index]:
            name = images.describe(self.pictures[index])
            raise PictureError(name, "it changed while it was read; run again.")
        return content

    def _named(self, index: int, error: PictureError) -> PictureError:
        return type(error)(images.describe(self.pictures[index]), error.reason)

    def _fail(self, index: int, error: PictureError) -> None:
        if not self.skip_failures:
            raise error
        self.rows[index] = np.nan
        self.report.failures.append(Failure(index, error.picture, error.reason))

    def _scatter(self, first_of: dict[int, int]) -> None:
        """Give copies the row of their first, and its failure where it failed."""
        reasons = {failure.index: failure.reason for failure in self.report.failures}
        for index, first in first_of.items():
            if index == first:
                continue
            self.rows[index] = self.rows[first]
            if first in reasons:
                name = images.describe(self.pictures[index])
                self.report.failures.append(Failure(index, name, reasons[first]))


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[int], Any], indices: Sequence[int], size: int
) -> Iterator[tuple[Sequence[int], list[Any]]]:
    """Yield blocks of indices with the function's results, some blocks being worked on ahead."""
    ahead: deque[tuple[Sequence[int], list[Future[Any]]]] = deque()
    for start in range(0, len(indices), size):
        block = indices[start : start + size]
        ahead.append((block, [pool.submit(function, index) for index in block]))
        if len(ahead) > _BLOCKS_AHEAD:
            yield _results(*ahead.popleft())
    while ahead:
        yield _results(*ahead.popleft())


def _results(block: Sequence[int], futures: list[Future[Any]]) -> tuple[Sequence[int], list[Any]]:
    return block, [future.result() for future in futures]
