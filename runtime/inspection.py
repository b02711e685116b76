"""What a session is doing right now, for operators: plain, cheap, a moment old when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ..actors.session_actor import SessionActor
    from ..actors.supervisor import Supervisor
    from ..actors.turn import Turn


@attrs.frozen(kw_only=True)
class RunningTurn:
    """The turn of a session that has not ended."""

    turn_id: str | None
    """None: it is not stored yet; the middleware looks at the message, or a place is waited for."""
    stage: str
    """`waiting` for `max_inflight_turns`; `admitted`, `open`, `running`, `closing`."""
    age_seconds: float
    characters: int
    """Of the answer, so far."""


@attrs.frozen(kw_only=True)
class SessionInspection:
    """One session, as this process sees it."""

    session_id: str
    is_live: bool
    """Whether it is in memory; the rest is empty if not."""
    phase: str = "not in memory"
    queued: int = 0
    """Messages that wait."""
    turn: RunningTurn | None = None
    last_error: str | None = None
    """The last one of a turn since the session came into memory."""


def turn_of(turn: Turn, now: float) -> RunningTurn:
    """The turn as it is now."""
    return RunningTurn(
        turn_id=f"{turn.session_id}/{turn.turn_no}" if turn.turn_no else None,
        stage="waiting" if turn.is_waiting else turn.stage.value,
        age_seconds=now - turn.began_at,
        characters=len(turn.transcript.text),
    )


def session_of(supervisor: Supervisor, session_id: str) -> SessionInspection:
    """The session as it is now."""
    actor = supervisor.actor_of(session_id)
    if actor is None:
        return SessionInspection(session_id=session_id, is_live=False)
    return _of(actor, supervisor.backend.now())


def busy_sessions(supervisor: Supervisor, limit: int) -> list[SessionInspection]:
    """Those that have something to do, the oldest turn first, then the longest queue."""
    now = supervisor.backend.now()
    busy = [actor for actor in supervisor.actors() if actor.is_busy]
    busy.sort(key=_urgency)
    return [_of(actor, now) for actor in busy[:limit]]


def _urgency(actor: SessionActor) -> tuple[bool, float, int]:
    turn = actor.turn
    return turn is None, 0.0 if turn is None else turn.began_at, -actor.queued


def _of(actor: SessionActor, now: float) -> SessionInspection:
    return SessionInspection(
        session_id=actor.session_id,
        is_live=True,
        phase=actor.phase.value,
        queued=actor.queued,
        turn=None if actor.turn is None else turn_of(actor.turn, now),
        last_error=actor.last_error,
    )
