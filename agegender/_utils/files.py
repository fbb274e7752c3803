"""Writing files completely or not at all, and names of files as text."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["check_writable", "utf8", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name in the same folder, flush it to the disk, then rename it.

    A symbolic link is followed: its target is replaced, and the link stays. If the path exists and is not a
    regular file but, for example, a device or a pipe, it is written to directly.

    Parameters
    ----------
    path : pathlib.Path
        The path; missing folders are created, and an existing file is replaced.
    write : callable
        Called with the temporary name, to which it writes.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    IsADirectoryError
        If `path` is a folder.
    OSError
        If it cannot be written.
    """
    if path.exists() and not path.is_file():
        _refuse_folder(path)
        _write_through(path, write)
        return path
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving = target.with_name(f".{target.name[:80]}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write(arriving)
        with arriving.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(arriving, target)
    finally:
        arriving.unlink(missing_ok=True)
    return path


def check_writable(path: Path) -> None:
    """Check before long work whether `write_whole` can write a file; nothing is changed or created.

    Raises
    ------
    IsADirectoryError
        If `path` is a folder.
    OSError
        If its folder, or the existing folder in which that would be created, cannot be written to.
    """
    if path.exists() and not path.is_file():
        _refuse_folder(path)
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} may not be written: permission denied.")
        return
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".agegender-"):
            pass
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {folder}: {os.strerror(error.errno or 0)}.") from error


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file to write in it.")


def _write_through(path: Path, write: Callable[[Path], object]) -> None:
    """Write a complete temporary file to a device or a pipe."""
    with tempfile.TemporaryDirectory(prefix="agegender-") as folder:
        whole = Path(folder) / (path.name or "file")
        write(whole)
        with whole.open("rb") as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def utf8(name: str) -> str:
    r"""Return a file's name as text that tables can contain: bytes that are not UTF-8 are written as escapes.

    Examples
    --------
    >>> print(utf8(os.fsdecode(b"zo\xe9.jpg")))
    zo\udce9.jpg
    """
    return name.encode("utf-8", "backslashreplace").decode()
