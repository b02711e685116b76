"""G12 as a property: who waits for a live place waits for one turn of each other session at most.

One client posts to all sessions before anything runs, so each of them is ready from the beginning
until its last message. There is one live place. Then between two turns of a session every other
one has one turn at most, and so it has before the first; and every message has its turn.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .program import FOREVER, Program, Settings, Step
from .running import BrokenPromiseError, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.testing import Backend

    from .workload import Pick

BEHAVIOURS = ("ok", "slow", "fail", "half")


def crowded_program(pick: Pick) -> Program:
    """Sessions that all have work, and one place to do it in."""
    settings = Settings(
        sessions=pick((2, 3, 4, 5)),
        live=1,
        idle=pick((FOREVER, 0.2, 0.0)),
        latency=pick((0.0, 0.0, 0.05)),
        batch=pick((1000, 1)),
    )
    sessions = range(settings.sessions)
    posts = [Step("post", pick(sessions), pick(BEHAVIOURS)) for _ in range(pick((6, 10, 16)))]
    return Program(settings, (tuple(posts),))


def check_fairness(program: Program, backend: Backend, seed: int) -> None:
    """Run it; raises BrokenPromiseError if a session was made to wait for longer."""
    world, _ = run(program, backend, seed)
    session_of = {call.content: call.session_id for call in world.calls}
    turns = [session_of[question] for question in world.prompts]
    broken = unfairness([call.session_id for call in world.calls], turns)
    if broken:
        raise BrokenPromiseError(f"{broken[0]}, in {turns} of {program}")


def unfairness(calls: Sequence[str], turns: Sequence[str]) -> list[str]:
    """Who waited for too long: given the session of each call, and of each turn in their order."""
    posted, had = Counter(calls), Counter(turns)
    found = [
        f"G12: {session_id} had {had[session_id]} turns for {count} messages"
        for session_id, count in posted.items()
        if had[session_id] != count
    ]
    found += [
        f"G12: {session_id} waited while {others} had turns"
        for session_id in posted
        for others in _waits(turns, session_id)
        if len(others) > len(set(others))
    ]
    return found


def _waits(turns: Sequence[str], session_id: str) -> list[list[str]]:
    """Whose turns there were before each turn of the session, since its last one."""
    waits: list[list[str]] = [[]]
    for name in turns:
        if name == session_id:
            waits.append([])
        else:
            waits[-1].append(name)
    return waits[:-1]
