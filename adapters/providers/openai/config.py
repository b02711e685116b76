"""What a `provider_config` may hold for OpenAI, and what it is in one turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from ....actors.errors import ConfigurationError, ProviderError
from ..checks import checked_config, count, extra_body, number, pairs, refuse, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checks import Table

NAME = "openai"
MAX_TOKENS = 10_000_000
MAX_ID_CHARACTERS = 200

_RESERVED = frozenset(
    {
        "assistant_id",
        "background",
        "conversation",
        "input",
        "instructions",
        "max_output_tokens",
        "model",
        "previous_response_id",
        "store",
        "stream",
        "temperature",
        "top_p",
    }
)
_STATES = ("native", "local")


def _state(name: str, value: Any) -> str:
    if value not in _STATES:
        refuse(name, "'native' (the vendor keeps the conversation) or 'local' (it does not)", value)
    state: str = value
    return state


def _assistant_id(name: str, value: Any) -> str:
    return text(name, value, most=MAX_ID_CHARACTERS)


TABLE: Table = {
    "assistant_id": _assistant_id,
    "extra_body": extra_body(_RESERVED),
    "max_tokens": count(1, MAX_TOKENS),
    "state": _state,
    "temperature": number(0, 2),
    "thread_metadata": pairs,
    "top_p": number(0, 1),
}

MADE_WITH = frozenset({"assistant_id", "state", "thread_metadata"})
"""What a conversation is made with; it cannot be changed in a session."""


@attrs.frozen(kw_only=True)
class Options:
    """What holds for one turn. None: left to the vendor."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    state: Literal["native", "local"] = "native"
    thread_metadata: Mapping[str, str] = attrs.field(factory=dict[str, str])
    assistant_id: str | None = None
    extra_body: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def check_options(config: Mapping[str, Any]) -> Options:
    """The options of a new session's provider_config. Raises ConfigurationError."""
    if config.get("stop") is not None:
        raise ConfigurationError(
            "provider_config['stop']: the Responses API knows no texts that end an answer; leave "
            "it out, or use the provider 'openai_chat'"
        )
    return _options({key: value for key, value in config.items() if key != "stop"})


def options_of(config: Mapping[str, Any]) -> Options:
    """The options of a turn: what was checked before, and what other providers share with it.

    Raises ProviderError of code `invalid_request`.
    """
    try:
        return _options({key: config[key] for key in TABLE if key in config})
    except ConfigurationError as error:
        raise ProviderError(str(error), code="invalid_request", provider=NAME) from error


def _options(config: Mapping[str, Any]) -> Options:
    options = Options(**checked_config(config, TABLE, NAME))
    if options.state == "local" and options.assistant_id is not None:
        raise ConfigurationError(
            "provider_config: 'assistant_id' needs a thread at the service, 'state': 'local' keeps "
            "nothing there; leave one of them out"
        )
    return options
