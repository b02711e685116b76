"""A provider made of one async function: whatever has `async def send_message(self, messages)`.

The whole answer arrives at once. What streams, or keeps conversations, implements `IProvider`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

import attrs

from ...actors.errors import ConfigurationError, ProviderError
from ...actors.ports import Completed, IProvider, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ...actors.ports import ProviderEvent, ProviderRequest

_EXTRAS: dict[str, Callable[[ProviderRequest], object]] = {
    "model": lambda request: request.model,
    "config": lambda request: dict(request.config),
    "session_id": lambda request: request.session_id,
    "turn_id": lambda request: request.turn_id,
}
"""What a `send_message` is given beside the messages, if it has a parameter of that name."""
_DETAILS = tuple(
    field.name for field in attrs.fields(Completed) if field.name != "provider_session_id"
)
_ANSWER_PARTS = 2
_BY_PLACE = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class SimpleProvider(IProvider):
    """Answers with what `target.send_message` returns.

    `send_message` is an async function. Its first parameter gets the window, a new list of
    `{"role": "user" | "assistant" | "system", "content": str}`, the new user message last. It may
    have more, by these names: `model` (str), `config` (the session's provider_config, a dict),
    `session_id`, `turn_id` (both str; the latter is unique). It returns the text of the answer, or
    `(text, details)`, where `details` is a mapping that may hold `input_tokens`, `output_tokens`
    (int, 0 by default), `finish_reason` (str, "stop" by default), `provider_message_id` (str) and
    `metadata` (JSON values).

    A `ProviderError` that it raises passes; any other exception, and an answer of another form,
    becomes one of code `internal`, with the exception as its cause. The error's text, which is
    stored, names the exception's type only: its own text may hold what nobody should read.
    Cancellation passes.

    Without a parameter `config` every key of a provider_config is refused. With one, the target's
    own plain `check_config(config)` decides, if it has one. Its `async def aclose()`, if it has
    one, is called when the runtime leaves the event loop; more calls may follow later.

    Args:
        target: the object. It serves all sessions, many calls at once.
        name: what errors name as the provider; the target's class by default.

    Raises:
        ConfigurationError: `send_message` is missing, not async, or wants other parameters.
    """

    def __init__(self, target: object, *, name: str | None = None) -> None:
        self._name = type(target).__name__ if name is None else name
        self._target = target
        self._send = _send_message_of(target)
        self._wanted = _wanted_by(self._send)

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn; see the class."""
        text, completed = await self._answer(request)
        if text:
            yield TextDelta(text)
        yield completed

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse what `send_message` would never see, and what the target refuses."""
        if "config" not in self._wanted:
            for key in config:
                raise ConfigurationError(
                    f"the provider {self._name!r} takes no provider_config, so not {key!r}; "
                    "its send_message has no parameter config"
                )
            return
        check = getattr(self._target, "check_config", None)
        if check is not None:
            check(config)

    async def aclose(self) -> None:
        """Close the target, if it can be closed."""
        aclose = getattr(self._target, "aclose", None)
        if aclose is not None:
            await aclose()

    async def _answer(self, request: ProviderRequest) -> tuple[str, Completed]:
        messages = [
            {"role": message.role.value, "content": message.content} for message in request.messages
        ]
        try:
            said = await self._send(
                messages, **{name: _EXTRAS[name](request) for name in self._wanted}
            )
            return _read(said)
        except ProviderError:
            raise
        except _AnswerError as error:
            raise self._error(f"the provider {self._name!r} {error}") from None
        except Exception as error:
            raise self._error(
                f"the send_message of the provider {self._name!r} raised {type(error).__name__}; "
                "the cause of this error has its text"
            ) from error

    def _error(self, text: str) -> ProviderError:
        return ProviderError(text, code="internal", provider=self._name)

    def __repr__(self) -> str:
        return f"SimpleProvider({type(self._target).__name__}, name={self._name!r})"


class _AnswerError(Exception):
    """What `send_message` returned is no answer: in which way."""


def has_send_message(value: object) -> bool:
    """Whether `SimpleProvider` is what could make a provider of it."""
    return not isinstance(value, type) and callable(getattr(value, "send_message", None))


def _send_message_of(target: object) -> Callable[..., Awaitable[object]]:
    send = getattr(target, "send_message", None)
    kind = type(target).__name__
    if isinstance(target, type) or not callable(send):
        shown = f"the class {target.__name__}" if isinstance(target, type) else f"one of {kind}"
        raise ConfigurationError(
            f"a simple provider is an object with `async def send_message(self, messages)`, "
            f"not {shown}"
        )
    bare = inspect.unwrap(send)
    if inspect.isasyncgenfunction(bare):
        raise ConfigurationError(
            f"{kind}.send_message yields; return the whole answer, or derive from IProvider and "
            "call it stream"
        )
    if not (inspect.iscoroutinefunction(send) or inspect.iscoroutinefunction(bare)):
        raise ConfigurationError(f"{kind}.send_message must be an `async def`")
    return cast("Callable[..., Awaitable[object]]", send)


def _wanted_by(send: Callable[..., object]) -> tuple[str, ...]:
    """The names of the extras that it takes, if it can be called with the messages and them."""
    parameters = list(inspect.signature(send).parameters.values())
    if not parameters or parameters[0].kind not in _BY_PLACE:
        raise ConfigurationError("send_message must have a first parameter for the messages")
    wanted: list[str] = []
    for parameter in parameters[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            return tuple(_EXTRAS)
        if parameter.kind in _BY_NAME and parameter.name in _EXTRAS:
            wanted.append(parameter.name)
        elif (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        ):
            raise ConfigurationError(
                f"send_message wants {parameter.name!r}; beside the messages there are "
                f"{', '.join(_EXTRAS)}, by name"
            )
    return tuple(wanted)


def _read(said: object) -> tuple[str, Completed]:
    if isinstance(said, str):
        return said, Completed()
    shown = type(said).__name__
    if isinstance(said, tuple):
        parts = cast("tuple[object, ...]", said)
        if len(parts) == _ANSWER_PARTS:
            text, details = parts
            if isinstance(text, str) and isinstance(details, Mapping):
                return text, _completed(cast("Mapping[object, Any]", details))
        shown = f"({', '.join(type(part).__name__ for part in parts)})"
    raise _AnswerError(f"must return a str or (str, mapping) from send_message, not {shown}")


def _completed(details: Mapping[object, Any]) -> Completed:
    for key in details:
        if key not in _DETAILS:
            near = get_close_matches(str(key), _DETAILS, n=1)
            hint = f"did it mean {near[0]!r}?" if near else f"there are {', '.join(_DETAILS)}"
            raise _AnswerError(f"returned the unknown detail {key!r}; {hint}")
    return Completed(**cast("Mapping[str, Any]", details))
