"""Every call of storage, provider, middleware and hooks fails once, in every way that it can.

Callers get a typed error or an answer, and nothing else; the runtime goes on; what is there after a
restart agrees with what they were told (G3 to G5, G15).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import SessionError, SessionExistsError
from langswarm.core.session.testing import sweep_faults

from .profile import BACKENDS, POINTS, RUNS, SEEDS, SITUATIONS
from .scenarios import SCENARIOS
from .world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langswarm.core.session.testing import Backend, Faults

    from .profile import Situation

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage

LAST = (
    "Session.clear_messages",
    "Session.delete",
    "SessionManager.delete_sessions",
    "UserSessions.delete_sessions",
)
"""After these there is no history to compare: a workload of their own."""
AT_THE_END = ("SessionManager.aclose", "SessionManager.__aexit__", "SessionManager.__aenter__")
ORDINARY = tuple(name for name in SCENARIOS if name not in {*LAST, *AT_THE_END})


async def tried(call: Callable[[], Awaitable[object]]) -> None:
    """Once, and once more if it failed: each fault happens once."""
    for _ in range(2):
        try:
            await call()
        except SessionExistsError:
            return
        except SessionError:
            continue
        return


async def program(situation: Situation, names: tuple[str, ...], faults: Faults) -> World:
    """All of these calls, one after the other, beside two sends; then a restart without faults."""
    world = World(situation, faults)
    world.start()
    for name in ("s", "n"):
        await tried(partial(world.create, name))
        await tried(partial(world.find, name))
    async with anyio.create_task_group() as world.background:
        world.soon(world.send_to_neighbour, "beside")
        for name in names:
            scenario = SCENARIOS[name]
            await tried(partial(scenario.before, world))
            await tried(partial(scenario.call, world))
            if scenario.unchecked:
                world.unchecked.add("s")
            await tried(partial(scenario.after, world))
        world.soon(world.send_to_neighbour, "beside")
    await world.restart()
    await world.afterwards()
    await world.end()
    return world


def problems_of(world: World) -> list[str]:
    return world.problems


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("situation", [name for name in SITUATIONS if name != "busy"])
@pytest.mark.parametrize(
    "names",
    [ORDINARY, *((name,) for name in LAST)],
    ids=["ordinary", "clear", "delete", "batch", "view"],
)
def test_a_fault_of_a_leaf_harms_nobody_else(
    names: tuple[str, ...],
    situation: Situation,
    backend: Backend,
    record_property: Callable[[str, object], None],
) -> None:
    """Each call of each leaf, each fault: everything else goes on, and nothing told is lost."""
    points = runs = 0
    for seed in SEEDS:
        run = partial(program, situation, names)
        report = sweep_faults(run, problems_of, backend=backend, seed=seed)
        assert not report.violations, report
        points += report.points
        runs += report.runs
    assert points > 50
    record_property(POINTS, points)
    record_property(RUNS, runs)
