"""Cancels a call at every point where it can be cancelled, one run for each.

Cancellation is where asyncio and trio differ, and where programs are tested least: a test cancels
at one moment, and a call has dozens. :func:`sweep_cancellations` counts them and takes them all::

    async def program(sweep: Cancellations) -> list[SessionMessage]:
        async with create_session_manager(middleware=[Mine()]) as manager:
            session = await manager.create_session("ada", "mock", "m")
            await sweep.call(session.send_message, "first")  # cancelled in every run but one
            await session.send_message("second")  # still works
            return await session.get_messages()

    def check(history: list[SessionMessage]) -> list[str]:
        return [] if len(history) in {2, 4} else [f"half a turn: {history}"]

    report = sweep_cancellations(program, check, backend="trio")
    assert not report.violations, report

What is a point
---------------
Under :func:`~langswarm.core.session.testing.simulate` a program is a row of steps, each from one
suspension of a task to its next. While a call under test waits there are two kinds of points: *the
call itself suspends*, and *any task takes a step while the call is suspended*. The second kind is
why a call that awaits one thing only, an answer for example, is cancelled at every stage of
whatever happens behind it: while it is queued, while the other side commits, while the result is on
its way.

A first run without any cancellation counts the points. Every further run is the same up to its
point, because the schedule is a function of the seed; a run that does not reach its point is
reported, since the program is not repeatable then.

With ``points=2`` each of these runs is continued: a second cancellation at every point that comes
after the first. It hits the same call once more (on its way out, if it cleans up), or the next one
that the program has put under test. N points with M after each are N x M runs.

How it is delivered
-------------------
By level (the default): the call runs in an anyio cancel scope of its own, which is cancelled: every
await inside raises until the call has ended. A second one cancels the scope around it.
``native=True``, on asyncio only: ``task.cancel()``, as ``asyncio.wait_for`` and the end of a
program do it: one CancelledError, which passes anyio's shields.
"""

from __future__ import annotations

import asyncio
import types
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple

import anyio
from langswarm.core.session.testing.simulation import Backend, simulate
from langswarm.core.session.testing.sweep_report import (
    SweepReport,
    Violation,
    described,
    problems_of,
)
from langswarm.core.session.testing.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def sweep_cancellations(
    program: Callable[[Cancellations], Awaitable[T]],
    check: Callable[[T], Iterable[str]] | None = None,
    *,
    backend: Backend,
    seed: int | None = None,
    points: int = 1,
    native: bool = False,
    at: tuple[int, ...] | None = None,
) -> SweepReport:
    """Run ``program`` once as it is, then once per point, cancelled there.

    Args:
        program: an async function that builds all it needs anew, puts one or more calls under test
            with :meth:`Cancellations.call`, and returns what ``check`` needs.
        check: looks at what the program returned, after every run; it returns what is wrong, in
            words. Whatever it or the program raises is a violation too, and so is a deadlock.
        backend: which event loop library to run on.
        seed: the schedule of all runs, as for ``simulate``.
        points: how many cancellations in one run at most, 1 or more. The number of runs grows by
            the number of points with each.
        native: cancel by ``task.cancel()``; on asyncio only.
        at: run this plan alone, for a replay; a violation's replay line has it.

    Raises ValueError where the program put no call under test. A call that never waits cannot be
    cancelled: the report has 0 points then.
    """
    if native and backend != "asyncio":
        raise ValueError("native=True is task.cancel(), which only asyncio has")
    if points < 1:
        raise ValueError(f"points={points}: a run needs one cancellation or more")
    sweep = _Sweep(program, check, backend, seed, native=native)
    if at is not None:
        return sweep.report(sweep.run(at).points)
    first = sweep.run(())
    if not sweep.violations:
        first.check_called()
        sweep.go_on((), first.points, points)
    return sweep.report(first.points)


class Ended(Enum):
    """How a call under test ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class CallEnd(Generic[T]):
    """What became of a call under test."""

    how: Ended
    value: T | None = None
    error: Exception | None = None


class Cancellations:
    """Given to the program of a sweep; it puts calls under test."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> CallEnd[T]:
        """Run ``function(*args)``, cancelled where this run of the sweep says so.

        What it raises is in the result, so that the program goes on and can look at what is left.
        A program may put several calls under test, also at the same time.
        """
        with self._run.under_test() as call:
            return await call.run(_coroutine(function, args))


class _Run:
    """One run: counts the points and cancels at those of its plan."""

    def __init__(self, plan: tuple[int, ...], *, native: bool) -> None:
        self.calls = 0
        self.points = 0
        self.delivered = 0
        self._plan = plan
        self._native = native
        self._running: list[_Call] = []

    @contextmanager
    def under_test(self) -> Generator[_Call]:
        """One more call, for as long as it takes."""
        self.calls += 1
        call = _Call(self, native=self._native, depth=len(self._plan))
        self._running.append(call)
        try:
            yield call
        finally:
            self._running.remove(call)

    def stepped(self) -> None:
        """A task is about to take a step."""
        for call in tuple(self._running):
            if call.is_suspended:
                self.reached(call)

    def reached(self, call: _Call) -> None:
        """The next point, which belongs to this call."""
        self.points += 1
        if self.delivered < len(self._plan) and self._plan[self.delivered] == self.points:
            self.delivered += 1
            call.cancel()

    def check_called(self) -> None:
        """That something was put under test; a call that never waits has no point, rightly."""
        if not self.calls:
            raise ValueError(
                "nothing is under test: the program has to await sweep.call(function, ...)"
            )


class _Call:
    """A call under test."""

    def __init__(self, of_run: _Run, *, native: bool, depth: int) -> None:
        self.is_suspended = False
        self._of_run = of_run
        self._task = asyncio.current_task() if native else None
        self._scopes = [anyio.CancelScope() for _ in range(0 if native else depth)]
        self._cancellations = 0

    def cancel(self) -> None:
        self._cancellations += 1
        if self._task is not None:
            self._task.cancel()
        else:
            self._scopes[-self._cancellations].cancel()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> CallEnd[T]:
        try:
            with ExitStack() as stack:
                for scope in self._scopes:
                    stack.enter_context(scope)
                return CallEnd(Ended.RETURNED, await self._stepwise(coroutine))
        except Exception as error:  # noqa: BLE001 - it is the program's to look at
            return CallEnd(Ended.RAISED, error=error)
        except asyncio.CancelledError:
            if self._task is None or not self._cancellations:
                raise
        finally:
            self._forget_native()
        return CallEnd(Ended.CANCELLED)

    def _forget_native(self) -> None:
        # Whoever cancels a task natively and wants it to go on has to take it back.
        if self._task is not None:
            for _ in range(self._cancellations):
                self._task.uncancel()

    @types.coroutine
    def _stepwise(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await it, and count its suspensions."""
        resume: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = resume()
            except StopIteration as stop:
                value: T = stop.value
                return value
            self._of_run.reached(self)
            self.is_suspended = True
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - handed on as it is
                resume = _throwing(coroutine, error)
            else:
                resume = _sending(coroutine, sent)
            finally:
                self.is_suspended = False


def _throwing(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def _sending(coroutine: Coroutine[Any, Any, Any], value: object) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


async def _coroutine(function: Callable[[*Ts], Awaitable[T]], args: tuple[*Ts]) -> T:
    return await function(*args)


# ---------------------------------------------------------------- the runs


class _Watched(Trace):
    """Tells the run of every step."""

    def __init__(self, of_run: _Run) -> None:
        super().__init__()
        self._of_run = of_run

    def record(self, step: int, task: int, name: str) -> None:
        self._of_run.stepped()
        super().record(step, task, name)


class _Sweep(Generic[T]):
    """The runs of one sweep."""

    def __init__(
        self,
        program: Callable[[Cancellations], Awaitable[T]],
        check: Callable[[T], Iterable[str]] | None,
        backend: Backend,
        seed: int | None,
        *,
        native: bool,
    ) -> None:
        self._program = program
        self._check = check
        self._backend: Backend = backend
        self._seed = seed
        self._native = native
        self._runs = 0
        self.violations: list[Violation] = []

    def report(self, points: int) -> SweepReport:
        return SweepReport(points, self._runs, tuple(self.violations))

    def go_on(self, plan: tuple[int, ...], points: int, depth: int) -> None:
        """Every run that continues this plan, which had so many points."""
        for point in range(plan[-1] + 1 if plan else 1, points + 1):
            longer = (*plan, point)
            more = self.run(longer)
            if depth > 1:
                self.go_on(longer, more.points, depth - 1)

    def run(self, plan: tuple[int, ...]) -> _Run:
        """One run, and what it counted."""
        self._runs += 1
        run = _Run(plan, native=self._native)

        async def main() -> T:
            return await self._program(Cancellations(run))

        try:
            trace = _Watched(run)
            result = simulate(main, backend=self._backend, seed=self._seed, trace=trace)
            problems = problems_of(self._check, result.value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the sweep looks for
            problems = [described(error)]
        if not problems and run.delivered < len(plan):
            problems = ["the point was not reached: the program is not repeatable"]
        self.violations += [self._violation(plan, problem) for problem in problems]
        return run

    def _violation(self, plan: tuple[int, ...], problem: str) -> Violation:
        where = " and ".join(f"cancelled at point {point}" for point in plan) or "not cancelled"
        native = ", native=True" if self._native else ""
        replay = (
            f"sweep_cancellations(..., backend={self._backend!r}, seed={self._seed!r}, "
            f"at={plan!r}{native})"
        )
        return Violation(where, problem, replay)
