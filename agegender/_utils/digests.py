"""The sha256 of files, computed once per process for each path, size and modification time."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from agegender._machine.fork import after_fork

__all__ = ["sha256_of"]

_SHA256: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


def sha256_of(path: Path) -> str:
    """Return a file's sha256, computed once for each path, size and modification time."""
    stat = path.stat()
    key = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
    with _lock:
        if key in _SHA256:
            return _SHA256[key]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with _lock:
        return _SHA256.setdefault(key, digest)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


after_fork(_after_fork)
