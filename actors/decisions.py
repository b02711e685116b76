"""What a session does next, decided by plain functions over its state. No await, no effects.

Each takes the session as last committed and a command or a result, and returns the write that
would make it so; the actor commits the write and then takes `write.after` as its new state. A
command that must not be done raises the error that the caller gets. Nothing here knows an event
loop, so all of it is tested without one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
    Role,
    SessionDocuments,
    SessionRecord,
    SessionStatus,
    SessionWrite,
    StoredSession,
    changed,
)
from .usage import usage_of_creation, usage_of_message
from .values import decode_object, encode_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .idempotency import ClaimKey
    from .past import Past

MAX_CREATED_MESSAGES = 100_000
"""What a session is created with is one transaction."""

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
    """What its history begins with: `seq` 1, 2, 3, ...; with gaps where it has a past."""
    past: Past | None = None
    """Of an imported session."""
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
class AppendMessage:
    """Add a message to the history, without a turn."""

    content: str
    role: Role = Role.SYSTEM
    metadata: str = EMPTY_JSON
    created_us: int | None = None
    """What its time is said to be; None: when it is added. The order is by `seq` all the same."""
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


class OwnDecision:
    """A command that decides itself: those that few programs need are in files of their own.

    Its ticket gets the session as it is then, None if there was nothing to do.
    """

    passes_quarantine: ClassVar[bool] = False
    """Whether it may be done to a session that is quarantined."""

    @property
    def notice(self) -> str | None:
        """What guests are told once it is done; None: nothing."""
        return None

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """The write; None: there is nothing to do."""
        raise NotImplementedError


Command = (
    CreateSession
    | SendMessage
    | RetryTurn
    | Rewind
    | AppendMessage
    | UpdateContext
    | UpdateConfig
    | ChangeStatus
    | ClearMessages
    | Barrier
    | OwnDecision
)


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
    config = decode_object(command.config)
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
        auto_archive_seconds=_auto_archive_seconds(config),
        counters=Counters(
            user_messages=roles.count(Role.USER),
            assistant_messages=roles.count(Role.ASSISTANT),
            system_messages=roles.count(Role.SYSTEM),
        ),
    )
    documents = SessionDocuments(
        config=command.config, provider_config=command.provider_config, context=command.context
    )
    write = SessionWrite(
        expected_revision=0,
        after=StoredSession(record=record, documents=documents),
        documents_changed=True,
        messages=command.messages,
        tags=_tags(config) or None,
        usage=usage_of_creation(record),
    )
    return write if command.past is None else command.past.applied(write, now_us)


def _tags(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(config.get("tags") or ())


def _auto_archive_seconds(config: Mapping[str, Any]) -> int:
    """The config has seconds, of which a part counts as a whole one."""
    return math.ceil(config.get("auto_archive_after") or 0)


def append(state: StoredSession, command: AppendMessage, now_us: int) -> SessionWrite:
    """One more message, no turn; a provider's own conversation does not know of it: dirty."""
    check_writable(state)
    record = state.record
    seq = record.last_seq + 1
    counted = f"{command.role.value}_messages"
    counters = changed(record.counters, **{counted: getattr(record.counters, counted) + 1})
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
        role=command.role,
        content=command.content,
        metadata=command.metadata,
        created_us=now_us if command.created_us is None else command.created_us,
    )
    return SessionWrite(
        expected_revision=record.revision,
        after=changed(state, record=after),
        messages=(message,),
        usage=usage_of_message(record, message.role, now_us),
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
    """A key set to None goes back to its default.

    A conversation that a provider began under another `max_messages` may hold too many: dirty.
    """
    check_writable(state)
    config = decode_object(state.documents.config)
    most = config.get("max_messages")
    config.update(decode_object(command.changes))
    config = {key: value for key, value in config.items() if value is not None}
    text = encode_object(config, "the merged config", max_bytes=command.max_bytes)
    write = _with_documents(state, now_us, changed(state.documents, config=text))
    stale = config.get("max_messages") != most and state.record.provider_session_id is not None
    record = changed(
        write.after.record,
        auto_archive_seconds=_auto_archive_seconds(config),
        dirty=state.record.dirty or stale,
    )
    return changed(write, after=changed(write.after, record=record), tags=_tags(config))


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
    AppendMessage: append,
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
    elif isinstance(command, OwnDecision):
        write = command.decide(state, now_us)
    else:
        write = _PLAIN[type(command)](state, command, now_us)
    claim: ClaimKey | None = getattr(command, "claim", None)
    if write is None or claim is None:
        return write
    done = write.messages[0].seq if write.messages else write.after.documents.context_version
    return changed(write, claim=claim.claim(session_id, done, now_us))
