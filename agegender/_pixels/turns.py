"""One reader at a time for each PIL image: decoding moves its file's position, and sets its pixels piece by piece."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

from agegender._machine.fork import after_fork

__all__ = ["turn_of"]

# A fixed number of locks, shared by address: images are neither hashable nor kept alive by being read.
_N_LOCKS = 251
_locks = [threading.RLock() for _ in range(_N_LOCKS)]


def turn_of(image: object) -> AbstractContextManager[Any]:
    """Return the lock to hold while an image is read.

    Two images may share one; the same image always has the same.
    """
    return _locks[id(image) // 16 % _N_LOCKS]


def _renew() -> None:
    # Another thread of the parent may have held one.
    _locks[:] = [threading.RLock() for _ in range(_N_LOCKS)]


after_fork(_renew)
