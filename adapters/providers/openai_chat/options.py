"""The options of a session with a Chat Completions server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ....actors.errors import ConfigurationError
from ..checks import checked_config, count, extra_body, flag, known_config, number, stop_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checks import Table

NAME = "openai_chat"

MAX_TOKENS = 10_000_000
_MAX_SEED = 2**63 - 1

_RESERVED = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
    }
)

TABLE: Table = {
    "extra_body": extra_body(_RESERVED),
    "include_usage": flag,
    "max_completion_tokens": count(1, MAX_TOKENS),
    "max_tokens": count(1, MAX_TOKENS),
    "seed": count(-_MAX_SEED - 1, _MAX_SEED),
    "stop": stop_texts,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
}


@attrs.frozen(kw_only=True)
class Options:
    """What holds for one turn. None: left to the server."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: list[str] | None = None
    seed: int | None = None
    include_usage: bool = True
    extra_body: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def check_options(config: Mapping[str, Any]) -> None:
    """Refuse a new session's provider_config that cannot be right: ConfigurationError."""
    _options(checked_config(config, TABLE, NAME))


def options_of(config: Mapping[str, Any]) -> Options:
    """The options of a turn. Raises ConfigurationError for a wrong value."""
    return _options(checked_config(known_config(config, TABLE), TABLE, NAME))


def _options(checked: Mapping[str, Any]) -> Options:
    options = Options(**checked)
    if options.max_tokens is not None and options.max_completion_tokens is not None:
        raise ConfigurationError(
            "provider_config has 'max_tokens' and 'max_completion_tokens'; set the one that your "
            "server takes: OpenAI's newer models the latter, most others the former"
        )
    return options
