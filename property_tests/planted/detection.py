"""Which property a planted bug breaks, and after how many examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..apart import check_isolation
from ..comparing import check_agreement
from ..erasing import check_erasure, check_killed_erasure
from ..exporting import check_round_trip
from ..fairness import check_fairness, crowded_program
from ..figures import check_figures
from ..hearing import check_hearing
from ..lists import check_lists
from ..prompts import check_prompts, random_histories
from ..running import BrokenPromiseError, run
from ..serving import a_place, check
from ..strategies import random_program
from ..workload import calm_program, tidying_program

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from langswarm.core.session.testing import Backend

    from ..serving import Kind
    from ..serving import Property as PropertyOfMany
    from .catalogue import Variant

    Property = Callable[[random.Random, Backend], object]


def _explanation(source: random.Random, backend: Backend) -> None:
    program, seed = random_program(source)
    run(program, backend, seed)


def _tidying(source: random.Random, backend: Backend) -> None:
    run(tidying_program(source.choice), backend, source.randrange(2**32))


def _fairness(source: random.Random, backend: Backend) -> None:
    check_fairness(crowded_program(source.choice), backend, source.randrange(2**32))


def _agreement(source: random.Random, _: Backend) -> None:
    program = calm_program(source.choice)
    check_agreement(program, source.randrange(2**32), source.randrange(2**32))


def _prompt(source: random.Random, _: Backend) -> None:
    check_prompts(random_histories(source))


def _killed_erasure(source: random.Random, backend: Backend) -> None:
    check_killed_erasure(source, backend)


def _of_many(property_: PropertyOfMany, kind: Kind = "memory") -> Property:
    def holds(source: random.Random, backend: Backend) -> None:
        with a_place(kind) as place:
            check(property_, source, backend, place)

    return holds


PROPERTIES: dict[str, Property] = {
    "explanation": _explanation,
    "tidying": _tidying,
    "fairness": _fairness,
    "agreement": _agreement,
    "prompt": _prompt,
    "lists": _of_many(check_lists),
    "figures": _of_many(check_figures),
    "export": _of_many(check_round_trip),
    "erasure": _of_many(check_erasure),
    "erasure in files": _of_many(check_erasure, "sqlite"),
    "killed erasure": _killed_erasure,
    "isolation": _of_many(check_isolation),
    "hearing": _of_many(check_hearing),
}


def examples_until_caught(
    variant: Variant, backend: Backend, sources: Iterable[random.Random]
) -> int | None:
    """How many examples it takes until the bug shows; None: it does not."""
    holds = PROPERTIES[variant.property]
    with variant.plant():
        for number, source in enumerate(sources, 1):
            try:
                holds(source, backend)
            except BrokenPromiseError:
                return number
    return None
