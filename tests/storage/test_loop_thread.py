"""The crossing between the host's event loop and the driver's."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.wait import Backend, LoopGoneError
from langswarm.core.session.adapters.storage.loop_thread import Bridge, LoopThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


class Scheduler:
    """Stands for both event loops: nothing crosses before the test says so."""

    def __init__(self) -> None:
        self.to_worker: deque[Callable[[], None]] = deque()
        self.to_host: deque[Callable[[], None]] = deque()
        self.started: list[Coroutine[Any, Any, None]] = []
        self.host_is_gone = False
        self.bridge = Bridge(
            start=self.started.append,
            wake_worker=self.to_worker.append,
            wake_host=self.wake_host,
        )

    def wake_host(self, backend: Backend, callback: Callable[[], None]) -> None:
        assert backend.is_current()
        if self.host_is_gone:
            raise LoopGoneError
        self.to_host.append(callback)

    def worker_turn(self) -> None:
        """Deliver every wake-up to the worker and run what it starts to its end."""
        while self.to_worker:
            self.to_worker.popleft()()
        while self.started:
            with pytest.raises(StopIteration):
                self.started.pop(0).send(None)

    def host_turn(self) -> None:
        while self.to_host:
            self.to_host.popleft()()


async def double(number: int) -> int:
    return 2 * number


async def fail() -> None:
    raise ZeroDivisionError


class TestTheBridge:
    async def test_wakes_each_side_once_for_a_burst(self) -> None:
        scheduler = Scheduler()
        results: list[int] = []

        async def call(number: int) -> None:
            results.append(await scheduler.bridge.call(double, number))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
            assert len(scheduler.to_worker) == 1
            scheduler.worker_turn()
            assert len(scheduler.to_host) == 1
            scheduler.host_turn()
        assert sorted(results) == [2 * number for number in range(100)]

    async def test_wakes_again_for_what_comes_after_the_draining(self) -> None:
        scheduler = Scheduler()
        for number in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(scheduler.bridge.call, double, number)
                await anyio.wait_all_tasks_blocked()
                scheduler.worker_turn()
                scheduler.host_turn()

    async def test_starts_calls_in_the_order_in_which_they_were_made(self) -> None:
        scheduler = Scheduler()
        made: list[int] = []
        run: list[int] = []

        async def note(number: int) -> None:
            run.append(number)

        async def call(number: int) -> None:
            made.append(number)
            await scheduler.bridge.call(note, number)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
            scheduler.worker_turn()
            scheduler.host_turn()
        assert run == made

    async def test_raises_where_the_call_was_made(self) -> None:
        scheduler = Scheduler()

        async def call() -> None:
            with pytest.raises(ZeroDivisionError):
                await scheduler.bridge.call(fail)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            scheduler.worker_turn()
            scheduler.host_turn()

    @pytest.mark.parametrize("function", [double, fail])
    async def test_runs_what_was_handed_over_although_its_caller_was_cancelled(
        self, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> None:
        scheduler = Scheduler()
        arguments = (4,) if function is double else ()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await scheduler.bridge.call(function, *arguments)
        assert scope.cancelled_caught
        scheduler.worker_turn()
        scheduler.host_turn()  # the reply finds nobody
        await anyio.lowlevel.checkpoint()

    async def test_drops_the_reply_to_an_event_loop_that_has_ended(self) -> None:
        scheduler = Scheduler()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await scheduler.bridge.call(double, 4)
        scheduler.host_is_gone = True
        scheduler.worker_turn()
        assert not scheduler.to_host


class Driver:
    """What a LoopThread hosts; counts and never blocks unless told to."""

    def __init__(self) -> None:
        self.torn_down = 0
        self.hurried = 0
        self.release = asyncio.Event()
        self.finished: list[int] = []
        self.thread = LoopThread("test", teardown=self.teardown, interrupt=self.interrupt)

    async def teardown(self) -> None:
        self.torn_down += 1

    def interrupt(self) -> None:
        self.hurried += 1

    async def slow(self, number: int) -> int:
        await self.release.wait()
        self.finished.append(number)
        return number

    async def let_go(self) -> None:
        self.release.set()

    async def where(self) -> str:
        return threading.current_thread().name


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    driver = Driver()
    yield driver
    await driver.thread.stop()


class TestTheThread:
    async def test_runs_asyncio_for_every_host(self, driver: Driver) -> None:
        assert await driver.thread.call(driver.where) == "test"

    async def test_is_a_daemon(self, driver: Driver) -> None:
        assert driver.thread._thread.daemon

    async def test_finishes_what_was_handed_over_before_it_tears_down(self, driver: Driver) -> None:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(driver.thread.call, driver.slow, number)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(driver.thread.call, driver.let_go)
            await anyio.wait_all_tasks_blocked()
            await driver.thread.stop()
        assert sorted(driver.finished) == [0, 1, 2]
        assert (driver.torn_down, driver.hurried) == (1, 1)

    async def test_finishes_the_calls_of_cancelled_callers(self, driver: Driver) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await driver.thread.call(driver.slow, 1)
        await driver.thread.call(driver.let_go)
        await driver.thread.stop()
        assert driver.finished == [1]

    async def test_refuses_calls_once_its_end_was_asked_for(self, driver: Driver) -> None:
        driver.thread.request_stop()
        with pytest.raises(StorageError) as caught:
            await driver.thread.call(driver.where)
        assert caught.value.code == "closed"

    async def test_may_be_stopped_by_several_callers(self, driver: Driver) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(driver.thread.stop)
        assert driver.torn_down == 1
        assert driver.thread.ended

    async def test_that_does_not_end_is_given_up_after_a_while(self, driver: Driver) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(driver.thread.call, driver.slow, 1)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StorageError, match="did not finish") as caught:
                await driver.thread.stop(0.01)
            assert caught.value.outcome == "unknown"
            driver.thread._loop.call_soon_threadsafe(driver.release.set)

    async def test_tells_what_went_wrong_in_tearing_down(self) -> None:
        driver = Driver()
        driver.thread._teardown = fail
        with pytest.raises(ZeroDivisionError):
            await driver.thread.stop()
        assert driver.thread.ended


def test_a_thread_serves_one_event_loop_after_another() -> None:
    driver = Driver()

    async def use() -> None:
        assert await driver.thread.call(driver.where) == "test"

    for backend in ("asyncio", "asyncio", "trio", "asyncio"):
        anyio.run(use, backend=backend)
    anyio.run(driver.thread.stop, backend="trio")


def test_a_thread_outlives_the_event_loop_of_its_callers() -> None:
    """The operation of a loop that has ended goes on; its reply is dropped quietly."""
    driver = Driver()

    async def abandon() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await driver.thread.call(driver.slow, 7)

    async def finish() -> None:
        await driver.thread.call(driver.let_go)
        await driver.thread.stop()

    for backend in ("asyncio", "trio"):
        anyio.run(abandon, backend=backend)
    anyio.run(finish)
    assert driver.finished == [7, 7]
