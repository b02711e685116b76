"""What users see of messages, context and metrics: copies, made at the border.

Times and JSON are decoded when they are asked for: most programs only read `content`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ..actors.errors import InvalidMessageError
from ..actors.model import EMPTY_JSON, MessageRecord, Role, SessionRecord
from ..actors.usage import percentile_ms, read_latencies
from ..actors.values import decode_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta


def to_datetime(us: int) -> datetime:
    """An aware UTC datetime from microseconds since the epoch."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - see the module's docstring

    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch; a naive datetime is local time."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - see the module's docstring

    epoch = datetime.fromtimestamp(0, UTC)
    return (moment.astimezone(UTC) - epoch) // timedelta(microseconds=1)


def checked_us(moment: object, what: str) -> int:
    """As `to_us`, of whatever a caller gave. Raises InvalidMessageError that names `what`."""
    from datetime import datetime  # noqa: PLC0415 - see the module's docstring

    if not isinstance(moment, datetime):
        kind = type(moment).__name__
        raise InvalidMessageError(f"{what} must be a datetime, not a {kind}")
    try:
        return to_us(moment)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidMessageError(f"{what}={moment!r} has no place in UTC: {error}") from None


def now_us() -> int:
    """The wall clock: microseconds since the epoch."""
    return time.time_ns() // 1000


class RisingClock:
    """A wall clock that never stands still or goes back while the process lives.

    So two commits never carry the same time, and a write whose outcome is in doubt is recognised.
    """

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._last_us = 0

    def __call__(self) -> int:
        """Microseconds since the epoch, at least one more than before."""
        self._last_us = max(self._last_us + 1, self._clock_us())
        return self._last_us


class SessionMessage:
    """One message. A copy: changing it changes nothing but itself.

    A middleware changes `content` and `metadata` of the one it is given and returns it; the other
    fields are what the runtime knows and are not taken back.

    Args:
        role: who wrote it; compares equal to "user", "assistant" or "system".
        content: the text.
        timestamp: when it was made, aware, UTC; a naive value is local time; default now.
        message_id: unique within a storage.
        metadata: JSON values given with the message, or by a middleware.
        provider_message_id: the provider's own id of an answer, if it has one.
        provider_metadata: what the provider told beside the text.
        session_id: the session that it belongs to.
        seq: its place in the history: 1, 2, 3, ... without gaps (G1); 0: not stored.
        turn_id: the turn that wrote it, None outside of turns.
        token_count: tokens of an answer as the provider counted them, 0 if it did not.
        finish_reason: of an answer: `stop`, `length`, `interrupted`, ...; of a user message:
            `failed` if its turn failed (it is then left out of later prompts), else None.
    """

    __slots__ = (
        "_metadata",
        "_provider_metadata",
        "_timestamp",
        "content",
        "finish_reason",
        "message_id",
        "provider_message_id",
        "role",
        "seq",
        "session_id",
        "token_count",
        "turn_id",
    )

    def __init__(  # noqa: PLR0917 - the guide's order of fields
        self,
        role: Role | str,
        content: str,
        timestamp: datetime | None = None,
        message_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        provider_message_id: str | None = None,
        provider_metadata: Mapping[str, Any] | None = None,
        *,
        session_id: str = "",
        seq: int = 0,
        turn_id: str | None = None,
        token_count: int = 0,
        finish_reason: str | None = None,
    ) -> None:
        self.role = Role(role)
        self.content = content
        self._timestamp = now_us() if timestamp is None else to_us(timestamp)
        self.message_id = message_id
        # Either the caller's own dict or the JSON text that nobody has asked for yet.
        self._metadata: dict[str, Any] | str = dict(metadata or {})
        self._provider_metadata: dict[str, Any] | str = dict(provider_metadata or {})
        self.provider_message_id = provider_message_id
        self.session_id = session_id
        self.seq = seq
        self.turn_id = turn_id
        self.token_count = token_count
        self.finish_reason = finish_reason

    @property
    def timestamp(self) -> datetime:
        """When it was stored: aware, UTC."""
        return to_datetime(self._timestamp)

    @timestamp.setter
    def timestamp(self, moment: datetime) -> None:
        self._timestamp = to_us(moment)

    @property
    def metadata(self) -> dict[str, Any]:
        """JSON values given with the message, or by a middleware."""
        if isinstance(self._metadata, str):
            self._metadata = decode_object(self._metadata)
        return self._metadata

    @metadata.setter
    def metadata(self, values: Mapping[str, Any]) -> None:
        self._metadata = dict(values)

    @property
    def provider_metadata(self) -> dict[str, Any]:
        """What the provider told beside the text."""
        if isinstance(self._provider_metadata, str):
            self._provider_metadata = decode_object(self._provider_metadata)
        return self._provider_metadata

    @provider_metadata.setter
    def provider_metadata(self, values: Mapping[str, Any]) -> None:
        self._provider_metadata = dict(values)

    def fill(self, session_id: str, record: MessageRecord) -> None:
        """Take everything from a stored message; for the runtime's own use."""
        self.role = record.role
        self.content = record.content
        self._timestamp = record.created_us
        self.message_id = record.message_id or f"{session_id}/{record.seq}"
        self._metadata = record.metadata
        self._provider_metadata = record.provider_metadata
        self.provider_message_id = record.provider_message_id
        self.session_id = session_id
        self.seq = record.seq
        self.turn_id = f"{session_id}/{record.turn_no}" if record.turn_no else None
        self.token_count = record.token_count
        self.finish_reason = record.finish_reason

    def __repr__(self) -> str:
        text, more = self.content[:60], self.content[60:]
        shown = repr(text) + ("..." if more else "")
        return f"SessionMessage(seq={self.seq}, role={self.role.value!r}, content={shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionMessage):
            return NotImplemented
        return self._facts() == other._facts()

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def _facts(self) -> tuple[object, ...]:
        return (
            self.role,
            self.content,
            self._timestamp,
            self.message_id,
            self.metadata,
            self.provider_message_id,
            self.provider_metadata,
            self.session_id,
            self.seq,
            self.turn_id,
            self.token_count,
            self.finish_reason,
        )


def view_of(session_id: str, record: MessageRecord) -> SessionMessage:
    """A fresh copy of a stored message."""
    view = SessionMessage.__new__(SessionMessage)
    view.fill(session_id, record)
    return view


class SessionContext(Mapping[str, Any]):
    """A session's context as of one moment: a read-only mapping of JSON values.

    `version` counts the updates. What is in it is a copy: changing a nested list or dict changes
    nothing that is stored.
    """

    __slots__ = ("_text", "_values", "session_id", "user_id", "version")

    def __init__(self, record: SessionRecord, text: str, version: int) -> None:
        self.session_id = record.session_id
        self.user_id = record.user_id
        self.version = version
        self._text = text
        self._values: dict[str, Any] | None = {} if text == EMPTY_JSON else None

    def _decoded(self) -> dict[str, Any]:
        if self._values is None:
            self._values = decode_object(self._text)
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return f"SessionContext({self._decoded()!r}, version={self.version})"


@attrs.frozen(kw_only=True)
class SessionMetrics:
    """Lifetime figures of a session; clearing its history does not lower them.

    What the answers cost is estimated by `langswarm.core.session.costs.estimate_session_cost`.
    """

    total_messages: int
    user_messages: int
    assistant_messages: int
    system_messages: int
    completed_turns: int
    failed_turns: int
    interrupted_turns: int
    input_tokens: int
    """As the providers counted them."""
    output_tokens: int
    avg_response_time_ms: float
    """Mean over completed turns, from the commit of the question to the answer; 0.0 if none."""
    p95_response_time_ms: float
    """95 % of the completed turns took no longer; rounded up to 50, 100, 200, 300, ... ms."""
    session_duration: timedelta
    """From creation to the last commit."""

    @property
    def total_tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens


def metrics_of(record: SessionRecord) -> SessionMetrics:
    """The figures that a session's record carries."""
    from datetime import timedelta  # noqa: PLC0415 - see the module's docstring

    counters = record.counters
    completed = counters.completed_turns
    return SessionMetrics(
        total_messages=counters.user_messages
        + counters.assistant_messages
        + counters.system_messages,
        user_messages=counters.user_messages,
        assistant_messages=counters.assistant_messages,
        system_messages=counters.system_messages,
        completed_turns=completed,
        failed_turns=counters.failed_turns,
        interrupted_turns=counters.interrupted_turns,
        input_tokens=counters.input_tokens,
        output_tokens=counters.output_tokens,
        avg_response_time_ms=counters.response_us / completed / 1000 if completed else 0.0,
        p95_response_time_ms=percentile_ms(read_latencies(record.latencies), 0.95),
        session_duration=timedelta(microseconds=record.updated_us - record.created_us),
    )


for _public in (SessionMessage, SessionContext, SessionMetrics):
    _public.__module__ = "langswarm.core.session.interfaces"
