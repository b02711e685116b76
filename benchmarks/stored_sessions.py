"""Sessions that are in an SQLite file already, put there in bulk: what a benchmark begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session import SQLiteSessionStorage
from langswarm.core.session.actors.model import (
    Counters,
    MessageRecord,
    Role,
    SessionDocuments,
    SessionRecord,
    SessionWrite,
    StoredSession,
)

if TYPE_CHECKING:
    from pathlib import Path

CREATED_US = 1_750_000_000_000_000
MESSAGES_PER_COMMIT = 10_000


async def fill(path: Path, count: int, history: int) -> None:
    """Make a file of `count` sessions with `history` messages each."""
    storage = SQLiteSessionStorage(path)
    await storage.open()
    step = max(1, MESSAGES_PER_COMMIT // max(1, history))
    for start in range(0, count, step):
        writes = [_stored(number, history) for number in range(start, min(count, start + step))]
        for outcome in await storage.commit(writes):
            assert not isinstance(outcome, Exception), outcome
    await storage.close()


def session_id(number: int) -> str:
    """The id of session `number`, which counts from 0."""
    return f"{number:032x}"


def text(number: int, seq: int) -> str:
    """About 120 characters."""
    return f"Message {seq} of session {number}: " + "some words of a conversation " * 3


def _stored(number: int, history: int) -> SessionWrite:
    """A session as it is after `history / 2` turns."""
    record = SessionRecord(
        session_id=session_id(number),
        user_id=f"user-{number % 1000}",
        provider="mock",
        model="mock-model",
        created_us=CREATED_US + number,
        updated_us=CREATED_US + number + 60_000_000,
        revision=history + 1,
        last_seq=history,
        last_turn_no=history // 2,
        visible_messages=history,
        synced_seq=history,
        counters=Counters(
            user_messages=history // 2,
            assistant_messages=history // 2,
            completed_turns=history // 2,
            input_tokens=900 + number % 100,
            output_tokens=1_900 + number % 100,
            response_us=12_000_000 + number,
        ),
    )
    return SessionWrite(
        expected_revision=0,
        after=StoredSession(record=record, documents=SessionDocuments()),
        documents_changed=True,
        messages=tuple(_message(number, seq) for seq in range(1, history + 1)),
    )


def _message(number: int, seq: int) -> MessageRecord:
    return MessageRecord(
        seq=seq,
        role=Role.USER if seq % 2 else Role.ASSISTANT,
        content=text(number, seq),
        created_us=CREATED_US + number + seq,
        turn_no=(seq + 1) // 2,
        finish_reason=None if seq % 2 else "stop",
    )
