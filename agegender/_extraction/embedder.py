"""Filling rows from the cache, or by computing them on this machine or on the workers of a cluster."""

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
    """Fill the rows of one call.

    Parameters
    ----------
    contents : Contents
    task : Task
    cache : EmbeddingCache or None
    dtype : {"float32", "float16", "uint8"}
        The type in which the cache stores rows, which is also their precision.
    report : ExtractionReport
        Updated with counts.
    fail : callable
        Called with the index and the error of a picture that cannot be embedded; may raise the error.
    stop_at_failure : bool
        Whether `fail` raises; if so, a cluster starts no picture after the first failure.
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
        """Fill rows; yield the number of finished rows repeatedly.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_views, ...)
            If it is a memory map, filled pages are released from memory.
        origins : mapping of int to Origin
            The picture and face of each row; all keys differ.
        pool : ThreadPoolExecutor
            The threads that decode.
        held : mapping, default=None
            The network inputs of pictures that were already decoded, by picture and wish.
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
