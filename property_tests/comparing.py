"""What of a run must not depend on eviction, on the backend, on the schedule, on restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .running import BrokenPromiseError, run

if TYPE_CHECKING:
    from .calls import Read
    from .program import Program
    from .world import World


def told(world: World) -> list[object]:
    """What each call was told, in ticket order."""
    return [
        (call.step, type(call.error).__name__, getattr(call.value, "content", None))
        for call in world.calls
    ]


def left(world: World) -> tuple[object, ...]:
    """What is stored at the end, and what the provider was asked on the way."""
    last: dict[str, Read] = {read.session_id: read for read in world.reads}
    reads = [attrs.evolve(last[name], begun_at=0, ended_at=0) for name in sorted(last)]
    return reads, world.prompts


def check_agreement(program: Program, on_asyncio: int, on_trio: int) -> None:
    """G16: run it on both backends, each under its seed; raises BrokenPromiseError."""
    one = run(program, "asyncio", on_asyncio)[0]
    other = run(program, "trio", on_trio)[0]
    if told(one) != told(other):
        raise BrokenPromiseError(f"G16: told {told(one)} and {told(other)}: {program}")
    if left(one) != left(other):
        raise BrokenPromiseError(f"G16: left {left(one)} and {left(other)}: {program}")
