"""Short ways to write sessions, messages and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.model import (
    Committed,
    MessageQuery,
    MessageRecord,
    Role,
    SessionDocuments,
    SessionRecord,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.ports import ISessionStorage

START_US = 1_700_000_000_000_000
ALL = MessageQuery(include_hidden=True)


def new(session_id: str, *, user_id: str = "ann", **changes: Any) -> SessionWrite:
    """The write that creates a session."""
    record = SessionRecord(
        session_id=session_id,
        user_id=user_id,
        provider="mock",
        model="mock-model",
        created_us=START_US,
        updated_us=START_US,
        revision=1,
    )
    after = StoredSession(
        record=attrs.evolve(record, **changes), documents=SessionDocuments(config='{"a": 1}')
    )
    return SessionWrite(expected_revision=0, after=after, documents_changed=True)


def message(seq: int, content: str = "", **changes: Any) -> MessageRecord:
    """Message `seq`, from the user, created at second `seq`."""
    content = content or f"text {seq}"
    created_us = START_US + seq * 1_000_000
    return attrs.evolve(
        MessageRecord(seq=seq, role=Role.USER, content=content, created_us=created_us), **changes
    )


def change(stored: StoredSession, *messages: MessageRecord, **changes: Any) -> SessionWrite:
    """The next write to a session: these messages, and other fields of SessionWrite."""
    record = attrs.evolve(
        stored.record,
        revision=stored.record.revision + 1,
        last_seq=max([stored.record.last_seq, *(message.seq for message in messages)]),
        **changes.pop("record", {}),
    )
    after = attrs.evolve(
        stored,
        record=record,
        documents=changes.pop("documents", stored.documents),
        open_turn=changes.pop("open_turn", None),
    )
    return SessionWrite(
        expected_revision=stored.record.revision, after=after, messages=messages, **changes
    )


def open_turn(stored: StoredSession, turn_no: int = 1, **changes: Any) -> SessionWrite:
    """The write that opens a turn with its user message."""
    seq = stored.record.last_seq + 1
    turn = TurnRecord(turn_no=turn_no, state=TurnState.OPEN, user_seq=seq, opened_us=START_US)
    turn = attrs.evolve(turn, **changes)
    return change(
        stored,
        message(seq, turn_no=turn_no),
        record={"last_turn_no": turn_no, "open_turn_no": turn_no},
        open_turn=turn,
        turn=turn,
        opens_turn=True,
    )


def close_turn(stored: StoredSession, **changes: Any) -> SessionWrite:
    """The write that closes the open turn with its answer."""
    assert stored.open_turn is not None
    seq = stored.record.last_seq + 1
    turn = attrs.evolve(
        stored.open_turn, state=TurnState.COMPLETED, closed_us=START_US + 5, **changes
    )
    answer = message(seq, role=Role.ASSISTANT, finish_reason="stop", turn_no=turn.turn_no)
    return change(stored, answer, record={"open_turn_no": 0}, turn=turn)


async def commit(storage: ISessionStorage, write: SessionWrite) -> StoredSession:
    """Commit one write, which must succeed, and return the session as it now is."""
    [outcome] = await storage.commit([write])
    assert isinstance(outcome, Committed), outcome
    [stored] = await storage.load([write.after.record.session_id])
    assert stored is not None
    assert stored.record.key == outcome.key
    return stored


async def create(storage: ISessionStorage, session_id: str = "s", **changes: Any) -> StoredSession:
    """A new session in the storage."""
    return await commit(storage, new(session_id, **changes))


async def contents(storage: ISessionStorage, key: int, query: MessageQuery = ALL) -> Sequence[str]:
    """The contents of a session's messages."""
    return [message.content for message in await storage.read_messages(key, query)]
