"""What was run, counted: the figures behind a statement that nothing was found."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from langswarm.core.session.testing import SimulationResult

    from .program import Program

_CRASHES = {"kill", "stop", "crash", "evict"}


def bound_95(runs: int) -> float:
    """A frequency that is not exceeded, with 95 % confidence, when none of `runs` has failed.

    The "rule of three": (1 - p) ** runs = 0.05 has the solution p = 3 / runs, near enough.
    """
    return min(1.0, 3 / runs) if runs else 1.0


@attrs.define
class Tally:
    """Of many runs on one backend."""

    runs: int = 0
    steps: int = 0
    virtual_seconds: float = 0.0
    planned: Counter[str] = attrs.field(factory=Counter[str])
    """Faults of the disk, and steps of the programs that strike the runtime."""
    digests: set[int] = attrs.field(factory=set[int])
    """Of the distinct traces: the first 64 bits."""

    def add(self, program: Program, result: SimulationResult[None]) -> None:
        """One more run that ended."""
        self.runs += 1
        self.steps += result.steps
        self.virtual_seconds += result.virtual_seconds * program.settings.sessions
        self.planned["fault"] += len(program.settings.faults)
        self.planned.update(
            step.verb for steps in program.clients for step in steps if step.verb in _CRASHES
        )
        self.digests.add(int(result.trace.digest[:16], 16))

    def __str__(self) -> str:
        planned = ", ".join(f"{count:,} x {what}" for what, count in sorted(self.planned.items()))
        return (
            f"{self.runs:,} programs, {len(self.digests):,} distinct traces, {self.steps:,} steps, "
            f"{self.virtual_seconds / 3600:,.1f} simulated session-hours; planned: {planned}; "
            f"95 % bound behind a zero: {bound_95(len(self.digests)):.2g} per trace"
        )
