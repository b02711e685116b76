"""Clients that follow turns: they leave, come back with a cursor, and put the pieces together.

What they saw is compared with what the provider said and with what is stored: nothing is missing,
nothing comes twice, and nothing is told before it is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session.actors.errors import (
    MiddlewareError,
    ProviderError,
    SessionError,
    TurnNotFoundError,
)
from langswarm.core.session.runtime.turn_stream import (
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
    TurnText,
)

if TYPE_CHECKING:
    from langswarm.core.session.runtime.session import Session
    from langswarm.core.session.runtime.turn_stream import TurnEvent

    from .disk import Disk
    from .history import Log, LoggedTurn
    from .world import World

STARTED, TEXT, COMPLETED, INTERRUPTED, FAILED, MISSING = (
    "started",
    "text_delta",
    "completed",
    "interrupted",
    "failed",
    "missing",
)


@attrs.frozen(kw_only=True)
class Place:
    """Where a follower is, with all the text that it has until there."""

    cursor: str
    text: str


@attrs.frozen(kw_only=True)
class View:
    """What a follower saw at one moment."""

    session_id: str
    turn_no: int
    """0: none, or one that was refused before it was stored."""
    kind: str
    text: str
    """The answer as put together until then."""
    told: str | None
    """completed, interrupted: the answer as it is told in whole."""
    written: int
    """Commits of the session then."""
    begun_at: int
    """Commits when the follower came."""
    error: Exception | None = None


class Follower:
    """One client's eyes on one session; it outlives processes."""

    def __init__(self, session_id: str, disk: Disk) -> None:
        self._session_id = session_id
        self._disk = disk
        self._places: list[Place] = []
        self.views: list[View] = []

    async def follow(self, session: Session, how: str) -> None:
        """Until the end of the turn, or until cancelled."""
        place = self._place(how)
        begun_at = self._disk.written(self._session_id)
        stream = session.follow(after=None if place is None else place.cursor)
        text = "" if place is None else place.text
        try:
            async for event in stream:
                text = self._see(event, text, begun_at)
        except TurnNotFoundError as error:
            number = 0 if place is None else int(place.cursor.partition(".")[0])
            self._view(number, MISSING, text, begun_at, error=error)
        except SessionError:
            pass  # not an error, because a disk may fail and a process may die under a follower

    def _place(self, how: str) -> Place | None:
        """Where to go on; None: at the beginning of whatever turn there is."""
        if how == "back":
            del self._places[len(self._places) // 2 + 1 :]
        if how and self._places:
            return self._places[-1]
        self._places = []
        return None

    def _see(self, event: TurnEvent, text: str, begun_at: int) -> str:
        number = int((event.turn_id or "0").rpartition("/")[2])
        told: str | None = None
        error: Exception | None = None
        match event:
            case TurnText():
                text += event.text
            case TurnCompleted():
                told = event.message.content
            case TurnInterrupted():
                told = None if event.message is None else event.message.content
                error = event.error
            case TurnFailed():
                error = event.error
            case _:
                pass
        self._places.append(Place(cursor=event.cursor, text=text))
        if isinstance(event, TurnStarted) and text:
            text = f"{text} and it started anew"
        self._view(number, event.type, text, begun_at, told=told, error=error)
        return text

    def _view(
        self,
        turn_no: int,
        kind: str,
        text: str,
        begun_at: int,
        *,
        told: str | None = None,
        error: Exception | None = None,
    ) -> None:
        self.views.append(
            View(
                session_id=self._session_id,
                turn_no=turn_no,
                kind=kind,
                text=text,
                told=told,
                written=self._disk.written(self._session_id),
                begun_at=begun_at,
                error=error,
            )
        )


async def follow_for(follower: Follower, session: Session, how: str, seconds: float | None) -> None:
    """As `follow`; the client leaves after so many seconds."""
    with anyio.move_on_after(seconds if seconds is not None else 1e6):
        await follower.follow(session, how)


# ---------------------------------------------------------------- what they must have seen


def check_views(world: World, log: Log) -> list[str]:
    """Everything in which a follower was told something else than what was said and stored."""
    found: list[str] = []
    for view in world.views():
        if view.session_id == log.session_id:
            text = _misfit(view, world, log)
            if text is not None:
                found.append(f"{text}; {view} of {log}")
    return found


def _misfit(view: View, world: World, log: Log) -> str | None:
    if view.kind == MISSING:
        return _missing(view, log)
    if not view.turn_no:
        refused = view.kind == FAILED and not view.text
        return None if refused else "G9: a follower was told of no turn"
    turn = log.turns.get(view.turn_no)
    if turn is None or turn.opened >= view.written:
        return "G3: a follower was told of a turn before it was stored"
    asked = world.evidence.asked.get(f"{view.session_id}/{view.turn_no}")
    if not (asked.text() if asked is not None else "").startswith(view.text):
        return f"G9: a follower has another text than was said, {asked}"
    return _misfit_of_end(view, turn)


def _missing(view: View, log: Log) -> str | None:
    moments = log.states[view.begun_at : view.written + 1]
    for state in moments:
        number = view.turn_no or state.last_turn_no
        if number == 0 or log.turns[number].seq <= state.cleared_through:
            return None
    return "G9: a follower was told that there is no turn"


def _misfit_of_end(view: View, turn: LoggedTurn) -> str | None:
    stored = turn.answer or ""
    if view.kind in {COMPLETED, INTERRUPTED}:
        if turn.closed is None or turn.closed >= view.written or turn.state != view.kind:
            return f"G3: a follower was told of another end than {turn}"
        if (view.told or "") != stored:
            return f"G9: a follower was told of the answer {view.told!r}, stored is {stored!r}"
        if view.text != stored and not turn.is_lost:
            return f"G9: a follower put {view.text!r} together, stored is {stored!r}"
    is_of_guests = isinstance(view.error, ProviderError | MiddlewareError)
    if view.kind == FAILED and is_of_guests and turn.state != FAILED:
        return f"G3: a follower was told of a failure, stored is {turn}"
    kept = turn.state == INTERRUPTED and not turn.is_lost
    if view.kind == TEXT and kept and not stored.startswith(view.text):
        return f"G9: a follower had seen {view.text!r}, stored is {stored!r}"
    return None
