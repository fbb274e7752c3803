"""Lock files: whether another process is at work, also after processes that were killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["is_locked", "locked"]


@contextmanager
def locked(path: Path) -> Iterator[str | None]:
    """Lock a file, which is deleted at the end; yield None, or the process that has locked it already.

    The system releases the lock of a process that ends in any way. On systems without such locks, nothing is locked.

    Parameters
    ----------
    path : pathlib.Path
        The lock file; its folder must exist.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 100).decode(errors="replace").strip()
            os.close(handle)
            yield owner or "another process"
            return
        except OSError:  # a file system without locks
            break
        if _is_at(handle, path):
            break
        os.close(handle)  # its owner has just deleted it
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}".encode())
        yield None
    finally:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough if another thread forked meanwhile
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Tell whether a process that still runs has locked a file."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDWR)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(handle), there)
