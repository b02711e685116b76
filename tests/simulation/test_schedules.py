"""What a seed does to the schedule: many orders, hidden races found, failures shrunk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langswarm.core.session.testing import (
    Backend,
    Chooser,
    Deviations,
    Fifo,
    Seeded,
    shrink_deviations,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)


async def four_workers(log: list[int]) -> None:
    async def worker(number: int) -> None:
        for _ in range(3):
            log.append(number)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tg:
        for number in range(4):
            tg.start_soon(worker, number)


def order_of(backend: Backend, seed: int | Chooser | None) -> tuple[int, ...]:
    log: list[int] = []
    simulate(lambda: four_workers(log), backend=backend, seed=seed)
    return tuple(log)


@both
def test_distinct_seeds_give_distinct_schedules(backend: Backend) -> None:
    """Hundreds of seeds are hundreds of schedules, both by what ran and by the trace."""
    orders = {order_of(backend, seed) for seed in range(300)}
    assert len(orders) > 250
    log: list[int] = []
    digests = {
        simulate(lambda: four_workers(log), backend=backend, seed=seed).trace.digest
        for seed in range(300)
    }
    assert len(digests) > 250


@both
def test_fifo_is_the_default_order(backend: Backend) -> None:
    """Without a seed the tasks take turns in the order of their creation."""
    assert order_of(backend, None) == (0, 1, 2, 3) * 3
    assert order_of(backend, Fifo()) == (0, 1, 2, 3) * 3


# ---- FIFO is asyncio's own order

ACTIONS = st.sampled_from(
    ["yield", "wait", "set", "lock", "spawn", "soon", "later", "cancel", "future", "shield"]
)
SCRIPTS = st.lists(st.lists(ACTIONS, max_size=6), min_size=1, max_size=5)


class Program:
    """A small program on asyncio's own primitives, written by Hypothesis."""

    def __init__(self, scripts: list[list[str]]) -> None:
        self.scripts = scripts
        self.log: list[str] = []

    async def main(self) -> None:
        self.event = asyncio.Event()
        self.lock = asyncio.Lock()
        self.children: list[asyncio.Task[None]] = []
        self.futures: list[asyncio.Future[None]] = []
        tasks = [
            asyncio.create_task(self.play(f"t{number}", script))
            for number, script in enumerate(self.scripts)
        ]
        while not all(task.done() for task in (*tasks, *self.children)):
            for _ in range(12):  # time enough for the tasks to do it for each other
                await asyncio.sleep(0)
            self.event.set()
            self.event.clear()
            for future in self.futures:
                if not future.done():
                    future.set_result(None)

    async def play(self, name: str, script: list[str]) -> None:  # noqa: C901 - a flat list
        loop = asyncio.get_running_loop()
        for place, action in enumerate(script):
            label = f"{name}.{place}.{action}"
            self.log.append(label)
            match action:
                case "wait":
                    await self.event.wait()
                case "set":
                    self.event.set()
                    self.event.clear()
                case "lock":
                    async with self.lock:
                        self.log.append(f"{label}.locked")
                        await asyncio.sleep(0)
                case "spawn":
                    rest = script[place + 1 :]
                    self.children.append(asyncio.create_task(self.play(f"{name}s", rest[:2])))
                case "soon":
                    loop.call_soon(self.log.append, f"{label}.called")
                case "later":
                    loop.call_later(0, self.log.append, f"{label}.called")
                case "cancel" if self.children:
                    self.children[-1].cancel()
                case "future":
                    self.futures.append(loop.create_future())
                    await self.futures[-1]
                case "shield":
                    await asyncio.wait_for(asyncio.sleep(0), timeout=60)
                case _:
                    await asyncio.sleep(0)


@settings(deadline=None, max_examples=150)
@given(SCRIPTS)
def test_without_a_seed_the_order_is_that_of_asyncio(scripts: list[list[str]]) -> None:
    """Tasks, callbacks, timers and cancellations: event by event as on the real loop."""
    real = Program(scripts)
    asyncio.run(real.main())
    simulated = Program(scripts)
    simulate(simulated.main, backend="asyncio", seed=None)
    assert simulated.log == real.log


# ---- cancellation


@both
def test_cancelled_tasks_unwind_in_the_order_of_creation(backend: Backend) -> None:
    """A cancelled set of tasks and scopes has no order of its own; FIFO gives it one."""
    log: list[int] = []

    async def member(number: int) -> None:
        with anyio.CancelScope():
            try:
                await anyio.sleep_forever()
            finally:
                log.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            for number in range(20):
                tg.start_soon(member, number)
            await anyio.sleep(1)
            tg.cancel_scope.cancel()

    simulate(main, backend=backend, seed=None)
    assert log == list(range(20))
    log.clear()
    simulate(main, backend=backend, seed=1)
    assert sorted(log) == list(range(20)) != log


# ---- races


async def counting(*, safe: bool) -> None:
    """Let five tasks count to two each; without the lock an update can be lost."""
    count = 0
    lock = anyio.Lock()

    async def bump() -> None:
        nonlocal count
        seen = count
        await anyio.lowlevel.checkpoint()
        count = seen + 1

    async def counter() -> None:
        for turn in range(2):
            await anyio.sleep(turn)
            if safe:
                async with lock:
                    await bump()
            else:
                await bump()

    async with anyio.create_task_group() as tg:
        for number in range(5):
            tg.start_soon(counter)
            await anyio.sleep(number / 10)
    assert count == 10


async def publishing() -> None:
    """Write before the other one reads: so it is in FIFO order, and nowhere else for sure."""
    box: list[str] = []

    async def publish() -> None:
        await anyio.lowlevel.checkpoint()
        box.append("letter")

    async def consume() -> None:
        await anyio.lowlevel.checkpoint()
        assert box == ["letter"]

    async with anyio.create_task_group() as tg:
        for _ in range(5):  # bystanders, whose order does not matter
            tg.start_soon(anyio.lowlevel.checkpoint)
        tg.start_soon(publish)
        tg.start_soon(consume)


def fails(
    main: Callable[[], Awaitable[None]], backend: Backend, seed: int | Chooser | None
) -> bool:
    try:
        simulate(main, backend=backend, seed=seed)
    except (AssertionError, ExceptionGroup):
        return True
    return False


@both
def test_a_lost_update_is_found(backend: Backend) -> None:
    """The planted race shows within 200 seeds, the mended program passes all of them."""
    assert any(fails(lambda: counting(safe=False), backend, seed) for seed in range(200))
    assert not any(fails(lambda: counting(safe=True), backend, seed) for seed in range(200))


@both
def test_a_race_that_fifo_hides_is_found_and_shrunk_to_one_deviation(backend: Backend) -> None:
    """The default order never fails; a seed does; its schedule shrinks to the one that matters."""
    assert not fails(publishing, backend, None)
    failing = [seed for seed in range(200) if fails(publishing, backend, seed)]
    assert len(failing) > 20
    chooser = Seeded(failing[0])
    assert fails(publishing, backend, chooser)
    assert len(chooser.deviations) > 3

    def still_fails(attempt: Mapping[int, int]) -> bool:
        return fails(publishing, backend, Deviations(attempt))

    smallest = shrink_deviations(still_fails, chooser.deviations)
    assert len(smallest) == 1
    assert still_fails(smallest)


# ---- choosers


@both
def test_recorded_deviations_repeat_the_run(backend: Backend) -> None:
    """What a seeded run recorded is the same schedule, and the replay line can be pasted."""
    log: list[int] = []
    first = simulate(lambda: four_workers(log), backend=backend, seed=23)
    again = simulate(lambda: four_workers(log), backend=backend, seed=Deviations(first.deviations))
    assert again.trace.digest == first.trace.digest
    assert again.deviations == first.deviations

    async def wrong() -> None:
        raise LookupError

    with pytest.raises(LookupError) as caught:
        simulate(wrong, backend=backend, seed=Deviations({3: 1}))
    assert caught.value.__notes__ == [
        f"replay: simulate(..., backend={backend!r}, seed=Deviations({{3: 1}}))"
    ]


@both
@given(planned=st.dictionaries(st.integers(0, 30), st.integers(0, 9)))
@settings(deadline=None, max_examples=40)
def test_any_deviations_are_a_schedule(backend: Backend, planned: dict[int, int]) -> None:
    """Points that are never reached and choices that are too large do no harm."""
    order = order_of(backend, Deviations(planned))
    assert sorted(order) == sorted((0, 1, 2, 3) * 3)


class Quitting(Chooser):
    """Stops the test at the third choice and every later one, as Hypothesis does."""

    def pick(self, point: int, candidates: int) -> int:
        if point >= 2:
            raise GeneratorExit(point)
        return candidates - 1

    def as_seed(self) -> str:
        return "Quitting()"


@both
def test_a_chooser_may_stop_the_test(backend: Backend) -> None:
    """Its exception comes out of simulate() after the run went on to its end in FIFO order."""
    log: list[int] = []
    with pytest.raises(GeneratorExit, match="2"):
        simulate(lambda: four_workers(log), backend=backend, seed=Quitting())
    assert len(log) == 12


class Wrong(Quitting):
    """Chooses a task that is not there."""

    def pick(self, point: int, candidates: int) -> int:
        return candidates


@both
def test_wrong_choices_and_used_choosers_are_refused(backend: Backend) -> None:
    """A chooser that is out of range or spent is an error of the caller."""
    log: list[int] = []
    with pytest.raises(ValueError, match="out of"):
        simulate(lambda: four_workers(log), backend=backend, seed=Wrong())
    spent = Seeded(1)
    order_of(backend, spent)
    with pytest.raises(ValueError, match="one run only"):
        order_of(backend, spent)


def test_shrinking_keeps_what_matters() -> None:
    """Of many deviations exactly the needed ones stay, and none when FIFO order fails too."""
    needed = {7, 40, 41}
    tried: list[int] = []

    def check(attempt: Mapping[int, int]) -> bool:
        tried.append(len(attempt))
        return needed <= set(attempt)

    assert shrink_deviations(check, dict.fromkeys(range(64), 2)) == dict.fromkeys(needed, 2)
    assert len(tried) < 100
    assert shrink_deviations(lambda _: True, {1: 1}) == {}
