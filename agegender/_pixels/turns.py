"""Locks that allow one reader per PIL image, because decoding changes its file position and its pixels."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from agegender._machine.fork import after_fork

__all__ = ["turn_of"]

# A fixed number of locks, chosen by address, because images are not hashable and must not be kept alive by a
# lock.
_N_LOCKS = 251
_locks = [threading.RLock() for _ in range(_N_LOCKS)]


def turn_of(image: object) -> AbstractContextManager[Any]:
    """Return the lock to hold while an image is read.

    Two images may share a lock; the same image always has the same lock.
    """
    return _locks[id(image) // 16 % _N_LOCKS]


def _renew() -> None:
    # Another thread of the parent may have held a lock.
    _locks[:] = [threading.RLock() for _ in range(_N_LOCKS)]


after_fork(_renew)
