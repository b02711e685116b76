"""What a session does next, decided by plain functions over its state. No await, no effects.

Each takes the session as last committed and a command or a result, and returns the write that
would make it so; the actor commits the write and then takes `write.after` as its new state. A
command that must not be done raises the error that the caller gets. Nothing here knows an event
loop, so all of it is tested without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from .errors import (
    RuntimeBugError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
)
from .model import (
    EMPTY_JSON,
    Counters,
    MessageRecord,
    Purge,
    Role,
    SessionDocuments,
    SessionRecord,
    SessionStatus,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
    changed,
)
from .values import decode_object, encode_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from .idempotency import ClaimKey

# ---------------------------------------------------------------- commands


@attrs.frozen(kw_only=True)
class CreateSession:
    """Make the session; its id must not be in use."""

    user_id: str
    provider: str
    model: str
    config: str = EMPTY_JSON
    provider_config: str = EMPTY_JSON
    context: str = EMPTY_JSON
    messages: tuple[MessageRecord, ...] = ()
    """What its history begins with: `seq` 1, 2, 3, ..."""
    claim: ClaimKey | None = None


@attrs.frozen(kw_only=True)
class SendMessage:
    """Run one turn: the user message, then the provider's answer."""

    content: str
    metadata: str = EMPTY_JSON
    claim: ClaimKey | None = None


@attrs.frozen(kw_only=True)
class RetryTurn:
    """Run the last turn again, in a new turn that replaces it."""

    how: Literal["retry", "regenerate"]


@attrs.frozen(kw_only=True)
class Rewind:
    """Hide everything behind this message."""

    to_seq: int


@attrs.frozen(kw_only=True)
class AppendSystemMessage:
    """Add a system message to the history, without a turn."""

    content: str
    metadata: str = EMPTY_JSON
    claim: ClaimKey | None = None


@attrs.frozen(kw_only=True)
class UpdateContext:
    """Merge the top level of `changes` into the context, or replace it whole."""

    changes: str
    replace: bool
    max_bytes: int
    claim: ClaimKey | None = None


@attrs.frozen(kw_only=True)
class UpdateConfig:
    """Merge the top level of `changes` into the session's config; null removes a key."""

    changes: str
    max_bytes: int


@attrs.frozen(kw_only=True)
class ChangeStatus:
    """Archive, reopen or delete."""

    status: SessionStatus


@attrs.frozen(kw_only=True)
class ClearMessages:
    """Delete the history; `seq` goes on where it was."""


@attrs.frozen(kw_only=True)
class Barrier:
    """Change nothing; its ticket is settled once all that was before it is done."""


Command = (
    CreateSession
    | SendMessage
    | RetryTurn
    | Rewind
    | AppendSystemMessage
    | UpdateContext
    | UpdateConfig
    | ChangeStatus
    | ClearMessages
    | Barrier
)


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
    error_code: str | None = None
    error_text: str | None = None


# ---------------------------------------------------------------- guards


def check_writable(state: StoredSession) -> None:
    """Raise unless the session takes messages and updates (G8)."""
    status = state.record.status
    if status is SessionStatus.ACTIVE:
        return
    if status is SessionStatus.ARCHIVED:
        raise SessionArchivedError(state.record.session_id)
    raise SessionNotFoundError(state.record.session_id)


def next_record(state: StoredSession, now_us: int, **changes: Any) -> SessionRecord:
    """The session's facts one commit later."""
    record = state.record
    return changed(record, revision=record.revision + 1, updated_us=now_us, **changes)


# ---------------------------------------------------------------- plain commands


def create(session_id: str, command: CreateSession, now_us: int) -> SessionWrite:
    """The first write of a session; a fork begins with messages."""
    roles = [message.role for message in command.messages]
    record = SessionRecord(
        session_id=session_id,
        user_id=command.user_id,
        provider=command.provider,
        model=command.model,
        created_us=now_us,
        updated_us=now_us,
        revision=1,
        last_seq=len(roles),
        visible_messages=len(roles),
        dirty=bool(roles),
        counters=Counters(
            user_messages=roles.count(Role.USER),
            assistant_messages=roles.count(Role.ASSISTANT),
            system_messages=roles.count(Role.SYSTEM),
        ),
    )
    documents = SessionDocuments(
        config=command.config, provider_config=command.provider_config, context=command.context
    )
    return SessionWrite(
        expected_revision=0,
        after=StoredSession(record=record, documents=documents),
        documents_changed=True,
        messages=command.messages,
    )


def append_system(state: StoredSession, command: AppendSystemMessage, now_us: int) -> SessionWrite:
    """One more message, no turn; a provider's own conversation does not know of it: dirty."""
    check_writable(state)
    record = state.record
    seq = record.last_seq + 1
    counters = changed(record.counters, system_messages=record.counters.system_messages + 1)
    after = next_record(
        state,
        now_us,
        last_seq=seq,
        visible_messages=record.visible_messages + 1,
        dirty=True,
        counters=counters,
    )
    message = MessageRecord(
        seq=seq,
        role=Role.SYSTEM,
        content=command.content,
        metadata=command.metadata,
        created_us=now_us,
    )
    return SessionWrite(
        expected_revision=record.revision,
        after=changed(state, record=after),
        messages=(message,),
    )


def update_context(state: StoredSession, command: UpdateContext, now_us: int) -> SessionWrite:
    """Linear with sends (G6): the version counts the updates."""
    check_writable(state)
    documents = state.documents
    context = {} if command.replace else decode_object(documents.context)
    context.update(decode_object(command.changes))
    text = encode_object(context, "the merged context", max_bytes=command.max_bytes)
    return _with_documents(
        state,
        now_us,
        changed(documents, context=text, context_version=documents.context_version + 1),
    )


def update_config(state: StoredSession, command: UpdateConfig, now_us: int) -> SessionWrite:
    """A key set to None goes back to its default."""
    check_writable(state)
    config = decode_object(state.documents.config)
    config.update(decode_object(command.changes))
    config = {key: value for key, value in config.items() if value is not None}
    text = encode_object(config, "the merged config", max_bytes=command.max_bytes)
    return _with_documents(state, now_us, changed(state.documents, config=text))


def _with_documents(state: StoredSession, now_us: int, documents: SessionDocuments) -> SessionWrite:
    after = StoredSession(record=next_record(state, now_us), documents=documents)
    return SessionWrite(
        expected_revision=state.record.revision, after=after, documents_changed=True
    )


_STATUS_CHANGES = {
    (SessionStatus.ACTIVE, SessionStatus.ARCHIVED),
    (SessionStatus.ACTIVE, SessionStatus.DELETED),
    (SessionStatus.ARCHIVED, SessionStatus.ACTIVE),
    (SessionStatus.ARCHIVED, SessionStatus.DELETED),
}


def change_status(state: StoredSession, command: ChangeStatus, now_us: int) -> SessionWrite | None:
    """None: it has that status already, which is success and needs no write."""
    record = state.record
    if record.status is SessionStatus.DELETED and command.status is not SessionStatus.DELETED:
        raise SessionNotFoundError(record.session_id)
    if record.status is command.status:
        return None
    if (record.status, command.status) not in _STATUS_CHANGES:
        raise RuntimeBugError(f"no way from status {record.status} to {command.status}")
    after = next_record(state, now_us, status=command.status)
    return SessionWrite(expected_revision=record.revision, after=changed(state, record=after))


def clear_messages(state: StoredSession, command: ClearMessages, now_us: int) -> SessionWrite:
    """Rows go, numbers stay: a provider's own conversation is stale from here on (dirty)."""
    del command
    check_writable(state)
    record = state.record
    after = next_record(state, now_us, visible_messages=0, dirty=True)
    return SessionWrite(
        expected_revision=record.revision,
        after=changed(state, record=after),
        clear_through_seq=record.last_seq,
    )


_PLAIN: dict[type[object], Callable[[StoredSession, Any, int], SessionWrite | None]] = {
    AppendSystemMessage: append_system,
    UpdateContext: update_context,
    UpdateConfig: update_config,
    ChangeStatus: change_status,
    ClearMessages: clear_messages,
    Barrier: lambda state, command, now_us: None,  # noqa: ARG005
}


def decide(
    session_id: str, state: StoredSession | None, command: Command, now_us: int
) -> SessionWrite | None:
    """The write of a command that needs no provider; None: nothing to write, it is done."""
    if isinstance(command, CreateSession):
        if state is not None:
            raise SessionExistsError(session_id)
        write: SessionWrite | None = create(session_id, command, now_us)
    elif state is None:
        raise SessionNotFoundError(session_id)
    else:
        write = _PLAIN[type(command)](state, command, now_us)
    claim: ClaimKey | None = getattr(command, "claim", None)
    if write is None or claim is None:
        return write
    done = write.messages[0].seq if write.messages else write.after.documents.context_version
    return changed(write, claim=claim.claim(session_id, done, now_us))


# ---------------------------------------------------------------- turns


def open_turn(
    state: StoredSession,
    command: SendMessage,
    now_us: int,
    *,
    settings: str | None = None,
    claim: ClaimKey | None = None,
    keeps: bool = False,
) -> SessionWrite:
    """The user message and the open turn, in one write (G5). Dirty until it is closed well.

    `keeps`: the provider keeps conversations, and one that is given up is to be deleted there.
    """
    check_writable(state)
    record = state.record
    purges = given_up(record, now_us) if keeps else ()
    seq, turn_no = record.last_seq + 1, record.last_turn_no + 1
    message = MessageRecord(
        seq=seq,
        role=Role.USER,
        content=command.content,
        metadata=command.metadata,
        created_us=now_us,
        turn_no=turn_no,
    )
    turn = TurnRecord(turn_no=turn_no, state=TurnState.OPEN, user_seq=seq, opened_us=now_us)
    after = next_record(
        state,
        now_us,
        last_seq=seq,
        last_turn_no=turn_no,
        open_turn_no=turn_no,
        visible_messages=record.visible_messages + 1,
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
        messages=(message,),
        turn=turn,
        opens_turn=True,
        claim=None if claim is None else claim.claim(record.session_id, turn_no, now_us),
        purges=purges,
    )


def given_up(record: SessionRecord, now_us: int) -> tuple[Purge, ...]:
    """The provider's conversation that does not hold this history (any more), if there is one."""
    if not record.dirty or record.provider_session_id is None:
        return ()
    return (
        Purge(
            provider=record.provider,
            provider_session_id=record.provider_session_id,
            queued_us=now_us,
            due_us=now_us,
        ),
    )


def checkpoint_turn(state: StoredSession, text: str, now_us: int) -> SessionWrite:
    """What has arrived of the answer, so that a kill does not take it away (G9)."""
    turn = state.open_turn
    if turn is None:
        raise RuntimeBugError(f"session {state.record.session_id!r} has no open turn")
    so_far = changed(turn, partial_text=text)
    after = changed(state, record=next_record(state, now_us), open_turn=so_far)
    return SessionWrite(expected_revision=state.record.revision, after=after, turn=so_far)


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
        dirty=not completed,
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


def close_lost_turn(state: StoredSession, now_us: int) -> SessionWrite:
    """The end of a turn that nobody runs any more: its process was killed, its actor crashed."""
    turn = state.open_turn
    text = turn.partial_text if turn is not None else ""
    result = TurnResult(
        state=TurnState.INTERRUPTED,
        text=text,
        finish_reason="interrupted",
        error_code="interrupted",
        error_text="the turn was cut off before its end was stored",
    )
    return close_turn(state, result, now_us)
