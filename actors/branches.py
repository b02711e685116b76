"""Turns that are run again, and histories that branch: retry, regenerate, rewind, fork.

Nothing is rewritten: a turn that is run again is a new turn with a copy of the question, and the
messages of the one that it replaces are hidden in the same commit. A rewound history hides what
came after. A fork is a new session with copies. Whatever a provider keeps of its own is stale from
then on (dirty), and so is the cached prompt window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .decisions import check_writable, next_record
from .errors import TurnStateError
from .model import (
    MessageRecord,
    SessionWrite,
    StoredSession,
    TurnState,
    changed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import TurnRecord

REWOUND = -1
"""`hidden_by` of messages that no turn replaced."""


def check_replay(session_id: str, turn: TurnRecord, how: Literal["retry", "regenerate"]) -> None:
    """Raise TurnStateError if that is not done with a turn in this state."""
    if how == "retry" and turn.state is TurnState.COMPLETED:
        raise TurnStateError(
            f"the last turn of session {session_id!r} completed, there is nothing to retry; "
            "regenerate() asks for another answer"
        )


def rewind(state: StoredSession, to_seq: int, visible_after: int, now_us: int) -> SessionWrite:
    """Hide everything behind `to_seq`, of which `visible_after` messages are visible."""
    check_writable(state)
    record = state.record
    after = next_record(
        state, now_us, visible_messages=record.visible_messages - visible_after, dirty=True
    )
    return SessionWrite(
        expected_revision=record.revision,
        after=changed(state, record=after),
        hides=((to_seq + 1, record.last_seq, REWOUND),),
    )


def copies(messages: Sequence[MessageRecord]) -> tuple[MessageRecord, ...]:
    """Of visible messages, for a fork: with numbers and ids of its own, and of no provider."""
    return tuple(
        MessageRecord(
            seq=seq,
            role=message.role,
            content=message.content,
            created_us=message.created_us,
            metadata=message.metadata,
            token_count=message.token_count,
            finish_reason=message.finish_reason,
        )
        for seq, message in enumerate(messages, 1)
    )
