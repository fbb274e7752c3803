"""One row per picture: hash, look up, compute missing rows, and copy rows to duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.contents import Contents, in_order
from agegender._extraction.embedder import Embedder
from agegender._extraction.fill import Origin, Store
from agegender._extraction.opened import OpenedPicture
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.task import Task
from agegender._utils.progress import progress_bar
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError
from agegender.faces import Face

__all__ = ["OnePass", "how_to_go_on"]

# Number of pictures that are hashed before the next ones are requested.
_READ_BLOCK = 1024


class OnePass:
    """One call of ``transform``.

    Parameters
    ----------
    pictures : sequence of pictures
    task : Task
    cache : EmbeddingCache or None
    dtype : {"float32", "float16", "uint8"}
        The type in which the cache stores rows.
    trust_mtime : bool
        If True, a file that looks unchanged since this process hashed it is not hashed again.
    skip_failures : bool
        If True, a picture that cannot be embedded becomes a row of NaN; if False, it is an error.
    verbose : int

    Attributes
    ----------
    report : ExtractionReport
    digests : list of bytes or None
        The hash of each picture's content, filled by the call; None if it could not be read.
    """

    def __init__(
        self,
        pictures: Sequence[Any],
        task: Task,
        cache: EmbeddingCache | None,
        dtype: str,
        *,
        trust_mtime: bool,
        skip_failures: bool,
        verbose: int,
    ) -> None:
        self.contents = Contents(pictures, trust_mtime, task.n_jobs)
        self.task = task
        self.cache = cache
        self.dtype = dtype
        self.skip_failures = skip_failures
        self.verbose = verbose
        self.report = ExtractionReport(n_images=len(pictures))
        self.digests: list[bytes | None] = [None] * len(pictures)

    def __call__(self, rows: NDArray[Any]) -> None:
        """Fill the rows, an array of shape (n_samples, n_views, ...)."""
        embedder = Embedder(
            self.contents,
            self.task,
            self.cache,
            self.dtype,
            self.report,
            fail=lambda index, error: self._fail(rows, index, error),
            stop_at_failure=not self.skip_failures,
        )
        with self.contents.threads() as pool:
            try:
                first_of = self._first_of_each(rows, pool)
                firsts = [index for index, first in first_of.items() if index == first]
                origins = {index: Origin(index, self.digests[index] or b"") for index in firsts}
                with progress_bar(len(self.contents), self.task.name, self.verbose) as bar:
                    bar.update(len(self.contents) - len(origins))
                    for done in embedder.fill(rows, origins, pool):
                        bar.update(done)
            except KeyboardInterrupt as error:
                error.add_note(how_to_go_on(self.report, embedder.store))
                raise
        self._scatter(rows, first_of)

    def faces(self) -> list[Face | None] | None:
        """Return the face of each row, after the call; None for a row without one, or if faces are not searched."""
        finder = self.task.framing.finder
        if finder is None:
            return None
        known = finder.largest(list({digest for digest in self.digests if digest is not None}))
        for index, digest in enumerate(self.digests):
            if digest is not None and digest not in known:
                # Its row was in the cache, but its faces were not.
                content = self.contents.read(index, digest)
                known[digest] = OpenedPicture(self.task.framing, content, digest).faces()[0]
        return [None if digest is None else known[digest] for digest in self.digests]

    def _first_of_each(self, rows: NDArray[Any], pool: ThreadPoolExecutor) -> dict[int, int]:
        """Map each readable picture's index to that of the first picture with the same content."""
        first_with: dict[bytes, int] = {}
        first_of: dict[int, int] = {}
        with progress_bar(len(self.contents), "reading", self.verbose) as bar:
            for block, digests in in_order(
                pool, self.contents.digest, range(len(self.contents)), _READ_BLOCK
            ):
                for index, digest in zip(block, digests, strict=True):
                    if isinstance(digest, PictureError):
                        self._fail(rows, index, digest)
                        continue
                    self.digests[index] = digest
                    first_of[index] = first_with.setdefault(digest, index)
                bar.update(len(block))
        self.report.n_unique = len(first_with)
        return first_of

    def _fail(self, rows: NDArray[Any], index: int, error: PictureError) -> None:
        if not self.skip_failures:
            raise error
        rows[index] = np.nan
        self.digests[index] = None
        self.report.failures.append(Failure(index, error.picture, error.reason))

    def _scatter(self, rows: NDArray[Any], first_of: dict[int, int]) -> None:
        """Copy the row of the first of equal pictures to the others, or its failure if it failed."""
        failures = {failure.index: failure for failure in self.report.failures}
        for index, first in first_of.items():
            if index == first:
                continue
            rows[index] = rows[first]
            if first in failures:
                name = self.contents.name(index)
                self.digests[index] = None
                self.report.failures.append(replace(failures[first], index=index, picture=name))


def how_to_go_on(report: ExtractionReport, store: Store) -> str:
    """Return the message for a user who has interrupted an extraction."""
    computed = f"{report.n_computed} pictures were computed"
    if store.cache is None:
        return f"{computed} and, because cache=None, are lost."
    if not store.all_kept:
        return f"{computed}; not all of them are cached, because the cache could not be written: see its warning."
    return f"{computed} and are cached; the same call continues from there."
