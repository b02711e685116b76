"""From a program that breaks a promise to a small one, and from its schedule to a plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.testing import Deviations, Seeded, shrink_deviations

from .program import Program, Settings
from .running import BrokenPromiseError, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langswarm.core.session.testing import Backend, Chooser

_ATTEMPTS = 500


def breaks(program: Program, backend: Backend, seed: int | Chooser | None) -> bool:
    """Whether this run breaks a promise, whichever."""
    try:
        run(program, backend, seed)
    except BrokenPromiseError:
        return True
    return False


def shrink(program: Program, backend: Backend, seed: int | None) -> Program:
    """A program with less in it that breaks a promise too, under the same seed.

    Greedy: whatever can be left out is left out, until nothing can.
    """
    left = _ATTEMPTS
    found = True
    while found and left > 0:
        found = False
        for smaller in _smaller(program):
            left -= 1
            if breaks(smaller, backend, seed):
                program, found = smaller, True
                break
    return program


def shrink_schedule(program: Program, backend: Backend, seed: int) -> dict[int, int]:
    """The few choices of the schedule that matter: `Deviations` of them breaks a promise too."""
    chooser = Seeded(seed)
    breaks(program, backend, chooser)

    def fails(deviations: Mapping[int, int]) -> bool:
        return breaks(program, backend, Deviations(deviations))

    return shrink_deviations(fails, chooser.deviations)


def _smaller(program: Program) -> Iterator[Program]:
    """The program without one thing: large things first."""
    clients, settings = program.clients, program.settings
    for number in range(len(clients)):
        if len(clients) > 1:
            yield Program(settings, clients[:number] + clients[number + 1 :])
    for size in (4, 2, 1):
        for number, steps in enumerate(clients):
            for start in range(len(steps) - size + 1):
                rest = steps[:start] + steps[start + size :]
                yield Program(settings, (*clients[:number], rest, *clients[number + 1 :]))
    for number in range(len(settings.faults)):
        faults = settings.faults[:number] + settings.faults[number + 1 :]
        yield Program(attrs.evolve(settings, faults=faults), clients)
    for field in attrs.fields(Settings):
        if field.name not in {"faults", "sessions"}:
            change: dict[str, Any] = {field.name: field.default}
            plain = attrs.evolve(settings, **change)
            if plain != settings:
                yield Program(plain, clients)
