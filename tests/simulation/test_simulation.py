"""What simulate() guarantees on both backends: virtual time, standstill, endings, refusals."""

from __future__ import annotations

import contextlib
import gc
import importlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from langswarm.core.session.testing import (
    Backend,
    DeadlockError,
    OutsideSimulationError,
    SimulationInUseError,
    SimulationUnsupportedError,
    StepLimitError,
    Trace,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)
trio_run = importlib.import_module("trio._core._run")
trio_threads = importlib.import_module("trio._threads")
anyio_asyncio = importlib.import_module("anyio._backends._asyncio")


def hooks() -> list[object]:
    """List everything global that a simulation touches."""
    return [
        threading.Thread.__init__,
        trio_run._r,
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING,
        trio_threads.start_thread_soon,
        anyio_asyncio.WorkerThread.__init__,
        gc.isenabled(),
    ]


async def parked() -> None:
    await anyio.sleep_forever()


# ---- time


@both
def test_time_is_virtual(backend: Backend) -> None:
    """Hours pass at once, timers fire in the order of their deadlines, clocks start at zero."""
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, hours: float) -> None:
        await anyio.sleep(hours * 3600)
        order.append((name, anyio.current_time()))

    async def main() -> str:
        assert anyio.current_time() == 0
        async with anyio.create_task_group() as tg:
            for name, hours in (("c", 30), ("a", 1), ("b", 2.5)):
                tg.start_soon(sleeper, name, hours)
        with anyio.move_on_after(60) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return "value"

    started = time.monotonic()
    result = simulate(main, backend=backend, seed=1)
    assert time.monotonic() - started < 20
    assert order == [("a", 3600), ("b", 9000), ("c", 108_000)]
    assert result.value == "value"
    assert result.virtual_seconds == 108_060
    assert result.steps >= len(result.trace) > 0


@both
def test_idle_waiters_go_before_the_clock(backend: Backend) -> None:
    """wait_all_tasks_blocked() ends when all others wait, before any timer fires."""
    woken: list[int] = []

    async def sleeper() -> None:
        await anyio.sleep(100)
        woken.append(1)

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(sleeper)
            await anyio.wait_all_tasks_blocked()
            assert not woken
            assert anyio.current_time() < 100
        assert woken

    simulate(main, backend=backend, seed=2)


# ---- standstill and livelock


@both
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_deadlock_is_reported_at_once(backend: Backend, seed: int | None) -> None:
    """Two tasks that hold what the other one needs: an error that says where both wait."""

    async def grab(first: anyio.Lock, second: anyio.Lock) -> None:
        async with first:
            await anyio.sleep(1)
            async with second:
                pass

    async def main() -> None:
        one, two = anyio.Lock(), anyio.Lock()
        async with anyio.create_task_group() as tg:
            tg.start_soon(grab, one, two)
            tg.start_soon(grab, two, one)

    with pytest.raises(DeadlockError, match="virtual time 1 s") as caught:
        simulate(main, backend=backend, seed=seed)
    assert str(caught.value).count("waits in test_deadlock_is_reported_at_once.<locals>.grab") == 2
    assert "test_simulation.py:" in str(caught.value)
    assert caught.value.__notes__ == [f"replay: simulate(..., backend={backend!r}, seed={seed})"]


@both
@pytest.mark.parametrize("waiting", [anyio.sleep_forever, lambda: anyio.sleep(float("inf"))])
def test_waiting_for_ever_is_a_deadlock(
    backend: Backend, waiting: Callable[[], Awaitable[None]]
) -> None:
    """An endless sleep is no timer."""

    async def main() -> None:
        await waiting()

    with pytest.raises(DeadlockError):
        simulate(main, backend=backend, seed=None)


@both
def test_deadlock_behind_shields_unwinds_every_finally(backend: Backend) -> None:
    """A stuck run is still unwound in order, through shields and through waits in clean-ups."""
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        finally:
            seen.append("first")
            with anyio.CancelScope(shield=True):
                try:
                    await anyio.Event().wait()
                finally:
                    seen.append("second")

    async def main() -> None:
        try:
            async with anyio.create_task_group() as tg:
                tg.start_soon(stubborn)
        finally:
            seen.append("main")

    with pytest.raises(DeadlockError, match="virtual time 0 s"):
        simulate(main, backend=backend, seed=3)
    assert seen == ["first", "second", "main"]


@both
def test_deadlock_is_reported_although_main_swallows_it(backend: Backend) -> None:
    """main() cannot hide a standstill by returning when it is cancelled."""

    async def main() -> str:
        with anyio.CancelScope(shield=True):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return "hidden"
        return "never"

    with pytest.raises(DeadlockError):
        simulate(main, backend=backend, seed=0)


@both
@pytest.mark.parametrize("pause", [0, 3600])
def test_livelock_hits_max_steps(backend: Backend, pause: float) -> None:
    """A loop without end is stopped, whether or not time goes on in it, and named."""
    ended: list[bool] = []

    async def spinner() -> None:
        try:
            while True:  # noqa: ASYNC110 - that is what the test is about
                await anyio.sleep(pause)
        finally:
            ended.append(True)

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(spinner)

    with pytest.raises(StepLimitError, match=r"max_steps=500 .*spinner") as caught:
        simulate(main, backend=backend, seed=4, max_steps=500)
    assert ended == [True]
    assert caught.value.__notes__ == [f"replay: simulate(..., backend={backend!r}, seed=4)"]


@both
def test_the_first_failure_is_the_one_that_is_reported(backend: Backend) -> None:
    """A clean-up that runs wild after a standstill does not hide the standstill."""

    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5000):
                    await anyio.lowlevel.checkpoint()

    with pytest.raises(DeadlockError):
        simulate(main, backend=backend, seed=0)


@both
def test_a_task_that_ignores_everything_is_stopped_by_force(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Code that swallows each cancellation cannot hang the test run, and does not warn later."""

    async def immortal() -> None:
        while True:
            with contextlib.suppress(BaseException):  # the worst guest
                await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(immortal)
            tg.start_soon(parked)

    before = hooks()
    with pytest.raises(StepLimitError) as caught:
        simulate(main, backend=backend, seed=5, max_steps=100)
    assert hooks() == before
    assert simulate(anyio.lowlevel.checkpoint, backend=backend, seed=0).steps > 0
    # Without the leak on purpose the coroutine would be dropped here, and never return from that.
    caught.value.__traceback__ = caught.value.__context__ = None
    del caught
    gc.collect()
    assert not caplog.records


# ---- endings


@both
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_exceptions_of_main_come_out_unchanged(backend: Backend, error: BaseException) -> None:
    """The very object comes out, with one line that tells how to replay the run."""

    async def main() -> None:
        await anyio.sleep(5)
        raise error

    trace = Trace()
    with pytest.raises(type(error)) as caught:
        simulate(main, backend=backend, seed=17, trace=trace)
    assert caught.value is error
    assert f"replay: simulate(..., backend={backend!r}, seed=17)" in error.__notes__
    assert len(trace) > 0


@both
def test_exception_groups_come_out_unchanged(backend: Backend) -> None:
    """The errors of tasks arrive in the group that the backend makes of them."""

    async def fail(number: int) -> None:
        raise ValueError(number)

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(fail, 1)

    with pytest.raises(ExceptionGroup) as caught:
        simulate(main, backend=backend, seed=6)
    assert [str(error) for error in caught.value.exceptions] == ["1"]


@both
@pytest.mark.parametrize("ending", ["return", "raise", "deadlock", "livelock"])
def test_global_hooks_are_restored(backend: Backend, ending: str) -> None:
    """Whatever the end, trio, anyio and the garbage collector are as they were before."""

    async def main() -> None:
        if ending == "raise":
            raise ValueError
        if ending == "deadlock":
            await parked()
        while ending == "livelock":
            await anyio.lowlevel.checkpoint()

    gc.enable()
    before = hooks()
    try:
        simulate(main, backend=backend, seed=7, max_steps=300)
    except (ValueError, DeadlockError, StepLimitError):
        assert ending != "return"
    assert hooks() == before


@both
def test_use_inside_a_loop_is_refused(backend: Backend) -> None:
    """A simulation inside a simulation, or inside a real loop, is an error that says so."""

    async def main() -> None:
        with pytest.raises(SimulationInUseError, match="plain, synchronous code"):
            simulate(anyio.lowlevel.checkpoint, backend=backend, seed=None)

    before = hooks()
    simulate(main, backend=backend, seed=None)
    anyio.run(main, backend=backend)
    assert hooks() == before


@both
def test_use_beside_another_simulation_is_refused(backend: Backend) -> None:
    """Two threads cannot simulate at the same time: the hooks belong to the process."""
    refused: list[BaseException] = []

    def other() -> None:
        try:
            simulate(anyio.lowlevel.checkpoint, backend=backend, seed=None)
        except SimulationInUseError as exc:
            refused.append(exc)

    thread = threading.Thread(target=other)

    async def main() -> None:
        thread.start()
        thread.join()

    simulate(main, backend=backend, seed=None)
    assert len(refused) == 1


@both
def test_worker_threads_are_refused(backend: Backend) -> None:
    """to_thread raises at the call instead of making the schedule depend on the machine."""

    async def main() -> None:
        with pytest.raises(OutsideSimulationError, match="threads are outside the simulation"):
            await anyio.to_thread.run_sync(time.monotonic)

    simulate(main, backend=backend, seed=8)

    async def real() -> float:
        return await anyio.to_thread.run_sync(time.monotonic)

    assert anyio.run(real, backend=backend) > 0  # leaves an idle thread in trio's cache
    simulate(main, backend=backend, seed=8)


@both
def test_threads_that_a_program_makes_itself_are_refused(backend: Backend) -> None:
    async def main() -> None:
        with pytest.raises(OutsideSimulationError, match="threads are outside the simulation"):
            threading.Thread(target=time.monotonic)

    simulate(main, backend=backend, seed=8)


@pytest.mark.parametrize(
    ("owner", "name", "backend"),
    [
        (trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", "trio"),
        (trio_threads, "start_thread_soon", "trio"),
        (anyio_asyncio, "WorkerThread", "asyncio"),
    ],
)
def test_a_missing_internal_is_named(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, backend: Backend
) -> None:
    """With another version of a library the error says what is missing."""
    monkeypatch.delattr(owner, name)
    with pytest.raises(SimulationUnsupportedError, match=name):
        simulate(anyio.lowlevel.checkpoint, backend=backend, seed=0)


def test_unknown_backends_and_used_traces_are_refused() -> None:
    """Wrong arguments fail before anything runs."""
    wrong: Any = "curio"
    with pytest.raises(ValueError, match="curio"):
        simulate(anyio.lowlevel.checkpoint, backend=wrong, seed=0)
    trace = Trace()
    simulate(anyio.lowlevel.checkpoint, backend="asyncio", seed=0, trace=trace)
    with pytest.raises(ValueError, match="new Trace"):
        simulate(anyio.lowlevel.checkpoint, backend="asyncio", seed=0, trace=trace)


@both
def test_a_real_database_is_refused_and_says_why(backend: Backend, tmp_path: Path) -> None:
    """Its driver has a thread, which no seed decides; this must not look like a deadlock."""

    async def main() -> None:
        async with create_session_manager(SQLiteSessionStorage(tmp_path / "file.db")) as manager:
            await manager.create_session("ada", "mock", "m")

    with pytest.raises(Exception, match=r".") as caught:
        simulate(main, backend=backend, seed=0)
    causes = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert any("threads are outside the simulation" in str(cause) for cause in causes)
