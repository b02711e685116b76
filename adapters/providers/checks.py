"""What a vendor's options may be set to: small checks, put together in one table per provider.

A check takes the option's name and a value and returns what is to be used, or raises
`ConfigurationError` that names the option, what is wanted and what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ...actors.errors import ConfigurationError, InvalidMessageError
from ...actors.values import encode_object, refuse_keys

if TYPE_CHECKING:
    from collections.abc import Collection

    from ...actors.ports import ProviderSettings

Check = Callable[[str, Any], Any]
Table = Mapping[str, Check]
T = TypeVar("T")

MAX_STOP_TEXTS = 64
"""Texts that end an answer; vendors take between 4 and some dozens."""
MAX_STOP_CHARACTERS = 1_000
"""Of each of them."""
MAX_EXTRA_BYTES = 262_144
"""Bytes of JSON of an `extra_body`."""
MAX_PAIRS = 16
"""Of a conversation's metadata."""
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512

RUNTIME_KEYS = frozenset({"fallbacks"})
"""Keys of a provider_config that are not the provider's."""


def checked_config(config: Mapping[str, Any], table: Table, provider: str) -> dict[str, Any]:
    """What is set in `config`, each value checked; None counts as not set.

    Raises ConfigurationError for a key that is not in the table, naming the nearest one.
    """
    checked: dict[str, Any] = {}
    for key, value in config.items():
        if key in table:
            if value is not None:
                checked[key] = table[key](f"provider_config[{key!r}]", value)
        elif key not in RUNTIME_KEYS:
            _refuse_key(key, table, provider)
    return checked


def _refuse_key(key: str, table: Table, provider: str) -> NoReturn:
    from difflib import get_close_matches  # noqa: PLC0415 - rare

    near = get_close_matches(str(key), list(table), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(table))}"
    raise ConfigurationError(
        f"the provider {provider!r} has no option {key!r}; {hint} What the vendor takes beside "
        "these goes into 'extra_body'"
    )


def known_config(config: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Of a turn's config, the keys that the table has.

    A session's config was checked when it was made; where another provider answers in place of its
    own, the rest is not for it.
    """
    return {key: config[key] for key in table if key in config}


def update_settings(
    settings: ProviderSettings,
    changes: Mapping[str, Any],
    table: Table,
    provider: str,
    made_with: Collection[str] = (),
) -> None:
    """Set what a user changes in a session; None leaves an option to its default.

    Raises ConfigurationError, and nothing is set then, for a wrong value, an unknown key, a key of
    `made_with`, and one that is not the provider's.
    """
    checked = checked_config(changes, table, provider)
    for key in changes:
        if key in made_with or key in RUNTIME_KEYS:
            raise ConfigurationError(
                f"{key!r} is what the session was made with and cannot be changed; create another "
                "session with it"
            )
    for key in changes:
        if key in table:
            settings.set(key, checked.get(key))


def refuse(name: str, wanted: str, value: object) -> NoReturn:
    """Raise ConfigurationError for a value."""
    shown = repr(value)
    if len(shown) > 80:  # noqa: PLR2004 - one line of a terminal
        shown = shown[:77] + "..."
    raise ConfigurationError(f"{name} must be {wanted}, not {shown}")


def number(low: float, high: float) -> Check:
    """A check for an int or a float from `low` to `high`."""

    def check(name: str, value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            refuse(name, f"a number from {low} to {high}", value)
        return value

    return check


def count(low: int, high: int) -> Check:
    """A check for an int from `low` to `high`."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(name, f"a whole number from {low} to {high}", value)
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def text(name: str, value: Any, *, most: int) -> str:
    """A str of 1 to `most` characters that has a UTF-8 form."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        refuse(name, f"a text of 1 to {most} characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        refuse(name, "a text without lone surrogates", value)
    return value


def stop_texts(name: str, value: Any) -> list[str]:
    """One text, or a list of them; always a list comes back."""
    given: object = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        refuse(name, "a text or a list of texts", value)
    texts = cast("Sequence[Any]", given)
    if not 1 <= len(texts) <= MAX_STOP_TEXTS:
        refuse(name, f"a text or a list of 1 to {MAX_STOP_TEXTS} texts", value)
    return [
        text(f"{name}[{place}]", each, most=MAX_STOP_CHARACTERS) for place, each in enumerate(texts)
    ]


def pairs(name: str, value: Any) -> dict[str, str]:
    """A conversation's metadata: at most 16 pairs of texts, as vendors that keep it take it."""
    if not isinstance(value, Mapping):
        refuse(name, f"a mapping of at most {MAX_PAIRS} texts by name", cast("object", value))
    given = cast("Mapping[object, object]", value)
    if len(given) > MAX_PAIRS:
        refuse(name, f"a mapping of at most {MAX_PAIRS} texts by name", given)
    checked: dict[str, str] = {}
    for key, each in given.items():
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            refuse(f"a key of {name}", f"a text of 1 to {MAX_KEY_CHARACTERS} characters", key)
        if not isinstance(each, str) or len(each) > MAX_VALUE_CHARACTERS:
            wanted = f"a text of at most {MAX_VALUE_CHARACTERS} characters"
            refuse(f"{name}[{key!r}]", wanted, each)
        checked[key] = each
    _encoded(checked, name)
    return checked


def extra_body(reserved: Collection[str]) -> Check:
    """A check for JSON that is merged into the request; `reserved` are keys it may not replace.

    The key of an API has no place in it: it is stored with the session.
    """

    def check(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            refuse(name, "a mapping of JSON values", cast("object", value))
        given = cast("Mapping[str, Any]", value)
        _encoded(given, name)
        refuse_keys(given, name)
        for key in given:
            if key in reserved:
                raise ConfigurationError(
                    f"{name} may not set {key!r}: the runtime sets it, or provider_config has an "
                    "option for it"
                )
        return dict(given)

    return check


def _encoded(value: Mapping[str, Any], name: str) -> None:
    try:
        encode_object(value, name, max_bytes=MAX_EXTRA_BYTES)
    except InvalidMessageError as error:
        raise ConfigurationError(str(error)) from None
