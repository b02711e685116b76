"""What `session_config` and `provider_config` may hold, checked key by key before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from ..actors.errors import ConfigurationError, InvalidMessageError
from ..actors.fallback import KEY as FALLBACKS
from ..actors.fallback import check_fallbacks
from ..actors.values import check_text, encode_object, is_key_name, refuse_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ..actors.ports import IProvider

_NAME_BYTES = 1_000
_DESCRIPTION_BYTES = 16_000
_TAGS = 100
_MOST_SECONDS = 100 * 365 * 86_400
ON_BUSY = ("queue", "reject", "interrupt")


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ConfigurationError for the first key that is not known, naming the nearest one."""
    known = sorted(known)
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            names = ", ".join(known) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"there are {names}"
            raise ConfigurationError(f"{what} has no {key!r}; {hint}")


def _text(max_bytes: int) -> Callable[[str, object], str]:
    def check(key: str, value: object) -> str:
        try:
            return check_text(value, f"session_config[{key!r}]", max_bytes=max_bytes, empty=True)
        except InvalidMessageError as error:
            raise ConfigurationError(str(error)) from None

    return check


def _tags(key: str, value: object) -> object:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"session_config[{key!r}] must be a list of str, not {value!r}")
    tags = list(cast("Collection[object]", value))
    if len(tags) > _TAGS:
        raise ConfigurationError(f"session_config[{key!r}] has more than {_TAGS} tags")
    texts = [_text(_NAME_BYTES)(key, tag) for tag in tags]
    return sorted(texts) if isinstance(value, (set, frozenset)) else list(dict.fromkeys(texts))


def _messages(key: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"session_config[{key!r}] must be an int >= 1, not {value!r}")
    return value


def _on_busy(key: str, value: object) -> object:
    if value not in ON_BUSY:
        raise ConfigurationError(
            f"session_config[{key!r}]={value!r}: there are {', '.join(ON_BUSY)}"
        )
    return value


def _metadata(key: str, value: object) -> object:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"session_config[{key!r}] must be a mapping, not {value!r}")
    return dict(cast("Mapping[object, object]", value))


def _seconds(key: str, value: object) -> object:
    """Stored as seconds; a part of one is kept."""
    seconds: Any = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= _MOST_SECONDS:
        raise ConfigurationError(
            f"session_config[{key!r}] must be a timedelta or a number of seconds, more than 0 and "
            f"at most {_MOST_SECONDS:,} (100 years), not {value!r}"
        )
    return seconds


_KEYS: dict[str, Callable[[str, object], object]] = {
    "name": _text(_NAME_BYTES),
    "description": _text(_DESCRIPTION_BYTES),
    "tags": _tags,
    "max_messages": _messages,
    "on_busy": _on_busy,
    "metadata": _metadata,
    "auto_archive_after": _seconds,
}


def session_config_text(given: object, *, max_bytes: int, none_removes: bool = False) -> str:
    """The JSON text of a session_config: name, description, tags, metadata and others.

    With `none_removes`, None as a value is kept: it takes the key back to its default.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"session_config must be a mapping, not {given!r}")
    config = cast("Mapping[str, object]", given)
    refuse_unknown(config, _KEYS, "session_config")
    checked: dict[str, object] = {}
    for key, value in config.items():
        if value is not None:
            checked[key] = _KEYS[key](key, value)
        elif none_removes:
            checked[key] = None
    return _encoded(checked, "session_config", max_bytes)


def provider_config_text(
    given: object, provider: str, providers: Mapping[str, IProvider], *, max_bytes: int
) -> str:
    """The JSON text of a provider_config, checked by the provider and those that it falls back to.

    It is stored, so keys of an API do not belong in it.
    """
    if not isinstance(given, Mapping):  # it may be a key: it is not shown
        raise ConfigurationError(f"provider_config must be a mapping, not a {type(given).__name__}")
    config = cast("Mapping[str, object]", given)
    for key in config:
        if is_key_name(key):
            raise ConfigurationError(
                f"provider_config has {key!r}, but it is stored with the session; "
                "give keys to the manager, in providers="
            )
    text = _encoded(config, "provider_config", max_bytes)
    refuse_keys(config, "provider_config")
    own = {key: value for key, value in config.items() if key != FALLBACKS}
    providers[provider].check_config(own)
    for fallback in check_fallbacks(config, providers):
        providers[fallback.provider].check_config(fallback.config)
    return text


def _encoded(value: Mapping[str, Any], what: str, max_bytes: int) -> str:
    try:
        return encode_object(value, what, max_bytes=max_bytes)
    except InvalidMessageError as error:
        raise ConfigurationError(str(error)) from None
