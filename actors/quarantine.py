"""Crashes counted per session, and the rest that a session gets when there were too many (G14).

Only sessions that crashed have a record here, and only while it matters.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .limits import Limits


class _Record:
    __slots__ = ("crashes", "rests_until")

    def __init__(self) -> None:
        self.crashes: deque[float] = deque()
        self.rests_until = 0.0


class Quarantine:
    """Which sessions may be restarted, and which rest. Times are those of the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: dict[str, _Record] = {}

    def __bool__(self) -> bool:
        """Whether any session has crashed lately: most of the time there is nothing to look up."""
        return bool(self._records)

    def rest_of(self, session_id: str, now: float) -> float:
        """How many seconds the session has yet to rest; 0.0: it need not."""
        record = self._records.get(session_id)
        return 0.0 if record is None else max(0.0, record.rests_until - now)

    def count_resting(self, now: float) -> int:
        """Sessions in quarantine."""
        return sum(record.rests_until > now for record in self._records.values())

    def crashed(self, session_id: str, now: float) -> bool:
        """Count a crash. True: it may be restarted; False: too many in the window."""
        record = self._records.setdefault(session_id, _Record())
        record.crashes.append(now)
        while record.crashes[0] < now - self._limits.restart_window_seconds:
            record.crashes.popleft()
        return len(record.crashes) <= self._limits.max_restarts

    def impose(self, session_id: str, now: float) -> None:
        """Let it rest from now on."""
        record = self._records.setdefault(session_id, _Record())
        record.crashes.clear()
        record.rests_until = now + self._limits.quarantine_seconds

    def forget(self, now: float) -> None:
        """Drop the records that no longer matter."""
        since = now - self._limits.restart_window_seconds
        over = [
            session_id
            for session_id, record in self._records.items()
            if record.rests_until <= now and (not record.crashes or record.crashes[-1] < since)
        ]
        for session_id in over:
            del self._records[session_id]
