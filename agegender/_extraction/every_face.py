"""One row per face: all faces are found, cut out and embedded, one block of pictures at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.contents import Contents
from agegender._extraction.embedder import Embedder
from agegender._extraction.fill import Origin
from agegender._extraction.framing import FaceFinder
from agegender._extraction.one_pass import how_to_go_on
from agegender._extraction.opened import OpenedPicture
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.task import Task, Wish
from agegender._utils.progress import progress_bar
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError
from agegender.faces import Face

__all__ = ["EveryFace"]

# Number of pictures whose faces are in memory at the same time, and the bytes that their squares may take.
_BLOCK = 64
_HELD_BYTES = 256 * 2**20

Place: TypeAlias = tuple[int, Face]
"""The index of a picture in X, and the face in it that a row belongs to."""
Held: TypeAlias = dict[tuple[int, Wish], NDArray[np.uint8]]


class EveryFace:
    """One pass over pictures with any number of faces.

    Parameters
    ----------
    pictures : sequence of pictures
    task : Task
        Its framing must have a finder.
    finder : FaceFinder
        The finder of the task's framing.
    cache : EmbeddingCache or None
    dtype : {"float32", "float16"}
        The type in which the cache stores rows.
    trust_mtime : bool
    skip_failures : bool
        If True, a picture that cannot be read has no faces and is listed in the report; if False, it is an
        error.
    verbose : int

    Attributes
    ----------
    report : ExtractionReport
        It counts faces; its failures are pictures.
    """

    def __init__(
        self,
        pictures: Sequence[Any],
        task: Task,
        finder: FaceFinder,
        cache: EmbeddingCache | None,
        dtype: str,
        *,
        trust_mtime: bool,
        skip_failures: bool,
        verbose: int,
    ) -> None:
        self.contents = Contents(pictures, trust_mtime, task.n_jobs)
        self.task = task
        self.finder = finder
        self.skip_failures = skip_failures
        self.verbose = verbose
        self.report = ExtractionReport()
        self._embedder = Embedder(
            self.contents, task, cache, dtype, self.report, self._fail, stop_at_failure=not skip_failures
        )

    def rows(
        self, shape: tuple[int, ...], dtype: str, max_rows: int
    ) -> Iterator[tuple[list[Place], NDArray[Any]]]:
        """Yield places and rows in order, at most `max_rows` at once; rows have shape (n_rows, n_views, ...).

        Parameters
        ----------
        shape : tuple of int
            The shape (n_views, ...) of a row.
        dtype : str
        max_rows : int
        """
        with (
            self.contents.threads() as pool,
            progress_bar(len(self.contents), "faces", self.verbose) as bar,
        ):
            try:
                for start in range(0, len(self.contents), _BLOCK):
                    block = range(start, min(start + _BLOCK, len(self.contents)))
                    yield from self._block(block, pool, shape, dtype, max_rows)
                    bar.update(len(block))
            except KeyboardInterrupt as error:
                error.add_note(how_to_go_on(self.report, self._embedder.store))
                raise

    def _block(
        self,
        block: range,
        pool: ThreadPoolExecutor,
        shape: tuple[int, ...],
        dtype: str,
        max_rows: int,
    ) -> Iterator[tuple[list[Place], NDArray[Any]]]:
        found, held = self._find(block, pool)
        origins = [origin for origin, _ in found]
        for start in range(0, len(origins), max_rows):
            part = origins[start : start + max_rows]
            firsts: dict[bytes, int] = {}
            first_of = [firsts.setdefault(origin.key, row) for row, origin in enumerate(part)]
            empty = np.nan if np.dtype(dtype).kind == "f" else 0  # pixels have no NaN
            rows = np.full((len(part), *shape), empty, dtype)
            unique = {row: part[row] for row in firsts.values()}
            for _ in self._embedder.fill(rows, unique, pool, held):
                pass
            self.report.n_images += len(part)
            self.report.n_unique += len(unique)
            places = [(origin.picture, face) for origin, face in found[start : start + max_rows]]
            yield places, rows[first_of] if len(unique) < len(part) else rows

    def _find(self, block: range, pool: ThreadPoolExecutor) -> tuple[list[tuple[Origin, Face]], Held]:
        """Find the faces of a block of pictures; return them, and the squares that were already cut out."""
        digests = list(pool.map(self.contents.digest, block))
        readable = dict.fromkeys(digest for digest in digests if isinstance(digest, bytes))
        kept = self.finder.kept(list(readable))
        room = _Room(_HELD_BYTES)

        def faces(place: int) -> tuple[list[tuple[Origin, Face]], Held] | PictureError:
            index, digest = block[place], digests[place]
            if isinstance(digest, PictureError):
                return digest
            if digest not in kept:
                return self._search(index, digest, room)
            return _numbered(index, digest, self.finder.faces_of(kept[digest])), {}

        origins: list[tuple[Origin, Face]] = []
        held: Held = {}
        for index, found in zip(block, pool.map(faces, range(len(block))), strict=True):
            if isinstance(found, PictureError):
                self._fail(index, self.contents.named(index, found))
            else:
                origins += found[0]
                held |= found[1]
        return origins, held

    def _search(
        self, index: int, digest: bytes, room: _Room
    ) -> tuple[list[tuple[Origin, Face]], Held] | PictureError:
        """Find the faces of one picture, and cut them out while its pixels are in memory."""
        try:
            content = self.contents.read(index, digest)
            with self.contents.decoding:
                return self._cut_out(index, digest, content, room)
        except PictureError as error:
            return error

    def _cut_out(
        self, index: int, digest: bytes, content: images.Content, room: _Room
    ) -> tuple[list[tuple[Origin, Face]], Held]:
        picture = OpenedPicture(self.task.framing, content, digest)
        found = picture.faces()
        wishes = [(face, part) for face in range(len(found)) for part in range(len(self.task.parts))]
        if not room.take(self._square_bytes * len(found)):
            return _numbered(index, digest, found), {}
        squares = self.task.show_opened(picture, wishes)
        return _numbered(index, digest, found), {
            (index, wish): square for wish, square in zip(wishes, squares, strict=True)
        }

    @property
    def _square_bytes(self) -> int:
        """The bytes that the squares of one face take."""
        sizes = [self.task.sources[part.source].backbone.input_size for part in self.task.parts]
        return sum(3 * height * width for height, width in sizes)

    def _fail(self, index: int, error: PictureError) -> None:
        if not self.skip_failures:
            raise error
        self.report.failures.append(Failure(index, error.picture, error.reason))


def _numbered(index: int, digest: bytes, faces: Sequence[Face]) -> list[tuple[Origin, Face]]:
    return [(Origin(index, digest, number), face) for number, face in enumerate(faces)]


class _Room:
    """A number of bytes that several threads share; squares that do not fit are computed again later."""

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes

    def take(self, n_bytes: int) -> bool:
        """Take some bytes; return whether enough were left, exact to a picture or two, which is enough."""
        self.left -= n_bytes
        return self.left >= 0
