"""Records to rows and back. The order of columns is decided here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.model import (
    EMPTY_JSON,
    Claim,
    Counters,
    MessageRecord,
    Purge,
    Role,
    SessionDocuments,
    SessionRecord,
    SessionStatus,
    StoredSession,
    TurnRecord,
    TurnState,
    UsageRecord,
)
from .schema import COUNTERS, SEQ_BITS, SEQ_MAX, USAGE_COUNTS

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[Any, ...]

# What changes with a commit, in front; what is fixed when a session is created, behind.
SESSION_FENCE = ("key", "revision", "epoch")
SESSION_CHANGING = (
    "revision",
    "status",
    "provider",
    "model",
    "provider_session_id",
    "synced_seq",
    "dirty",
    "last_seq",
    "last_turn_no",
    "open_turn_no",
    "visible_messages",
    *COUNTERS,
    "updated_us",
    "auto_archive_seconds",
    "latencies",
)
SESSION_FIXED = ("key", "id", "user_id", "epoch", "created_us")
CODEC = ("codec", "key_id")
DOCUMENTS = (
    "config",
    "provider_config",
    "provider_settings",
    "context",
    "context_version",
    "revision",
    *CODEC,
)
MESSAGE = (
    "id",
    "role",
    "content",
    "created_us",
    "turn_no",
    "message_id",
    "metadata",
    "provider_message_id",
    "provider_metadata",
    "token_count",
    "finish_reason",
    "hidden_by",
    *CODEC,
)
TURN = (
    "id",
    "state",
    "user_seq",
    "replaces",
    "opened_us",
    "closed_us",
    "partial_text",
    "error_code",
    "error_text",
    "input_tokens",
    "output_tokens",
    "idempotency_key",
    "payload_hash",
    *CODEC,
)

CLAIM_NAME = ("scope", "method", "key")
CLAIM_FIELDS = (*CLAIM_NAME, "payload_hash", "created_us", "session_id", "result")
CLAIM = (*CLAIM_FIELDS, *CODEC)
PURGE_NAME = ("provider", "provider_session_id")
PURGE = (*PURGE_NAME, "queued_us", "due_us", "attempts", "last_error")
TAG = ("tag", "session_key")
USAGE_DAY_NAME = ("day", "provider", "model")
USAGE_DAY = (*USAGE_DAY_NAME, *USAGE_COUNTS)
USAGE_USER_NAME = ("day", "user_id", "provider", "model")
USAGE_USER = (*USAGE_USER_NAME, *USAGE_COUNTS)

_NOT_ENCODED = (0, None)
"""The values of CODEC of what stays as it is."""
_PLAIN_COUNTS = 1 + len(COUNTERS)
"""Those of USAGE_COUNTS that are not classes of answer times."""

# Enum members by text: a lookup costs a third of a call of the enum.
_ROLES = {role.value: role for role in Role}
_STATUSES = {status.value: status for status in SessionStatus}
_STATES = {state.value: state for state in TurnState}


def row_id(key: int, number: int) -> int:
    """The primary key of a session's message or turn."""
    return key << SEQ_BITS | number


def _new_id(key: int, number: int) -> int:
    """As `row_id`, of what is written: beyond its range are the rows of other sessions."""
    if not 0 <= number <= SEQ_MAX:
        raise OverflowError(f"the number {number} is not one of 0 to {SEQ_MAX}")
    return key << SEQ_BITS | number


def changing_row(record: SessionRecord) -> Row:
    """The values of SESSION_CHANGING."""
    counters = record.counters
    return (
        record.revision,
        record.status._value_,
        record.provider,
        record.model,
        record.provider_session_id,
        record.synced_seq,
        record.dirty,
        record.last_seq,
        record.last_turn_no,
        record.open_turn_no,
        record.visible_messages,
        counters.user_messages,
        counters.assistant_messages,
        counters.system_messages,
        counters.completed_turns,
        counters.failed_turns,
        counters.interrupted_turns,
        counters.input_tokens,
        counters.output_tokens,
        counters.response_us,
        record.updated_us,
        record.auto_archive_seconds,
        record.latencies,
    )


def fixed_row(key: int, record: SessionRecord) -> Row:
    """The values of SESSION_FIXED."""
    return (key, record.session_id, record.user_id, record.epoch, record.created_us)


def documents_row(documents: SessionDocuments, revision: int) -> Row:
    """The values of DOCUMENTS."""
    return (
        _json(documents.config),
        _json(documents.provider_config),
        _json(documents.provider_settings),
        _json(documents.context),
        documents.context_version,
        revision,
        *_NOT_ENCODED,
    )


def message_row(key: int, message: MessageRecord) -> Row:
    """The values of MESSAGE."""
    # Without a call of _json: twice per message, they were a tenth of taking a write apart.
    return (
        _new_id(key, message.seq),
        message.role._value_,
        message.content,
        message.created_us,
        message.turn_no,
        message.message_id,
        None if message.metadata == EMPTY_JSON else message.metadata,
        message.provider_message_id,
        None if message.provider_metadata == EMPTY_JSON else message.provider_metadata,
        message.token_count,
        message.finish_reason,
        message.hidden_by,
        *_NOT_ENCODED,
    )


def turn_row(key: int, turn: TurnRecord) -> Row:
    """The values of TURN."""
    return (
        _new_id(key, turn.turn_no),
        turn.state._value_,
        turn.user_seq,
        turn.replaces,
        turn.opened_us,
        turn.closed_us,
        turn.partial_text or None,
        turn.error_code,
        turn.error_text,
        turn.input_tokens,
        turn.output_tokens,
        turn.idempotency_key,
        turn.payload_hash,
        *_NOT_ENCODED,
    )


def claim_row(claim: Claim) -> Row:
    """The values of CLAIM."""
    return (
        claim.scope,
        claim.method,
        claim.key,
        claim.payload_hash,
        claim.created_us,
        claim.session_id,
        claim.result,
        *_NOT_ENCODED,
    )


def purge_row(purge: Purge) -> Row:
    """The values of PURGE."""
    return (
        purge.provider,
        purge.provider_session_id,
        purge.queued_us,
        purge.due_us,
        purge.attempts,
        purge.last_error,
    )


def tag_row(key: int, tag: str | bytes) -> Row:
    """The values of TAG."""
    return (tag, key)


def usage_counts(usage: UsageRecord) -> Row:
    """The values of USAGE_COUNTS."""
    return (
        usage.sessions,
        usage.user_messages,
        usage.assistant_messages,
        usage.system_messages,
        usage.completed_turns,
        usage.failed_turns,
        usage.interrupted_turns,
        usage.input_tokens,
        usage.output_tokens,
        usage.response_us,
        *usage.latencies,
    )


SESSION = (*SESSION_FIXED, *SESSION_CHANGING)
_AFTER_VERSION = DOCUMENTS[DOCUMENTS.index("context_version") + 1 :]


def read_session(row: Sequence[Any]) -> SessionRecord:
    """From a row of SESSION."""
    key, session_id, user_id, epoch, created_us, revision, status, provider, model = row[:9]
    provider_session_id, synced_seq, dirty, last_seq, last_turn_no = row[9:14]
    open_turn_no, visible_messages = row[14:16]
    return SessionRecord(
        key=key,
        session_id=session_id,
        user_id=user_id,
        epoch=epoch,
        created_us=created_us,
        updated_us=row[25],
        revision=revision,
        status=_STATUSES[status],
        provider=provider,
        model=model,
        provider_session_id=provider_session_id,
        synced_seq=synced_seq,
        dirty=bool(dirty),
        last_seq=last_seq,
        last_turn_no=last_turn_no,
        open_turn_no=open_turn_no,
        visible_messages=visible_messages,
        auto_archive_seconds=row[26],
        latencies=row[27],
        counters=Counters(**dict(zip(COUNTERS, row[16:25], strict=True))),
    )


def read_stored(row: Sequence[Any]) -> StoredSession:
    """From a row of SESSION, DOCUMENTS, TURN; the last all NULL where no turn is open.

    Raises LookupError if what must be there is not.
    """
    turn_start = len(SESSION) + len(DOCUMENTS)
    config, provider_config, provider_settings, context, version = row[
        len(SESSION) : turn_start - len(_AFTER_VERSION)
    ]
    record = read_session(row)
    if version is None:
        raise LookupError(f"session {record.key} has no row in session_documents")
    if record.open_turn_no and row[turn_start] is None:
        raise LookupError(f"session {record.key} has lost its open turn")
    return StoredSession(
        record=record,
        documents=SessionDocuments(
            config=config or EMPTY_JSON,
            provider_config=provider_config or EMPTY_JSON,
            provider_settings=provider_settings or EMPTY_JSON,
            context=context or EMPTY_JSON,
            context_version=version,
        ),
        open_turn=None if row[turn_start] is None else read_turn(row[turn_start:]),
    )


def read_message(row: Row) -> MessageRecord:
    """From a row of MESSAGE."""
    return MessageRecord(
        seq=row[0] & SEQ_MAX,
        role=_ROLES[row[1]],
        content=row[2],
        created_us=row[3],
        turn_no=row[4],
        message_id=row[5],
        metadata=row[6] or EMPTY_JSON,
        provider_message_id=row[7],
        provider_metadata=row[8] or EMPTY_JSON,
        token_count=row[9],
        finish_reason=row[10],
        hidden_by=row[11],
    )


def read_turn(row: Sequence[Any]) -> TurnRecord:
    """From a row of TURN."""
    return TurnRecord(
        turn_no=row[0] & SEQ_MAX,
        state=_STATES[row[1]],
        user_seq=row[2],
        replaces=row[3],
        opened_us=row[4],
        closed_us=row[5],
        partial_text=row[6] or "",
        error_code=row[7],
        error_text=row[8],
        input_tokens=row[9],
        output_tokens=row[10],
        idempotency_key=row[11],
        payload_hash=row[12],
    )


def read_claim(row: Sequence[Any]) -> Claim:
    """From a row of CLAIM."""
    return Claim(**dict(zip(CLAIM_FIELDS, row[: len(CLAIM_FIELDS)], strict=True)))


def read_purge(row: Sequence[Any]) -> Purge:
    """From a row of PURGE."""
    return Purge(**dict(zip(PURGE, row, strict=True)))


def read_usage_day(row: Sequence[Any]) -> UsageRecord:
    """From a row of USAGE_DAY: the sum over all users, or over one."""
    day, provider, model = row[:3]
    counts, latencies = row[3 : 3 + _PLAIN_COUNTS], tuple(row[3 + _PLAIN_COUNTS :])
    return UsageRecord(
        day=day,
        user_id="",
        provider=provider,
        model=model,
        latencies=latencies,
        **dict(zip(USAGE_COUNTS[:_PLAIN_COUNTS], counts, strict=True)),
    )


def _json(text: str) -> str | None:
    return None if text == EMPTY_JSON else text
