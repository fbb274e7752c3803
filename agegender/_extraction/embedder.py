"""Rows filled: from the cache, else computed here or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agegender._extraction.computing import Computer, OnThisMachine, OnWorkers
from agegender._extraction.contents import Contents
from agegender._extraction.fill import Fill, Origin, Store
from agegender._extraction.report import ExtractionReport
from agegender._extraction.task import Task, Wish
from agegender._machine.threads import is_spread
from agegender.cache import EmbeddingCache
from agegender.exceptions import PictureError

__all__ = ["Embedder"]


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
        self.store = Store(task, cache, dtype)
        self.report = report
        self.fail = fail
        self.stop_at_failure = stop_at_failure

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
        fill = Fill(self.contents, self.store, self.report, self.fail, rows, origins)
        missing = fill.look_up()
        yield len(origins) - len(missing)
        if not missing:
            return
        size = max(1, self.task.batch_size // max(map(len, missing.values())))
        computer: Computer = OnThisMachine(fill, pool, held or {})
        if is_spread() and len(missing) > size:
            computer = OnWorkers(fill, self.stop_at_failure)
        yield from computer.compute(missing, size)
