"""Lets every call of every leaf fail, one run for each.

The leaves of a runtime are what it calls and did not write: storage, providers, middleware, hooks.
A program that wraps them in a :class:`Faults` is run once to count their calls, and then once for
each call and each way in which it can go wrong::

    async def program(faults: Faults) -> list[SessionMessage]:
        async with create_session_manager(
            faults.storage(InMemorySessionStorage()),
            middleware=[faults.middleware(Mine())],
        ) as manager:
            session = await manager.create_session("ada", "mock", "m")
            with contextlib.suppress(SessionError):
                await session.send_message("first")
            ...

    report = sweep_faults(program, check, backend="asyncio")
    assert not report.violations, report

The program must expect an error from every call that it makes; the check says what has to hold all
the same. Under :func:`~langswarm.core.session.testing.simulate` time is virtual, so what hangs
costs nothing until its timeout. Calls beyond those of the first run, as a retry makes, are not
swept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from langswarm.core.session.testing.faulty_guests import (
    FaultyCalls,
    FaultyHook,
    FaultyMiddleware,
    FaultyProvider,
    HookFault,
    MiddlewareFault,
    ProviderFault,
)
from langswarm.core.session.testing.faulty_storage import POSSIBLE_FAULTS, Fault, FaultyStorage
from langswarm.core.session.testing.simulation import Backend, simulate
from langswarm.core.session.testing.sweep_report import (
    SweepReport,
    Violation,
    described,
    problems_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from langswarm.core.session.actors.ports import IProvider, ISessionStorage
    from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware

T = TypeVar("T")

_GuestFault = ProviderFault | MiddlewareFault | HookFault


@dataclass(frozen=True)
class FaultPoint:
    """The ``call``-th call of a leaf's method goes wrong in this way.

    Attributes:
        leaf: "storage", "provider", "middleware" or "hook"; with a number from the second on.
        method: the name of its method.
        call: counted from 1.
        fault: a value of ``Fault``, ``ProviderFault``, ``MiddlewareFault`` or ``HookFault``.
    """

    leaf: str
    method: str
    call: int
    fault: str

    def __str__(self) -> str:
        return f"{self.leaf}: call {self.call} of {self.method} {self.fault}"


class Faults:
    """Given to the program of a sweep; it wraps the leaves."""

    def __init__(self, leaves: _Leaves) -> None:
        self._leaves = leaves

    def storage(self, inner: ISessionStorage) -> ISessionStorage:
        """As ``inner``, with this run's fault."""
        return self._leaves.storage(inner)

    def provider(self, inner: IProvider) -> IProvider:
        """As ``inner``, with this run's fault."""
        return FaultyProvider(inner, self._leaves.calls_of("provider", ProviderFault))

    def middleware(self, inner: ISessionMiddleware) -> ISessionMiddleware:
        """As ``inner``, with this run's fault."""
        return FaultyMiddleware(inner, self._leaves.calls_of("middleware", MiddlewareFault))

    def hook(self, inner: object) -> ISessionLifecycleHook:
        """As ``inner``, with this run's fault."""
        return FaultyHook(inner, self._leaves.calls_of("hook", HookFault))


class _Leaves:
    """What one run wraps, by name, and its fault."""

    def __init__(self, plan: FaultPoint | None) -> None:
        self._plan = plan
        self._storages: dict[str, FaultyStorage] = {}
        self._guests: dict[str, tuple[FaultyCalls, type[_GuestFault]]] = {}

    def storage(self, inner: ISessionStorage) -> FaultyStorage:
        """The next storage."""
        name = _numbered("storage", len(self._storages))
        storage = self._storages[name] = FaultyStorage(inner)
        plan = self._plan
        if plan is not None and plan.leaf == name:
            storage.fail(plan.method, Fault(plan.fault), call=plan.call)
        return storage

    def calls_of(self, kind: str, faults: type[_GuestFault]) -> FaultyCalls:
        """The calls of the next guest of this kind."""
        name = _numbered(kind, sum(known is faults for _, known in self._guests.values()))
        plan = self._plan
        if plan is not None and plan.leaf == name:
            calls = FaultyCalls(plan.method, plan.call, plan.fault)
        else:
            calls = FaultyCalls()
        self._guests[name] = (calls, faults)
        return calls

    def points(self) -> list[FaultPoint]:
        """Every way in which a call of this run could have gone wrong."""
        return [
            FaultPoint(name, method, call, fault.value)
            for name, method, count, possible in self._counts()
            for call in range(1, count + 1)
            for fault in possible
        ]

    def _counts(self) -> Iterator[tuple[str, str, int, Iterable[Fault | _GuestFault]]]:
        for name, storage in self._storages.items():
            for method, possible in sorted(POSSIBLE_FAULTS.items()):
                faults_of = tuple(fault for fault in Fault if fault in possible)
                yield name, method, storage.calls(method), faults_of
        for name, (calls, faults) in self._guests.items():
            for method, count in calls.counts.items():
                yield name, method, count, faults

    def check_points(self) -> None:
        """That there is something to sweep."""
        if not self._storages and not self._guests:
            raise ValueError(
                "no leaf is wrapped: the program has to use what faults.storage(...), .provider(), "
                ".middleware() or .hook() return"
            )
        if not self.points():
            raise ValueError("no leaf that is wrapped was ever called")

    def is_met(self) -> bool:
        """Whether the planned fault has happened."""
        if self._plan is None:
            return True
        storage = self._storages.get(self._plan.leaf)
        if storage is not None:
            return not storage.planned
        guest = self._guests.get(self._plan.leaf)
        return guest is not None and guest[0].is_met


def sweep_faults(
    program: Callable[[Faults], Awaitable[T]],
    check: Callable[[T], Iterable[str]] | None = None,
    *,
    backend: Backend,
    seed: int | None = None,
    at: FaultPoint | None = None,
) -> SweepReport:
    """Run ``program`` once as it is, then once for each fault of each call.

    Args:
        program: an async function that builds all it needs anew, wraps its leaves with the
            :class:`Faults` that it is given, and returns what ``check`` needs.
        check: looks at what the program returned, after every run; it returns what is wrong, in
            words. Whatever it or the program raises is a violation too, and so is a deadlock.
        backend: which event loop library to run on.
        seed: the schedule of all runs, as for ``simulate``.
        at: run with this fault alone, for a replay; a violation's replay line has it.

    Raises ValueError where nothing can fail: no leaf is wrapped, or none that is was called.
    """
    violations: list[Violation] = []

    def run(point: FaultPoint | None) -> _Leaves:
        leaves = _Leaves(point)

        async def main() -> T:
            return await program(Faults(leaves))

        try:
            value = simulate(main, backend=backend, seed=seed).value
            problems = problems_of(check, value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the sweep looks for
            problems = [described(error)]
        if not problems and not leaves.is_met():
            problems = ["the call was not made: the program is not repeatable"]
        where = "without a fault" if point is None else str(point)
        replay = f"sweep_faults(..., backend={backend!r}, seed={seed!r}, at={point!r})"
        violations.extend(Violation(where, problem, replay) for problem in problems)
        return leaves

    if at is not None:
        run(at)
        return SweepReport(1, 1, tuple(violations))
    first = run(None)
    points: list[FaultPoint] = []
    if not violations:
        first.check_points()
        points = first.points()
    for point in points:
        run(point)
    return SweepReport(len(points), len(points) + 1, tuple(violations))


def _numbered(kind: str, before: int) -> str:
    return f"{kind} {before + 1}" if before else kind
