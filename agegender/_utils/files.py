"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name beside its own, bring it to the disk, then rename it.

    Parameters
    ----------
    path : pathlib.Path
        Where it will lie; missing folders are made, a file that lies there is replaced.
    write : callable
        Gets the temporary name, and writes there.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write(arriving)
        with arriving.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(arriving, path)
    finally:
        arriving.unlink(missing_ok=True)
    return path
