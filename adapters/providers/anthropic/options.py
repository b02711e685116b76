"""The options of a session with Anthropic: what its provider_config may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ....actors.errors import ConfigurationError
from ..checks import (
    checked_config,
    count,
    extra_body,
    flag,
    known_config,
    number,
    pairs,
    refuse,
    stop_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checks import Table

NAME = "anthropic"

DEFAULT_MAX_TOKENS = 4_096
"""Tokens of an answer where `max_tokens` is not set: the vendor requires a number, and every model
of it takes this one."""
MAX_TOKENS = 10_000_000
"""The largest `max_tokens` that is sent; each model has a limit of its own below it."""
MAX_USER_ID_CHARACTERS = 256
"""Of `conversation_metadata["user_id"]`, which is sent."""
SAMPLING = ("temperature", "top_p", "top_k")
NO_SAMPLING_SINCE = "2026-10-21"
"""The first `anthropic-version` that refuses temperature, top_p and top_k."""

_RESERVED = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "stop_sequences",
        "stream",
        "system",
        "thread",
        *SAMPLING,
    }
)


def _conversation_metadata(name: str, value: Any) -> dict[str, str]:
    checked = pairs(name, value)
    if len(checked.get("user_id", "")) > MAX_USER_ID_CHARACTERS:
        wanted = f"a text of at most {MAX_USER_ID_CHARACTERS} characters, which the vendor takes"
        refuse(f"{name}['user_id']", wanted, checked["user_id"])
    return checked


TABLE: Table = {
    "conversation_metadata": _conversation_metadata,
    "extra_body": extra_body(_RESERVED),
    "max_tokens": count(1, MAX_TOKENS),
    "prompt_caching": flag,
    "stop": stop_texts,
    "temperature": number(0, 1),
    "threads": flag,
    "top_k": count(0, 1_000_000),
    "top_p": number(0, 1),
}

MADE_WITH = frozenset({"conversation_metadata"})
"""What a session is made with and keeps."""


@attrs.frozen(kw_only=True)
class Options:
    """What holds for one turn. None: left to the vendor."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] | None = None
    prompt_caching: bool = False
    threads: bool = False
    conversation_metadata: Mapping[str, str] = attrs.field(factory=dict[str, str])
    extra_body: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def check_options(config: Mapping[str, Any], *, version: str, may_thread: bool) -> None:
    """Refuse a new session's provider_config that cannot be right: ConfigurationError."""
    checked = checked_config(config, TABLE, NAME)
    for key in SAMPLING:
        if key in checked and refuses_sampling(version):
            raise ConfigurationError(
                f"provider_config[{key!r}] is refused by the vendor with anthropic-version "
                f"{version}, whatever its value; leave it out, or make the provider with "
                "anthropic_version='2023-06-01'"
            )
    if checked.get("threads") and not may_thread:
        raise ConfigurationError(
            "provider_config['threads'] is for the vendor's own base_url: others ignore it in "
            "silence and answer without the conversation; make the provider with "
            "allow_threads=True if yours is known to take them"
        )


def options_of(config: Mapping[str, Any], *, version: str) -> tuple[Options, list[str]]:
    """The options of a turn, and those set that are left out because the version refuses them.

    That happens to a session that was made for another provider or version, which should get an
    answer nevertheless. Raises ConfigurationError for a wrong value.
    """
    checked = checked_config(known_config(config, TABLE), TABLE, NAME)
    left_out = [key for key in SAMPLING if key in checked] if refuses_sampling(version) else []
    for key in left_out:
        del checked[key]
    return Options(**checked), left_out


def refuses_sampling(version: str) -> bool:
    """Whether an `anthropic-version` takes no temperature, top_p and top_k."""
    return version >= NO_SAMPLING_SINCE
