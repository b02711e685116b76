"""How many turns may be with their providers at once; the others wait in the order they came.

A session whose turn waits holds its live place and nothing else. The line is first come, first
served over all sessions, so nobody waits for more than one turn of each that came before (G12).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .turn import Turn
    from .wait import Backend


class TurnGate:
    """Times are those of the event loop."""

    def __init__(
        self,
        backend: Backend,
        most: int,
        wait_seconds: float,
        wake_at: Callable[[float], None],
    ) -> None:
        self._backend = backend
        self._most = most
        self._wait_seconds = wait_seconds
        self._wake_at = wake_at
        # Invariant: the turns that were let in and have not ended; never more than `most`.
        self._inside: set[Turn] = set()
        # Invariant: who waits, oldest first, and until when; empty while there is room.
        self._line: OrderedDict[Turn, float] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Turns in the line."""
        return len(self._line)

    @property
    def due(self) -> float | None:
        """When the first in the line will have waited too long."""
        return next(iter(self._line.values()), None)

    def enter(self, turn: Turn) -> bool:
        """Whether the turn may begin now; else it is told by `admitted` or `turned_away`."""
        if len(self._inside) < self._most:
            self._inside.add(turn)
            return True
        until = self._backend.now() + self._wait_seconds
        self._line[turn] = until
        if len(self._line) == 1:
            self._wake_at(until)
        return False

    def leave(self, turn: Turn) -> None:
        """The turn has ended, wherever it was: the next one may begin."""
        self._line.pop(turn, None)
        self._inside.discard(turn)
        while self._line and len(self._inside) < self._most:
            following, _ = self._line.popitem(last=False)
            self._inside.add(following)
            following.admitted()

    def check(self, now: float) -> None:
        """Send away whoever has waited too long."""
        while self._line:
            turn, until = next(iter(self._line.items()))
            if until > now:
                return
            del self._line[turn]
            turn.turned_away("max_inflight_turns", self._most, self._wait_seconds)
