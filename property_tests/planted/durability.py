"""Wrong variants of what is stored, and when callers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from langswarm.core.session.actors import turn, turn_writes
from langswarm.core.session.actors.decisions import UpdateContext
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed, Counters, Role, TurnState, changed
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.storage_actor import StorageActor
from langswarm.core.session.actors.supervisor import Supervisor

from .catalogue import planted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.errors import SessionError
    from langswarm.core.session.actors.mailbox import Ticket
    from langswarm.core.session.actors.model import SessionWrite, StoredSession, TurnRecord
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.actors.preparation import Prepared
    from langswarm.core.session.actors.turn_writes import TurnResult


@planted("G3")
def update_acknowledged_before_commit() -> AbstractContextManager[object]:
    """update_context() returns when the write was handed over."""
    begin = SessionActor._begin_command

    def begin_and_tell(self: SessionActor, ticket: Ticket[Any], found: Prepared) -> None:
        begin(self, ticket, found)
        if isinstance(ticket.command, UpdateContext):
            ticket.succeed(self.state)

    return patch.object(SessionActor, "_begin_command", begin_and_tell)


@planted("G3")
def answer_acknowledged_before_commit() -> AbstractContextManager[object]:
    """send_message() returns when the answer is there, before it is stored."""
    submit = SessionActor.submit_write

    def tell_and_submit(
        self: SessionActor,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
    ) -> None:
        if write.messages and write.messages[0].role is Role.ASSISTANT and self.turn is not None:
            self.turn._ticket.succeed(write.messages[0])
        submit(self, write, done)

    return patch.object(SessionActor, "submit_write", tell_and_submit)


@planted("G3")
def apply_before_commit() -> AbstractContextManager[object]:
    """The actor takes the new state when it hands the write over."""
    submit = SessionActor.submit_write

    def apply_and_submit(
        self: SessionActor,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
    ) -> None:
        if write.expected_revision:
            self.state = write.after
        submit(self, write, done)

    return patch.object(SessionActor, "submit_write", apply_and_submit)


@planted("G3")
def unknown_is_success() -> AbstractContextManager[object]:
    """A commit whose outcome is not known is taken for done."""

    async def believe(
        self: StorageActor, writes: list[SessionWrite], cause: object
    ) -> list[WriteOutcome]:
        del self, cause
        return [Committed(write.after.record.key) for write in writes]

    return patch.object(StorageActor, "_read_back", believe)


@planted("G3")
def unknown_is_failure() -> AbstractContextManager[object]:
    """A commit whose outcome is not known is reported as not done."""

    async def doubt(
        self: StorageActor, writes: list[SessionWrite], cause: object
    ) -> list[WriteOutcome]:
        del self, cause
        return [StorageError("not stored", code="io") for _ in writes]

    return patch.object(StorageActor, "_read_back", doubt)


@planted("G4")
def stale_conversation_is_resumed() -> AbstractContextManager[object]:
    """The provider's own conversation is gone on with after a turn that failed."""
    close = turn_writes.close_turn

    def forgive(state: StoredSession, result: TurnResult, now_us: int) -> SessionWrite:
        write = close(state, result, now_us)
        record = changed(write.after.record, dirty=False)
        return changed(write, after=changed(write.after, record=record))

    return patch.object(turn, "close_turn", forgive)


@planted("G4")
def full_conversation_is_resumed() -> AbstractContextManager[object]:
    """The provider's own conversation grows beyond `max_messages`."""

    def never(messages: int, max_messages: int) -> bool:
        del messages, max_messages
        return False

    return patch.object(turn, "is_full", never)


@planted("G5")
def counter_outside_the_commit() -> AbstractContextManager[object]:
    """A failed turn is not counted in the write that closes it."""
    counted = turn_writes._counted

    def forget(
        counters: Counters, turn: TurnRecord, result: TurnResult, now_us: int, *, kept: bool
    ) -> Counters:
        if result.state is TurnState.FAILED:
            return counters
        return counted(counters, turn, result, now_us, kept=kept)

    return patch.object(turn_writes, "_counted", forget)


@planted("G5")
def killed_turns_stay_open() -> AbstractContextManager[object]:
    """Nobody closes the turns of a process that was killed when the storage opens."""

    async def nothing(self: StorageActor) -> None:
        del self

    return patch.object(StorageActor, "_recover", nothing)


@planted("G3")
def stale_header() -> AbstractContextManager[object]:
    """A handle does not hear of commits."""

    def deaf(self: Supervisor, record: object) -> None:
        del self, record

    return patch.object(Supervisor, "header_changed", deaf)
