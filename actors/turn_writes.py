"""The writes of a turn: the one that opens it, those in between, and the one that closes it.

A turn is opened in one transaction and closed in one (G5). While it is open its session is dirty:
a conversation that the provider keeps may hold more or less than the history does. Closing a turn
that completed with what the provider said makes the two agree again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .decisions import check_writable, next_record
from .errors import RuntimeBugError
from .model import (
    EMPTY_JSON,
    Counters,
    MessageRecord,
    Purge,
    Role,
    SessionRecord,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
    changed,
)
from .usage import usage_of_turn, with_latency

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .idempotency import ClaimKey


@attrs.frozen(kw_only=True)
class Question:
    """What a turn is opened with."""

    content: str
    metadata: str = EMPTY_JSON
    claim: ClaimKey | None = None
    replay: Replay | None = None
    """The turn that this one runs again; it is hidden."""


@attrs.frozen(kw_only=True)
class Replay:
    """A turn that is to be run again."""

    turn: TurnRecord
    question: MessageRecord
    last_seq: int
    """Of its last message: what came behind it is none of its own."""
    visible: int
    """How many of its messages are visible."""


@attrs.frozen(kw_only=True)
class TurnResult:
    """How the conversation with the provider ended."""

    state: TurnState
    text: str = ""
    metadata: str = EMPTY_JSON
    finish_reason: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    provider_message_id: str | None = None
    provider_session_id: str | None = None
    provider_metadata: str = EMPTY_JSON
    in_step: bool = True
    """Whether a conversation that the provider keeps holds the answer as it is stored."""
    strays: tuple[tuple[str, str], ...] = ()
    """(provider, id) of conversations that were made on the way and belong to nobody."""
    error_code: str | None = None
    error_text: str | None = None


def open_turn(
    state: StoredSession,
    question: Question,
    now_us: int,
    *,
    afresh: bool,
    settings: str | None = None,
    keeps: bool = False,
) -> SessionWrite:
    """The user message and the open turn, in one write (G5). Dirty until it is closed well.

    `afresh`: the provider's conversation is given up; it does not hold the history, or no more
    fits. `keeps`: the provider keeps conversations, and one that is given up is to be deleted.
    """
    check_writable(state)
    record, replay, claim = state.record, question.replay, question.claim
    given_up = record.provider_session_id if afresh and keeps else None
    seq, turn_no = record.last_seq + 1, record.last_turn_no + 1
    message = MessageRecord(
        seq=seq,
        role=Role.USER,
        content=question.content,
        metadata=question.metadata,
        created_us=now_us,
        turn_no=turn_no,
    )
    turn = TurnRecord(
        turn_no=turn_no,
        state=TurnState.OPEN,
        user_seq=seq,
        opened_us=now_us,
        replaces=0 if replay is None else replay.turn.turn_no,
    )
    hidden = 0 if replay is None else replay.visible
    after = next_record(
        state,
        now_us,
        last_seq=seq,
        last_turn_no=turn_no,
        open_turn_no=turn_no,
        visible_messages=record.visible_messages - hidden + 1,
        dirty=True,
        provider_session_id=None if given_up else record.provider_session_id,
        counters=changed(record.counters, user_messages=record.counters.user_messages + 1),
    )
    documents = state.documents
    if settings is not None:
        documents = changed(documents, provider_settings=settings)
    return SessionWrite(
        expected_revision=record.revision,
        after=StoredSession(record=after, documents=documents, open_turn=turn),
        documents_changed=settings is not None,
        hides=() if replay is None else ((replay.turn.user_seq, replay.last_seq, turn_no),),
        messages=(message,),
        turn=turn,
        opens_turn=True,
        claim=None if claim is None else claim.claim(record.session_id, turn_no, now_us),
        purges=() if given_up is None else (_purge(record.provider, given_up, now_us),),
    )


def _purges(strays: Iterable[tuple[str, str]], now_us: int) -> tuple[Purge, ...]:
    return tuple(_purge(provider, name, now_us) for provider, name in strays)


def _purge(provider: str, provider_session_id: str, now_us: int) -> Purge:
    return Purge(
        provider=provider,
        provider_session_id=provider_session_id,
        queued_us=now_us,
        due_us=now_us,
    )


def checkpoint_turn(
    state: StoredSession,
    text: str,
    now_us: int,
    *,
    tokens: tuple[int, int] = (0, 0),
    provider_session_id: str | None = None,
    strays: Iterable[tuple[str, str]] = (),
    in_use: tuple[str, str] | None = None,
    until_us: int = 0,
) -> SessionWrite:
    """What has arrived of the answer, so that a kill does not take it away (G9).

    And its tokens so far, in and out, and a conversation that the provider has made: after a kill
    it is known, and deleted. `strays` are (provider, id) of those that nobody goes on with;
    `in_use` is the one of them that this turn still needs, until `until_us` at the latest.
    """
    turn = state.open_turn
    if turn is None:
        raise RuntimeBugError(f"session {state.record.session_id!r} has no open turn")
    so_far = changed(turn, partial_text=text, input_tokens=tokens[0], output_tokens=tokens[1])
    named = provider_session_id or state.record.provider_session_id
    record = next_record(state, now_us, provider_session_id=named)
    after = changed(state, record=record, open_turn=so_far)
    return SessionWrite(
        expected_revision=state.record.revision,
        after=after,
        turn=so_far,
        purges=tuple(
            changed(each, due_us=until_us)
            if (each.provider, each.provider_session_id) == in_use
            else each
            for each in _purges(strays, now_us)
        ),
    )


def close_turn(state: StoredSession, result: TurnResult, now_us: int) -> SessionWrite:
    """The end of the open turn and what it left, in one write (G5).

    Completed and interrupted turns leave the text as an assistant message; a failed one marks its
    user message, which stays for the user to see and is left out of later prompts.
    """
    turn = state.open_turn
    if turn is None:
        raise RuntimeBugError(f"session {state.record.session_id!r} has no open turn to close")
    record = state.record
    keeps = result.state is not TurnState.FAILED and (
        bool(result.text) or result.state is TurnState.COMPLETED
    )
    messages = (_answer(record, turn, result, now_us),) if keeps else ()
    failed = result.state is TurnState.FAILED
    completed = result.state is TurnState.COMPLETED
    after = next_record(
        state,
        now_us,
        last_seq=record.last_seq + len(messages),
        open_turn_no=0,
        visible_messages=record.visible_messages + len(messages),
        provider_session_id=result.provider_session_id or record.provider_session_id,
        synced_seq=record.last_seq + len(messages) if completed else record.synced_seq,
        dirty=not (completed and result.in_step),
        latencies=with_latency(record.latencies, max(0, now_us - turn.opened_us))
        if completed
        else record.latencies,
        counters=_counted(record.counters, turn, result, now_us, kept=bool(messages)),
    )
    closed = changed(
        turn,
        state=result.state,
        closed_us=now_us,
        partial_text="",
        error_code=result.error_code,
        error_text=result.error_text,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
    )
    return SessionWrite(
        expected_revision=record.revision,
        after=StoredSession(record=after, documents=state.documents),
        messages=messages,
        marks=((turn.user_seq, "failed"),) if failed else (),
        turn=closed,
        purges=_purges(result.strays, now_us),
        usage=usage_of_turn(record, closed, answered=bool(messages)),
    )


def _answer(
    record: SessionRecord, turn: TurnRecord, result: TurnResult, now_us: int
) -> MessageRecord:
    return MessageRecord(
        seq=record.last_seq + 1,
        role=Role.ASSISTANT,
        content=result.text,
        metadata=result.metadata,
        created_us=now_us,
        turn_no=turn.turn_no,
        provider_message_id=result.provider_message_id,
        provider_metadata=result.provider_metadata,
        token_count=result.output_tokens,
        finish_reason=result.finish_reason,
    )


def _counted(
    counters: Counters, turn: TurnRecord, result: TurnResult, now_us: int, *, kept: bool
) -> Counters:
    state = result.state
    completed = state is TurnState.COMPLETED
    return Counters(
        user_messages=counters.user_messages,
        assistant_messages=counters.assistant_messages + kept,
        system_messages=counters.system_messages,
        completed_turns=counters.completed_turns + completed,
        failed_turns=counters.failed_turns + (state is TurnState.FAILED),
        interrupted_turns=counters.interrupted_turns + (state is TurnState.INTERRUPTED),
        input_tokens=counters.input_tokens + result.input_tokens,
        output_tokens=counters.output_tokens + result.output_tokens,
        response_us=counters.response_us + (max(0, now_us - turn.opened_us) if completed else 0),
    )


def close_lost_turn(
    state: StoredSession, now_us: int, strays: Iterable[tuple[str, str]] = ()
) -> SessionWrite:
    """The end of a turn that nobody runs any more: its process was killed, its actor crashed.

    `strays`: (provider, id) of conversations that it made and that may not be stored.
    """
    turn = state.open_turn
    text = turn.partial_text if turn is not None else ""
    result = TurnResult(
        state=TurnState.INTERRUPTED,
        text=text,
        finish_reason="interrupted",
        error_code="interrupted",
        error_text="the turn was cut off before its end was stored",
        input_tokens=turn.input_tokens if turn is not None else 0,
        output_tokens=turn.output_tokens if turn is not None else 0,
        strays=tuple(each for each in strays if each[1] != state.record.provider_session_id),
    )
    return close_turn(state, result, now_us)
