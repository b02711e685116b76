"""A provider without a network whose answers are predictable: for development and for tests.

By default it answers "Mock response to: " and the user's message. It can be slow, stream in
chunks, fail at a rate, and play a script of replies and faults; all of it per session, through
`session.provider_session` (`MockProviderSession`) or `provider_config`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_args

import anyio
import attrs

from ...actors.errors import ConfigurationError, ProviderCode, ProviderError
from ...actors.model import Role
from ...actors.ports import Completed, IProvider, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from typing_extensions import override

    from ...actors.ports import ProviderEvent, ProviderRequest, ProviderSettings
else:

    def override(method: object) -> object:
        """Stands in for `typing.override`, which Python 3.11 lacks."""
        return method


DEFAULT_PATTERN = "Mock response to: {input}"
MAX_DELAY_MS = 600_000
"""The longest delay: 10 minutes."""
MAX_CHUNK_SIZE = 1_000_000
MAX_TEXT = 1_000_000
"""Characters of a pattern, of a scripted text and of a fault's message."""
MAX_CHUNKS = 10_000
"""Chunks of one scripted reply."""
MAX_SCRIPT_ITEMS = 1_000
MAX_SCRIPTED_SESSIONS = 65_536
"""Sessions whose place in their script is remembered; the least recently asked goes first."""

SETTINGS_PREFIX = "mock_"
"""What `MockProviderSession` sets is kept under the option's name with this before it."""

_CODES: tuple[str, ...] = get_args(ProviderCode)
_RETRYABLE = frozenset({"rate_limit", "overloaded", "locked", "timeout", "connection", "truncated"})

ScriptItem = str | Mapping[str, Any]
"""What happens in one turn: the text of a reply, or what `reply`, `fault`, `hang`, `truncate` made.

JSON values only, so a script is saved with its session.
"""


# ---------------------------------------------------------------- what may be set to what


def _refuse(name: str, wanted: str, value: object) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:  # noqa: PLR2004 - one line of a terminal
        shown = shown[:77] + "..."
    raise ConfigurationError(f"{name} must be {wanted}, not {shown}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_text(name: str, value: Any) -> str:
    wanted = f"a text of at most {MAX_TEXT} characters"
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _refuse(name, wanted, value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse(name, f"{wanted} without lone surrogates", value)
    return value


def _check_delay(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= MAX_DELAY_MS:
        _refuse(name, f"a number of milliseconds from 0 to {MAX_DELAY_MS}", value)
    return cast("float", value)


def _check_rate(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        _refuse(name, "a number from 0 (never) to 1 (always)", value)
    return cast("float", value)


def _check_size(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_CHUNK_SIZE:
        _refuse(
            name,
            f"a whole number of characters from 1 to {MAX_CHUNK_SIZE}, or None for no chunks",
            value,
        )
    return value


def _check_chunks(name: str, value: Any) -> list[str]:
    wanted = f"a list of at most {MAX_CHUNKS} texts"
    if not isinstance(value, list | tuple):
        _refuse(name, wanted, cast("object", value))
    texts = cast("Sequence[Any]", value)
    if len(texts) > MAX_CHUNKS:
        _refuse(name, wanted, texts)
    checked = [_check_text(f"{name}[{place}]", text) for place, text in enumerate(texts)]
    if sum(map(len, checked)) > MAX_TEXT:
        _refuse(name, f"texts of at most {MAX_TEXT} characters in total", texts)
    return checked


def _check_count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_CHUNKS:
        _refuse(name, f"a whole number from 0 to {MAX_CHUNKS}", value)
    return value


def _check_reason(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 100:  # noqa: PLR2004 - a word
        _refuse(name, "a text of 1 to 100 characters", value)
    return _check_text(name, value)


def _check_code(name: str, value: Any) -> str:
    if value not in _CODES:
        _refuse(name, f"one of {', '.join(_CODES)}", value)
    return cast("str", value)


def _check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse(name, "True or False", value)
    return value


def _check_seconds(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= MAX_DELAY_MS:
        _refuse(name, f"a number of seconds from 0 to {MAX_DELAY_MS}", value)
    return cast("float", value)


_FIELDS: dict[str, dict[str, Callable[[str, Any], Any]]] = {
    "reply": {
        "text": _check_text,
        "chunks": _check_chunks,
        "delay_ms": _check_delay,
        "finish_reason": _check_reason,
    },
    "fault": {
        "code": _check_code,
        "message": _check_text,
        "retryable": _check_flag,
        "retry_after_seconds": _check_seconds,
        "after_chunks": _check_count,
    },
    "hang": {"after_chunks": _check_count},
    "truncate": {"text": _check_text},
}
_NEEDED = {"fault": "code", "truncate": "text"}


def _check_item(name: str, item: object) -> str | dict[str, Any]:
    """A copy of the item in JSON types, without the fields that are None."""
    if isinstance(item, str):
        return _check_text(name, item)
    if not isinstance(item, Mapping):
        _refuse(name, "a text, or what reply(), fault(), hang() or truncate() made", item)
    given = cast("Mapping[str, Any]", item)
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        _refuse(f"{name}['kind']", f"one of {', '.join(_FIELDS)}", kind)
    fields = _FIELDS[kind]
    checked: dict[str, Any] = {"kind": kind}
    for field, value in given.items():
        if field == "kind" or value is None:
            continue
        if field not in fields:
            _refuse(name, f"a {kind} with no fields but {', '.join(fields)}", given)
        checked[field] = fields[field](f"{name}[{field!r}]", value)
    needed = _NEEDED.get(kind)
    if needed is not None and needed not in checked:
        _refuse(name, f"a {kind} with a field {needed}", given)
    if kind == "reply" and ("text" in checked) == ("chunks" in checked):
        _refuse(name, "a reply with either a text or chunks", given)
    return checked


def _check_script(name: str, value: Any) -> list[str | dict[str, Any]]:
    items = _script_items(name, value)
    return [_check_item(f"{name}[{place}]", item) for place, item in enumerate(items)]


def _script_items(name: str, value: Any) -> Sequence[Any]:
    """The items unchecked: at a turn only the one that is played gets checked."""
    wanted = f"a list of at most {MAX_SCRIPT_ITEMS} items"
    if not isinstance(value, list | tuple):
        _refuse(name, wanted, cast("object", value))
    items = cast("Sequence[Any]", value)
    if len(items) > MAX_SCRIPT_ITEMS:
        _refuse(name, wanted, items)
    return items


# ---------------------------------------------------------------- the items of a script


def reply(
    text: str | None = None,
    *,
    chunks: Sequence[str] | None = None,
    delay_ms: float | None = None,
    finish_reason: str = "stop",
) -> dict[str, Any]:
    """A script item: answer with `text`, taken literally, or with exactly these `chunks`.

    `delay_ms`: milliseconds before the first chunk, 0 to 600,000; None: as the session has it.
    A `text` is cut by the session's chunk size.
    """
    return _item("reply", text=text, chunks=chunks, delay_ms=delay_ms, finish_reason=finish_reason)


def fault(
    code: ProviderCode,
    message: str | None = None,
    *,
    retryable: bool | None = None,
    retry_after_seconds: float | None = None,
    after_chunks: int = 0,
) -> dict[str, Any]:
    """A script item: fail with `ProviderError` of this `code`.

    `retryable` None: True for rate_limit, overloaded, locked, timeout, connection and truncated.
    `retry_after_seconds`: 0 to 600,000, None: not known. `after_chunks`: so many chunks of the
    answer that the pattern gives arrive before, 0 to 10,000.
    """
    return _item(
        "fault",
        code=code,
        message=message,
        retryable=retryable,
        retry_after_seconds=retry_after_seconds,
        after_chunks=after_chunks,
    )


def hang(*, after_chunks: int = 0) -> dict[str, Any]:
    """A script item: wait until the turn is cancelled, it never ends by itself.

    `after_chunks`: so many chunks of the answer that the pattern gives arrive before, 0 to 10,000.
    """
    return _item("hang", after_chunks=after_chunks)


def truncate(text: str) -> dict[str, Any]:
    """A script item: stream `text`, then end without `Completed`, as a cut connection does."""
    return _item("truncate", text=text)


def _item(kind: str, **fields: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", _check_item(kind, {"kind": kind, **fields}))


# ---------------------------------------------------------------- the provider


@attrs.frozen(kw_only=True)
class _Options:
    """The options of one turn."""

    response_pattern: str
    response_delay_ms: float
    chunk_size: int | None
    chunk_delay_ms: float
    error_rate: float
    script: Any
    """A list of items; from `set_script` {"id": number, "items": list}; None: no script."""


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "response_pattern": _check_text,
    "response_delay_ms": _check_delay,
    "chunk_size": _check_size,
    "chunk_delay_ms": _check_delay,
    "error_rate": _check_rate,
    "script": lambda _name, value: value,
}
_KEYS = tuple(
    (name, (SETTINGS_PREFIX + name, name), check)  # what was set goes before what was configured
    for name, check in _CHECKS.items()
)

_HANG = "hang"
_CUT = "cut"

_Play = tuple[Sequence[str], float, float, "Completed | ProviderError | str"]
"""What happens in one turn: chunks, seconds before the first and between them, and the end."""


class MockProvider(IProvider):
    """Answers by a pattern or a script, without a network; the same input, the same answer.

    The keywords are the defaults of every session. A session overrides them by its
    `provider_config`, under the same names, and both are overridden by what
    `session.provider_session` sets. Other keys of a `provider_config` are ignored, so that the
    mock can stand in for a vendor whose options it does not have.

    - `response_pattern`: the answer; each `{input}` in it becomes the last user message, taken
      literally. At most 1,000,000 characters.
    - `response_delay_ms`: milliseconds before the answer begins, or fails; 0 to 600,000.
    - `chunk_size`: characters (code points) per `TextDelta`, 1 to 1,000,000; None: all at once.
    - `chunk_delay_ms`: milliseconds between two deltas, 0 to 600,000.
    - `error_rate`: the share of turns that fail with the retryable code `overloaded` before any
      text, 0 to 1. Decided by the turn's id alone: the same turn fails in every run.
    - `script`: up to 1,000 texts and items made by `reply`, `fault`, `hang` and `truncate`. Each
      request takes the next one, failed and cancelled ones too; after the last one the pattern
      answers again. The error rate spares scripted turns.
    - `name`: what a `ProviderError` names as its provider.

    How far a session has come in its script is known to this object alone, for the 65,536
    sessions asked last: a script starts again in a new process. All else is kept with the session.

    Token counts are estimates, max(1, characters // 4): `input_tokens` of the last user message
    alone, so that a turn costs the same however long the history is; `output_tokens` of the
    answer. A turn without delays never gives way to other tasks. A value of a `provider_config`
    that is out of its range fails the turn with code `invalid_request`.
    """

    def __init__(
        self,
        *,
        response_pattern: str = DEFAULT_PATTERN,
        response_delay_ms: float = 0,
        chunk_size: int | None = None,
        chunk_delay_ms: float = 0,
        error_rate: float = 0,
        script: Sequence[ScriptItem] = (),
        name: str = "mock",
    ) -> None:
        self._name = name
        self._options = _Options(
            response_pattern=_check_text("response_pattern", response_pattern),
            response_delay_ms=_check_delay("response_delay_ms", response_delay_ms),
            chunk_size=_check_size("chunk_size", chunk_size),
            chunk_delay_ms=_check_delay("chunk_delay_ms", chunk_delay_ms),
            error_rate=_check_rate("error_rate", error_rate),
            script=_check_script("script", script) or None,
        )
        # No smaller than any number that this object gave to a script or met in a session,
        # so a new script is never taken for one that was saved by an earlier process.
        self._script_number = 0
        self._places: OrderedDict[str, tuple[object, int]] = OrderedDict()

    @override
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn; see the class."""
        chunks, delay, chunk_delay, end = self._decide(request)
        if delay:
            await anyio.sleep(delay)
        first = True
        for chunk in chunks:
            if chunk_delay and not first:
                await anyio.sleep(chunk_delay)
            first = False
            yield TextDelta(chunk)
        if isinstance(end, Completed):
            yield end
        elif isinstance(end, ProviderError):
            try:
                raise end
            finally:
                del end  # else the error and its traceback would keep each other alive
        elif end is _HANG:
            await anyio.sleep_forever()

    @override
    def session_view(self, settings: ProviderSettings) -> MockProviderSession:
        """The controls of one session."""
        return MockProviderSession(settings, self._next_script_number)

    def _decide(self, request: ProviderRequest) -> _Play:
        options = self._options
        try:
            if request.config:
                options = _override_options(options, request.config)
            item = None if options.script is None else self._next_item(request, options.script)
        except ConfigurationError as error:
            raise self._error(str(error), "invalid_request") from error
        question = _last_user_message(request)
        text = options.response_pattern.replace("{input}", question)
        delay_ms = options.response_delay_ms
        finish_reason = "stop"
        chunks: Sequence[str] | None = None
        end: Completed | ProviderError | str | None = None
        if item is None:
            if options.error_rate and _fails(request.turn_id, options.error_rate):
                text = ""
                end = self._error(
                    f"mock failure (error_rate={options.error_rate})", "overloaded", retryable=True
                )
        elif isinstance(item, str):
            text = item
        elif item["kind"] == "reply":
            chunks = item.get("chunks")
            text = item["text"] if chunks is None else "".join(chunks)
            delay_ms = item.get("delay_ms", delay_ms)
            finish_reason = item.get("finish_reason", finish_reason)
        elif item["kind"] == "truncate":
            text = item["text"]
            end = _CUT
        else:
            chunks = _cut(text, options.chunk_size)[: item.get("after_chunks", 0)]
            end = _HANG if item["kind"] == "hang" else self._fault(item)
        if chunks is None:
            chunks = _cut(text, options.chunk_size)
        if end is None:
            end = Completed(
                finish_reason=finish_reason,
                input_tokens=_estimate_tokens(question),
                output_tokens=_estimate_tokens(text),
            )
        return chunks, delay_ms / 1000, options.chunk_delay_ms / 1000, end

    def _next_item(self, request: ProviderRequest, script: object) -> str | dict[str, Any] | None:
        identity: object
        if isinstance(script, Mapping):
            numbered = cast("Mapping[str, Any]", script)
            identity = number = _check_number(numbered.get("id"))
            self._script_number = max(self._script_number, number)
            items = _script_items("script", numbered.get("items"))
        else:
            items = _script_items("script", script)
            # Those set are numbered from 1; those of a provider_config are told by what they say.
            identity = 0 if script is self._options.script else hash(repr(items))
        if not items:
            return None
        place = 0
        known = self._places.get(request.session_id)
        if known is not None and known[0] == identity:
            place = known[1]
        # At the end too: or the script would start again.
        self._places[request.session_id] = (identity, min(place + 1, len(items)))
        self._places.move_to_end(request.session_id)
        if len(self._places) > MAX_SCRIPTED_SESSIONS:
            self._places.popitem(last=False)
        return _check_item(f"script[{place}]", items[place]) if place < len(items) else None

    def _next_script_number(self) -> int:
        self._script_number += 1
        return self._script_number

    def _fault(self, item: Mapping[str, Any]) -> ProviderError:
        code: ProviderCode = item["code"]
        return self._error(
            item.get("message", f"mock fault ({code})"),
            code,
            retryable=item.get("retryable", code in _RETRYABLE),
            retry_after_seconds=item.get("retry_after_seconds"),
        )

    def _error(
        self,
        message: str,
        code: ProviderCode,
        *,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> ProviderError:
        return ProviderError(
            message,
            code=code,
            provider=self._name,
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
        )


class MockProviderSession:
    """What `session.provider_session` is in a session of the mock: it steers the next turns.

    Everything that is set holds from the session's next turn on, goes before the session's
    `provider_config` and the provider's defaults, survives eviction, and is saved with the
    session's next write. A wrong value raises `ConfigurationError` and changes nothing.
    `MockProvider.session_view` makes it.
    """

    def __init__(self, settings: ProviderSettings, next_script_number: Callable[[], int]) -> None:
        self._settings = settings
        self._next_script_number = next_script_number

    def set_response_pattern(self, pattern: str) -> None:
        """Answer with `pattern`, each `{input}` in it replaced by the user's message.

        At most 1,000,000 characters; the provider's default is "Mock response to: {input}".
        """
        self._set("response_pattern", pattern)

    def set_response_delay(self, milliseconds: float) -> None:
        """Wait so long before an answer begins: 0 (default) to 600,000 milliseconds."""
        self._set("response_delay_ms", milliseconds)

    def set_chunk_size(self, characters: int | None) -> None:
        """Stream deltas of so many characters: 1 to 1,000,000, None (default): all at once."""
        self._set("chunk_size", characters)

    def set_chunk_delay(self, milliseconds: float) -> None:
        """Wait so long between two deltas: 0 (default) to 600,000 milliseconds."""
        self._set("chunk_delay_ms", milliseconds)

    def set_error_rate(self, rate: float) -> None:
        """Let this share of the turns fail: 0 (default) to 1.

        The code is `overloaded`. The turn's id decides: the same turn fails in every run.
        """
        self._set("error_rate", rate)

    def set_script(self, items: Sequence[ScriptItem]) -> None:
        """Play these replies and faults, one per request, then answer by the pattern again.

        At most 1,000 texts and items made by `reply`, `fault`, `hang` and `truncate`. It takes the
        place of an earlier script, played to the end or not; an empty one ends it. In a new
        process a saved script starts again.
        """
        checked = _check_script("script", items)
        self._settings.set(
            SETTINGS_PREFIX + "script", {"id": self._next_script_number(), "items": checked}
        )

    def _set(self, name: str, value: object) -> None:
        self._settings.set(SETTINGS_PREFIX + name, _CHECKS[name](name, value))


def _override_options(options: _Options, config: Mapping[str, Any]) -> _Options:
    changes: dict[str, Any] = {}
    for name, keys, check in _KEYS:
        for key in keys:
            if key in config:
                changes[name] = check(key, config[key])
                break
    return attrs.evolve(options, **changes) if changes else options


def _check_number(value: Any) -> int:
    if not isinstance(value, int):
        _refuse("script['id']", "a whole number", value)
    return value


def _last_user_message(request: ProviderRequest) -> str:
    for message in reversed(request.messages):
        if message.role is Role.USER:
            return message.content
    return ""


def _cut(text: str, size: int | None) -> Sequence[str]:
    if size is None or len(text) <= size:
        return (text,) if text else ()
    return [text[start : start + size] for start in range(0, len(text), size)]


def _estimate_tokens(text: str) -> int:
    return max(1, len(text) // 4)


def _fails(turn_id: str, rate: float) -> bool:
    from random import Random  # noqa: PLC0415 - who sets no error rate does not load it

    # Seeded by the whole text, evenly: a checksum alone would tie neighbouring turns together.
    return Random(turn_id).random() < rate  # noqa: S311 - repeatable on purpose
