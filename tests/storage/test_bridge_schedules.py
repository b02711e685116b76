"""Both sides of the bridge on one simulated scheduler: no wake-up is lost in any schedule.

What wakes either side is given to the bridge. Here a wake-up is a post in a queue, which a task of
the other side takes out when the schedule lets it; the worker's operations are tasks as well.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session.adapters.storage.loop_thread import Bridge
from langswarm.core.session.testing import Backend, DeadlockError, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream
    from langswarm.core.session.actors.wait import Backend as Loop

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
CALLERS, CALLS = 4, 5
SEEDS = 100


class Sides:
    """A host and a worker with a bridge between them."""

    def __init__(self, group: TaskGroup, make: Callable[..., Bridge], wakes: Counter[str]) -> None:
        self.group = group
        self.to_worker, at_worker = anyio.create_memory_object_stream[Any](math.inf)
        self.to_host, at_host = anyio.create_memory_object_stream[Any](math.inf)
        self.wakes = wakes
        self.done: Counter[int] = Counter()
        self.finished = anyio.Event()
        self.bridge = make(start=self.start, wake_worker=self.wake_worker, wake_host=self.wake_host)
        group.start_soon(self.take_posts, at_worker)
        group.start_soon(self.take_posts, at_host)

    def wake_worker(self, callback: Callable[[], None]) -> None:
        self.wakes["worker"] += 1
        self.to_worker.send_nowait(callback)

    def wake_host(self, loop: Loop, callback: Callable[[], None]) -> None:
        assert loop.is_current()
        self.wakes["host"] += 1
        self.to_host.send_nowait(callback)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await coroutine

        self.group.start_soon(run)

    async def take_posts(self, posts: MemoryObjectReceiveStream[Callable[[], None]]) -> None:
        async with posts:
            async for callback in posts:
                await anyio.sleep(1)
                callback()

    async def operation(self, number: int) -> int:
        await anyio.sleep(number % 3)
        self.done[number] += 1
        if len(self.done) == CALLERS * CALLS:
            self.finished.set()
        return -number

    async def caller(self, number: int) -> None:
        for call in range(CALLS):
            argument = number * CALLS + call
            if (number + call) % 4 == 0:
                with anyio.move_on_after(0):  # handed over, then left
                    await self.bridge.call(self.operation, argument)
            else:
                assert await self.bridge.call(self.operation, argument) == -argument


async def everyone_is_answered(make: Callable[..., Bridge] = Bridge) -> Counter[str]:
    """All callers at once; every operation runs once, also those of callers that went away."""
    wakes: Counter[str] = Counter()
    async with anyio.create_task_group() as group:
        sides = Sides(group, make, wakes)
        with sides.to_worker, sides.to_host:
            async with anyio.create_task_group() as callers:
                for number in range(CALLERS):
                    callers.start_soon(sides.caller, number)
            await sides.finished.wait()
        assert sides.done == Counter(range(CALLERS * CALLS))
    return wakes


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_call_is_forgotten_in_any_schedule(backend: Backend) -> None:
    wakes: Counter[int] = Counter()
    for seed in range(SEEDS):
        result = simulate(everyone_is_answered, backend=backend, seed=seed, max_steps=5_000)
        for side in ("worker", "host"):
            assert result.value[side] <= CALLERS * CALLS
            wakes[result.value[side]] += 1
    assert len(wakes) > 3  # bursts of different lengths: the schedules differ


async def with_a_late_flag() -> None:
    """As if the worker's thread were preempted between draining and lowering its flag."""

    class LateFlag(Bridge):
        def drain(self) -> None:
            while self._inbox:
                self._start(self._run(self._inbox.popleft()))
            self._wake_worker(self.lower)

        def lower(self) -> None:
            self._woken = False

    await everyone_is_answered(LateFlag)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flag_that_is_lowered_late_is_found(backend: Backend) -> None:
    """The test has teeth: a wake-up that is lost is a standstill."""
    lost = 0
    for seed in range(SEEDS):
        try:
            simulate(with_a_late_flag, backend=backend, seed=seed, max_steps=5_000)
        except DeadlockError:
            lost += 1
    assert lost > SEEDS // 10
