"""asyncio on a virtual clock, with the order of task steps decided by a chooser."""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

import anyio
from langswarm.core.session.testing import guards
from langswarm.core.session.testing.failures import (
    OutsideSimulationError,
    SimulationUnsupportedError,
)
from langswarm.core.session.testing.ready_queue import ReadyQueue, SimulatedTask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from langswarm.core.session.testing.choosers import Chooser
    from langswarm.core.session.testing.failures import SimulationError
    from langswarm.core.session.testing.monitor import Monitor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(main: Callable[[], Awaitable[T]], chooser: Chooser, monitor: Monitor) -> tuple[T, float]:
    """Run ``main`` on a simulated loop; returns its value and the virtual time at the end."""
    loops: list[SimulatedEventLoop] = []

    def make_loop() -> SimulatedEventLoop:
        loops.append(SimulatedEventLoop(chooser, monitor))
        return loops[0]

    # anyio starts worker threads by itself, not through loop.run_in_executor.
    worker = guards.require(guards.require_module("anyio._backends._asyncio"), "WorkerThread")
    start = guards.refuse_threads(guards.require(worker, "__init__"))
    with guards.swapped(worker, "__init__", start):
        value = anyio.run(main, backend="asyncio", backend_options={"loop_factory": make_loop})
    if not len(monitor.trace):
        raise SimulationUnsupportedError(
            "asyncio's task steps are not recognisable in this version of Python"
        )
    return value, loops[0].time()


class SimulatedEventLoop(asyncio.BaseEventLoop):
    """An event loop without selector, sockets or threads: its clock jumps when nothing can run."""

    _stopping: bool  # an internal of BaseEventLoop; the same from 3.11 to 3.14

    def __init__(self, chooser: Chooser, monitor: Monitor) -> None:
        """Check that asyncio is built as expected, and put the own queue in place."""
        super().__init__()
        for internal in ("_run_once", "_ready", "_stopping"):
            guards.require(self, internal)
        self._ready = ReadyQueue()
        self._chooser = chooser
        self._monitor = monitor
        self._now = 0.0
        self._thread = threading.get_ident()
        self._tasks_made = 0
        # Not BaseEventLoop's heap, which does not keep the order of timers for the same moment. On
        # a real clock no two moments are the same; on this one most are.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        super().set_task_factory(self._make_task)

    # ---- tasks and time

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Any,
        **options: Any,
    ) -> SimulatedTask[Any]:
        self._tasks_made += 1
        return SimulatedTask(coro, loop=loop, number=self._tasks_made, queue=self._ready, **options)

    def time(self) -> float:
        """Return the virtual time, which starts at 0."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer; timers for the same moment fire in the order in which they were set."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _waiting_tasks(self) -> list[SimulatedTask[Any]]:
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimulatedTask)]
        return sorted(tasks, key=lambda task: task.number)

    # ---- the loop

    def _run_once(self) -> None:
        # One pass, as in asyncio: what is ready now gets as many turns as there are callbacks, and
        # timers are looked at only between passes. In FIFO order this is asyncio's own order.
        self._give_up_if_hopeless()  # the runner still tries to run its clean-up
        self._advance()
        for _ in range(len(self._ready)):
            entry = self._ready.take(self._chooser)
            if entry.handle.cancelled():
                continue
            if not self._monitor.count_step():
                self._interrupt(self._monitor.out_of_steps(self._now))
            if entry.task is not None:
                entry.task.started = True
                self._monitor.trace.record(
                    self._monitor.steps, entry.task.number, entry.task.get_name()
                )
            entry.handle._run()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the loop's job

    def _advance(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._ready and not self._stopping:
            due = self._timers[0][0] if self._timers else math.inf
            if due == math.inf:  # sleep(inf) sets a timer that never comes
                self._interrupt(self._deadlock())
                if not self._ready:  # something cannot even be cancelled
                    raise self._monitor.failure or self._deadlock()
            else:
                self._now = max(self._now, due)
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._ready.append(timer)

    # ---- ending a stuck run

    def _deadlock(self) -> SimulationError:
        parked = ((f"#{t.number} {t.get_name()}", t.get_coro()) for t in self._waiting_tasks())
        return self._monitor.deadlock(self._now, parked)

    def _interrupt(self, failure: SimulationError) -> None:
        # Native cancellation passes anyio's shields, so all rounds are alike here. A task that has
        # not begun is left for the next round: cancelled now it would drop its coroutine unawaited.
        self._monitor.escalate(failure)
        for task in self._waiting_tasks():
            if task.started:
                task.cancel()
        self._give_up_if_hopeless()

    def _give_up_if_hopeless(self) -> None:
        if self._monitor.hopeless and self._monitor.failure is not None:
            raise self._monitor.failure

    def close(self) -> None:
        """Close; only a run that was stopped by force still has tasks."""
        if not self.is_closed():
            guards.keep_for_ever(self._waiting_tasks())
            self._timers.clear()
        super().close()

    # ---- what is outside

    def set_task_factory(self, factory: object) -> NoReturn:
        """Refuse: the numbers of the tasks come from the factory that is in place."""
        raise OutsideSimulationError(
            f"the simulation makes the tasks itself and cannot use {factory!r}"
        )

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule as ``call_soon`` does; from another thread it is refused."""
        if threading.get_ident() != self._thread:
            raise guards.thread_refusal()
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:  # noqa: ARG002
        """Refuse: threads are outside."""
        raise guards.thread_refusal()
