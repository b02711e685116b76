"""Teeth: each planted bug breaks the property of the state machine, soon and on both backends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .planted import durability, lifetime, ordering
from .planted.catalogue import catalogue
from .running import BACKENDS
from .shrinking import breaks
from .strategies import random_programs

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage


MOST_EXAMPLES = 500
PLANTED = catalogue(durability, lifetime, ordering)


def examples_until_caught(name: str, backend: Backend) -> int | None:
    """How many programs it takes until the bug shows; None: it does not."""
    with PLANTED[name].plant():
        for number, (program, seed) in enumerate(random_programs(MOST_EXAMPLES), 1):
            if breaks(program, backend, seed):
                return number
    return None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bugs_are_caught(name: str, backend: Backend) -> None:
    """The property has teeth: it catches this bug within the first programs that CI runs."""
    assert examples_until_caught(name, backend) is not None


def test_most_promises_have_a_planted_bug() -> None:
    """Each promise that the state machine claims to check is broken by a variant at least."""
    promises = {variant.promise for variant in PLANTED.values()}
    assert all(re.fullmatch(r"G\d+", promise) for promise in promises)
    checked = ("G1", "G2", "G3", "G4", "G5", "G6", "G8", "G9", "G10", "G11", "G13", "G14")
    assert promises >= set(checked)
