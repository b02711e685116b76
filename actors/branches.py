"""Turns that are run again, and histories that branch: retry, regenerate, rewind, fork.

Nothing is rewritten: a turn that is run again is a new turn with a copy of the question, and the
messages of the one that it replaces are hidden in the same commit. A rewound history hides what
came after. A fork is a new session with copies. Whatever a provider keeps of its own is stale from
then on (dirty), and so is the cached prompt window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from .decisions import check_writable, given_up, next_record
from .errors import TurnStateError
from .model import (
    MessageRecord,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
    changed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .idempotency import ClaimKey

REWOUND = -1
"""`hidden_by` of messages that no turn replaced."""


@attrs.frozen(kw_only=True)
class Replay:
    """A turn that is to be run again."""

    turn: TurnRecord
    question: MessageRecord
    last_seq: int
    """Of its last message: what came behind it is none of its own."""
    visible: int
    """How many of its messages are visible."""


def check_replay(session_id: str, turn: TurnRecord, how: Literal["retry", "regenerate"]) -> None:
    """Raise TurnStateError if that is not done with a turn in this state."""
    if how == "retry" and turn.state is TurnState.COMPLETED:
        raise TurnStateError(
            f"the last turn of session {session_id!r} completed, there is nothing to retry; "
            "regenerate() asks for another answer"
        )


def open_again(
    state: StoredSession,
    replay: Replay,
    now_us: int,
    *,
    settings: str | None = None,
    claim: ClaimKey | None = None,
    keeps: bool = False,
) -> SessionWrite:
    """A new turn with a copy of the question, in place of the last one (G5)."""
    check_writable(state)
    record = state.record
    seq, turn_no = record.last_seq + 1, record.last_turn_no + 1
    purges = given_up(changed(record, dirty=True), now_us) if keeps else ()
    question = changed(
        replay.question,
        seq=seq,
        turn_no=turn_no,
        created_us=now_us,
        message_id=None,
        finish_reason=None,
        hidden_by=0,
    )
    turn = TurnRecord(
        turn_no=turn_no,
        state=TurnState.OPEN,
        user_seq=seq,
        opened_us=now_us,
        replaces=replay.turn.turn_no,
    )
    after = next_record(
        state,
        now_us,
        last_seq=seq,
        last_turn_no=turn_no,
        open_turn_no=turn_no,
        visible_messages=record.visible_messages - replay.visible + 1,
        dirty=True,
        provider_session_id=None if purges else record.provider_session_id,
        counters=changed(record.counters, user_messages=record.counters.user_messages + 1),
    )
    documents = state.documents
    if settings is not None:
        documents = changed(documents, provider_settings=settings)
    return SessionWrite(
        expected_revision=record.revision,
        after=StoredSession(record=after, documents=documents, open_turn=turn),
        documents_changed=settings is not None,
        hides=((replay.turn.user_seq, replay.last_seq, turn_no),),
        messages=(question,),
        turn=turn,
        opens_turn=True,
        claim=None if claim is None else claim.claim(record.session_id, turn_no, now_us),
        purges=purges,
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
