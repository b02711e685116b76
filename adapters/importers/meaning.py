"""What old names mean here, and how old texts are taken apart."""

from __future__ import annotations

import json
from typing import Any, cast

from ...actors.model import Role, SessionStatus
from .values import UnreadableError

_MAX_COUNT = 2**53
_PROVIDERS = {"gpt": "openai", "claude": "anthropic", "test": "mock", "none": "mock"}

# The text of a tool comes from outside. As a system message it would speak with the application's
# own authority, and stay in every prompt; as an answer it is a part of the turn that it belongs to.
_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "tool": Role.ASSISTANT,
    "function": Role.ASSISTANT,
}
_V1_STATUSES = {
    "active": SessionStatus.ACTIVE,
    "archived": SessionStatus.ARCHIVED,
    "inactive": SessionStatus.ARCHIVED,
    "expired": SessionStatus.ARCHIVED,
}


class Notes:
    """What is to be told about one session, each thing once, in the order in which it came up."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        self._texts.setdefault(text)

    def told(self) -> tuple[str, ...]:
        return tuple(self._texts)


def provider_of(name: str, notes: Notes) -> str:
    """The provider's name here; one that is not known is kept."""
    known = _PROVIDERS.get(name, name)
    if known != name:
        notes.add(f"provider {name!r} is called {known!r} here")
    return known


def status_of(old: str, notes: Notes) -> SessionStatus:
    """The status here; one that is not known arrives archived, so that nobody writes to it."""
    status = _V1_STATUSES.get(old, SessionStatus.ARCHIVED)
    if status != old:
        notes.add(f"status {old!r} arrives as {status.value!r}; the old one is in the context")
    return status


def role_of(old: object, place: str, notes: Notes) -> tuple[Role, str | None]:
    """The role here, and the old one if it is another. Raises UnreadableError if it is unknown."""
    role = _ROLES.get(old) if isinstance(old, str) else None
    if role is None:
        raise UnreadableError(f"{place} has the role {shown(old)}, which is none")
    if role == old:
        return role, None
    notes.add(f"messages of role {old!r} arrive as {role.value!r}; the old role is kept with them")
    return role, str(old)


def content_of(value: object, place: str, notes: Notes) -> str:
    """A text; also of a list of parts, as vendors have them. Raises UnreadableError."""
    if isinstance(value, str):
        return value
    if value is None:
        notes.add("messages with no content at all arrive empty")
        return ""
    if isinstance(value, list):
        return "".join(_text_of_part(part, notes) for part in cast("list[object]", value))
    raise UnreadableError(f"{place} has content that is no text: {shown(value)}")


def _text_of_part(part: object, notes: Notes) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        fields = cast("dict[str, Any]", part)
        text = fields.get("text", fields.get("refusal"))
        if isinstance(text, str):
            return text
        notes.add(f"parts of type {shown(fields.get('type'))} were left out: they are no text")
    else:
        notes.add("parts of messages that are no text were left out")
    return ""


def parsed(text: str, what: str) -> Any:
    """The JSON value; NaN and infinity are let in. Raises UnreadableError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"{what} is no JSON from character {error.pos} of {len(text)} on ({error.msg}); it "
            "may be cut off"
        ) from error
    except RecursionError as error:
        raise UnreadableError(f"{what} is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise UnreadableError(f"{what} cannot be read: {error}") from error


def object_of(value: object, what: str) -> dict[str, Any]:
    """The value as a JSON object. Raises UnreadableError."""
    if not isinstance(value, dict):
        raise UnreadableError(f"{what} is no JSON object: {shown(value)}")
    return cast("dict[str, Any]", value)


def text_or_none(value: object) -> str | None:
    """A text; None for what is none."""
    return value if isinstance(value, str) else None


def count_of(value: object) -> int:
    """A number of tokens; 0 for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
        return value
    return 0


def shown(value: object) -> str:
    """For a text about it: short, whatever it is."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, str):
        return ascii(value[:40])
    return f"of type {type(value).__name__}"
