"""Bookkeeping that both schedulers share: count steps, and bring a stuck run to an end.

A run that is stuck must still be unwound: its tasks have ``finally`` blocks, and a coroutine that
is simply dropped prints warnings into somebody else's test. So the schedulers *escalate*. Round 1
cancels politely, later rounds cancel whatever is left and look through shields; when the rounds are
used up, the run is given up by force. The first failure is the one that is reported.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from langswarm.core.session.testing.failures import (
    DeadlockError,
    SimulationError,
    StepLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from langswarm.core.session.testing.trace import Trace

# A clean-up that waits behind shields needs a round for each wait; more than these is a loop.
_ROUNDS = 20
_STEPS_PER_ROUND = 2_000
_SHOWN_TASKS = 10
_LIBRARIES = frozenset({"asyncio", "anyio", "trio", "outcome"})


class Monitor:
    """The state of one run, apart from its queue.

    Attributes:
        failure: what the simulator found wrong, if anything.
        steps: callbacks and task steps so far.
    """

    def __init__(self, trace: Trace, max_steps: int) -> None:
        """Allow ``max_steps`` steps before the run counts as stuck."""
        self.trace = trace
        self.steps = 0
        self.failure: SimulationError | None = None
        self._max_steps = max_steps
        self._limit = max_steps
        self._rounds = 0

    def count_step(self) -> bool:
        """Count a step; false when the budget does not cover it."""
        self.steps += 1
        return self.steps <= self._limit

    @property
    def hopeless(self) -> bool:
        """Whether every round of cancelling is used up."""
        return self._rounds > _ROUNDS

    def escalate(self, failure: SimulationError) -> int:
        """Begin the next round of ending the run; returns its number, 1 for the first."""
        if self.failure is None:
            self.failure = failure
        self._rounds += 1
        self._limit = self.steps + _STEPS_PER_ROUND
        return self._rounds

    def deadlock(self, now: float, parked: Iterable[tuple[str, object]]) -> DeadlockError:
        """Describe a standstill; ``parked`` are (name, coroutine) of the waiting tasks."""
        lines = [f"  {name} waits {where(coroutine)}" for name, coroutine in parked]
        hidden = len(lines) - _SHOWN_TASKS
        more = [f"  and {hidden} more"] if hidden > 0 else []
        head = f"no task can run and no timer is set (virtual time {now:g} s, step {self.steps})"
        return DeadlockError("\n".join([head, *lines[:_SHOWN_TASKS], *more]))

    def out_of_steps(self, now: float) -> StepLimitError:
        """Describe a run without end."""
        return StepLimitError(
            f"more than max_steps={self._max_steps} steps (virtual time {now:g} s); "
            f"most of the last ones: {self.trace.busiest()}"
        )


def where(coroutine: object) -> str:
    """Say where a suspended coroutine stands: its innermost line outside the async libraries."""
    frames = list(_frames(coroutine))
    own = [frame for frame in frames if not _LIBRARIES.intersection(_folders(frame))]
    for frame in reversed(own or frames):
        code = frame.f_code
        return f"in {code.co_qualname} ({PurePath(code.co_filename).name}:{frame.f_lineno})"
    return "before its first step"


def _folders(frame: FrameType) -> tuple[str, ...]:
    return PurePath(frame.f_code.co_filename).parts[:-1]


def _frames(awaitable: object) -> Iterator[FrameType]:
    # Coroutines, generators and async generators spell "my frame" and "what I wait for" each in
    # their own way; anything else (a Future, a trio trap) is the end of the chain.
    while awaitable is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                awaitable = getattr(awaitable, inner, None)
                break
        else:
            return
