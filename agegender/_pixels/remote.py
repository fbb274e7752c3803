"""Reading the bytes of a picture behind a URL, never more than the limit, even if its store misbehaves."""

from __future__ import annotations

from typing import Any

from agegender._pixels.formats import Unreadable
from agegender._pixels.reading import MAX_FILE_BYTES
from agegender._utils.stores import StoreError, one_at_a_time, tried

__all__ = ["read_url"]

_PART = 16 * 2**20


def read_url(url: str) -> bytes:
    """Return a file's bytes, or raise `Unreadable` with the store's reason."""
    try:
        content = tried(url, _read)
    except StoreError as error:
        reason = str(error)
    else:
        if len(content) > MAX_FILE_BYTES:
            raise Unreadable(f"is a file of more than the {MAX_FILE_BYTES:,} bytes that are read")
        if not content:
            raise Unreadable("is an empty file (0 bytes); upload it again")
        return content
    # Raised outside of the handler, so that the store's own errors are not chained.
    raise Unreadable(reason)


def _read(system: Any, path: str) -> bytes:
    protocols = (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
    if {"http", "https"} & set(protocols):
        return _stream(system, path)
    # These make a local copy of the whole file before the first byte can be read.
    copies = {"blockcache", "cached", "filecache", "simplecache"} & set(protocols)
    if copies and (system.info(path).get("size") or 0) > MAX_FILE_BYTES:
        raise StoreError(f"is a file of more than the {MAX_FILE_BYTES:,} bytes that are read")
    with one_at_a_time(system), system.open(path, "rb") as file:
        return _up_to_the_cap(file)


def _stream(system: Any, path: str) -> bytes:
    """Read a web server's response as a stream, because it may ignore ranges and report wrong sizes."""
    # The size is given only to avoid a request for it; it is not used for anything else.
    with system.open(path, "rb", block_size=0, size=1) as file:
        return _up_to_the_cap(file)


def _up_to_the_cap(file: Any) -> bytes:
    """Read at most one byte more than the limit; that byte shows that the file is too large."""
    parts: list[bytes] = []
    left = MAX_FILE_BYTES + 1
    while left > 0 and (part := file.read(min(_PART, left))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
