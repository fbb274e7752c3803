"""Distribution of missing pictures to the workers of a cluster, by joblib's backends for Dask, Ray etc.

The driver hashes pictures, reads the cache and writes to it. Workers receive the missing pictures in chunks.
Chunks are sent in windows, so that neither the number of pending chunks nor the number of rows that wait to
be written grows with the number of pictures.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, TypeAlias

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.chunks import Answer, Chunk, embed_chunk
from agegender._extraction.task import Task
from agegender._utils.urls import absolute

__all__ = ["Contents", "Spread"]

Contents: TypeAlias = list[str | images.Content]
Call: TypeAlias = tuple[Task, Chunk, "tuple[NDArray[np.uint8], ...]"]

# A window ends with its last chunk. With more chunks per worker in a window, workers spend less time waiting.
_CHUNKS_A_WORKER = 16
# The maximum number of bytes of a window's rows, and of the contents that are sent with its chunks.
_WINDOW_BYTES = 256 * 2**20
# The maximum number of bytes of the contents in one chunk, unless a single picture is larger.
_CHUNK_BYTES = 16 * 2**20
# Number of consecutive failures of a cluster after which its error is raised.
_MOST_FAILURES = 3

_log = logging.getLogger(__name__)


class Spread:
    """The missing pictures of one call, which are sent to workers.

    Iterating yields chunks with their answers as they arrive, in any order.

    Parameters
    ----------
    task : Task
    blocks : iterator of lists of int
        The indices of the pictures of each chunk, in ascending order.
    chunk : callable
        Makes a `Chunk` from indices and from paths or contents.
    picture : callable
        Returns the picture at an index.
    read : callable
        Returns the content of the picture at an index. If the picture cannot be read, it handles the error
        and returns None.
    row_bytes : int
        Size of the answer for one picture.

    Attributes
    ----------
    limit : float
        Pictures from this index on are not started any more, because an earlier picture ends the call.
    """

    def __init__(
        self,
        task: Task,
        blocks: Iterator[Sequence[int]],
        *,
        chunk: Callable[[list[int], Contents], Chunk],
        picture: Callable[[int], Any],
        read: Callable[[int], images.Content | None],
        row_bytes: int,
    ) -> None:
        self.limit = math.inf
        self._task = task.sent()
        self._backbones = [source.backbone for source in task.sources]
        self._blocks = blocks
        self._chunk, self._picture, self._read = chunk, picture, read
        self._row_bytes = row_bytes
        self._sends_contents = False
        # Chunks that are sent again, and whether the networks' files are sent with them.
        self._again: deque[tuple[Sequence[int], bool]] = deque()
        self._networks: tuple[NDArray[np.uint8], ...] = ()

    def __iter__(self) -> Generator[tuple[Chunk, Answer], None, None]:
        with _Workers() as workers:
            # First one chunk per worker, to find out which files the worker lacks.
            window = self._window(workers.number, 1)
            while window:
                with closing(workers.answers(dict(enumerate(window)))) as answers:
                    for number, answer in answers:
                        chunk = window[number][1]
                        if self._is_done(chunk, answer):
                            yield chunk, answer
                lacking = any(with_network for _, with_network in self._again)
                window = self._window(workers.number, 1 if lacking else _CHUNKS_A_WORKER)

    def _is_done(self, chunk: Chunk, answer: Answer) -> bool:
        """Record what a worker could not do because it lacks a file; raise its error if there is one."""
        if answer.error is not None:
            raise answer.error
        if answer.lacks_network:
            self._again.append((chunk.indices, True))
        elif answer.unreached:
            self._sends_contents = True
            self._again.append(([chunk.indices[place] for place in answer.unreached], False))
        return not answer.lacks_network

    def _window(self, n_workers: int, a_worker: int) -> list[Call]:
        """Return the next chunks, which are sent together."""
        window: list[Call] = []
        sent = returned = 0
        # The size of rows never leaves a worker idle, because rows are written as they arrive; contents are
        # in memory.
        while (
            len(window) < n_workers * a_worker
            and sent < _WINDOW_BYTES
            and (returned < _WINDOW_BYTES or len(window) < n_workers)
        ):
            block, with_network = self._again.popleft() if self._again else (next(self._blocks, None), False)
            if block is None:
                break
            if block[0] >= self.limit:
                continue
            chunk, size = self._load(block, with_network)
            if chunk.indices:
                window.append((self._task, chunk, self._network_files() if with_network else ()))
            sent += size
            returned += self._row_bytes * len(chunk.indices)
        return window

    def _load(self, block: Sequence[int], with_network: bool) -> tuple[Chunk, int]:
        """Make a chunk of a block, or of its beginning if its contents are too large for one chunk."""
        indices: list[int] = []
        pictures: Contents = []
        n_bytes = 0
        for place, index in enumerate(block):
            if n_bytes >= _CHUNK_BYTES:
                self._again.appendleft((block[place:], with_network))
                break
            picture = self._picture(index)
            if isinstance(picture, (str, os.PathLike)) and not self._sends_contents:
                indices.append(index)
                pictures.append(absolute(picture))
            elif (content := self._read(index)) is not None:
                indices.append(index)
                pictures.append(content)
                n_bytes += len(content) if isinstance(content, bytes) else content.nbytes
        return self._chunk(indices, pictures), n_bytes

    def _network_files(self) -> tuple[NDArray[np.uint8], ...]:
        """Return the contents of the networks' files as arrays, which Dask sends from worker to worker."""
        if not self._networks:
            self._networks = tuple(
                np.frombuffer(backbone.read_bytes(), np.uint8) for backbone in self._backbones
            )
        return self._networks


class _Workers:
    """The workers behind joblib's active backend; unfinished chunks of a lost worker are sent to others.

    Dask is called through its own client, because joblib 1.6 waits forever for a task whose workers died.
    """

    def __init__(self) -> None:
        backend, n_jobs = get_active_backend()
        self._n_jobs = -1 if n_jobs is None else n_jobs
        self._client = getattr(backend, "client", None) if hasattr(backend, "waiting_futures") else None
        self._networks: dict[int, Any] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Workers:
        if self._client is None:
            # joblib would write large arguments to files, which other machines cannot read.
            parallel = Parallel(n_jobs=self._n_jobs, batch_size=1, max_nbytes=None)
            self._parallel = self._open.enter_context(parallel)
        self.number = max(1, effective_n_jobs(self._n_jobs))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def answers(self, calls: dict[int, Call]) -> Generator[tuple[int, Answer], None, None]:
        """Make numbered calls; yield the answers, in the order of arrival if the backend supports it."""
        return self._by_joblib(calls) if self._client is None else self._by_dask(calls)

    def _by_dask(self, calls: dict[int, Call]) -> Generator[tuple[int, Answer], None, None]:
        """Make the calls with Dask, which handles lost workers itself: several tries, then `KilledWorker`."""
        from distributed import as_completed

        client: Any = self._client
        futures = {
            client.submit(embed_chunk, task, chunk, *map(self._scattered, networks), pure=False): number
            for number, (task, chunk, networks) in calls.items()
        }
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
                future.release()
        finally:
            client.cancel(list(futures))

    def _scattered(self, network: NDArray[np.uint8]) -> Any:
        """Send a network's file once; workers send it to each other."""
        if id(network) not in self._networks:
            client: Any = self._client
            self._networks[id(network)] = client.scatter(network, hash=False)
        return self._networks[id(network)]

    def _by_joblib(self, calls: dict[int, Call]) -> Generator[tuple[int, Answer], None, None]:
        failures = 0
        while calls:
            try:
                answers = self._parallel(
                    delayed(embed_chunk)(task, chunk, *networks) for task, chunk, networks in calls.values()
                )
            except Exception as error:
                # Errors of pictures are part of an answer, so this is a lost worker or an error of the
                # cluster.
                failures += 1
                if failures > _MOST_FAILURES:
                    raise
                _log.warning(
                    "A worker was lost (%s); %d chunks go out again.", type(error).__name__, len(calls)
                )
                self._open.close()
                self.__enter__()
            else:
                yield from zip(list(calls), answers, strict=True)
                return
