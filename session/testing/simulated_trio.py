"""Trio on a virtual clock, with the order inside each batch of ready tasks decided by a chooser.

Trio has a hook for deterministic tests: with a module flag set it sorts each batch of ready tasks
by age and asks its module-level random generator to shuffle it. That generator is replaced here.
The hook is global, so the stand-in behaves like any generator towards other threads.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import trio
import trio.testing
from langswarm.core.session.testing import guards
from langswarm.core.session.testing.failures import SimulationError, SimulationUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, MutableSequence
    from typing import Self

    from langswarm.core.session.testing.choosers import Chooser
    from langswarm.core.session.testing.monitor import Monitor

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]], chooser: Chooser, monitor: Monitor) -> tuple[T, float]:
    """Run ``main`` on trio; returns its value and the virtual time at the end."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    scheduler = _Scheduler(clock, monitor)
    batches = _Batches(chooser, scheduler)
    options = {"clock": clock, "instruments": [scheduler]}
    with _hooks(clock, batches, scheduler):
        value = anyio.run(scheduler.wrap(main), backend="trio", backend_options=options)
    if not batches.seen:
        raise SimulationUnsupportedError(
            "this version of trio does not ask its random generator to shuffle batches"
        )
    return value, clock.current_time()


@contextlib.contextmanager
def _hooks(
    clock: trio.testing.MockClock, batches: _Batches, scheduler: _Scheduler
) -> Generator[None]:
    internals = guards.require_module("trio._core._run")
    threads = guards.require_module("trio._threads")
    start = guards.refuse_threads(guards.require(threads, "start_thread_soon"))
    with (
        guards.swapped(internals, "_ALLOW_DETERMINISTIC_SCHEDULING", replacement=True),
        guards.swapped(internals, "_r", batches),
        guards.swapped(threads, "start_thread_soon", start),
        guards.swapped(clock, "_autojump", scheduler.nothing_runnable),
    ):
        yield


class _Batches(random.Random):
    """Stands in for trio's random generator; a shuffle is where the chooser is asked."""

    def __new__(cls, chooser: Chooser, scheduler: _Scheduler) -> Self:
        """Keep the arguments away from the base class, which would take them for seeds."""
        del chooser, scheduler
        return super().__new__(cls)

    def __init__(self, chooser: Chooser, scheduler: _Scheduler) -> None:
        super().__init__()
        self._chooser = chooser
        self._scheduler = scheduler
        self._thread = threading.get_ident()
        self.seen = 0

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Order a batch, which comes sorted by age and is run from its end."""
        if threading.get_ident() != self._thread:
            super().shuffle(x)
            return
        self.seen += 1
        self._scheduler.give_up_if_hopeless()
        oldest_first = list(x)
        ordered: list[Any] = []
        while len(oldest_first) > 1:
            ordered.append(oldest_first.pop(self._chooser.choose(len(oldest_first))))
        ordered += oldest_first
        x[:] = ordered[::-1]


class _Scheduler(trio.abc.Instrument):
    """Watches the run: numbers the tasks, keeps the trace, moves the clock, ends a stuck run.

    Trio switches an instrument off when it raises, so the methods trio calls never do.
    """

    def __init__(self, clock: trio.testing.MockClock, monitor: Monitor) -> None:
        self._clock = clock
        self._monitor = monitor
        self._scope = trio.CancelScope()
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self._spawned = 0

    def wrap(self, main: Callable[[], Awaitable[T]]) -> Callable[[], Coroutine[Any, Any, T]]:
        """Put ``main`` into the scope through which a stuck run is cancelled."""

        @functools.wraps(main)
        async def in_scope() -> T:
            with self._scope:
                return await main()
            raise self._monitor.failure or SimulationError("the simulation's scope was cancelled")

        return in_scope

    # ---- called by trio

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Number the task; trio's own count goes on over all runs of the process."""
        self._spawned += 1
        self._numbers[task] = self._spawned

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget the task."""
        self._numbers.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count and record the step."""
        if not self._monitor.count_step():
            self._interrupt(self._monitor.out_of_steps(self._clock.current_time()))
        number = self._numbers.get(task, 0)
        self._monitor.trace.record(self._monitor.steps, number, task.name)

    def nothing_runnable(self) -> None:
        """Jump to the next deadline, or end the run if there is none.

        Trio calls this when no task is ready, no input arrived and nobody waits for idleness.
        """
        wait = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if wait == math.inf:
            failure = self._monitor.deadlock(self._clock.current_time(), self._parked())
            if not self._interrupt(failure):
                self._give_up()
        elif wait > 0:
            self._clock.jump(wait)

    # ---- ending a stuck run

    def _parked(self) -> Iterator[tuple[str, object]]:
        for task, number in self._numbers.items():
            if not task.name.startswith("<"):  # <init> and such are trio's own
                yield f"#{number} {task.name}", task.coro

    def _interrupt(self, failure: SimulationError) -> bool:
        """Cancel the run; from the second round on also what hides behind shields."""
        if self._monitor.escalate(failure) == 1:
            self._scope.cancel()
            return True
        return self._unshield()

    def _unshield(self) -> bool:
        opened = False
        for task in list(self._numbers):
            status = guards.require(task, "_cancel_status")
            while status is not None:
                scope = guards.require(status, "_scope")
                if scope.shield:
                    scope.shield = False
                    opened = True
                status = guards.require(status, "parent")
        return opened

    def give_up_if_hopeless(self) -> None:
        """Stop the run by force when cancelling has not ended it."""
        if self._monitor.hopeless:
            self._give_up()

    def _give_up(self) -> None:
        # Raised inside trio's loop this ends the run as an internal error, without a further step
        # of any task. simulate() reports the failure that led here instead.
        guards.keep_for_ever(self._numbers)
        raise self._monitor.failure or SimulationError("the run could not be ended")
