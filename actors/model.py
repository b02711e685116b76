"""The values that actors, storages and providers pass to each other.

All of them are immutable; what a caller or a guest may change is a copy made at the border.
Times are integers, microseconds since the epoch, UTC; JSON values travel as JSON text, so that a
value is encoded once, is bounded once, and cannot be changed behind the runtime's back.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY_JSON = "{}"

T = TypeVar("T", bound="attrs.AttrsInstance")


if TYPE_CHECKING:
    from attrs import frozen as record
else:
    # Type checkers see these values frozen and keyword-only. At run time they are plain slotted
    # classes: what `object.__setattr__` costs per field was a tenth of a turn's CPU.
    def record(*, kw_only: bool = False) -> Callable[[type], type]:
        """As `attrs.define`."""
        del kw_only
        return attrs.define


@cache
def _fields_of(cls: type[attrs.AttrsInstance]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in attrs.fields(cls)))


def changed(value: T, **changes: Any) -> T:
    """A copy with some fields changed: `attrs.evolve` at a fifth of its cost, four times a turn."""
    cls = type(value)
    copy = cls(*_fields_of(cls)(value))
    for name, new in changes.items():
        setattr(copy, name, new)
    return copy


class Role(StrEnum):
    """Who wrote a message. Equal to its text: `message.role == "user"`."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class SessionStatus(StrEnum):
    """Equal to its text: `session.status == "active"`."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    DELETED = "deleted"
    ERROR = "error"


class TurnState(StrEnum):
    """What is stored of a turn. `open` in a storage that nobody holds means: killed in mid-turn."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@record(kw_only=True)
class MessageRecord:
    """One message of a session's history.

    `seq` counts 1, 2, 3, ... within the session, without gaps and never reused (G1).
    """

    seq: int
    role: Role
    content: str
    created_us: int
    turn_no: int = 0
    """The turn that wrote it; 0: written outside of a turn."""
    message_id: str | None = None
    """None: derived from session and seq; set only for messages that came with an id."""
    metadata: str = EMPTY_JSON
    provider_message_id: str | None = None
    provider_metadata: str = EMPTY_JSON
    token_count: int = 0
    finish_reason: str | None = None
    """Assistant: why it ended (`stop`, `length`, `interrupted`). User: `failed` with its turn."""
    hidden_by: int = 0
    """The turn that replaced it; 0: visible."""


@record(kw_only=True)
class TurnRecord:
    """One turn: a user message on its way to an answer. `turn_no` counts 1, 2, 3, ..."""

    turn_no: int
    state: TurnState
    user_seq: int
    """`seq` of the user message that it answers."""
    opened_us: int
    closed_us: int = 0
    replaces: int = 0
    partial_text: str = ""
    """What had arrived at the last checkpoint, so that a kill does not take it away."""
    error_code: str | None = None
    error_text: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    idempotency_key: str | None = None
    payload_hash: bytes | None = None


@record(kw_only=True)
class Counters:
    """Lifetime counts of a session; clearing the history does not lower them."""

    user_messages: int = 0
    assistant_messages: int = 0
    system_messages: int = 0
    completed_turns: int = 0
    failed_turns: int = 0
    interrupted_turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    response_us: int = 0
    """Sum over completed turns, open commit to close."""


@record(kw_only=True)
class SessionRecord:
    """The small facts of a session, rewritten by every commit."""

    session_id: str
    user_id: str
    provider: str
    model: str
    created_us: int
    updated_us: int
    key: int = 0
    """The storage's own number for the session, > 0 once it is stored."""
    status: SessionStatus = SessionStatus.ACTIVE
    revision: int = 0
    """Counts commits; every write names the one that it builds on."""
    epoch: int = 1
    """Fences writers of several processes; constant where one process holds the storage."""
    last_seq: int = 0
    last_turn_no: int = 0
    open_turn_no: int = 0
    """The turn that is open in the storage; 0: none."""
    visible_messages: int = 0
    provider_session_id: str | None = None
    synced_seq: int = 0
    dirty: bool = False
    auto_archive_seconds: int = 0
    """Archived by retention once nothing happened for so long; 0: by the manager's rules alone."""
    latencies: str = ""
    """How many completed turns took how long: see `usage.with_latency`."""
    counters: Counters = attrs.field(factory=Counters)


@record(kw_only=True)
class SessionDocuments:
    """The larger, rarely changing parts of a session, as JSON objects; stored apart.

    So the bytes written per turn do not grow with a large context.
    """

    config: str = EMPTY_JSON
    provider_config: str = EMPTY_JSON
    provider_settings: str = EMPTY_JSON
    context: str = EMPTY_JSON
    context_version: int = 0


@record(kw_only=True)
class StoredSession:
    """All that an actor holds of its session; messages stay in the storage."""

    record: SessionRecord
    documents: SessionDocuments
    open_turn: TurnRecord | None = None
    """Set exactly when `record.open_turn_no` is."""


@record(kw_only=True)
class Claim:
    """What was done under an idempotency key; `scope`, `method` and `key` together name it."""

    scope: str
    """The session's id; for creations "user:" and the user's id."""
    method: str
    """The public method that was called: "send_message"."""
    key: str
    """The caller's idempotency key."""
    payload_hash: bytes
    """Tells a repetition from another call under the same key."""
    created_us: int
    session_id: str
    """The session it was done to, or that was created."""
    result: int = 0
    """What the method gave: the number of a turn, a seq, or the version of a context."""


@record(kw_only=True)
class Purge:
    """A conversation kept by a provider that is to be deleted there; both names identify it."""

    provider: str
    provider_session_id: str
    queued_us: int
    due_us: int
    """When to try next."""
    attempts: int = 0
    """How often it has failed."""
    last_error: str | None = None


LATENCY_BOUNDS_MS = (
    50, 100, 200, 300, 400, 500, 700, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_000, 10_000,
    15_000, 20_000, 30_000, 60_000, 120_000,
)  # fmt: skip
"""Upper bounds, inclusive, of the classes that answer times are counted in; one more is above."""


@record(kw_only=True)
class UsageRecord:
    """What one commit adds to the figures of a day; or, when read, what a day's figures are."""

    day: int
    """Days since the epoch, UTC."""
    user_id: str
    """"" where it is the sum over all users."""
    provider: str
    model: str
    sessions: int = 0
    """Sessions that were created."""
    user_messages: int = 0
    assistant_messages: int = 0
    system_messages: int = 0
    completed_turns: int = 0
    failed_turns: int = 0
    interrupted_turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    response_us: int = 0
    """Sum over completed turns, open commit to close."""
    latencies: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
    """How many completed turns took how long, by the classes of LATENCY_BOUNDS_MS."""


@record(kw_only=True)
class SessionWrite:
    """What one commit changes of one session, all or nothing (G5).

    Order within the write: clear, hide, insert messages, mark, turns, claim, purges, tags, usage,
    session, erase.
    """

    expected_revision: int
    """The revision that must be stored; 0: the session must not exist."""
    after: StoredSession
    """The session as it is once this is committed; `after.record.key` is 0 for a new one."""
    documents_changed: bool = False
    messages: tuple[MessageRecord, ...] = ()
    marks: tuple[tuple[int, str], ...] = ()
    """(seq, finish_reason) of stored messages to change."""
    clear_through_seq: int = 0
    """Delete all messages up to this seq, hidden ones too; 0: none."""
    hides: tuple[tuple[int, int, int], ...] = ()
    """(first_seq, last_seq, by), both inclusive: the visible ones among them get `hidden_by=by`."""
    turn: TurnRecord | None = None
    """Insert this turn where `opens_turn`, else update the stored one of the same number."""
    opens_turn: bool = False
    claim: Claim | None = None
    """Put; it replaces the stored one of the same scope, method and key, whoever wrote that."""
    purges: tuple[Purge, ...] = ()
    """Queue these; one that is there already stays as it is."""
    past_turns: tuple[TurnRecord, ...] = ()
    """Insert these turns, which have ended: of a session that is created with a history."""
    tags: tuple[str, ...] | None = None
    """The session's tags from now on, each once; None: they stay as they are."""
    usage: UsageRecord | None = None
    """Added to what is stored for its day, user, provider and model."""
    erases: bool = False
    """Delete everything that is stored of the session, claims of its scope included."""


@record()
class Committed:
    """The write is durable; `key` is the storage's number of the session."""

    key: int


@record()
class Conflict:
    """The write was refused: the storage holds another revision (0: no such session) or epoch."""

    stored_revision: int
    stored_epoch: int


@attrs.frozen(kw_only=True)
class MessageQuery:
    """Which messages to read: the newest `limit` that match, returned in `seq` order."""

    limit: int | None = None
    role: Role | None = None
    since_us: int | None = None
    """Inclusive."""
    until_us: int | None = None
    """Exclusive."""
    after_seq: int = 0
    """Exclusive."""
    before_seq: int | None = None
    """Exclusive."""
    message_id: str | None = None
    """Only the message that came with this id."""
    metadata: tuple[tuple[str, str], ...] = ()
    """(key, JSON text of the value): its metadata has all of these at the top."""
    turn_no: int | None = None
    """Only messages of this turn. May look at all between the seqs: give both bounds with it."""
    include_hidden: bool = False
    for_prompt: bool = False
    """Only user and assistant messages that a prompt may hold: those of failed turns are not."""


@attrs.frozen(kw_only=True)
class SessionQuery:
    """Which sessions to list: the newest `limit` that match, newest first (by creation).

    A session matches that fulfils every condition that is given.
    """

    limit: int
    user_id: str | None = None
    """None: of all users."""
    status: SessionStatus | None = None
    """None: all but the deleted ones."""
    provider: str | None = None
    model: str | None = None
    tags: tuple[str, ...] = ()
    """It has all of these."""
    metadata: tuple[tuple[str, str], ...] = ()
    """(key, JSON text of the value): the "metadata" of its config has all of these at the top."""
    text: str | None = None
    """Words that one of its visible messages has, all of them: see `words_of`.

    A text without words matches no session.
    """
    active_since_us: int | None = None
    """Inclusive, on the time of the last commit."""
    idle_since_us: int | None = None
    """Exclusive: the last commit was before this."""
    before_key: int | None = None
    """Exclusive; `next_key` of the page before."""


@attrs.frozen(kw_only=True)
class SessionPage:
    """Some sessions of a list, and where it goes on.

    A storage looks at a bounded number of sessions for one page, so that a rare match among many
    sessions holds nothing up: a page may be shorter than its limit, even empty, and not the last.
    """

    records: tuple[SessionRecord, ...] = ()
    next_key: int | None = None
    """`before_key` of the next page; None: this was the last one."""


@attrs.frozen(kw_only=True)
class UsageQuery:
    """Which days' figures to sum up; both days are included."""

    first_day: int
    last_day: int
    user_id: str | None = None
    """None: of all users."""


@attrs.frozen(kw_only=True)
class UsageReport:
    """What `read_usage` found."""

    days: tuple[UsageRecord, ...] = ()
    """One of each day, provider and model that has any, in this order; `user_id` is ""."""
    active_users: int = 0
    """Different users over all of these days."""
    active_users_by_day: tuple[tuple[int, int], ...] = ()
    """(day, different users), in the order of the days that have any."""


@attrs.frozen(kw_only=True)
class PromptMessage:
    """One message of the window that a provider is asked with."""

    role: Role
    content: str
    provider_message_id: str | None = None
    """An answer's id at the provider, so that a conversation is gone on with behind it."""
