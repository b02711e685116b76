"""What a client called and what it was told: the input of the model."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from langswarm.core.session.actors.mailbox import Ticket

    from .program import Step


class Outcome(Enum):
    """What the caller knows."""

    OPEN = "no answer yet"
    OK = "ok"
    ERROR = "error"
    CANCELLED = "the caller was cancelled"
    DIED = "the process died"


@attrs.define
class Call:
    """A call that took a ticket or was refused one. The world lists them in ticket order."""

    step: Step
    session_id: str
    content: str
    """Of a message its text, of an update its key: unique, but for messages under one key."""
    begun_at: int
    """Commits of the session when the ticket was taken."""
    process: int
    ticket: Ticket[Any] | None = None
    """Only of messages: the others hide theirs."""
    withdrawn: bool = False
    """The caller was told that its message will never run."""
    outcome: Outcome = Outcome.OPEN
    value: Any = None
    error: Exception | None = None
    told_at: int = -1
    """Commits of the session when the caller was told."""
    header_revision: int = 0
    """What the handle showed then."""
    deadline: float = math.inf
    """On the clock of the loop; of a call with a timeout."""

    def succeed(self, value: object) -> None:
        """The caller got an answer, unless its process is dead."""
        if self.outcome is not Outcome.DIED:
            self.outcome, self.value = Outcome.OK, value

    def fail(self, error: Exception) -> None:
        """The caller got an error, unless its process is dead."""
        if self.outcome is not Outcome.DIED:
            self.outcome, self.error = Outcome.ERROR, error

    def __str__(self) -> str:
        told = f"{self.error!r}" if self.error is not None else self.outcome.value
        return f"{self.step} {self.content!r} -> {told}"


@attrs.define
class Halt:
    """A call of stop() that was told that it stopped this turn."""

    session_id: str
    turn_no: int
    """0: it was refused before it was stored."""
    told_at: int
    """Commits of the session then."""


@attrs.define
class Tidying:
    """A call of cleanup_inactive_sessions(), and between which commits it ran."""

    age: float
    """In seconds."""
    is_dry: bool
    begun_at: dict[str, int]
    """Commits of each session."""
    first_write: int
    """Commits of all sessions."""
    told_at: dict[str, int] | None = None
    """None: it did not end well, so what it began may end any time."""
    last_write: int = 0
    count: int = 0
    """What the caller was told."""
    latest_us: float = math.inf
    """What was used at this time by the runtime's clock or after it must stay."""

    def may_archive(self, session_id: str, place: int, updated_us: int) -> bool:
        """Whether the commit at this place may be its work."""
        ended = math.inf if self.told_at is None else self.told_at[session_id]
        in_time = self.begun_at[session_id] <= place < ended
        return in_time and not self.is_dry and updated_us < self.latest_us

    def __str__(self) -> str:
        return f"tidy{':dry' * self.is_dry}@{self.age:g} -> {self.count}"


@attrs.frozen
class Fork:
    """A copy of a session, and between which commits of the session it was made."""

    session_id: str
    name: str
    """Of the copy."""
    at: int | None
    begun_at: int
    ended_at: int


@attrs.define
class Read:
    """What a read of a session gave, and between which commits it ran."""

    session_id: str
    begun_at: int
    ended_at: int = -1
    lines: tuple[tuple[int, str, str, str | None], ...] = ()
    """(seq, role, content, finish_reason)."""
    context: tuple[int, tuple[str, ...]] = (0, ())
    total: int = 0
    """All messages ever, by the metrics."""
