"""A manager's arguments from environment variables, or from a mapping such as a parsed file.

A variable is LANGSWARM_SESSION_ and the keyword of `SessionManager` in capitals; for what belongs
into a mapping, the keyword and the key: LANGSWARM_SESSION_STORAGE_CONFIG_DB_PATH. What a value may
be follows from the type of what it sets. An empty value means: not set.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from langswarm.core.session.actors.errors import ConfigurationError, hides_arguments
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.factory import KEY_VARIABLES, vendors_with_keys
from langswarm.core.session.presets import PRESETS
from langswarm.core.session.providers import build_provider, list_providers
from langswarm.core.session.runtime.config import refuse_unknown
from langswarm.core.session.storage import StorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = [
    "PREFIX",
    "Setting",
    "settings",
    "settings_from_environment",
    "settings_from_mapping",
    "with_given",
]

PREFIX: Final = "LANGSWARM_SESSION_"

_BASE_URL_VARIABLES: Final = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
_SHOWN_CHARACTERS: Final = 30
"""A longer value may be a key in the wrong place: it is not shown."""

_SWITCHES: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@attrs.frozen(kw_only=True)
class Setting:
    """One thing that can be set."""

    keyword: str
    """Of `SessionManager`."""
    key: str | None = None
    """In the mapping that the keyword takes."""
    kind: str
    """"text", "whole number", "number", "switch" or "names"."""
    default: str
    what: str
    choices: tuple[str, ...] = ()

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return (self.key or "").endswith(("_key", "_keys"))

    @property
    def variable(self) -> str:
        """The variable that sets it."""
        return f"{PREFIX}{self.keyword}{f'_{self.key}' if self.key else ''}".upper()


_STORAGE_WHAT: Final = {
    "db_path": "the file; made if it is missing, its folder is not",
    "pool_size": "connections that read; 2 are opened at most",
    "max_overflow": "without effect",
    "pool_timeout": "seconds to wait while another program has locked the database",
    "enable_wal": "off: a rollback journal, for file systems without shared memory",
    "lock_wait_seconds": "how long a start waits for another process to let go of the file",
    "synchronous": "FULL, or for tests NORMAL or OFF",
    "wal_limit_bytes": "how long the -wal may grow while something reads for long",
    "backup_enabled": "make backups by itself",
    "backup_directory": "where; default: beside the file",
    "backup_keep": "so many of them",
    "backup_interval_hours": "so often",
    "encryption_keys": "ID=KEY ID=KEY: encrypt contents with the last one; 32 bytes in base64",
    "encryption_key_id": "which of encryption_keys encrypts",
    "encryption_key": "a single one instead",
    "sqlcipher_key": "encrypt the whole file",
}
_CLEANUP: Final = (
    ("archive_after_days", "number", "off", "archive sessions that are inactive for so long"),
    ("delete_after_days", "number", "off", "delete archived sessions after so long"),
    ("max_messages_per_session", "whole number", "off", "archive sessions with more messages"),
    ("cleanup_interval_hours", "number", "24", "how often it looks"),
)
_KINDS: Final = {"bool": "switch", "int": "whole number", "float": "number"}


def settings(backend: str = "sqlite") -> tuple[Setting, ...]:
    """Everything that can be set, with the storage_config of one kind of storage."""
    return (*_FIXED, *_of_storage(backend), *_of_cleanup(), *_of_limits())


_FIXED: Final = (
    Setting(
        keyword="preset",
        kind="text",
        default="none",
        what="defaults for a purpose, and guests",
        choices=tuple(PRESETS),
    ),
    Setting(keyword="storage", kind="text", default="memory", what="memory, sqlite or registered"),
    Setting(
        keyword="providers",
        kind="names",
        default="mock",
        what="names, with commas between; their keys are in OPENAI_API_KEY and ANTHROPIC_API_KEY",
    ),
    Setting(
        keyword="event_previews",
        kind="switch",
        default="off",
        what="put the beginning of messages into events",
    ),
)


def _of_storage(backend: str) -> list[Setting]:
    return [
        Setting(
            keyword="storage_config",
            key=name,
            kind=_KINDS.get(_type_of(parameter.annotation), "text"),
            default=_shown_default(parameter.default),
            what=_STORAGE_WHAT.get(name, "") if backend == "sqlite" else "",
        )
        for name, parameter in StorageFactory.parameters(backend).items()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]


def _type_of(annotation: object) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.removesuffix(" | None")


def _of_cleanup() -> list[Setting]:
    return [
        Setting(keyword="cleanup_config", key=key, kind=kind, default=default, what=what)
        for key, kind, default, what in _CLEANUP
    ]


def _of_limits() -> list[Setting]:
    return [
        Setting(
            keyword=field.name,
            kind="whole number" if isinstance(field.default, int) else "number",
            default=_shown_default(field.default),
            what=str(field.metadata["what"]),
        )
        for field in attrs.fields(Limits)
    ]


def _shown_default(value: object) -> str:
    if value is None or value is inspect.Parameter.empty:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- reading


@hides_arguments
def settings_from_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The keywords of `SessionManager` that the variables LANGSWARM_SESSION_... set.

    `create_session_manager(**settings_from_environment())` makes the manager. With a mapping of
    your own, the keys of providers are taken from it, too; what is returned shows none of them.

    Raises ConfigurationError that names the variable: an unknown one, with the nearest name, or one
    whose value is not of its type.
    """
    variables = os.environ if environ is None else environ
    given = {name: variables[name] for name in variables if name.upper().startswith(PREFIX)}
    backend = given.get(f"{PREFIX}STORAGE", "").strip() or "sqlite"
    backend = _one_of(StorageFactory.list_backends(), f"{PREFIX}STORAGE", backend)
    known = {each.variable: each for each in settings(backend)}
    found: dict[str, Any] = {}
    for name, text in given.items():
        setting = known.get(name)
        if setting is None:
            raise ConfigurationError(_unknown(name, known))
        if text.strip():
            _put(found, setting, _parsed(name, setting, text.strip()))
    return _with_providers(found, environ)


@hides_arguments
def settings_from_mapping(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `SessionManager` that a mapping has, a parsed TOML or JSON file for example.

    Texts are read as in variables; what is of its type already is taken as it is.

    Raises ConfigurationError that names the key: an unknown one, with the nearest name, or one
    whose value is not of its type.
    """
    storage = mapping.get("storage")
    backend = storage if isinstance(storage, str) and storage else "sqlite"
    known = settings(_one_of(StorageFactory.list_backends(), "storage", backend))
    refuse_unknown(mapping, {each.keyword for each in known}, "the configuration")
    found: dict[str, Any] = {}
    for keyword, value in mapping.items():
        keyed = {each.key: each for each in known if each.keyword == keyword}
        if None in keyed:
            _put_checked(found, keyword, keyed[None], value)
            continue
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{keyword} must be a mapping, not a {type(value).__name__}")
        values = cast("Mapping[str, Any]", value)
        refuse_unknown(values, [str(key) for key in keyed], keyword)
        for key, each in values.items():
            _put_checked(found, f"{keyword}[{key!r}]", keyed[key], each)
    return found


def _put_checked(found: dict[str, Any], name: str, setting: Setting, value: object) -> None:
    if isinstance(value, str):
        if value.strip():
            _put(found, setting, _parsed(name, setting, value.strip()))
    elif setting.keyword == "providers" and isinstance(value, list | tuple):
        texts = [str(each) for each in cast("list[object]", value)]
        _put(found, setting, _parsed(name, setting, ",".join(texts)))
    elif value is not None:
        _put(found, setting, value)


def with_given(found: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both; what is given wins. A storage that is given takes no storage_config but its own."""
    merged = {**found, **given}
    if "storage" in given:
        if "storage_config" not in given:
            merged.pop("storage_config", None)
    elif found.get("storage_config") and given.get("storage_config"):
        merged["storage_config"] = {**found["storage_config"], **given["storage_config"]}
    return merged


def _put(found: dict[str, Any], setting: Setting, value: object) -> None:
    if setting.key is None:
        found[setting.keyword] = value
    else:
        found.setdefault(setting.keyword, {})[setting.key] = value


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    near = get_close_matches(name.upper(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else "docs/reference/configuration.md lists all"
    return f"there is no setting {name}; {hint}"


# ---------------------------------------------------------------- values


class _Masked(str):
    """A text that a `repr` of what holds it does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[secret]"


def _parsed(name: str, setting: Setting, text: str) -> object:
    if setting.keyword == "providers":
        return _names(name, text)
    if setting.choices:
        return _one_of(setting.choices, name, text)
    if setting.is_secret:
        return _Masked(text)
    try:
        return _PARSERS[setting.kind](text)
    except ValueError:
        wanted = _WANTED[setting.kind]
        raise ConfigurationError(f"{name} must be {wanted}, not {_shown(text)}") from None


def _shown(text: str) -> str:
    if len(text) > _SHOWN_CHARACTERS:
        return f"a text of {len(text)} characters"
    return repr(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _switch(text: str) -> bool:
    value = _SWITCHES.get(text.lower())
    if value is None:
        raise ValueError
    return value


def _names(name: str, text: str) -> dict[str, None]:
    parts = [part.strip() for part in text.split(",")]
    return {_one_of(list_providers(), name, part): None for part in parts if part}


def _one_of(known: Collection[str], name: str, text: str) -> str:
    if text in known:
        return text
    near = get_close_matches(text, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise ConfigurationError(f"{name} knows no {_shown(text)}; {hint}")


_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "text": str,
    "whole number": int,
    "number": _number,
    "switch": _switch,
}
_WANTED: Final = {
    "whole number": "a whole number",
    "number": "a number",
    "switch": "on or off (1 or 0, true or false, yes or no)",
}


def _with_providers(found: dict[str, Any], environ: Mapping[str, str] | None) -> dict[str, Any]:
    """With a mapping of one's own the vendors are made here: the process has not their keys."""
    if environ is None:
        return found
    names: Mapping[str, Any] | None = found.get("providers")
    if names is None and found.get("preset") != "development":
        names = dict.fromkeys(vendors_with_keys(environ)) or None
    if names is not None:
        found["providers"] = {name: _provider(name, environ) for name in names}
    return found


def _provider(name: str, environ: Mapping[str, str]) -> object:
    vendor = name.removesuffix("_chat")
    if vendor not in KEY_VARIABLES:
        return None
    variable = KEY_VARIABLES[vendor]
    key = environ.get(variable, "").strip()
    if not key:
        raise ConfigurationError(f"the provider {name!r} needs {variable}, which is not set")
    options = {"api_key": key}
    base_url = environ.get(_BASE_URL_VARIABLES[vendor], "").strip()
    return build_provider(name, {**options, "base_url": base_url} if base_url else options)
