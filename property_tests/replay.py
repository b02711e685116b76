"""Runs a program under a schedule again: python -m property_tests.replay BACKEND SEED PROGRAM."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from .program import Program
from .running import run

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend


def main(backend: str, seed: str, program: str) -> None:
    """Print what was called, what was committed and how it ended."""
    number = None if seed == "None" else int(seed)
    world, result = run(Program.parse(program), cast("Backend", backend), number)
    for call in world.calls:
        sys.stdout.write(f"{call}\n")
    sys.stdout.write(f"kept all promises in {result.steps} steps, trace {result.trace.digest}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
