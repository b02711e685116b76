"""Wrong variants of turns that outlive their caller: stopped, followed, timed out, kept."""

from __future__ import annotations

import math
from contextvars import Context
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio.lowlevel
import attrs
from langswarm.core.session.actors import turn
from langswarm.core.session.actors.errors import TurnInterruptedError
from langswarm.core.session.actors.mailbox import Mailbox
from langswarm.core.session.actors.model import TurnState
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.supervisor import Supervisor
from langswarm.core.session.actors.transcript import Transcript
from langswarm.core.session.actors.turn import Turn
from langswarm.core.session.actors.turn_writes import close_turn
from langswarm.core.session.runtime.session import Session
from langswarm.core.session.runtime.turn_stream import Cursor, TurnStream, TurnText

from .catalogue import planted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.errors import SessionError
    from langswarm.core.session.actors.mailbox import Ticket
    from langswarm.core.session.actors.model import SessionWrite, StoredSession
    from langswarm.core.session.actors.turn_writes import TurnResult


@planted("G9")
def interrupted_text_is_dropped() -> AbstractContextManager[object]:
    """What had arrived when a turn was interrupted is not stored."""

    def close(state: StoredSession, result: TurnResult, now_us: int) -> SessionWrite:
        if result.state is TurnState.INTERRUPTED:
            result = attrs.evolve(result, text="")
        return close_turn(state, result, now_us)

    return patch.object(turn, "close_turn", close)


@planted("G9")
def stop_hits_the_next_turn_too() -> AbstractContextManager[object]:
    """stop() interrupts whatever runs a moment later as well."""
    stop = Supervisor.stop

    def stop_twice(self: Supervisor, session_id: str, turn_no: int | None) -> Turn | None:
        stopped = stop(self, session_id, turn_no)

        async def later() -> None:
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            running = self.turn_of(session_id)
            if running is not None and running is not stopped:
                why = "stop() was called"
                running.interrupt(TurnInterruptedError(why, code="interrupted"))

        self.executor.start(Context(), later)
        return stopped

    return patch.object(Supervisor, "stop", stop_twice)


@planted("G9")
def stop_does_not_wait() -> AbstractContextManager[object]:
    """stop() returns when the provider was told to end, not when the turn has ended."""

    async def stop(self: Session, turn_id: str | None = None) -> bool:
        del turn_id
        supervisor = self._anchor.host.runtime().supervisor
        stopped = supervisor.stop(self.session_id, None)
        await anyio.lowlevel.checkpoint()
        return stopped is not None

    return patch.object(Session, "stop", stop)


@planted("G5")
def checkpoints_are_not_written() -> AbstractContextManager[object]:
    """What has arrived is stored at the end only, so a kill takes it away."""

    def forget(self: Turn) -> None:
        self.checkpoints.due = math.inf

    return patch.object(Turn, "checkpoint", forget)


@planted("G3")
def checkpoint_applied_before_its_commit() -> AbstractContextManager[object]:
    """The actor builds on a checkpoint that may not be stored."""
    submit = SessionActor.submit_write

    def apply_and_submit(
        self: SessionActor,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
    ) -> None:
        if write.turn is not None and write.turn.state is TurnState.OPEN and not write.opens_turn:
            self.state = write.after
        submit(self, write, done)

    return patch.object(SessionActor, "submit_write", apply_and_submit)


@planted("G2")
def close_does_not_wait_for_the_checkpoint() -> AbstractContextManager[object]:
    """The end of a turn is handed over while a checkpoint is being written."""

    close = Turn._close

    def close_at_once(self: Turn, result: TurnResult) -> None:
        in_flight, self._actor._in_flight = self._actor._in_flight, False
        try:
            close(self, result)
        finally:
            self._actor._in_flight |= in_flight

    return patch.object(Turn, "_close", close_at_once)


@planted("G11")
def expired_messages_run() -> AbstractContextManager[object]:
    """The mailbox does not look whether the time of a message is over."""

    take = Mailbox.take

    def take_any(self: Mailbox, now: Callable[[], float]) -> Ticket[Any] | None:
        return take(self, lambda: min(-math.inf, now()))

    return patch.object(Mailbox, "take", take_any)


@planted("G11")
def running_turns_have_no_timeout() -> AbstractContextManager[object]:
    """A call's timeout counts in the queue only."""
    admitted = Turn.admitted

    def forget_and_go(self: Turn) -> None:
        self._ticket.deadline = math.inf
        admitted(self)

    return patch.object(Turn, "admitted", forget_and_go)


@planted("G9")
def cursors_are_off_by_one() -> AbstractContextManager[object]:
    """A cursor stands one character too far."""

    def tell(self: TurnStream, text: str) -> None:
        if text:
            place = Cursor(self._turn_no, self._characters + len(text) + 1)
            self._events.append(TurnText(turn_id=self.turn_id, cursor=str(place), text=text))

    return patch.object(TurnStream, "_tell_text", tell)


@planted("G9")
def followers_start_anew() -> AbstractContextManager[object]:
    """Whoever comes back to a running turn gets its text from the beginning."""

    def beginning(self: Transcript, characters: int) -> tuple[int, str]:
        del self, characters
        return 0, ""

    return patch.object(Transcript, "place_of", beginning)


@planted("G9")
def followers_lose_what_came_before() -> AbstractContextManager[object]:
    """Who comes late to a running turn gets what is said from then on."""

    def end(self: Transcript, characters: int) -> tuple[int, str]:
        del characters
        return len(self._parts), ""

    return patch.object(Transcript, "place_of", end)


@planted("G3")
def followers_are_told_before_the_commit() -> AbstractContextManager[object]:
    """The question is shown to followers when its commit is handed over."""
    submit = SessionActor.submit_write

    def show_and_submit(
        self: SessionActor,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
    ) -> None:
        if write.opens_turn and self.turn is not None:
            self.turn.transcript.opened(write.messages[0])
        submit(self, write, done)

    return patch.object(SessionActor, "submit_write", show_and_submit)
