"""Access to stores behind URLs with fsspec: with their own credentials, and with retries on failure."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, TypeVar

from agegender._machine.fork import after_fork
from agegender._utils.files import write_whole
from agegender._utils.urls import is_url, public, redacted
from agegender._utils.validation import optional_import

__all__ = ["READS", "StoreError", "exists", "find", "one_at_a_time", "open_place", "put_whole", "tried"]

READS = 32
"""The number of pictures that are read from stores at the same time."""

TRIES = 6
FIRST_WAIT = 0.25
"""Seconds before the second try; doubled before each further try, with up to a half added at random."""

_T = TypeVar("_T")
_ARCHIVES = ("zip://", "tar://")
_MOST_ARCHIVES = 8
_archives: dict[str, tuple[Any, Any]] = {}
_tar_lock = threading.Lock()


def _after_fork() -> None:
    global _tar_lock
    _tar_lock = threading.Lock()
    _archives.clear()  # parent and children would share one position in one open file


after_fork(_after_fork)
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_CLIENTS = frozenset(
    {"aiohttp", "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "httpcore", "httpx"}
    | {"huggingface_hub", "requests", "s3fs", "urllib3"}
)
_WORTH_WAITING = frozenset({408, 425, 429})


class StoreError(OSError):
    """A store's message about a location that cannot be read or written, without secrets."""


def tried(url: str, work: Callable[[Any, str], _T]) -> _T:
    """Call a function with a URL's file system and path; if the store fails, retry with increasing waits.

    Raises
    ------
    StoreError
        If it fails permanently, or every time; the message contains only the reason and not the location.
    """

    def attempt() -> _T:
        system, path = _file_system(url)
        return work(system, path)

    return _told(url, attempt)


def _told(url: str, work: Callable[[], _T]) -> _T:
    """Return the result of `work`; its errors become a `StoreError` without secrets in chain or text."""
    n_tries = 0
    while True:
        n_tries += 1
        try:
            return work()
        except StoreError:
            raise
        except Exception as error:
            final = _is_final(error)
            reason = _reason(error, url, n_tries)
        if final or n_tries >= TRIES:
            # Outside of the handler: the store's error may contain a signed URL and must not be chained.
            raise StoreError(reason)
        time.sleep(FIRST_WAIT * 2 ** (n_tries - 1) * (1 + random.random() / 2))
        _forget(url)


def _file_system(url: str) -> tuple[Any, str]:
    core = optional_import("fsspec.core", "remote")
    scheme, _, archive = url.partition("::")
    if not archive or not scheme.startswith(_ARCHIVES):
        system, path = core.url_to_fs(url)
        return system, path
    # fsspec would read an archive's whole directory again for every file in it.
    found = _archives.get(archive)
    stamp = _stamp(archive)
    if found is None or found[0] != stamp:
        kind = scheme.partition("://")[0]
        _archives[archive] = found = (stamp, core.url_to_fs(f"{kind}://::{archive}")[0])
        while len(_archives) > _MOST_ARCHIVES:
            _archives.pop(next(iter(_archives)), None)
    return found[1], scheme.partition("://")[2]


def _stamp(archive: str) -> Any:
    """Return a value that changes if an archive may have changed: a file's metadata, or a URL's minute."""
    if is_url(archive):
        return int(time.monotonic() // 60)
    status = os.stat(archive)
    return status.st_mtime_ns, status.st_size, status.st_ino


def one_at_a_time(system: Any) -> AbstractContextManager[Any]:
    """Return a lock for reading from a file system that has only one position in its file at a time."""
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return _tar_lock if "tar" in protocols else nullcontext()


def _forget(url: str) -> None:
    """Clear a file system's cached sizes, because a listing may be older than the file."""
    _archives.pop(url.partition("::")[2], None)
    try:
        system, path = _file_system(url)
        system.invalidate_cache(path)
    except Exception:
        return  # the next try reports the error


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for found in (getattr(error, "status", None), getattr(response, "status_code", None)):
        if isinstance(found, int):
            return found
    return None


def _is_final(error: Exception) -> bool:
    """Return whether another try would fail in the same way."""
    if isinstance(error, (*_FINAL, ImportError, NotImplementedError, ValueError, TypeError, KeyError)):
        return True
    if "Credential" in type(error).__name__:
        return True
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status not in _WORTH_WAITING
    return not (isinstance(error, OSError) or type(error).__module__.split(".")[0] in _CLIENTS)


def _reason(error: Exception, url: str, n_tries: int) -> str:
    said = redacted(" ".join(str(error).split()), url)[:200]
    if isinstance(error, ImportError) or "Protocol not known" in said:
        return f"is a URL that cannot be opened here: {said or type(error).__name__}"
    if isinstance(error, (FileNotFoundError, KeyError, NotADirectoryError)):
        return "does not exist in its store"
    if isinstance(error, IsADirectoryError):
        return "is a folder in its store; pass the pictures in it"
    if isinstance(error, PermissionError):
        return (
            f"may not be read: its store says {said or 'permission denied'}; look at the store's credentials"
        )
    tries = f" after {n_tries} tries" if n_tries > 1 else ""
    return f"could not be read from its store{tries} ({type(error).__name__}: {said})"


def exists(place: str) -> bool:
    """Return whether a file exists."""
    if not is_url(place):
        return Path(place).is_file()
    try:
        return tried(place, lambda system, path: bool(system.isfile(path)))
    except StoreError as error:
        raise StoreError(f"{public(place)} {error}") from None


def find(url: str) -> Iterator[str]:
    """Yield the names of the files below a URL, relative to it, in the order of names.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the URL.
    """

    def listed(system: Any, path: str) -> list[str]:
        system.invalidate_cache()  # files may have been added since the last listing
        root = system._strip_protocol(path).rstrip("/")
        found = [str(name)[len(root) :].lstrip("/") for name in system.find(path)]
        return sorted(filter(None, found))

    try:
        names = tried(url, listed)
    except StoreError as error:
        raise StoreError(f"{public(url)} {error}") from None
    if not names:
        raise FileNotFoundError(f"There is nothing in {public(url)!r}.")
    yield from names


def open_place(place: str) -> IO[bytes]:
    """Open a path or a URL for reading bytes.

    Raises
    ------
    FileNotFoundError
        If it is a path, and there is no such file.
    StoreError
        If it is a URL that cannot be opened.
    """
    if not is_url(place):
        return Path(place).open("rb")
    try:
        file: IO[bytes] = tried(place, lambda system, path: system.open(path, "rb"))
    except StoreError as error:
        raise StoreError(f"{public(place)} {error}") from None
    return file


def put_whole(place: str, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all: first to a temporary name, for a URL on this machine.

    Parameters
    ----------
    place : str
        A path or a URL; object stores show a file only after it has arrived completely.
    write : callable
        Called with the temporary name, to which it writes.
    """
    if not is_url(place):
        write_whole(Path(place), write)
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="agegender-") as folder:
        arriving = Path(folder) / "arriving"
        write(arriving)

        def put(system: Any, path: str) -> None:
            system.makedirs(system._parent(path), exist_ok=True)
            system.put_file(str(arriving), path)

        try:
            tried(place, put)
        except StoreError as error:
            raise StoreError(f"{public(place)}: {str(error).replace('read from', 'written to')}") from None
