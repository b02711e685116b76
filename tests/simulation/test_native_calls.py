"""Programs may use the backend's own primitives beside anyio's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import math
import threading
import time
import weakref
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel
from langswarm.core.session.testing import (
    Backend,
    DeadlockError,
    OutsideSimulationError,
    StepLimitError,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
SEEDS = (None, *range(8))


# ---- asyncio


def test_asyncio_tasks_with_a_context_and_futures() -> None:
    """create_task(context=) and bare futures work as on the real loop, in any schedule."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        box: asyncio.Future[str] = loop.create_future()
        context = contextvars.copy_context()
        context.run(request.set, "seven")

        async def answer() -> None:
            await asyncio.sleep(1)
            box.set_result(request.get())

        task = loop.create_task(answer(), name="answer", context=context)
        assert task.get_name() == "answer"
        assert request.get() == "none"
        value = await box
        await task
        return value

    for seed in SEEDS:
        assert simulate(main, backend="asyncio", seed=seed).value == "seven"


def test_asyncio_callbacks_keep_their_order() -> None:
    """Whatever the seed, call_soon is FIFO and call_at goes by deadline."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        log: list[int] = []

        async def noise() -> None:
            await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tg:
            loop.call_at(loop.time() + 2, log.append, 6)
            loop.call_at(loop.time() + 1, log.append, 5)
            loop.call_later(1, log.append, 99).cancel()
            for number in range(5):
                tg.start_soon(noise)
                schedule = loop.call_soon if number % 2 else loop.call_soon_threadsafe
                schedule(log.append, number)
        await asyncio.sleep(3)
        return log

    for seed in SEEDS:
        assert simulate(main, backend="asyncio", seed=seed).value == [0, 1, 2, 3, 4, 5, 6]


def test_asyncio_scheduled_cancel_is_a_plain_callback() -> None:
    """A public method of a task handed to call_soon keeps its place among the callbacks."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        log: list[str] = []
        task = asyncio.create_task(asyncio.sleep(math.inf))
        await asyncio.sleep(1)
        loop.call_soon(log.append, "before")
        loop.call_soon(task.cancel)

        async def look() -> None:
            log.append(f"after, {task.cancelling()} request")

        await asyncio.gather(look(), task, return_exceptions=True)
        return log

    for seed in SEEDS:
        value = simulate(main, backend="asyncio", seed=seed).value
        assert value == ["before", "after, 1 request"]


def test_asyncio_timers_for_one_moment_keep_their_order() -> None:
    """On the virtual clock many timers are due at once; they fire as they were set."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        log: list[int] = []
        for number in range(20):
            loop.call_later(1, log.append, number)
        await asyncio.sleep(2)
        return log

    assert simulate(main, backend="asyncio", seed=1).value == list(range(20))


def test_asyncio_sets_of_tasks_have_an_order() -> None:
    """asyncio.wait() returns sets; going through them gives the order of creation."""

    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0), name=str(n)) for n in range(50)]
        done, pending = await asyncio.wait(tasks)
        assert not pending
        return [task.get_name() for task in done]

    expected = [str(n) for n in range(50)]
    results = [simulate(main, backend="asyncio", seed=seed).value for seed in SEEDS]
    assert all(sorted(result, key=int) == expected for result in results)
    assert all(result == results[0] for result in results)


def test_asyncio_leftover_tasks_are_cancelled() -> None:
    """Tasks that main() left behind get their cancellation before simulate() returns."""
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(math.inf)
        finally:
            await asyncio.sleep(5)
            ended.append("background")

    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("stream")

    streams: list[AsyncIterator[int]] = []
    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        tasks.append(asyncio.create_task(background()))
        streams.append(stream())
        async for _ in streams[0]:
            break
        await asyncio.sleep(0)

    assert simulate(main, backend="asyncio", seed=0).virtual_seconds == 5
    assert ended == ["background", "stream"]


def test_asyncio_a_leftover_task_that_stays_is_a_deadlock() -> None:
    """The real loop would hang at its end here; main()'s value does not hide that."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(math.inf)
        except asyncio.CancelledError:
            await asyncio.sleep(math.inf)

    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        tasks.append(asyncio.create_task(stubborn(), name="stubborn"))
        await asyncio.sleep(0)

    with pytest.raises(DeadlockError, match="stubborn"):
        simulate(main, backend="asyncio", seed=None)


def test_asyncio_a_task_that_ignores_everything_is_dropped_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio complains about a task that is destroyed while pending; here it is reported."""

    async def immortal() -> None:
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(immortal())

    with pytest.raises(StepLimitError) as caught:
        simulate(main, backend="asyncio", seed=0, max_steps=50)
    caught.value.__traceback__ = caught.value.__context__ = None
    del caught
    gc.collect()
    assert not caplog.records


def test_asyncio_a_callback_that_calls_itself_is_a_livelock() -> None:
    """Steps count for callbacks, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(StepLimitError, match="max_steps=400"):
        simulate(main, backend="asyncio", seed=0, max_steps=400)


def test_asyncio_what_is_outside_is_refused() -> None:
    """Executors, other threads, and other makers of tasks each get a clear error."""
    refused: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def intrude() -> None:
        try:
            loops[0].call_soon_threadsafe(print)
        except OutsideSimulationError as exc:
            refused.append(exc)

    thread = threading.Thread(target=intrude)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(OutsideSimulationError, match="threads"):
            await loop.run_in_executor(None, time.monotonic)
        with pytest.raises(OutsideSimulationError, match="threads"):
            await asyncio.to_thread(time.monotonic)
        with pytest.raises(OutsideSimulationError, match="makes the tasks itself"):
            loop.set_task_factory(None)
        loops.append(loop)
        thread.start()
        thread.join()

    simulate(main, backend="asyncio", seed=0)
    assert len(refused) == 1


# ---- trio


def test_trio_native_primitives() -> None:
    """Nurseries, system tasks, run_sync_soon and reschedule work, and see the caller's context."""

    async def main() -> list[str]:
        log: list[str] = []
        sleepers: list[trio.lowlevel.Task] = []

        async def sleeper() -> None:
            sleepers.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            log.append(request.get())

        async def system() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            log.append("system")
            await trio.sleep_forever()

        context = contextvars.copy_context()
        context.run(request.set, "seven")
        trio.lowlevel.spawn_system_task(system)
        async with trio.open_nursery() as nursery:
            context.run(nursery.start_soon, sleeper)
            await trio.sleep(10)
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(trio.lowlevel.reschedule, sleepers[0])
        assert trio.current_time() == 10
        return log

    for seed in SEEDS:
        assert simulate(main, backend="trio", seed=seed).value == ["system", "seven"]


def test_trio_parked_system_tasks_do_not_hide_a_deadlock() -> None:
    """A service that waits for work is no reason to wait with it."""
    ended: list[str] = []

    async def service() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("service")

    async def main() -> None:
        trio.lowlevel.spawn_system_task(service)
        await trio.Event().wait()

    with pytest.raises(DeadlockError, match="service"):
        simulate(main, backend="trio", seed=0)
    assert ended == ["service"]


def test_trio_a_system_task_that_stays_is_a_deadlock() -> None:
    """The real loop would hang at its end here."""

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(stubborn)
        await trio.lowlevel.checkpoint()

    with pytest.raises(DeadlockError, match="stubborn"):
        simulate(main, backend="trio", seed=0)


def test_trio_in_another_thread_is_left_alone() -> None:
    """The hooks are global; a real trio run beside the simulation neither breaks nor shows."""

    async def real() -> int:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(trio.lowlevel.checkpoint)
        return await trio.to_thread.run_sync(lambda: 5)

    def program(*, beside: bool) -> str:
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(trio.run(real)))

        async def main() -> None:
            if beside:
                thread.start()
                thread.join()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(trio.lowlevel.checkpoint)

        digest = simulate(main, backend="trio", seed=3).trace.digest
        assert results == ([5] if beside else [])
        return digest

    assert program(beside=True) == program(beside=False)


# ---- the garbage collector


class Noisy:
    """Garbage in a cycle: only the cyclic collector ends it."""

    def __init__(self) -> None:
        self.me = self


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cyclic_garbage_stays_until_the_run_is_over(backend: Backend) -> None:
    """No finalizer runs at a moment that only the process's past decides."""

    async def main() -> bool:
        alive = weakref.ref(Noisy())
        for _ in range(20_000):
            Noisy()
        await anyio.lowlevel.checkpoint()
        return alive() is not None

    assert simulate(main, backend=backend, seed=0).value
