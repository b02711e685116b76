"""What must make no difference: eviction, the backend, the schedule, restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .comparing import check_agreement, left, told
from .program import FOREVER, Program, Step
from .running import BACKENDS, run
from .strategies import SEEDS, calm_and_mixed, calm_programs, examples

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage


def evictions(program: Program) -> list[tuple[Step, ...]]:
    """Steps that may come anywhere."""
    return [(Step("evict", number),) for number in range(program.settings.sessions)]


def quiet_restarts(_: Program) -> list[tuple[Step, ...]]:
    """Steps that may come anywhere: all that was sent has ended before the process does."""
    quiet = Step("gap", value=100.0)
    return [(quiet, Step("stop")), (quiet, Step("kill"))]


@pytest.mark.parametrize("backend", BACKENDS)
@examples(300)
@given(programs=calm_and_mixed(evictions), seed=SEEDS)
def test_eviction_is_invisible(
    backend: Backend, programs: tuple[Program, Program], seed: int
) -> None:
    """G4: a program gives the same answers with idle = 0, idle = infinity and random eviction."""
    program, mixed = programs
    never = run(program.with_settings(idle=FOREVER), backend, seed)[0]
    for variant in (
        program,
        program.with_settings(idle=0.0),
        program.with_settings(idle=0.0, window=0),
        mixed.with_settings(idle=FOREVER),
    ):
        world = run(variant, backend, seed + 1)[0]
        assert told(world) == told(never), f"{variant} unlike {program} and idle={FOREVER:g}"
        assert left(world) == left(never), f"{variant} unlike {program} and idle={FOREVER:g}"


@examples(150)
@given(program=calm_programs(), seeds=st.tuples(SEEDS, SEEDS))
def test_backends_agree(program: Program, seeds: tuple[int, int]) -> None:
    """G16: the same tickets and provider script give the same log on asyncio and on trio."""
    check_agreement(program, *seeds)


@pytest.mark.parametrize("backend", BACKENDS)
@examples(200)
@given(programs=calm_and_mixed(quiet_restarts), seed=SEEDS)
def test_restarts_at_quiet_points_are_invisible(
    backend: Backend, programs: tuple[Program, Program], seed: int
) -> None:
    """G4: a process that was closed or killed while nothing ran leaves what one process leaves."""
    program, restarted = programs
    once = run(program, backend, seed)[0]
    again = run(restarted, backend, seed + 1)[0]
    assert left(again) == left(once), f"{restarted} unlike {program}"
