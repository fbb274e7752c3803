"""Pictures that wait at the same time are predicted together, live ones first, and none waits for long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agegender.serve._batching import Batcher
from agegender.serve._metrics import Metrics
from agegender.serve._problems import Problem


class Gate:
    """Answers a picture with itself and its task; waits until it is opened."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, list[bytes]]] = []
        self.opened = threading.Event()
        self.entered = threading.Event()

    def __call__(self, task: Any, contents: list[bytes]) -> list[Any]:
        self.calls.append((task, contents))
        self.entered.set()
        self.opened.wait(10)
        if task == "fail":
            raise RuntimeError("it failed")
        return [(task, content) for content in contents]


def run(use: Callable[[Batcher, Gate], Awaitable[None]], n_arriving: int = 0, max_wait: float = 1.0) -> None:
    async def inside() -> None:
        gate = Gate()
        batcher = Batcher(
            gate, max_batch=4, max_wait=max_wait, n_arriving=lambda: n_arriving, metrics=Metrics()
        )
        batcher.start()
        try:
            await use(batcher, gate)
        finally:
            gate.opened.set()
            await batcher.stop()

    asyncio.run(inside())


async def waiting(batcher: Batcher, gate: Gate, *submissions: tuple[Any, list[bytes], bool]) -> list[Any]:
    """Submit while a first picture is held at the gate; return the answers once it is open."""
    first = asyncio.create_task(batcher.submit("first", [b"0"]))
    await asyncio.to_thread(gate.entered.wait)
    tasks = [asyncio.create_task(batcher.submit(task, some, urgent=live)) for task, some, live in submissions]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_equal_tasks_share_a_call_up_to_the_largest_batch() -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        answers = await waiting(
            batcher, gate, ("a", [b"1", b"2"], False), ("b", [b"3"], False), ("a", [b"4", b"5", b"6"], False)
        )
        assert answers[0] == [("a", b"1"), ("a", b"2")]
        assert answers[2] == [("a", b"4"), ("a", b"5"), ("a", b"6")]
        assert gate.calls[1:] == [("a", [b"1", b"2", b"4", b"5"]), ("b", [b"3"]), ("a", [b"6"])]

    run(use)


def test_live_frames_go_first() -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        await waiting(batcher, gate, ("a", [b"1"], False), ("live", [b"2"], True))
        assert [task for task, _ in gate.calls] == ["first", "live", "a"]

    run(use)


def test_an_error_is_that_of_its_own_call() -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        failed, answered = await waiting(batcher, gate, ("fail", [b"1"], False), ("a", [b"2"], False))
        assert str(failed) == "it failed"
        assert answered == [("a", b"2")]

    run(use)


def test_what_nobody_waits_for_any_more_is_not_predicted() -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        first = asyncio.create_task(batcher.submit("first", [b"0"]))
        await asyncio.to_thread(gate.entered.wait)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.submit("late", [b"1"]), 0.01)
        gate.opened.set()
        await first
        assert await batcher.submit("next", [b"2"]) == [("next", b"2")]
        assert [task for task, _ in gate.calls] == ["first", "next"]

    run(use)


@pytest.mark.parametrize(("n_arriving", "least", "most"), [(0, 0.0, 0.9), (1, 1.0, 20.0)])
def test_a_picture_waits_only_while_others_arrive_and_not_for_long(
    n_arriving: int, least: float, most: float
) -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        gate.opened.set()
        started = time.perf_counter()
        await batcher.submit("a", [b"1"])
        assert least <= time.perf_counter() - started + 0.001 < most

    run(use, n_arriving=n_arriving)


def test_after_the_stop_nothing_is_taken() -> None:
    async def use(batcher: Batcher, gate: Gate) -> None:
        gate.opened.set()
        waiting = asyncio.create_task(batcher.submit("a", [b"1"]))
        await asyncio.sleep(0)
        await batcher.stop()
        assert await waiting == [("a", b"1")]
        with pytest.raises(Problem, match="is stopping"):
            await batcher.submit("a", [b"2"])

    run(use)
