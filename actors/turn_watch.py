"""The turns that are running, and one watch over the time of all their guests.

All turns have equally long, so there is no timer per turn: the supervisor asks at the first date.
A guest whose time is over is cancelled; one that has not ended a grace later is to be abandoned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .errors import SessionError
    from .turn import Turn
    from .wait import Backend


class TurnWatch:
    """Times are those of the event loop."""

    def __init__(
        self, backend: Backend, grace_seconds: float, wake_at: Callable[[float], None]
    ) -> None:
        self._backend = backend
        self._grace_seconds = grace_seconds
        self._wake_at = wake_at
        self._turns: dict[Turn, None] = {}
        # Invariant: at or before the first date of any turn; None: there was none to watch.
        self.due: float | None = None

    def __len__(self) -> int:
        return len(self._turns)

    def began(self, turn: Turn) -> None:
        """A turn is running."""
        self._turns[turn] = None
        if turn.deadline < math.inf:
            self.look_at(turn.deadline)

    def ended(self, turn: Turn) -> None:
        """It no longer is."""
        self._turns.pop(turn, None)

    def look_at(self, moment: float) -> None:
        """A guest has to end by then."""
        if self.due is None or moment < self.due:
            self.due = moment
            self._wake_at(moment)

    def hurried(self) -> None:
        """A guest was cancelled before its time: see whether it obeys."""
        self.look_at(self._backend.now() + self._grace_seconds)

    def in_guest(self) -> list[Turn]:
        """Turns whose guest has not ended."""
        return [turn for turn in self._turns if turn.in_guest]

    def interrupt_all(self, reason: SessionError) -> None:
        """End every guest."""
        for turn in list(self._turns):
            turn.interrupt(reason)

    def check(self, now: float) -> list[Turn]:
        """Cancel the guests whose time is over; returns the turns of those that ignored that."""
        if self.due is None or self.due > now:
            return []
        for turn in [turn for turn in self._turns if turn.checkpoints.due <= now]:
            turn.checkpoint()
        late = [turn for turn in self._turns if turn.deadline <= now]
        lost = [
            turn
            for turn in late
            if turn.is_cancelled and turn.in_guest and turn.deadline + self._grace_seconds <= now
        ]
        for turn in late:
            turn.expire()
        dates = [
            # A turn that waits for its storage is never abandoned: look again, but not at once.
            min(
                max(turn.deadline, now) + self._grace_seconds
                if turn.is_cancelled
                else turn.deadline,
                turn.checkpoints.due,
            )
            for turn in self._turns
        ]
        first = min(dates, default=math.inf)
        self.due = None if first == math.inf else first
        return lost
