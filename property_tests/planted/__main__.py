"""The tests tested: python -m property_tests.planted [--rounds N].

Each planted bug is looked for again and again, each time in other programs. Prints how many it
took, with the medians; ends with exit code 1 if one was not found.
"""

from __future__ import annotations

import argparse
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from ..running import BACKENDS
from .detection import examples_until_caught
from .everything import PLANTED

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

MOST_EXAMPLES = 2000


def search(backend: Backend, rounds: int) -> dict[str, list[int | None]]:
    """For each bug, how many examples it took in each round."""
    return {
        name: [
            examples_until_caught(
                variant,
                backend,
                map(random.Random, range(round_ * MOST_EXAMPLES, (round_ + 1) * MOST_EXAMPLES)),
            )
            for round_ in range(rounds)
        ]
        for name, variant in PLANTED.items()
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Look for the planted bugs.")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: there must be 1 or more")
    survived = 0
    with ProcessPoolExecutor(len(BACKENDS)) as pool:
        results = pool.map(partial(search, rounds=options.rounds), BACKENDS)
        for backend, found in zip(BACKENDS, results, strict=True):
            survived += print_table(backend, found)
    return 1 if survived else 0


def print_table(backend: Backend, found: dict[str, list[int | None]]) -> int:
    """One table; returns how many bugs survived a round."""
    sys.stdout.write(f"{backend}: examples until caught, median and worst\n")
    medians: list[float] = []
    survivors: list[str] = []
    for name, counts in found.items():
        caught = [count for count in counts if count is not None]
        promise = PLANTED[name].promise
        if len(caught) < len(counts):
            survivors.append(name)
            sys.stdout.write(f"  {promise:9}{name:40}SURVIVED {len(counts) - len(caught)} rounds\n")
            continue
        medians.append(median(caught))
        sys.stdout.write(f"  {promise:9}{name:40}{medians[-1]:7.0f}{max(caught):7}\n")
    killed = f"{len(found) - len(survivors)} of {len(found)} killed"
    middle = f"; the median of the medians is {median(medians):.0f}" if medians else ""
    sys.stdout.write(f"  {killed}{middle}\n")
    return len(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
