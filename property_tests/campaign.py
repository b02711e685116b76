"""Runs new programs until the time is up: python -m property_tests.campaign MINUTES.

Every run begins at another place of the same endless row of programs, printed first: the option
`--first N` repeats it. What breaks a promise is made small and printed as a line that replays it;
the campaign goes on and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from .running import BACKENDS, BrokenPromiseError, run
from .shrinking import shrink
from .strategies import random_program
from .tally import Tally

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

_AT_ONCE = 2**32


def campaign(backend: Backend, first: int, seconds: float) -> tuple[Tally, list[str]]:
    """What was run on this backend, and what was found."""
    tally = Tally()
    found: list[str] = []
    until = time.monotonic() + seconds
    for number in count(first):
        if time.monotonic() >= until:
            break
        program, seed = random_program(random.Random(number))
        try:
            _, result = run(program, backend, seed)
        except BrokenPromiseError:
            found.append(_smallest(backend, number))
        else:
            tally.add(program, result)
    return tally, found


def _smallest(backend: Backend, number: int) -> str:
    """As small as it could be made; whatever goes wrong with that must not end the campaign."""
    program, seed = random_program(random.Random(number))
    try:
        run(shrink(program, backend, seed), backend, seed)
    except BrokenPromiseError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - reported beside what was found
        why = f"making it smaller failed: {error!r}"
    else:
        why = "made smaller it does not"
    return f"program {number} breaks a promise, {why}; {program} on {backend}, seed {seed}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Look for broken promises, for long.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    parser.add_argument("--first", type=int, default=random.SystemRandom().randrange(_AT_ONCE))
    options = parser.parse_args(arguments)
    backends: list[Backend] = options.backend or list(BACKENDS)
    sys.stdout.write(f"from program {options.first} on, {options.minutes:g} minutes\n")
    sys.stdout.flush()
    bad = 0
    with ProcessPoolExecutor(len(backends)) as pool:
        work = partial(campaign, first=options.first, seconds=options.minutes * 60)
        for backend, (tally, found) in zip(backends, pool.map(work, backends), strict=True):
            bad += len(found)
            sys.stdout.write(f"{backend}: {tally}; {len(found)} broken promises\n")
            sys.stdout.writelines(f"{text}\n" for text in found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
