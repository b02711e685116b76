"""One seed decides the schedule: deterministic simulation of anyio programs, on both backends.

The problem
-----------
A promise about ordering is a promise about every schedule, and a test sees one. asyncio runs ready
tasks in FIFO order, so a race that needs another order never shows on a developer's machine; trio
shuffles, so it shows once and cannot be brought back. ``simulate`` turns the schedule into an
argument::

    result = simulate(main, backend="trio", seed=17)

Whatever ``main`` does with tasks, events, locks, streams, cancellation and time is then a function
of the seed alone, in any process on any day. Many seeds are many schedules; a failing one carries
its replay line as a note. Time is virtual and jumps when nobody can run, so an hour of sleep costs
nothing. A standstill is a :class:`DeadlockError` at once, with the line each task waits at.

How
---
*asyncio*: an event loop of our own (``simulated_asyncio``) that reuses ``BaseEventLoop`` except for
its selector. It asks a chooser which of the ready task steps goes first. Plain callbacks keep their
FIFO places, because asyncio promises them that. With ``seed=None`` the order is asyncio's own.

*trio*: its own loop, its own hook for deterministic tests, its ``MockClock`` (``simulated_trio``).
All ready tasks run once per batch, as in trio itself; the chooser orders the batch. ``seed=None``
runs the oldest task first.

Sets are the enemy of repeatability. anyio on asyncio cancels sets of tasks, and sets of objects are
ordered by address; so tasks hash by their number there, and those that one step cancels are resumed
in the order of their numbers unless the chooser says otherwise. The cyclic garbage collector is off
during a run, since it would call finalizers at a moment that depends on the past of the process.

Ways that were rejected
-----------------------
* Random ``sleep(0)`` calls sprinkled into the code: they find less, and change what is tested.
* A loop that imitates anyio's interface and is neither asyncio nor trio: it proves nothing about
  what differs between the two, and cancellation is where they differ.
* Letting Hypothesis draw each choice: slower, and it missed the deepest bugs that one drawn seed
  found. Draw the workload and one seed, shrink the workload, then the schedule
  (:func:`~langswarm.core.session.testing.shrink_deviations`).
* Controlled threads: CPython offers no way to decide when a thread runs. What needs a thread gets a
  simulated twin behind the same port.

Cost
----
Measured on two cores: about 6 microseconds per task step (asyncio alone 2.5, trio alone 5) and half
a millisecond (trio: one) to start and end a run, so a thousand schedules of a small program take
about a second. The trace keeps one small tuple per step.

Known gaps
----------
* Threads, subprocesses, sockets, signals and wall clocks (``time.time``, ``uuid4``, ``random``)
  are outside. Threads are refused with an error, also those that a storage starts for a driver of
  its own; a real socket on trio looks like a deadlock.
* On asyncio a ready task may be overtaken any number of times, which real asyncio does to nobody.
  On trio the order of one batch is free, but nobody is overtaken twice.
* Tasks that one step cancels one by one are resumed in the order of creation, also when the program
  cancelled them in another order.
* Trio calls the abort functions of the tasks below one cancelled scope in an arbitrary order, and a
  program that iterates over ``nursery.child_tasks`` sees one, too. The tasks' *steps* are ordered.
* Async generators left open at the end of ``main`` are closed in an arbitrary order on both.
* ``trio.testing.wait_all_tasks_blocked(cushion)`` waits for its cushion in real time.
* The schedule of a seed may change with the versions of Python, anyio and trio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from langswarm.core.session.testing import guards, simulated_asyncio
from langswarm.core.session.testing.choosers import Chooser, as_chooser
from langswarm.core.session.testing.monitor import Monitor
from langswarm.core.session.testing.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Backend = Literal["asyncio", "trio"]


@dataclass(frozen=True)
class SimulationResult(Generic[T]):
    """What a run that ended well leaves behind.

    Attributes:
        value: what ``main`` returned.
        trace: the steps that were taken; ``trace.digest`` identifies the schedule.
        deviations: the choices that differ from FIFO order; ``Deviations(result.deviations)`` as
            seed repeats the run.
        steps: how many steps were taken, callbacks included.
        virtual_seconds: the clock at the end; it starts at 0.
    """

    value: T
    trace: Trace = field(repr=False)
    deviations: dict[int, int] = field(repr=False)
    steps: int
    virtual_seconds: float


def simulate(
    main: Callable[[], Awaitable[T]],
    *,
    backend: Backend,
    seed: int | Chooser | None,
    max_steps: int = 200_000,
    trace: Trace | None = None,
) -> SimulationResult[T]:
    """Run ``main()`` on a virtual clock, in the schedule that ``seed`` decides.

    Args:
        main: an async function without arguments. It may use anyio and the backend's own calls.
        backend: which event loop library to run on.
        seed: a number for a random schedule, ``None`` for FIFO order, or a
            :class:`~langswarm.core.session.testing.Chooser`.
        max_steps: how many steps the program may take before it counts as a livelock.
        trace: filled with the steps, also when the run fails; a new one by default.

    Raises:
        DeadlockError: nothing can run and no timer is set, though ``main`` (or a task that was
            cancelled because ``main`` had ended) is not finished.
        StepLimitError: the program took more than ``max_steps`` steps.
        SimulationInUseError: called inside an event loop or beside another simulation.
        SimulationUnsupportedError: the installed libraries lack an internal this depends on.

    What ``main`` raises comes out unchanged, except for a note that says how to replay it. When
    ``main`` ends, leftover asyncio tasks and trio system tasks are cancelled, as anyio.run() does.
    """
    chooser = as_chooser(seed)
    monitor = Monitor(_unused(trace), max_steps)
    run = _scheduler(backend)
    with guards.exclusive(), guards.no_cycle_collector(), guards.no_threads():
        try:
            value, seconds = run(main, chooser, monitor)
        except BaseException as exc:
            found = chooser.parked or monitor.failure or exc
            _add_replay(found, backend, chooser)
            if found is exc:
                raise
            raise found from None  # the other one only tells how the stuck run was unwound
        swallowed = chooser.parked or monitor.failure
        if swallowed is not None:  # main returned although it was cancelled
            _add_replay(swallowed, backend, chooser)
            raise swallowed
    return SimulationResult(value, monitor.trace, chooser.deviations, monitor.steps, seconds)


def _scheduler(
    backend: Backend,
) -> Callable[[Callable[[], Awaitable[T]], Chooser, Monitor], tuple[T, float]]:
    if backend == "asyncio":
        return simulated_asyncio.run
    if backend == "trio":
        # Imported late because trio is optional for those who simulate on asyncio alone.
        from langswarm.core.session.testing import simulated_trio  # noqa: PLC0415

        return simulated_trio.run
    raise ValueError(f"backend must be 'asyncio' or 'trio', not {backend!r}")


def _unused(trace: Trace | None) -> Trace:
    if trace is None:
        return Trace()
    if len(trace):
        raise ValueError("this trace holds a run already; pass a new Trace() to each simulate()")
    return trace


def _add_replay(exc: BaseException, backend: Backend, chooser: Chooser) -> None:
    note = f"replay: simulate(..., backend={backend!r}, seed={chooser.as_seed()})"
    if note not in getattr(exc, "__notes__", ()):
        exc.add_note(note)
