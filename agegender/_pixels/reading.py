"""Reading the bytes of a file safely, also if it is a pipe, a folder, or a file that is being written."""

from __future__ import annotations

import errno
import os
import re
import stat

from agegender._pixels.formats import Unreadable

__all__ = ["MAX_FILE_BYTES", "read_file"]

MAX_FILE_BYTES = 512 * 2**20
"""The size of the largest file that is read: 64 megapixels at 16 bits and four channels, uncompressed."""

# If a pipe replaces the file between stat and open, opening it must not wait for a writer.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_KINDS = {
    stat.S_IFDIR: "is a folder; pass the pictures in it, as in sorted(pathlib.Path(folder).glob('*.jpg'))",
    stat.S_IFIFO: "is a named pipe, not a file; pass the bytes that come out of it",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


def read_file(path: str) -> bytes:
    """Return a regular file's bytes, or raise `Unreadable` with the reason."""
    try:
        # A pipe or a device is rejected before it is opened, because opening it can wait forever or rewind a
        # tape.
        _check_status(os.stat(path))
        with os.fdopen(os.open(path, _OPEN), "rb") as file:
            before = os.fstat(file.fileno())
            _check_status(before)
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except Unreadable:
        raise
    except (OSError, ValueError) as error:
        raise Unreadable(_why(path, error)) from error
    steady = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if len(content) != before.st_size or not steady:
        raise Unreadable("changed while it was read; try again when its writer has finished")
    return content


def _check_status(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(_KINDS.get(stat.S_IFMT(status.st_mode), "is not a regular file"))
    if status.st_size == 0:
        raise Unreadable("is an empty file (0 bytes); copy or download it again")
    if status.st_size > MAX_FILE_BYTES:
        raise Unreadable(
            f"is a file of {status.st_size:,} bytes; {MAX_FILE_BYTES:,} are the most that are read"
        )


def _why(path: str, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        return f"is no possible file name ({error})"
    if path.startswith("data:"):
        return "is a data URL; pass base64.b64decode(…) of the part after its comma"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return _why_missing(path)
    if number in (errno.EACCES, errno.EPERM):
        return "may not be read: permission denied; change its permissions or ask its owner"
    if number == errno.ELOOP:
        return "is a symbolic link that leads round in a circle"
    if number == errno.ENAMETOOLONG:
        return "is a name longer than the file system allows"
    return f"cannot be read: {os.strerror(number)}"


def _why_missing(path: str) -> str:
    if re.match(r"[a-z][a-z0-9+.\-]+:/[^/]", path):
        return "is a URL that pathlib has shortened; pass it as text, not as a Path"
    if os.path.islink(path):
        return f"is a symbolic link to {os.readlink(path)}, which does not exist"
    if path.startswith("~"):
        return "does not exist; write out what ~ stands for, as os.path.expanduser does"
    return "does not exist" if os.path.isabs(path) else f"does not exist (looked for in {os.getcwd()})"
