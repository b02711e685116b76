"""What the actors need from outside: storages, providers, guests.

Ports only: the actors call these and know nothing behind them. One direction: nobody behind a
port calls back into an actor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from .errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextvars import Context

    from .errors import StorageError
    from .model import (
        Claim,
        Committed,
        Conflict,
        MessageQuery,
        MessageRecord,
        PromptMessage,
        Purge,
        SessionPage,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
        TurnRecord,
        UsageQuery,
        UsageReport,
    )

    WriteOutcome = Committed | Conflict | StorageError


@attrs.frozen(kw_only=True)
class StorageHealth:
    """What a storage knows of itself; see `ISessionStorage.health`."""

    is_open: bool = True
    writes_stopped: bool = False
    """Nothing will be written until a restart."""
    warning: str | None = None
    """It works, but somebody should look: what happened and what to do."""
    facts: Mapping[str, str | int | float | bool] = attrs.field(
        factory=dict[str, "str | int | float | bool"]
    )
    """Sizes, versions and counts, by name."""


@attrs.frozen(kw_only=True)
class Backup:
    """A backup that was made."""

    path: str
    size_bytes: int


@attrs.frozen(kw_only=True)
class Verification:
    """What `verify` found."""

    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


@attrs.frozen(kw_only=True)
class KeyRotation:
    """What `rotate_keys` did."""

    key_id: str
    """The key that all records that could be read are encrypted with now."""
    records: int
    """How many were encrypted with another key before, or not at all."""
    unreadable: int
    """How many stay as they are: their key was not given, or they are damaged."""
    keys_in_use: tuple[str, ...]
    """The ids of the keys that are still needed; the others may be thrown away."""
    plain_remains: bool
    """Whether the file may still hold something that was written before it was encrypted."""


class ISessionStorage(ABC):
    """A place where sessions are kept. One runtime uses it at a time.

    The runtime calls `commit` from one task only, never twice at once; reads come from many tasks
    at once. Cancelling a call must never leave half a write: either the whole batch is decided
    later, or nothing of it happens. Every method may raise `StorageError`; any other exception is
    taken as an outcome unknown and resolved with `read_back`.

    What is stored comes back as it was given: every character of a text and of an id, every
    integer up to 2^63-1. The suite `langswarm.core.session.testing.storage_contract` checks all of
    this.
    """

    @abstractmethod
    async def open(self) -> None:
        """Make ready for use. Called before anything else, also after `close`; idempotent."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was handed over and release everything. Idempotent; `open` may follow.

        Until then every call that stores or reads raises StorageError of code `closed`.
        """

    @abstractmethod
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        """Commit many writes together; each is atomic, and all named Committed are durable (G3).

        A batch holds a session at most once. A write that cannot be stored fails alone: its
        outcome is a StorageError, or a Conflict where another revision or epoch is stored.
        Returns the outcomes in the order of the writes.
        """

    @abstractmethod
    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        """The sessions as last committed, None for unknown ones, in the order of the ids."""

    @abstractmethod
    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        """As `load`, but ordered behind every commit that was handed over before, decided or not.

        This is how an outcome-unknown commit is resolved before the caller is answered.
        """

    @abstractmethod
    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        """Up to `limit` sessions whose turn is still open: the process before was killed."""

    @abstractmethod
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        """The newest `query.limit` matching messages of the session `key`, in `seq` order."""

    searches_text: bool = True
    """Whether `SessionQuery.text` is understood; else a ConfigurationError says why not."""

    @abstractmethod
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of sessions, newest first: by key, which rises with every new one.

        It reads O(limit), however many sessions there are (see `SessionPage`). What was committed
        before the call is found, by its text as well.
        """

    @abstractmethod
    async def read_usage(self, query: UsageQuery) -> UsageReport:
        """The sums of what writes have added as `usage`."""

    @abstractmethod
    async def erase_user(self, user_id: str) -> None:
        """Delete what is kept of a user beside sessions: usage, and the claims of creations.

        What the sums over all users hold of this user is taken out of them. Durable like a commit.
        """

    @abstractmethod
    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        """The turn of that number of the session `key`, open or closed; None: there is none."""

    @abstractmethod
    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        """What was last done under this idempotency key; None: nothing, or it was swept."""

    @abstractmethod
    async def sweep_claims(self, before_us: int, limit: int) -> int:
        """Delete up to `limit` claims that were made before `before_us`; returns how many.

        Durable like a commit. Done in steps that let commits through in between: none waits for
        more than 50 ms and a sync.
        """

    @abstractmethod
    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        """Up to `limit` purges that are due at `now_us`, the one that is due longest first."""

    @abstractmethod
    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        """Take a purge off the queue, or with `retry_us` make it due again then.

        What is due again has one more attempt and `error` as its last one. Durable like a commit.
        A purge that is not in the queue is left at that.
        """

    # What follows has an answer for storages that have nothing to say or to do.

    def health(self) -> StorageHealth:
        """How it is, from what is known already: plain, cheap, never raises."""
        return StorageHealth()

    async def optimize(self) -> None:  # noqa: B027 - most storages have nothing to tidy
        """Tidy up, in steps that let commits through in between."""

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        """Write all that is committed to a new file, while commits go on.

        Raises ConfigurationError where there is nothing to write to a file, or one is there.
        """
        raise ConfigurationError(
            f"{type(self).__name__} makes no backups; {path!r} was not written"
        )

    async def verify(self) -> Verification:
        """Look at everything that is stored, while commits go on."""
        return Verification()

    async def rotate_keys(self) -> KeyRotation:
        """Encrypt everything with the current key, in steps that let commits through in between.

        Raises ConfigurationError where nothing is encrypted record by record.
        """
        raise ConfigurationError(f"{type(self).__name__} encrypts no records")


# ---------------------------------------------------------------- providers


@attrs.frozen(kw_only=True)
class ProviderRequest:
    """One turn as a provider sees it."""

    session_id: str
    turn_id: str
    model: str
    messages: tuple[PromptMessage, ...]
    """The window: system messages first, then the visible history, the user message last."""
    config: Mapping[str, Any]
    """The session's provider_config and what `session.provider_session` has set since."""
    provider_session_id: str | None
    """The provider's own conversation, where it keeps one; None: start afresh."""
    is_single: bool = False
    """Nobody goes on with a conversation that is begun here: the provider need not keep one."""


@attrs.frozen
class ConversationStarted:
    """The provider has made a conversation for this turn; told at once, before anything can fail.

    So it is known even if the turn fails or the process is killed, and deleted then.
    """

    provider_session_id: str


@attrs.frozen
class TextDelta:
    """A piece of the answer, in order."""

    text: str


@attrs.frozen(kw_only=True)
class Usage:
    """The tokens so far, of a turn that may be stopped or fail; `Completed` has the last word.

    The latest one counts: each is the whole, not what was added. It is no part of the answer.
    """

    input_tokens: int = 0
    output_tokens: int = 0


@attrs.frozen(kw_only=True)
class Completed:
    """The answer is complete. A stream that ends without it was cut off and is a failure."""

    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    provider_message_id: str | None = None
    provider_session_id: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


ProviderEvent = ConversationStarted | TextDelta | Usage | Completed


class IProvider(ABC):
    """Where answers come from. One object serves all sessions of its name, many turns at once."""

    keeps_conversations: bool = False
    """Whether the `provider_session_id` that it names stands for something kept at the provider.

    True: one that no session goes on with any more is deleted there, with `delete_conversation`.
    """

    def holds_conversation(self, config: Mapping[str, Any]) -> bool:
        """Whether the turns of a session with this config add up to a conversation over there."""
        del config
        return self.keeps_conversations

    @abstractmethod
    def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn: text deltas, then one `Completed` as the last event.

        Write it as an async generator. The runtime iterates it in one task, closes it always, and
        cancels it when the turn is interrupted or `turn_timeout_seconds` pass. Raise
        `ProviderError`; any other exception becomes one of code `internal`.
        """

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse a session's provider_config that cannot be right: ConfigurationError.

        Called when a session is created. By default everything is taken.
        """
        del config

    async def read_metadata(
        self, provider_session_id: str | None, config: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What the provider knows of a session's conversation, as JSON values; {}: nothing.

        Raises ProviderError.
        """
        del provider_session_id, config
        return {}

    def session_view(self, settings: ProviderSettings) -> object:
        """What `session.provider_session` returns: the provider's own controls, if it has any."""
        del settings
        return None

    async def delete_conversation(self, provider_session_id: str) -> None:
        """Delete a conversation of the provider's own; one that is gone already is deleted.

        Called in the background, again at growing distances after an exception or 30 s. A
        ProviderError of code `interrupted` says that a part was done: it is called again at once.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no conversations")

    async def aclose(self) -> None:  # noqa: B027 - most providers hold nothing
        """Release connections: the runtime leaves the event loop. More turns may follow later."""


class ProviderSettings(ABC):
    """Where a provider's `session_view` keeps what the user sets; saved with the next write."""

    @abstractmethod
    def get(self, name: str) -> Any:
        """The value that was set in this process since the last write, or None."""

    @abstractmethod
    def set(self, name: str, value: Any) -> None:
        """Set a JSON value; it holds from the session's next turn on."""


# ---------------------------------------------------------------- guests


@attrs.frozen(kw_only=True)
class Notice:
    """Something that happened to a session, told in the order of its commits.

    All are durable but `session_error` and `session_evicted`.
    """

    kind: str
    record: SessionRecord
    message: MessageRecord | None = None
    error: Exception | None = None


@attrs.frozen(kw_only=True)
class GuestStatistics:
    """A snapshot. Counts are since the manager was made."""

    middleware: int
    hooks: int
    subscribers: int
    failed_hook_calls: int
    dropped_hook_calls: int
    """Calls that found their session's lane full."""


class IGuests(ABC):
    """Middleware, hooks and event subscribers, as the actors see them."""

    has_middleware: bool = False
    """False: `filter` need not be called."""
    holds_back_answers: bool = False
    """True: no part of an answer may be shown before `filter` has passed the whole of it."""
    filter_seconds: float = 0.0
    """How long `filter` takes at most, if all of them obey their cancellation."""
    is_listening: bool = False
    """False: nobody takes notices, they need not be made."""

    @property
    def backlog(self) -> int:
        """Sessions of which a hook call waits or runs."""
        return 0

    @abstractmethod
    async def filter(self, state: StoredSession, message: MessageRecord) -> tuple[str, str]:
        """Show a message to every middleware; returns the content and the metadata it has then.

        Raises MessageRefused, RateLimitedError or MiddlewareError, and nothing else.
        """

    @abstractmethod
    def publish(self, notice: Notice, context: Context) -> None:
        """Tell hooks and subscribers. Plain, never raises, never waits (G10)."""

    @abstractmethod
    def statistics(self) -> GuestStatistics | None:
        """A snapshot; None: there never was a guest."""

    @abstractmethod
    async def drain(self, seconds: float) -> None:
        """Let the hooks that are queued finish, at most this long."""


class NoGuests(IGuests):
    """Nobody is there."""

    async def filter(self, state: StoredSession, message: MessageRecord) -> tuple[str, str]:
        """Unchanged."""
        del state
        return message.content, message.metadata

    def publish(self, notice: Notice, context: Context) -> None:
        """Nobody to tell."""

    def statistics(self) -> None:
        """Nothing to count."""

    async def drain(self, seconds: float) -> None:
        """Nothing to wait for."""
