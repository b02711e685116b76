"""How many turns of one user may be with their providers at once, in front of the gate of all.

So one user with many sessions leaves room for the others. Who waits here waits behind turns of its
own user alone, in the order they came, and then for its place among all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import attrs

from .turn_gate import TurnGate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Limits
    from .turn import Turn
    from .wait import Backend


@attrs.define(eq=False)
class _User:
    """A user who has turns here."""

    # Invariant: the turns that went on to the gate of all and have not ended.
    count: int = 0
    # Invariant: those that wait for one of them to end, oldest first.
    line: OrderedDict[Turn, None] = attrs.field(factory=OrderedDict["Turn", None])


class UserGate(TurnGate):
    """Times are those of the event loop."""

    def __init__(self, backend: Backend, limits: Limits, wake_at: Callable[[float], None]) -> None:
        super().__init__(backend, limits.max_inflight_turns, limits.queue_timeout_seconds, wake_at)
        self._most_of_user = limits.max_inflight_turns_per_user
        # Invariant: exactly the users that have turns here; each turn that is here, with its user.
        self._users: dict[str, _User] = {}
        self._user_of: dict[Turn, str] = {}
        # Invariant: exactly those in the lines of users, oldest first, and until when.
        self._held: OrderedDict[Turn, float] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Turns in all lines."""
        return super().waiting + len(self._held)

    @property
    def due(self) -> float | None:
        """When the first in a line will have waited too long."""
        dates = (super().due, next(iter(self._held.values()), None))
        return min((date for date in dates if date is not None), default=None)

    def enter(self, turn: Turn) -> bool:
        """Whether the turn may begin now; else it is told by `admitted` or `turned_away`."""
        name = self._user_of[turn] = turn.user_id
        user = self._users.setdefault(name, _User())
        if user.count < self._most_of_user:
            user.count += 1
            return super().enter(turn)
        user.line[turn] = None
        self._held[turn] = until = self._backend.now() + self._wait_seconds
        if len(self._held) == 1:
            self._wake_at(until)
        return False

    def leave(self, turn: Turn) -> None:
        """The turn has ended, wherever it was: the next one may begin."""
        self._forget(turn)
        super().leave(turn)

    def check(self, now: float) -> None:
        """Send away whoever has waited too long."""
        super().check(now)
        while self._held:
            turn, until = next(iter(self._held.items()))
            if until > now:
                return
            self._forget(turn)
            turn.turned_away("max_inflight_turns_per_user", self._most_of_user, self._wait_seconds)

    def _forget(self, turn: Turn) -> None:
        """It is here no more; one that went on makes room for the next of its user."""
        name = self._user_of.pop(turn, None)
        if name is None:
            return
        user = self._users[name]
        if self._held.pop(turn, None) is not None:
            del user.line[turn]
            return
        user.count -= 1
        if user.line:
            self._pass_on(user)
        elif not user.count:
            del self._users[name]

    def _pass_on(self, user: _User) -> None:
        following, _ = user.line.popitem(last=False)
        del self._held[following]
        user.count += 1
        if super().enter(following):
            following.admitted()
