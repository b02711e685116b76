"""What became of a write or a load that did not simply succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from .errors import (
    CapacityError,
    ProviderCode,
    ProviderError,
    RuntimeClosedError,
    SessionError,
    StorageError,
    TurnInterruptedError,
    again,
)
from .model import Committed, Conflict, TurnState

if TYPE_CHECKING:
    from .model import SessionWrite, StoredSession, TurnRecord
    from .ports import WriteOutcome


def closed_error() -> RuntimeClosedError:
    """For what comes after the end."""
    return RuntimeClosedError("the runtime is closed; nothing was stored")


def storage_is_behind(limit: int, content: str | None) -> CapacityError:
    """For what would have to wait behind `limit` writes."""
    return CapacityError(
        f"{limit} writes wait for the storage (limit storage_queue_size); the message was not "
        "queued: send it again later",
        content=content,
        retry_after_seconds=1.0,
    )


def load_failed(failure: object) -> StorageError | RuntimeClosedError:
    """Whatever a load raised, as an error that says so."""
    if isinstance(failure, (StorageError, RuntimeClosedError)):
        return again(failure)
    error = StorageError(f"the session could not be loaded: {failure!r}", code="unknown")
    if isinstance(failure, BaseException):
        error.__cause__ = failure
    return error


def unknown_outcome(cause: object, error: BaseException) -> StorageError:
    """Neither the commit nor reading back has told."""
    text = f"it is not known whether the write was stored ({cause!r}; reading back: {error!r})"
    code = cause.code if isinstance(cause, StorageError) else "unknown"
    return StorageError(text, code=code, outcome="unknown")


def outcome_found(write: SessionWrite, stored: StoredSession | None, cause: object) -> WriteOutcome:
    """What reading back tells of a write whose commit ended with `cause`."""
    meant = write.after.record
    there = stored.record if stored is not None else None
    if write.erases:
        # it was there when this was decided, and nobody else deletes it
        if there is None:
            return Committed(meant.key)
    elif (
        there is not None
        and there.revision == meant.revision
        and (there.created_us, there.user_id) == (meant.created_us, meant.user_id)
    ):
        return Committed(there.key)
    revision = there.revision if there is not None else 0
    if revision == write.expected_revision:
        text = f"the write was not stored: {cause!r}"
        code = cause.code if isinstance(cause, StorageError) else "unknown"
        return StorageError(text, code=code, retryable=True, outcome="failed")
    return Conflict(revision, there.epoch if there is not None else 0)


_PROVIDER_CODES = frozenset[str](get_args(ProviderCode))


_PASSING = frozenset(("rate_limit", "overloaded", "locked", "timeout", "connection", "truncated"))


def may_pass(turn: TurnRecord) -> bool:
    """Whether what ended the turn without an answer may be over."""
    return turn.state is TurnState.INTERRUPTED or turn.error_code in _PASSING


def error_of(turn: TurnRecord) -> SessionError | None:
    """Why a turn that has ended has no whole answer, as far as it was stored; None: it has one."""
    if turn.state is TurnState.COMPLETED:
        return None
    text = turn.error_text or "the turn ended without an answer"
    if turn.state is TurnState.INTERRUPTED:
        return TurnInterruptedError(text, code="interrupted", retryable=True)
    if turn.error_code in _PROVIDER_CODES:
        return ProviderError(text, code=turn.error_code)  # type: ignore[arg-type]
    return SessionError(text)
