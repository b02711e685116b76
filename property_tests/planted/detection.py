"""Which property a planted bug breaks, and after how many examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..comparing import check_agreement
from ..fairness import check_fairness, crowded_program
from ..prompts import check_prompts, random_histories
from ..running import BrokenPromiseError, run
from ..strategies import random_program
from ..workload import calm_program

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from langswarm.core.session.testing import Backend

    from .catalogue import Variant

    Property = Callable[[random.Random, Backend], object]


def _explanation(source: random.Random, backend: Backend) -> None:
    program, seed = random_program(source)
    run(program, backend, seed)


def _fairness(source: random.Random, backend: Backend) -> None:
    check_fairness(crowded_program(source.choice), backend, source.randrange(2**32))


def _agreement(source: random.Random, _: Backend) -> None:
    program = calm_program(source.choice)
    check_agreement(program, source.randrange(2**32), source.randrange(2**32))


def _prompt(source: random.Random, _: Backend) -> None:
    check_prompts(random_histories(source))


PROPERTIES: dict[str, Property] = {
    "explanation": _explanation,
    "fairness": _fairness,
    "agreement": _agreement,
    "prompt": _prompt,
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
