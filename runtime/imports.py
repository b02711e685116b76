"""Exported conversations become sessions: everything is checked before anything is stored.

What comes in may be from anywhere. Each value is checked as a caller's is, and against the others
as far as the runtime relies on it; what is wrong is an InvalidMessageError that names its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import anyio.lowlevel
import anyio.to_thread
import attrs

from ..actors.branches import REWOUND
from ..actors.decisions import MAX_CREATED_MESSAGES, CreateSession
from ..actors.errors import ConfigurationError, InvalidMessageError
from ..actors.fallback import KEY as FALLBACKS
from ..actors.model import (
    EMPTY_JSON,
    LATENCY_BOUNDS_MS,
    Counters,
    MessageRecord,
    Role,
    SessionStatus,
    TurnRecord,
    TurnState,
)
from ..actors.past import Past
from ..actors.values import check_text, encode_object, refuse_keys
from .config import session_config_text
from .export import FORMAT, REWIND, VERSION
from .views import checked_us

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import StrEnum
    from typing import TypeVar

    from ..actors.limits import Limits
    from .host import Host

    E = TypeVar("E", bound=StrEnum)

MAX_IMPORT_BYTES = 256 * 2**20
IMPORTED_ID = "imported_message_id"
"""The key in a message's metadata for the id that it had, where it is not made of its number."""

_ID_BYTES = 500
_NAME_BYTES = 1_000
_ERROR_BYTES = 64 * 1024
_AT_ONCE_CHARACTERS = 1_000_000
_STEP = 500
_MAX_COUNT = 2**53
_MAX_NUMBER = 2**31
"""Of a message or a turn: what no conversation reaches, and a storage can go on from."""
_STATUSES = (SessionStatus.ACTIVE, SessionStatus.ARCHIVED)


async def creation_of(host: Host, data: object, user_id: str | None) -> CreateSession:
    """The command that makes the session. Raises InvalidMessageError and ConfigurationError."""
    document = await document_of(data)
    _check_version(document)
    facts = _object(document.get("session"), "session")
    given = document.get("messages")
    if not isinstance(given, (list, tuple)):
        raise InvalidMessageError('the conversation has no list of "messages"')
    listed = cast("Sequence[object]", given)
    if len(listed) > MAX_CREATED_MESSAGES:
        raise InvalidMessageError(
            f"the conversation has more than {MAX_CREATED_MESSAGES} messages, which is what one "
            "transaction may hold"
        )
    reader = _Messages(host.limits, facts)
    for number, message in enumerate(listed):
        if number % _STEP == _STEP - 1:
            await anyio.lowlevel.checkpoint()
        reader.add(message, f"messages[{number}]")
    return _command(host, document, facts, reader, user_id)


def _command(
    host: Host,
    document: Mapping[str, Any],
    facts: Mapping[str, Any],
    reader: _Messages,
    user_id: str | None,
) -> CreateSession:
    limits = host.limits
    provider = _name(facts.get("provider"), "session.provider")
    now_us = host.wall_clock_us()
    created_us = _moment(facts.get("created_at"), "session.created_at", now_us)
    messages = tuple(reader.messages)
    return CreateSession(
        user_id=_name(
            facts.get("user_id") if user_id is None else user_id,
            "session.user_id" if user_id is None else "user_id",
        ),
        provider=provider,
        model=_name(facts.get("model"), "session.model"),
        config=_config(facts.get("config"), limits),
        provider_config=_provider_config(host, provider, facts.get("provider_config")),
        context=_json(facts.get("context"), "session.context", limits.max_context_bytes),
        messages=messages,
        past=Past(
            created_us=created_us,
            updated_us=_moment(facts.get("updated_at"), "session.updated_at", now_us),
            status=_one_of(facts.get("status", "active"), _STATUSES, "session.status"),
            last_seq=reader.last_seq,
            last_turn_no=reader.last_turn_no,
            turns=_turns(document.get("turns"), reader),
            counters=_counters(document.get("metrics"), messages),
            latencies=_latencies(document.get("metrics")),
            provider_settings=_json(
                facts.get("provider_settings"), "session.provider_settings", limits.max_config_bytes
            ),
            context_version=_count(facts.get("context_version"), "session.context_version"),
        ),
    )


# ---------------------------------------------------------------- the document


async def document_of(data: object) -> Mapping[str, Any]:
    """What a mapping, JSON text or JSON lines say, not checked yet. Raises InvalidMessageError."""
    if isinstance(data, Mapping):
        return cast("Mapping[str, Any]", data)
    if isinstance(data, (bytes, bytearray)):
        if len(data) > MAX_IMPORT_BYTES:
            raise _too_large()
        try:
            data = bytes(data).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidMessageError(f"the conversation is no text in UTF-8: {error}") from None
    if not isinstance(data, str):
        raise InvalidMessageError(
            "a conversation is what export_conversation() returned: a mapping, JSON text, or JSON "
            f"lines; not a {type(data).__name__}"
        )
    if len(data) > MAX_IMPORT_BYTES:
        raise _too_large()
    if len(data) > _AT_ONCE_CHARACTERS:  # the event loop would stand still
        return await anyio.to_thread.run_sync(_parsed, data)
    return _parsed(data)


def _too_large() -> InvalidMessageError:
    return InvalidMessageError(f"the conversation has more than {MAX_IMPORT_BYTES} bytes")


def _parsed(text: str) -> Mapping[str, Any]:
    text = text.removeprefix("\ufeff").strip()
    first, _, rest = text.partition("\n")
    try:
        document = _object(json.loads(text), "the conversation")
    except json.JSONDecodeError as error:
        if not rest or error.pos < len(first):
            raise InvalidMessageError(f"the conversation is no JSON: {error}") from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise InvalidMessageError(f"the conversation cannot be read: {error}") from None
    else:
        if "messages" in document or "message_count" not in document:
            return document
    return _of_lines(text if not rest else first, rest)


def _of_lines(first: str, rest: str) -> Mapping[str, Any]:
    header = dict(_object(_value(first, 1), "line 1"))
    lines = rest.split("\n")
    messages = [_value(line, number) for number, line in enumerate(lines, 2) if line.strip()]
    wanted = _count_or_none(header.pop("message_count", None), "message_count")
    if wanted is not None and wanted != len(messages):
        raise InvalidMessageError(
            f"the conversation has {len(messages)} of {wanted} messages; it was cut off, or lines "
            "were added"
        )
    return {**header, "messages": messages}


def _value(line: str, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(f"line {number} is no JSON: {error}") from None


def _check_version(document: Mapping[str, Any]) -> None:
    found = document.get("format")
    if found != FORMAT:
        raise ConfigurationError(
            f"this is no conversation of export_conversation(): its format is not {FORMAT!r}; "
            "files of other programs are read by: langswarm-session import"
        )
    version: object = document.get("version")
    if not isinstance(version, bool) and version == VERSION:
        return
    newer = isinstance(version, int) and not isinstance(version, bool) and version > VERSION
    advice = (
        "it was exported by a newer version of langswarm-session: update this one"
        if newer
        else "export it again with export_conversation()"
    )
    raise ConfigurationError(
        f"the conversation has the version {_shown(version)}, this runtime reads {VERSION}; "
        f"{advice}"
    )


# ---------------------------------------------------------------- messages and turns


class _Messages:
    """The messages, one by one, with what the next one has to fit to."""

    def __init__(self, limits: Limits, facts: Mapping[str, Any]) -> None:
        self._limits = limits
        self._old_id = facts.get("session_id")
        self.messages: list[MessageRecord] = []
        self.last_turn_no = _number(facts.get("last_turn"), "session.last_turn") or 0
        self._most = _number(facts.get("last_seq"), "session.last_seq")
        self._last = 0

    @property
    def last_seq(self) -> int:
        return self._last if self._most is None else self._most

    def add(self, value: object, what: str) -> None:
        given = _object(value, what)
        seq = _number(given.get("seq", self._last + 1), f"{what}.seq") or 0
        if seq <= self._last or (self._most is not None and seq > self._most):
            raise InvalidMessageError(
                f"{what}.seq is {seq}, which does not fit behind {self._last}"
            )
        self._last = seq
        limits = self._limits
        content = given.get("content")
        self.messages.append(
            MessageRecord(
                seq=seq,
                role=_one_of(given.get("role"), tuple(Role), f"{what}.role"),
                content=check_text(
                    content, f"{what}.content", max_bytes=limits.max_message_bytes, empty=True
                ),
                created_us=_moment(given.get("timestamp"), f"{what}.timestamp", None),
                turn_no=self._turn(given.get("turn"), f"{what}.turn"),
                hidden_by=self._hidden_by(given, f"{what}.hidden_by"),
                metadata=_json(
                    self._metadata(given, seq, what), f"{what}.metadata", limits.max_metadata_bytes
                ),
                provider_message_id=_optional(
                    given.get("provider_message_id"), f"{what}.provider_message_id", _NAME_BYTES
                ),
                provider_metadata=_json(
                    given.get("provider_metadata"),
                    f"{what}.provider_metadata",
                    limits.max_message_bytes,
                ),
                token_count=_count(given.get("token_count"), f"{what}.token_count"),
                finish_reason=_optional(
                    given.get("finish_reason"), f"{what}.finish_reason", _NAME_BYTES
                ),
            )
        )

    def _metadata(self, given: Mapping[str, Any], seq: int, what: str) -> object:
        """Ids are made of session and number here; one of another kind is kept beside."""
        metadata = given.get("metadata")
        old = _optional(given.get("message_id"), f"{what}.message_id", _NAME_BYTES)
        if old is None or old == f"{self._old_id}/{seq}":
            return metadata
        return {IMPORTED_ID: old, **_object(metadata or {}, f"{what}.metadata")}

    def _turn(self, value: object, what: str) -> int:
        number = _count(value, what)
        if number > self.last_turn_no:
            raise InvalidMessageError(
                f"{what} is {number}, but session.last_turn is {self.last_turn_no}"
            )
        return number

    def _hidden_by(self, given: Mapping[str, Any], what: str) -> int:
        value = given.get("hidden_by")
        if value == REWIND or (value is None and given.get("hidden") is True):
            return REWOUND
        return self._turn(value, what)


def _turns(value: object, reader: _Messages) -> tuple[TurnRecord, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidMessageError(f'"turns" must be a list, not a {type(value).__name__}')
    listed = cast("Sequence[object]", value)
    if len(listed) > MAX_CREATED_MESSAGES:
        raise InvalidMessageError(f"the conversation has more than {MAX_CREATED_MESSAGES} turns")
    questions = {message.seq: message for message in reader.messages}
    turns = tuple(
        _past_turn(each, f"turns[{number}]", reader, questions)
        for number, each in enumerate(listed)
    )
    if len({turn.turn_no for turn in turns}) != len(turns):
        raise InvalidMessageError("a turn is there twice")
    return turns


_ENDED = (TurnState.COMPLETED, TurnState.FAILED, TurnState.INTERRUPTED)


def _past_turn(
    value: object, what: str, reader: _Messages, questions: Mapping[int, MessageRecord]
) -> TurnRecord:
    given = _object(value, what)
    number = _count(given.get("turn"), f"{what}.turn")
    seq = _count(given.get("question_seq"), f"{what}.question_seq")
    question = questions.get(seq)
    fits = question is None or (question.role is Role.USER and question.turn_no == number)
    if not 0 < number <= reader.last_turn_no or not 0 < seq <= reader.last_seq or not fits:
        raise InvalidMessageError(f"{what} does not fit to the messages")
    replaces = _count(given.get("replaces"), f"{what}.replaces")
    if replaces >= number:
        raise InvalidMessageError(f"{what}.replaces is no turn before it")
    return TurnRecord(
        turn_no=number,
        state=_one_of(given.get("state"), _ENDED, f"{what}.state"),
        user_seq=seq,
        opened_us=_moment(given.get("opened_at"), f"{what}.opened_at", None),
        closed_us=_moment(given.get("closed_at"), f"{what}.closed_at", None),
        replaces=replaces,
        error_code=_optional(given.get("error_code"), f"{what}.error_code", _NAME_BYTES),
        error_text=_optional(given.get("error_text"), f"{what}.error_text", _ERROR_BYTES),
        input_tokens=_count(given.get("input_tokens"), f"{what}.input_tokens"),
        output_tokens=_count(given.get("output_tokens"), f"{what}.output_tokens"),
    )


# ---------------------------------------------------------------- facts


def _config(value: object, limits: Limits) -> str:
    if not value:
        return EMPTY_JSON
    return session_config_text(value, max_bytes=limits.max_config_bytes)


def _provider_config(host: Host, provider: str, value: object) -> str:
    """Keys are refused; the rest is the provider's to judge, where this manager has it."""
    text = _json(value, "session.provider_config", host.limits.max_config_bytes)
    if text == EMPTY_JSON:
        return text
    config = cast("Mapping[str, Any]", value)
    refuse_keys(config, "session.provider_config")
    known = host.providers.get(provider)
    if known is not None:
        known.check_config({name: each for name, each in config.items() if name != FALLBACKS})
    return text


def _counters(value: object, messages: Sequence[MessageRecord]) -> Counters:
    if value is None:
        roles = [message.role for message in messages]
        return Counters(
            user_messages=roles.count(Role.USER),
            assistant_messages=roles.count(Role.ASSISTANT),
            system_messages=roles.count(Role.SYSTEM),
        )
    given = _object(value, "metrics")
    names = [field.name for field in attrs.fields(Counters)]
    return Counters(**{name: _count(given.get(name), f"metrics.{name}") for name in names})


def _latencies(value: object) -> str:
    given = _object(value or {}, "metrics").get("latencies")
    if given is None:
        return ""
    classes = len(LATENCY_BOUNDS_MS) + 1
    if not isinstance(given, (list, tuple)) or len(cast("Sequence[object]", given)) != classes:
        raise InvalidMessageError(f"metrics.latencies must be a list of {classes} counts")
    counts = [_count(count, "metrics.latencies") for count in cast("Sequence[object]", given)]
    return " ".join(map(str, counts)) if any(counts) else ""


# ---------------------------------------------------------------- values


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidMessageError(f"{what} must be a JSON object, not a {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def _json(value: object, what: str, max_bytes: int) -> str:
    return EMPTY_JSON if value is None else encode_object(value, what, max_bytes=max_bytes)


def _name(value: object, what: str) -> str:
    return check_text(value, what, max_bytes=_ID_BYTES)


def _optional(value: object, what: str, max_bytes: int) -> str | None:
    return None if value is None else check_text(value, what, max_bytes=max_bytes, empty=True)


def _count(value: object, what: str) -> int:
    return _count_or_none(value, what) or 0


def _count_or_none(value: object, what: str) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT
    if value is not None and not fits:
        raise InvalidMessageError(f"{what} must be an int from 0 to 2^53, not {_shown(value)}")
    return cast("int | None", value)


def _number(value: object, what: str) -> int | None:
    number = _count_or_none(value, what)
    if number is not None and number > _MAX_NUMBER:
        raise InvalidMessageError(f"{what} is {number}; numbers go up to {_MAX_NUMBER}")
    return number


def _shown(value: object) -> str:
    """Short, whatever it is: an int may have too many digits to be printed."""
    if isinstance(value, str):
        return ascii(value[:40])
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int) and abs(value) <= _MAX_COUNT:
        return repr(value)
    return f"a {type(value).__name__}"


def _one_of(value: object, known: tuple[E, ...], what: str) -> E:
    for each in known:
        if isinstance(value, str) and each.value == value:
            return each
    names = ", ".join(each.value for each in known)
    raise InvalidMessageError(f"{what} must be one of {names}, not {_shown(value)}")


def _moment(value: object, what: str, default_us: int | None) -> int:
    """Microseconds since the epoch, of a text in ISO 8601; one without an offset is local time."""
    if value is None and default_us is not None:
        return default_us
    if not isinstance(value, str):
        raise InvalidMessageError(f"{what} must be a time in ISO 8601, not {_shown(value)}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidMessageError(f"{what} is no time in ISO 8601: {error}") from None
    return checked_us(moment, what)
