"""A fixture for pytest: run a program under many schedules on both backends.

In the ``conftest.py`` at the top of your tests::

    pytest_plugins = ["langswarm.core.session.testing.pytest_plugin"]

A test that takes ``simulation`` is plain, not async, and gives it a program::

    def test_turns_stay_in_order(simulation: Simulation) -> None:
        async def program() -> list[str]:
            ...

        simulation(program)

When a run fails, the report ends with the one line that repeats it. Options of the command line:

``--simulation-seeds=N``
    How many seeds each program is run under, on each backend; 20 by default.
``--simulation-replay=BACKEND:SEED``
    Run on this backend under this seed alone; SEED is a number, or None for FIFO order.

This module is the only one of the package that imports pytest.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, TypeVar

import pytest
from langswarm.core.session.testing.simulation import Backend, simulate
from langswarm.core.session.testing.sweep_report import problems_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")

DEFAULT_SEEDS = 20
_BACKENDS: dict[str, Backend] = {"asyncio": "asyncio", "trio": "trio"}
_Run = tuple[Backend, int | None]


class Simulation:
    """What the fixture ``simulation`` gives: call it with a program."""

    def __init__(self, name: str, seeds: int, replay: _Run | None) -> None:
        self._name = name
        self._seeds = seeds
        self._replay = replay

    def __call__(
        self,
        program: Callable[[], Awaitable[T]],
        check: Callable[[T], Iterable[str]] | None = None,
        *,
        seeds: int | None = None,
    ) -> int:
        """Run ``program()`` in FIFO order and under each seed, on asyncio and on trio.

        Args:
            program: an async function that builds all it needs anew.
            check: looks at what the program returned, after every run; it returns what is wrong, in
                words, and then the test fails.
            seeds: how many, instead of those of the command line.

        Returns the number of different schedules that were taken. Where it is much smaller than
        that of the runs, the program leaves a scheduler little to choose.
        """
        digests: set[tuple[Backend, str]] = set()
        for backend, seed in self._runs(self._seeds if seeds is None else seeds):
            try:
                result = simulate(program, backend=backend, seed=seed)
                problems = problems_of(check, result.value)
                if problems:
                    raise AssertionError("\n".join(problems))  # noqa: TRY301 - gets the note, too
            except BaseException as error:
                name = shlex.quote(self._name)
                error.add_note(f"replay: pytest {name} --simulation-replay={backend}:{seed}")
                raise
            digests.add((backend, result.trace.digest))
        return len(digests)

    def _runs(self, seeds: int) -> list[_Run]:
        if self._replay is not None:
            return [self._replay]
        numbers = (None, *range(seeds))
        return [(backend, seed) for backend in _BACKENDS.values() for seed in numbers]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("simulation", "schedules of the fixture `simulation`")
    group.addoption(
        "--simulation-seeds",
        type=int,
        default=DEFAULT_SEEDS,
        metavar="N",
        help="seeds for each program and backend (default: %(default)s)",
    )
    group.addoption(
        "--simulation-replay",
        type=_parse_run,
        metavar="BACKEND:SEED",
        help="one schedule alone, as a failing test printed it",
    )


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Simulation:
    """Run a program under many schedules on both backends; see the module."""
    options = request.config.option
    return Simulation(request.node.nodeid, options.simulation_seeds, options.simulation_replay)


def _parse_run(text: str) -> _Run:
    backend, _, seed = text.partition(":")
    try:
        return _BACKENDS[backend], None if seed == "None" else int(seed)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no schedule: it must be asyncio:SEED or trio:SEED, and SEED a number or "
            "None"
        ) from None
