"""Every promise at once: any program, any schedule, faults and deaths included, both backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from .running import BACKENDS, BrokenPromiseError, run
from .shrinking import shrink
from .strategies import SEEDS, examples, random_program, random_sources, wild_programs
from .tally import Tally
from .workload import tidying_program

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

    from .program import Program

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage


@pytest.mark.parametrize("backend", BACKENDS)
@examples(250)
@given(program=wild_programs(), seed=SEEDS)
def test_calls_in_ticket_order_explain_all_commits(
    backend: Backend, program: Program, seed: int
) -> None:
    """G1-G6, G8-G11, G13, G14: see `model`, which is the text of this property."""
    run(program, backend, seed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_explain_all_commits_of_random_programs(backend: Backend) -> None:
    """G1-G6, G8-G11, G13, G14: the same property, on programs that are spread evenly.

    That so many of them run in as many different schedules is part of the claim.
    """
    tally = Tally()
    for source in random_sources(5100):
        program, seed = random_program(source)
        try:
            _, result = run(program, backend, seed)
        except BrokenPromiseError:
            run(shrink(program, backend, seed), backend, seed)
            raise
        tally.add(program, result)
    print(f"{backend}: {tally}")  # noqa: T201 - shown by -s
    assert len(tally.digests) > 0.98 * tally.runs


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_used_meanwhile_is_not_archived(backend: Backend) -> None:
    """G8: a clean-up archives what was not used for so long, whoever uses it just then."""
    for source in random_sources(300):
        run(tidying_program(source.choice), backend, source.randrange(2**32))
