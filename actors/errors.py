"""Every error of the runtime, grouped by who must act.

The caller mends a call; an overloaded runtime asks to try again later and hands the message
back; a provider or a storage failed outside of this process; a supervisor protects the others
from one session; a guest (middleware, hook) misbehaved; or the runtime itself has a bug.

All derive from `SessionError`, each also from the nearest builtin, so that `except TimeoutError`
or `except LookupError` do what they say.
"""

from __future__ import annotations

from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

StorageCode = Literal[
    "busy",
    "full",
    "corrupt",
    "key",
    "foreign",
    "closed",
    "failed_sync",
    "read_only",
    "io",
    "invalid",
    "unknown",
]
ProviderCode = Literal[
    "auth",
    "rate_limit",
    "overloaded",
    "context_length",
    "invalid_request",
    "not_found",
    "locked",
    "timeout",
    "interrupted",
    "refused",
    "connection",
    "truncated",
    "protocol",
    "internal",
]


class SessionError(Exception):
    """Base of every error that this package raises.

    `retryable` says whether the same call may succeed later without a change;
    `retry_after_seconds`, where known, says when.
    """

    retryable: bool = False
    retry_after_seconds: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled with its text and attributes, without traceback and cause."""
        return _rebuilt, (type(self), self.args, self.__dict__)


E = TypeVar("E", bound=SessionError)


def _rebuilt(kind: type[E], args: tuple[Any, ...], attributes: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.args = args  # those that are an OSError as well set it in __init__ only
    error.__dict__.update(attributes)
    if hasattr(error, "__notes__"):
        error.__notes__ = list(error.__notes__)
    return error


def again(error: E) -> E:
    """The same error for one more caller.

    Raising an error writes a traceback into it: one that many raise, or that somebody keeps, would
    keep alive all that they passed through.
    """
    other = copy(error)
    other.__cause__ = error.__cause__
    return other


_MAX_CHAIN = 20
P = ParamSpec("P")
R = TypeVar("R")


def hides_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """For functions that are given keys: what they raise shows none of their local variables.

    Many print a traceback with the locals of its frames, and send it to others.
    """

    @wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except BaseException as error:
            from traceback import clear_frames  # noqa: PLC0415 - rare

            del args, named
            behind: BaseException | None = error
            for _ in range(_MAX_CHAIN):
                if behind is None:
                    break
                clear_frames(behind.__traceback__)
                behind = behind.__cause__ or behind.__context__
            raise

    return call


# ---------------------------------------------------------------- the caller must act


class SessionNotFoundError(SessionError, LookupError):
    """No such session, or it belongs to another user: the two are not told apart on purpose."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r} here; check the id, or create the session")
        self.session_id = session_id


class SessionExistsError(SessionError, ValueError):
    """`create_session(session_id=...)` named an id that is in use."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"the session id {session_id!r} is taken; if the session is yours, open it with "
            "get_session(); else choose another id, or leave session_id out"
        )
        self.session_id = session_id


class SessionArchivedError(SessionError, RuntimeError):
    """The session is archived and read-only (G8)."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} is archived and read-only; call reopen() to write again"
        )
        self.session_id = session_id


class MessageNotFoundError(SessionError, LookupError):
    """The session has no message of that id (it may have been cleared)."""

    def __init__(self, session_id: str, message_id: str) -> None:
        super().__init__(f"session {session_id!r} has no message {message_id!r}")
        self.session_id = session_id
        self.message_id = message_id


class TurnStateError(SessionError, RuntimeError):
    """The last turn did not end in a way that allows this; the text says what does."""


class IdempotencyConflictError(SessionError, ValueError):
    """The idempotency key was used for another payload before; nothing was done (G7)."""

    def __init__(self, method: str, key: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} was used for another {method}() before; a new call "
            "needs a new key"
        )
        self.method = method
        self.key = key


class TurnNotFoundError(SessionError, LookupError):
    """The session has no turn of that id, or its messages were cleared."""

    def __init__(self, session_id: str, turn_id: str | None) -> None:
        which = "no turn yet" if turn_id is None else f"no turn {turn_id!r}"
        super().__init__(f"session {session_id!r} has {which}; its messages may have been cleared")
        self.session_id = session_id
        self.turn_id = turn_id


class InvalidMessageError(SessionError, ValueError):
    """A value that cannot be stored or sent; nothing was queued, stored or paid for."""


class ConfigurationError(SessionError, ValueError):
    """An option has a wrong name, type or value; the text names it and the nearest valid one."""


class ReentrantCallError(SessionError, RuntimeError):
    """A guest awaited its own session from inside that session's turn, which could never end."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} is waiting for the turn that makes this call; use submit() "
            "without awaiting it, or call from a task of your own after the turn"
        )
        self.session_id = session_id


class WithdrawnError(SessionError, RuntimeError):
    """The ticket was withdrawn while its message was queued: the message never ran."""

    retryable = True

    def __init__(self, session_id: str) -> None:
        super().__init__(f"the message to session {session_id!r} was withdrawn and never ran")
        self.session_id = session_id


class RuntimeClosedError(SessionError, RuntimeError):
    """The runtime is shutting down or closed; the message did not run and is handed back (G13).

    Nothing of it ran, so it is safe to send again, to the manager that follows.
    """

    retryable = True

    def __init__(self, message: str, *, content: str | None = None) -> None:
        super().__init__(message)
        self.content = content


# ---------------------------------------------------------------- overload: try again later


class OverloadError(SessionError):
    """A limit was reached before the message ran. `content` hands the message back (G11)."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        content: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.content = content
        self.retry_after_seconds = retry_after_seconds


class MailboxFullError(OverloadError):
    """The session's mailbox holds `mailbox_size` messages already."""


class CapacityError(OverloadError):
    """There is no room for it: the text names the limit, and says what makes room."""


class SessionBusyError(OverloadError):
    """`on_busy="reject"`, and the session has something to do already."""


class RateLimitedError(OverloadError):
    """A middleware's rate is used up; what is sent after `retry_after_seconds` finds room.

    Raise it in a middleware: the caller gets it as it is, and nothing is stored.
    """


class DeadlineExceededError(OverloadError, TimeoutError):
    """The `timeout` of the call passed.

    While its message was queued: it never ran, and `content` hands it back. While its turn ran: the
    turn was interrupted, `content` is None, and what had arrived is in the history.
    """


# ---------------------------------------------------------------- providers


class ProviderError(SessionError):
    """The provider did not give a complete answer; the turn is closed as failed.

    `code` is stable across vendors; `provider` names the provider. The user message stays in the
    history, marked `failed`, and is left out of later prompts.
    """

    def __init__(
        self,
        message: str,
        *,
        code: ProviderCode,
        provider: str = "",
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code: ProviderCode = code
        self.provider = provider
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class ProviderTimeoutError(ProviderError, TimeoutError):
    """The provider did not finish within `turn_timeout_seconds`."""


class TurnInterruptedError(ProviderError):
    """The turn was interrupted; what had arrived is kept, marked `interrupted` (G9)."""


# ---------------------------------------------------------------- storage


class StorageError(SessionError, OSError):
    """The storage refused or failed.

    `outcome` says what is known of the write: `failed` means that nothing of it is stored,
    `unknown` that it may be. Nothing is ever acknowledged in either case (G3).
    """

    def __init__(
        self,
        message: str,
        *,
        code: StorageCode,
        retryable: bool = False,
        outcome: Literal["failed", "unknown"] = "failed",
    ) -> None:
        super().__init__(message)
        self.code: StorageCode = code
        self.retryable = retryable
        self.outcome: Literal["failed", "unknown"] = outcome

    def __str__(self) -> str:
        return str(self.args[0])


# ---------------------------------------------------------------- supervisor


class SessionQuarantinedError(SessionError, RuntimeError):
    """The session crashed too often and rests until `retry_after_seconds` (G14)."""

    retryable = True

    def __init__(self, session_id: str, *, retry_after_seconds: float) -> None:
        super().__init__(
            f"session {session_id!r} crashed repeatedly and is quarantined for another "
            f"{retry_after_seconds:.1f} s; its history is safe and readable"
        )
        self.session_id = session_id
        self.retry_after_seconds = retry_after_seconds


# ---------------------------------------------------------------- guests


class MiddlewareError(SessionError, RuntimeError):
    """A middleware raised, timed out or returned something else than a message."""


class MessageRefused(SessionError, ValueError):  # noqa: N818 - a decision of the guest, not a fault
    """Raise this in a middleware to refuse a message; the caller gets it as it is.

    A refused user message is not stored and consumes no `seq`. A refused answer fails the turn
    and is neither stored nor shown.
    """


# ---------------------------------------------------------------- ours


class RuntimeBugError(SessionError, RuntimeError):
    """The runtime found itself in a state that cannot be; please report it with its traceback."""


PUBLIC = "langswarm.core.session.errors"
for _error in list(globals().values()):
    if isinstance(_error, type) and issubclass(_error, SessionError):
        _error.__module__ = PUBLIC
