"""Runs a program under a schedule seed and checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.testing import simulate

from .model import violations_of
from .process import LogWatch
from .program import Program
from .world import World

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend, Chooser, SimulationResult

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")


class BrokenPromiseError(AssertionError):
    """A run broke a promise; the text says which, and how to see it again."""


def run(
    program: Program, backend: Backend, seed: int | Chooser | None
) -> tuple[World, SimulationResult[None]]:
    """The world after the program, and the schedule that it took; raises BrokenPromiseError."""
    world = World(program)
    with LogWatch() as log:
        try:
            result = simulate(world.run, backend=backend, seed=seed, max_steps=200_000)
        except Exception as error:
            calls = "\n".join(f"  {call}" for call in world.calls)
            text = f"{error!r}\n{calls}\n{_replay(program, backend, seed)}"
            raise BrokenPromiseError(text) from error
    broken = violations_of(world) + log.complaints
    if broken:
        lines = "\n".join(f"- {line}" for line in broken)
        raise BrokenPromiseError(f"\n{lines}\n{_replay(program, backend, seed)}")
    return world, result


def check(text: str, backend: Backend, seed: int | None) -> World:
    """Run a program that is given by its text."""
    return run(Program.parse(text), backend, seed)[0]


def _replay(program: Program, backend: Backend, seed: int | Chooser | None) -> str:
    return f"replay: .venv/bin/python -m property_tests.replay {backend} {seed} '{program}'"
