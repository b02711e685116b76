"""Sessions of V1 that are objects of a program, not rows of a file; read by their attributes.

`session_id`, `user_id`, `provider`, `model`, and messages from `get_messages()` or `messages`, each
with `role`, `content` and `timestamp`. What else V1 has is taken where it is there: `status`,
`created_at`, `updated_at` of a session, `id` and `metadata` of a message. Enums count as their
values, mappings as objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from enum import Enum
from typing import Any, cast

from ...actors.model import SessionStatus
from .meaning import Notes, content_of, provider_of, role_of, shown, status_of, text_or_none
from .times import Timeline
from .values import ImportedMessage, ImportedSession, UnreadableError

_EXTRAS = ("tool_calls", "tool_call_id")


def session_of_object(
    value: object, messages: object, zone: tzinfo | None, now: datetime
) -> ImportedSession:
    """The session. Raises UnreadableError."""
    notes = Notes()
    session_id = _of(value, "session_id")
    if not isinstance(session_id, str):
        raise UnreadableError(f"its session_id is no text: {shown(session_id)}")
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise UnreadableError("its messages are no list")
    timeline = Timeline(zone, notes.add)
    created = _time(timeline, _of(value, "created_at"))
    updated = _time(timeline, _of(value, "updated_at"))
    read = tuple(
        _message(message, f"message {number}", created or now, timeline, notes)
        for number, message in enumerate(cast("Iterable[object]", messages), 1)
    )
    provider = text_or_none(_of(value, "provider"))
    status = text_or_none(_of(value, "status"))
    return ImportedSession(
        id=session_id,
        user_id=text_or_none(_of(value, "user_id")),
        provider=provider and provider_of(provider, notes),
        model=text_or_none(_of(value, "model")),
        status=SessionStatus.ACTIVE if status is None else status_of(status, notes),
        created=created or (read[0].timestamp if read else now),
        updated=updated or (read[-1].timestamp if read else now),
        messages=read,
        notes=notes.told(),
    )


def _message(
    value: object, place: str, start: datetime, timeline: Timeline, notes: Notes
) -> ImportedMessage:
    role, original = role_of(_of(value, "role"), place, notes)
    metadata = _of(value, "metadata")
    return ImportedMessage(
        role=role,
        content=content_of(_of(value, "content"), place, notes),
        timestamp=timeline.next(_comparable(_of(value, "timestamp")), start=start),
        id=text_or_none(_of(value, "id")),
        metadata=dict(cast("Mapping[str, Any]", metadata)) if isinstance(metadata, Mapping) else {},
        provider_message_id=text_or_none(_of(value, "provider_message_id")),
        original_role=original,
        extras={name: found for name in _EXTRAS if (found := _of(value, name)) is not None},
    )


def _of(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        found: object = cast("Mapping[str, object]", value).get(name)
    else:
        found = getattr(value, name, None)
    return found.value if isinstance(found, Enum) else found


def _comparable(moment: object) -> object:
    """A datetime as the text that readers of files know."""
    return moment.isoformat() if isinstance(moment, datetime) else moment


def _time(timeline: Timeline, value: object) -> datetime | None:
    return timeline.apart(_comparable(value))


def now_utc() -> datetime:
    """For sessions that have no time at all."""
    return datetime.now(UTC)
