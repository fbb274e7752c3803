"""Predict pictures that arrive at the same time together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from agegender.serve._metrics import Metrics
from agegender.serve._problems import Problem

__all__ = ["Batcher"]


@dataclass(eq=False)
class _Job:
    """One picture that waits for its turn."""

    task: Hashable
    content: bytes
    answer: asyncio.Future[Any]
    arrived: float


class Batcher:
    """Passes the pictures of all requests to one thread; pictures that wait at the same time share one call.

    A picture waits for others only while a request is arriving, and for `max_wait` seconds at most. Urgent
    pictures (live frames) are predicted first. The models behind `run` already use every core.

    Parameters
    ----------
    run : callable
        ``run(task, contents)`` returns one answer per picture.
    max_batch : int
        Pictures in one call.
    max_wait : float
        In seconds.
    n_arriving : callable
        Returns how many requests are arriving.
    metrics : Metrics
    """

    def __init__(
        self,
        run: Callable[[Any, list[bytes]], Sequence[Any]],
        *,
        max_batch: int,
        max_wait: float,
        n_arriving: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._predict = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._n_arriving = n_arriving
        self._metrics = metrics
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agegender-predict")
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the worker; called in the event loop."""
        self._loop_task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Finish the waiting pictures and accept no more."""
        self._stopping = True
        self._arrival.set()
        if self._loop_task is not None:
            await self._loop_task
        self._thread.shutdown()

    async def submit(self, task: Hashable, contents: Sequence[bytes], *, urgent: bool = False) -> list[Any]:
        """Return the answer for each picture.

        Parameters
        ----------
        task : hashable
            Pictures with equal tasks are predicted in one call.
        contents : sequence of bytes
        urgent : bool, default=False
            Whether the pictures are predicted before all that are not urgent.
        """
        if self._stopping:
            raise Problem(
                "stopping", "The service is stopping; send this request again later.", retry_after=5
            )
        now, loop = time.perf_counter(), asyncio.get_running_loop()
        jobs = [_Job(task, content, loop.create_future(), now) for content in contents]
        (self._urgent if urgent else self._waiting).extend(jobs)
        self._arrival.set()
        try:
            return [await job.answer for job in jobs]
        finally:
            for job in jobs:
                job.answer.cancel()

    async def _work(self) -> None:
        while True:
            await self._some()
            jobs = self._next()
            if jobs:
                await self._answer(jobs)
            elif self._stopping:
                return

    async def _some(self) -> None:
        """Wait for a picture, then for a short time for pictures that are arriving."""
        while not self._n_waiting and not self._stopping:
            self._arrival.clear()
            await self._arrival.wait()
        until = time.perf_counter() + self._max_wait
        while not self._urgent and 0 < self._n_waiting < self._max_batch and self._n_arriving():
            left = until - time.perf_counter()
            if left <= 0:
                return
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                return

    @property
    def _n_waiting(self) -> int:
        return len(self._urgent) + len(self._waiting)

    def _next(self) -> list[_Job]:
        """Take the first picture, and those that can be predicted with it; cancelled ones are dropped."""
        queue = self._urgent or self._waiting
        taken: list[_Job] = []
        passed: list[_Job] = []
        while queue and len(taken) < self._max_batch:
            job = queue.popleft()
            if job.answer.done():
                continue
            (taken if not taken or job.task == taken[0].task else passed).append(job)
        queue.extendleft(reversed(passed))
        return taken

    async def _answer(self, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        for job in jobs:
            self._metrics.seconds("wait", started - job.arrived)
        self._metrics.batch.observe(len(jobs))
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(
                self._thread, self._predict, jobs[0].task, [job.content for job in jobs]
            )
        except Exception as error:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
                    job.answer.exception()  # a client that disconnected will not read it
            return
        finally:
            self._metrics.seconds("predict", time.perf_counter() - started)
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)
