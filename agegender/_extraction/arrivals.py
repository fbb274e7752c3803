"""Pictures from remote stores: many are read at the same time, few are decoded, and each is fetched once."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any

from agegender import images
from agegender._machine.threads import resolve_threads
from agegender._utils.stores import READS
from agegender._utils.urls import is_url

__all__ = ["Arrivals"]

# The most that is kept on disk between hashing and decoding; pictures beyond this limit are fetched twice.
_MOST_BYTES = 2 * 2**30
_SAMPLE = 16


class Arrivals:
    """Read the pictures of one call.

    Pictures are read twice: first to be hashed, and then, if the cache lacks them, to be decoded. In between,
    pictures behind URLs are kept in an unnamed temporary file of at most two gigabytes.

    Parameters
    ----------
    pictures : sequence of pictures
    n_jobs : int or None
        Number of pictures decoded at the same time.

    Attributes
    ----------
    n_threads : int
        Number of threads for reading; more than for decoding if pictures come from remote stores.
    decoding : context manager
        Must be held while a picture is decoded.
    """

    def __init__(self, pictures: Sequence[Any], n_jobs: int | None) -> None:
        self._pictures = pictures
        n_decoded = resolve_threads(n_jobs)
        step = max(1, len(pictures) // _SAMPLE)
        remote = any(is_url(pictures[index]) for index in range(0, len(pictures), step))
        self.n_threads = max(READS, n_decoded) if remote else n_decoded
        self.decoding: AbstractContextManager[Any] = (
            threading.BoundedSemaphore(n_decoded) if remote else nullcontext()
        )
        self._file: IO[bytes] | None = None
        self._kept: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._lock = threading.Lock()

    def first(self, index: int) -> images.Content:
        """Read a picture, and keep its content if it came from a remote store.

        Raises
        ------
        PictureError
            As `images.read` does.
        """
        picture = self._pictures[index]
        content = images.read(picture)
        if is_url(picture) and isinstance(content, bytes):
            self._keep(index, content)
        return content

    def again(self, index: int) -> images.Content:
        """Return the content that was kept for a picture, or read the picture again.

        Raises
        ------
        PictureError
            As `images.read` does.
        """
        place = self._kept.get(index)
        if place is None or self._file is None:
            return images.read(self._pictures[index])
        return os.pread(self._file.fileno(), place[1], place[0])

    def close(self) -> None:
        """Free the disk space."""
        with self._lock:
            self._kept.clear()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _keep(self, index: int, content: bytes) -> None:
        if not hasattr(os, "pread"):
            return
        with self._lock:
            if self._end + len(content) > _MOST_BYTES:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="agegender-", buffering=0)  # noqa: SIM115
            try:
                os.pwrite(self._file.fileno(), content, self._end)
            except OSError:  # the disk is full: the picture will be fetched again
                self._end = _MOST_BYTES
                return
            self._kept[index] = (self._end, len(content))
            self._end += len(content)
