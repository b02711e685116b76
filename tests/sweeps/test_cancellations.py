"""Every public coroutine is cancelled at every point: all else goes on, G1 to G5 and G9 hold."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import SessionExistsError
from langswarm.core.session.testing import Ended, sweep_cancellations

from .profile import CANCELLATIONS, MODES, POINTS, RUNS, SEEDS, SITUATIONS
from .scenarios import BESIDE, EXCLUDED, SCENARIOS, Scenario, public_coroutines
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from langswarm.core.session.testing import Backend, CallEnd, Cancellations, SweepReport

    from .profile import Situation

    Record = Callable[[str, object], None]

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage

ALL = {**SCENARIOS, **BESIDE}
WAITS_NEVER = {name for name, reason in EXCLUDED.items() if reason.startswith("cancelled")}

modes = pytest.mark.parametrize(
    ("backend", "native"), MODES, ids=["asyncio", "asyncio-native", "trio"]
)


async def program(
    scenario: Scenario, situation: Situation, calls: int, sweep: Cancellations
) -> World:
    """So many calls under test at once; then the call once more, and what must hold after all."""
    world = World(situation, conflicts=SessionExistsError in scenario.again)
    async with anyio.create_task_group() as background:
        await world.begin(background)
        await scenario.before(world)
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(call_under_test, world, scenario, sweep)
        with contextlib.suppress(*scenario.again):
            await scenario.call(world)
        if scenario.unchecked:
            world.unchecked.add("s")
        await scenario.after(world)
        await world.afterwards()
    await world.end()
    return world


async def call_under_test(world: World, scenario: Scenario, sweep: Cancellations) -> None:
    end: CallEnd[object] = await sweep.call(scenario.call, world)
    if end.how is Ended.RAISED:
        world.problems.append(f"the call under test raised {end.error!r}")


def problems_of(world: World) -> list[str]:
    return world.problems


def sweep(
    name: str, situation: Situation, backend: Backend, *, native: bool, calls: int = 1
) -> list[SweepReport]:
    """One report for each seed of the profile."""
    run = partial(program, ALL[name], situation, calls)
    points = min(calls, CANCELLATIONS)
    return [
        sweep_cancellations(
            run, problems_of, backend=backend, seed=seed, points=points, native=native
        )
        for seed in SEEDS
    ]


def counted(reports: list[SweepReport], record_property: Record) -> SweepReport:
    """The first of them; none found anything, and all of them are in the summary."""
    for report in reports:
        assert not report.violations, report
    record_property(POINTS, sum(report.points for report in reports))
    record_property(RUNS, sum(report.runs for report in reports))
    return reports[0]


@modes
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", ALL)
def test_a_cancelled_call_harms_nobody(
    name: str,
    situation: Situation,
    backend: Backend,
    native: bool,
    record_property: Record,
) -> None:
    """Cancelled at any point: the call works the next time, and all promises hold."""
    report = counted(sweep(name, situation, backend, native=native), record_property)
    assert (report.points == 0) == (name in WAITS_NEVER)


@modes
def test_two_sends_that_are_cancelled_harm_nobody(
    backend: Backend, native: bool, record_property: Record
) -> None:
    """Two at once, cancelled at any point and at any later point: N x M runs."""
    reports = sweep("Session.send_message", "idle", backend, native=native, calls=2)
    report = counted(reports, record_property)
    assert report.runs > report.points**CANCELLATIONS / 4


def test_every_public_coroutine_has_a_scenario() -> None:
    """A new one is not forgotten."""
    coroutines = public_coroutines()
    missing = sorted(coroutines - set(SCENARIOS))
    gone = sorted(set(SCENARIOS) - coroutines)
    assert not missing, f"add a scenario to tests/sweeps/scenarios.py for {missing}"
    assert not gone, f"no public coroutine any more: remove {gone} from tests/sweeps/scenarios.py"


def test_exclusions_name_scenarios() -> None:
    """The list of what is not swept is about what there is."""
    assert set(EXCLUDED) <= set(ALL)
