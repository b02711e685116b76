"""What callers are told of a turn that did not end with an answer, in words that say what to do."""

from __future__ import annotations

from .answer import describe
from .errors import (
    CapacityError,
    DeadlineExceededError,
    ProviderTimeoutError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionError,
    StorageError,
    TurnInterruptedError,
)


def turned_away(limit: str, most: int, seconds: float, content: str | None) -> CapacityError:
    """It waited too long for other turns to end."""
    return CapacityError(
        f"{most} turns (limit {limit}) ran for queue_timeout_seconds={seconds:g}; the "
        "message did not run: send it again later",
        content=content,
        retry_after_seconds=seconds,
    )


def timed_out(provider: str, seconds: float) -> ProviderTimeoutError:
    """The provider had all of its time."""
    return ProviderTimeoutError(
        f"no complete answer within turn_timeout_seconds={seconds:g}",
        code="timeout",
        provider=provider,
        retryable=True,
    )


def deadline_passed(content: str | None = None, *, ran: bool = True) -> DeadlineExceededError:
    """The caller's own time; `content` is handed back if the turn was never opened."""
    end = "its turn was interrupted, what had arrived is in the history"
    text = end if ran else "it never ran"
    return DeadlineExceededError(f"the timeout of the call passed: {text}", content=content)


def interrupted(provider: str, reason: SessionError | None) -> SessionError:
    """Somebody, or the end of something, cut the turn short."""
    if isinstance(reason, DeadlineExceededError):
        return reason
    error = TurnInterruptedError(
        f"the turn was interrupted: {reason}; what had arrived is in the history",
        code="interrupted",
        provider=provider,
        retryable=True,
    )
    error.__cause__ = reason
    return error


def cut_off(provider: str, cause: RuntimeClosedError) -> TurnInterruptedError:
    """Not handed back, because the question is stored and its turn is closed at the start."""
    error = TurnInterruptedError(
        "the runtime ended before the turn did; the question is in the history",
        code="interrupted",
        provider=provider,
        retryable=True,
    )
    error.__cause__ = cause
    return error


def answer_lost(error: SessionError) -> SessionError:
    """It says that the question is stored: sent again without a look, it would be there twice."""
    if not isinstance(error, StorageError):
        return error
    lost = StorageError(
        f"the answer could not be stored: {error}. The question is in the history and its turn "
        "ends as interrupted; look there before sending it again",
        code=error.code,
        retryable=error.retryable,
        outcome=error.outcome,
    )
    lost.__cause__ = error
    return lost


def bug_of(session_id: str, error: Exception) -> RuntimeBugError:
    """What the caller gets for a bug of ours."""
    bug = RuntimeBugError(
        f"session {session_id!r} failed and starts anew; please report this: {describe(error)}"
    )
    bug.__cause__ = error
    return bug
