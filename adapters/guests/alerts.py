"""Which errors become alerts: one per kind within a time, not too many in all."""

from __future__ import annotations

import attrs

from .rate_limit import Buckets, Rate
from .tallies import Latest

_ALL = ""


@attrs.frozen(kw_only=True)
class Alert:
    """Something that somebody should look at."""

    kind: str
    """The class and the code of the error: "StorageError:full"."""
    session_id: str
    """Where it happened this time."""
    error: Exception
    repeated: int
    """How often it happened since the alert of this kind before, without one."""


@attrs.define
class _Kind:
    quiet_until: float
    repeated: int = 0


class AlertFilter:
    """Decides, plainly: an alert, or count it for the next one of its kind."""

    def __init__(self, *, window_seconds: float, rate: Rate, max_kinds: int) -> None:
        self._window_seconds = window_seconds
        self._budget = Buckets(rate, 1)
        self._kinds: Latest[_Kind] = Latest(max_kinds)
        self.suppressed = 0
        """How many became none."""

    def alert(self, kind: str, session_id: str, error: Exception, now: float) -> Alert | None:
        """The alert to send, or None."""
        state = self._kinds.get(kind)
        if state is None:
            state = _Kind(now)
            self._kinds.set(kind, state)
        if now < state.quiet_until or self._budget.delay(_ALL, now):
            state.repeated += 1
            self.suppressed += 1
            return None
        self._budget.take(_ALL, now)
        alert = Alert(kind=kind, session_id=session_id, error=error, repeated=state.repeated)
        self._kinds.set(kind, _Kind(now + self._window_seconds))
        return alert
