"""Missing pictures spread over the workers of a cluster, through joblib's backends for Dask, Ray and their like.

The driver hashes, looks up and writes; a worker gets what is missing, a chunk at a time. Chunks are handed out in
windows: neither the chunks on their way nor the rows that wait to be written grow with the number of pictures.
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

# A window ends when its last chunk does: the more chunks a worker has in it, the less the others wait.
_CHUNKS_A_WORKER = 16
# What a window's rows may take, and the contents that go with its chunks.
_WINDOW_BYTES = 256 * 2**20
# Contents that are sent in one chunk, unless a single picture is larger.
_CHUNK_BYTES = 16 * 2**20
# How often in a row a cluster may fail, before its error is raised.
_MOST_FAILURES = 3

_log = logging.getLogger(__name__)


class Spread:
    """One call's missing pictures, on their way to workers and back.

    Iterating yields chunks with their answers as they come, in no order.

    Parameters
    ----------
    task : Task
    blocks : iterator of lists of int
        Indices of pictures that make a chunk each, ascending.
    chunk : callable
        Makes a `Chunk` of indices and of paths or contents.
    picture : callable
        Returns the picture at an index.
    read : callable
        Returns the content of the picture at an index, or None after it has dealt with one that cannot be read.
    row_bytes : int
        What comes back for one picture.

    Attributes
    ----------
    limit : float
        Pictures from this index on are not begun any more: one before them ends the call.
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
        # What goes out once more, and whether with the networks' files.
        self._again: deque[tuple[Sequence[int], bool]] = deque()
        self._networks: tuple[NDArray[np.uint8], ...] = ()

    def __iter__(self) -> Generator[tuple[Chunk, Answer], None, None]:
        with _Workers() as workers:
            # One chunk a worker first: it shows what the worker lacks.
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
        """Note what a worker could not do for want of something; raise its error where there is one."""
        if answer.error is not None:
            raise answer.error
        if answer.lacks_network:
            self._again.append((chunk.indices, True))
        elif answer.unreached:
            self._sends_contents = True
            self._again.append(([chunk.indices[place] for place in answer.unreached], False))
        return not answer.lacks_network

    def _window(self, n_workers: int, a_worker: int) -> list[Call]:
        """Take the next chunks, which go out together."""
        window: list[Call] = []
        sent = returned = 0
        # No worker stays idle for the size of rows, which are written as they come; contents are held here.
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
        """Make a chunk of a block, or of its beginning where its contents are too large to go together."""
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
        """Return the contents of the networks' files; arrays, which Dask hands from worker to worker."""
        if not self._networks:
            self._networks = tuple(
                np.frombuffer(backbone.read_bytes(), np.uint8) for backbone in self._backbones
            )
        return self._networks


class _Workers:
    """The workers behind joblib's active backend; what a lost one left undone goes to the others.

    Dask is spoken to by its own client: joblib 1.6 waits for ever for a task whose workers died.
    """

    def __init__(self) -> None:
        backend, n_jobs = get_active_backend()
        self._n_jobs = -1 if n_jobs is None else n_jobs
        self._client = getattr(backend, "client", None) if hasattr(backend, "waiting_futures") else None
        self._networks: dict[int, Any] = {}
        self._open = ExitStack()

    def __enter__(self) -> _Workers:
        if self._client is None:
            # Of large arguments joblib would make files, which no other machine sees.
            parallel = Parallel(n_jobs=self._n_jobs, batch_size=1, max_nbytes=None)
            self._parallel = self._open.enter_context(parallel)
        self.number = max(1, effective_n_jobs(self._n_jobs))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def answers(self, calls: dict[int, Call]) -> Generator[tuple[int, Answer], None, None]:
        """Make numbered calls; yield the answers, as they come where the backend gives them so."""
        return self._by_joblib(calls) if self._client is None else self._by_dask(calls)

    def _by_dask(self, calls: dict[int, Call]) -> Generator[tuple[int, Answer], None, None]:
        """Let Dask do it, which has its own way with lost workers: several tries, then `KilledWorker`."""
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
        """Send a network's file once; workers hand it on to each other."""
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
                # What goes wrong with pictures comes as an answer: this is a worker lost, or the cluster.
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
