"""The pictures of one call: read, identified by content, and read again with a check."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TypeVar

from agegender import images
from agegender._extraction.arrivals import Arrivals
from agegender._extraction.trusted import digest_unless_known
from agegender._machine.pools import reading_threads
from agegender._utils.urls import is_url
from agegender.exceptions import PictureError

__all__ = ["Contents", "digests_of", "in_order"]

# Number of blocks of pictures that are read or decoded ahead of the current one.
_BLOCKS_AHEAD = 2
_T = TypeVar("_T")


class Contents:
    """The contents of a sequence of pictures.

    Several threads can use it at the same time.

    Parameters
    ----------
    pictures : sequence of pictures
    trust_mtime : bool
        If True, a file that looks unchanged since this process hashed it is not hashed again.
    n_jobs : int or None, default=None
        Number of pictures decoded at the same time.
    """

    def __init__(self, pictures: Sequence[Any], trust_mtime: bool, n_jobs: int | None = None) -> None:
        self.pictures = pictures
        self.trust_mtime = trust_mtime
        self._arrivals = Arrivals(pictures, n_jobs)

    def __len__(self) -> int:
        return len(self.pictures)

    def digest(self, index: int) -> bytes | PictureError:
        """Return the hash of a picture's content, or its error."""
        try:
            picture = self.pictures[index]
            if self.trust_mtime and not is_url(picture):
                return digest_unless_known(picture)
            return images.digest(self._arrivals.first(index))
        except PictureError as error:
            return error

    def read(self, index: int, digest: bytes) -> images.Content:
        """Read a picture again.

        Raises
        ------
        PictureError
            If it cannot be read, or no longer has this digest.
        """
        content = self._arrivals.again(index)
        if images.digest(content) != digest:
            raise PictureError(self.name(index), "it changed while it was read; run the call again.")
        return content

    @contextmanager
    def threads(self) -> Iterator[ThreadPoolExecutor]:
        """Lend threads for reading (more than for decoding if pictures are remote), then free the disk."""
        with closing(self._arrivals), reading_threads(self._arrivals.n_threads) as pool:
            yield pool

    @property
    def decoding(self) -> AbstractContextManager[Any]:
        """The context manager to hold while a picture is decoded."""
        return self._arrivals.decoding

    def name(self, index: int) -> str:
        """Return the name of a picture in messages."""
        return images.describe(self.pictures[index])

    def named(self, index: int, error: PictureError) -> PictureError:
        """Return an error of the same kind that names the picture."""
        return type(error)(self.name(index), error.reason)


def digests_of(pictures: Sequence[Any], n_jobs: int | None) -> list[bytes | None]:
    """Return the hash of each picture's content; None if it cannot be read."""
    contents = Contents(pictures, trust_mtime=False, n_jobs=n_jobs)
    with contents.threads() as pool:
        found = list(pool.map(contents.digest, range(len(pictures))))
    return [digest if isinstance(digest, bytes) else None for digest in found]


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[int], _T], indices: Sequence[int], size: int
) -> Iterator[tuple[Sequence[int], list[_T]]]:
    """Yield blocks of indices with the function's results; some blocks are computed ahead."""
    ahead: deque[tuple[Sequence[int], list[Future[_T]]]] = deque()
    for start in range(0, len(indices), size):
        block = indices[start : start + size]
        ahead.append((block, [pool.submit(function, index) for index in block]))
        if len(ahead) > _BLOCKS_AHEAD:
            yield _results(*ahead.popleft())
    while ahead:
        yield _results(*ahead.popleft())


def _results(block: Sequence[int], futures: list[Future[_T]]) -> tuple[Sequence[int], list[_T]]:
    return block, [future.result() for future in futures]
