"""Thread pools for reading pictures, which are reused.

OpenCV keeps about half a kilobyte per thread that has used it (measured with 5.0). With new threads for every
call, the memory of a service would grow with every prediction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from agegender._machine.fork import after_fork

__all__ = ["reading_threads"]

MOST_IDLE = 8
_idle: list[tuple[int, ThreadPoolExecutor]] = []
_lock = threading.Lock()


@contextmanager
def reading_threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Lend a thread pool to one caller at a time; after an error, waiting tasks are cancelled."""
    pool = _take(n_threads)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    _give_back(n_threads, pool)


def _take(n_threads: int) -> ThreadPoolExecutor:
    with _lock:
        for place, (size, pool) in enumerate(_idle):
            if size == n_threads:
                del _idle[place]
                return pool
    return ThreadPoolExecutor(n_threads, thread_name_prefix="agegender-read")


def _give_back(n_threads: int, pool: ThreadPoolExecutor) -> None:
    with _lock:
        _idle.append((n_threads, pool))
        surplus = _idle.pop(0)[1] if len(_idle) > MOST_IDLE else None
    if surplus is not None:
        surplus.shutdown()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _idle.clear()  # their threads belong to the parent


after_fork(_after_fork)
