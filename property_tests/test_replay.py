"""A failing example is one line that fails again: the text form is exact, the run repeatable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from .program import Program
from .running import BACKENDS, run
from .strategies import SEEDS, examples, wild_programs

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend


@examples(200)
@given(program=wild_programs())
def test_the_text_of_a_program_is_the_program(program: Program) -> None:
    """What a failure prints can be parsed again and gives the same program."""
    assert Program.parse(str(program)) == program


@pytest.mark.parametrize("backend", BACKENDS)
@examples(25)
@given(program=wild_programs(), seed=SEEDS)
def test_a_seed_repeats_its_run(backend: Backend, program: Program, seed: int) -> None:
    """The same program and seed take the same steps, so that a replay shows the failure again."""
    world, result = run(program, backend, seed)
    again, repeated = run(program, backend, seed)
    assert result.trace.digest == repeated.trace.digest
    assert list(map(str, world.calls)) == list(map(str, again.calls))
