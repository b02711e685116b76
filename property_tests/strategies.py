"""How many programs are run, and where they come from.

By default the examples are the same in every run (CI). PROPERTY_PROFILE=explore takes new ones each
time (`--hypothesis-seed=N` repeats those of Hypothesis), PROPERTY_PROFILE=long 50 times as many;
PROPERTY_PROFILE=few the first fifth of CI's, for a run that is traced.
"""

from __future__ import annotations

import os
import random
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from .workload import calm_program, mixed_program, wild_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .program import Program, Step
    from .workload import Pick

    Between = Callable[[Program], Sequence[tuple[Step, ...]]]

T = TypeVar("T")

_PROFILES = {"ci": (1, True), "few": (0.2, True), "explore": (1, False), "long": (50, False)}
_FACTOR, _REPEATABLE = _PROFILES[os.environ.get("PROPERTY_PROFILE", "ci")]

SEEDS = st.integers(0, 2**32 - 1)


def examples(count: int) -> settings:
    """So many examples of Hypothesis in CI."""
    return settings(
        max_examples=round(count * _FACTOR),
        derandomize=_REPEATABLE,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        # "explain" would trace every line of every run; the replay line explains more.
        phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
    )


def random_sources(count: int) -> Iterator[random.Random]:
    """So many sources of choices in CI, all different and evenly spread.

    Hypothesis makes most of its examples by changing a little in the one before: good for a bug
    that is near, poor for one that is rare.
    """
    first = 0 if _REPEATABLE else random.SystemRandom().randrange(2**32)
    for number in range(first, first + round(count * _FACTOR)):
        yield random.Random(number)


def random_program(source: random.Random) -> tuple[Program, int]:
    """A wild program and a schedule seed for it."""
    return wild_program(source.choice), source.randrange(2**32)


# Strategies are made once and kept: Hypothesis takes longer to make one than a program to run.
@cache
def _one_of(options: Sequence[T]) -> st.SearchStrategy[T]:
    return st.sampled_from(options)


def _picking(draw: st.DrawFn) -> Pick:
    def pick(options: Sequence[T], /) -> T:
        chosen: T = draw(_one_of(options))
        return chosen

    return pick


@st.composite
def wild_programs(draw: st.DrawFn) -> Program:
    """See `wild_program`."""
    return wild_program(_picking(draw))


@st.composite
def calm_programs(draw: st.DrawFn) -> Program:
    """See `calm_program`."""
    return calm_program(_picking(draw))


@st.composite
def calm_and_mixed(draw: st.DrawFn, between: Between) -> tuple[Program, Program]:
    """A calm program, and the same with some of these steps put in between its own."""
    program = calm_program(_picking(draw))
    return program, mixed_program(_picking(draw), program, between(program))
