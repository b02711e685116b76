"""Nobody starves: the line for live places, under every schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .fairness import check_fairness, crowded_program, unfairness
from .running import BACKENDS
from .strategies import random_sources

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_waits_for_a_live_place_waits_for_one_turn_of_each_other(backend: Backend) -> None:
    """G12: also while every turn of the others evicts somebody."""
    for source in random_sources(300):
        check_fairness(crowded_program(source.choice), backend, source.randrange(2**32))


@pytest.mark.parametrize(
    ("calls", "turns", "who"),
    [
        ("abab", "abab", None),
        ("aab", "aba", None),
        ("aab", "aab", "b"),  # two turns of a before the first of b
        ("abb", "bba", "a"),
        ("aaab", "aaa", "b"),  # never had a turn
        ("ababb", "abab", "b"),  # one is left for ever
    ],
)
def test_a_session_that_starves_is_found(calls: str, turns: str, who: str | None) -> None:
    """Also one that has no turn at all, or one too few at the end."""
    found = unfairness(calls, turns)
    assert (found[0].split()[1] if found else None) == who
