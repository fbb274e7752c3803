"""Computing the rows that the cache lacks, on this machine or on the workers of a cluster."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.chunks import Answer, Chunk
from agegender._extraction.contents import in_order
from agegender._extraction.fill import Fill
from agegender._extraction.task import Run, Wish
from agegender._utils.rows import release
from agegender.exceptions import PictureError

__all__ = ["Computer", "OnThisMachine", "OnWorkers"]


class Computer(Protocol):
    """Something that computes missing rows."""

    def compute(self, missing: Mapping[int, list[int]], size: int) -> Iterator[int]:
        """Fill the missing parts of each row, `size` pictures at once; yield the number of finished rows."""
        ...


class OnThisMachine:
    """Decode in threads, and pass one batch after another through the networks.

    Parameters
    ----------
    fill : Fill
    pool : ThreadPoolExecutor
        The threads that decode.
    held : mapping
        The network inputs of pictures that were already decoded, by picture and wish.
    """

    def __init__(
        self, fill: Fill, pool: ThreadPoolExecutor, held: Mapping[tuple[int, Wish], NDArray[np.uint8]]
    ) -> None:
        self.fill = fill
        self.pool = pool
        self.held = held

    def compute(self, missing: Mapping[int, list[int]], size: int) -> Iterator[int]:
        """Fill the missing parts of each row; yield the number of finished rows repeatedly."""
        fill, opened = self.fill, dict[int, Run]()
        wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)  # rows and parts, by picture
        for row, parts in missing.items():
            wanted[fill.origins[row].picture] += [(row, part) for part in parts]

        def show(picture: int) -> list[NDArray[np.uint8]] | PictureError:
            return self._show(picture, wanted[picture])

        for pictures, shown in in_order(self.pool, show, list(wanted), size):
            done: list[tuple[int, int, NDArray[np.uint8]]] = []
            for picture, squares in zip(pictures, shown, strict=True):
                if isinstance(squares, PictureError):
                    fill.fail(picture, squares)
                else:
                    pairs = zip(wanted[picture], squares, strict=True)
                    done += [(row, part, square) for (row, part), square in pairs]
            for places, rows in fill.task.run([(part, square) for _, part, square in done], opened):
                fill.keep([done[place][:2] for place in places], rows)
            release(fill.rows)
            fill.count({(row, part) for row, part, _ in done})
            yield len({row for picture in pictures for row, _ in wanted[picture]})

    def _show(
        self, picture: int, wanted: Sequence[tuple[int, int]]
    ) -> list[NDArray[np.uint8]] | PictureError:
        """Decode one picture to the inputs of the networks, once for everything that is requested from it."""
        wishes = [(self.fill.origins[row].face, part) for row, part in wanted]
        if all((picture, wish) in self.held for wish in wishes):
            return [self.held[picture, wish] for wish in wishes]
        digest = self.fill.origins[wanted[0][0]].digest
        try:
            content = self.fill.contents.read(picture, digest)
            with self.fill.contents.decoding:
                return self.fill.task.show(content, digest, wishes)
        except PictureError as error:
            return self.fill.contents.named(picture, error)


class OnWorkers:
    """Compute on the workers of a cluster: make chunks, record failures, and store the faces that were found.

    Parameters
    ----------
    fill : Fill
    stop_at_failure : bool
        Whether the first failure ends the call; if so, no picture after it is started.
    """

    def __init__(self, fill: Fill, stop_at_failure: bool) -> None:
        self.fill = fill
        self.stop_at_failure = stop_at_failure
        self.finder = fill.task.framing.finder
        self.errors: dict[int, PictureError] = {}

    def compute(self, missing: Mapping[int, list[int]], size: int) -> Iterator[int]:
        """Fill the missing parts of each row; yield the number of finished rows repeatedly."""
        from agegender._extraction.spread import Spread  # imports joblib, which one machine does not need

        fill, order = self.fill, list(missing)
        self._missing = missing
        self._spread = Spread(
            fill.task,
            (order[start : start + size] for start in range(0, len(order), size)),
            chunk=self._chunk,
            picture=lambda row: fill.contents.pictures[fill.origins[row].picture],
            read=self._read,
            row_bytes=4 * math.prod(fill.rows.shape[1:]),
        )
        with closing(iter(self._spread)) as answers:
            for chunk, answer in answers:
                self._take(chunk, answer)
                for places, rows in answer.rows:
                    fill.keep([(chunk.indices[place], part) for place, part in places], rows)
                    release(fill.rows)
                fill.count({(place, part) for places, _ in answer.rows for place, part in places})
                yield len(chunk.indices) - len(answer.unreached)
        if self.errors:
            # Raise the error that a single machine would have raised first.
            fill.fail(*min(self.errors.items()))

    def _chunk(self, rows: list[int], pictures: list[str | images.Content]) -> Chunk:
        origins = [self.fill.origins[row] for row in rows]
        digests = [origin.digest for origin in origins]
        faces = {} if self.finder is None else self.finder.kept(digests)
        wishes = [
            [(origin.face, part) for part in self._missing[row]]
            for row, origin in zip(rows, origins, strict=True)
        ]
        return Chunk(rows, digests, wishes, pictures, faces)

    def _read(self, row: int) -> images.Content | None:
        origin = self.fill.origins[row]
        try:
            return self.fill.contents.read(origin.picture, origin.digest)
        except PictureError as error:
            self._fail(row, error)
            return None

    def _take(self, chunk: Chunk, answer: Answer) -> None:
        """Store the faces of an answer, and record its failures."""
        if self.finder is not None:
            self.finder.keep(answer.faces)
        for place, error in answer.failed:
            picture = self.fill.origins[chunk.indices[place]].picture
            self._fail(chunk.indices[place], self.fill.contents.named(picture, error))

    def _fail(self, row: int, error: PictureError) -> None:
        picture = self.fill.origins[row].picture
        if not self.stop_at_failure:
            self.fill.fail(picture, error)
            return
        self.errors[picture] = error
        failed = (other for other in self._missing if self.fill.origins[other].picture in self.errors)
        self._spread.limit = min(failed)
