"""LangSwarm V1: one row per session, or one JSON object, with its history as a list.

The list's order is the conversation's; times and counts beside it are as stale as they are. The
columns tell what a session is, and the two documents are needed for what no column has. Documents
that are no JSON, and messages without a role, make a session unreadable: it is skipped. What V1
knew and this runtime has no place for arrives in the context, under the key `v1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .meaning import (
    Notes,
    content_of,
    object_of,
    parsed,
    provider_of,
    role_of,
    shown,
    status_of,
    text_or_none,
)
from .times import EPOCH, Timeline
from .values import ImportedMessage, ImportedSession, Skipped, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, tzinfo

    from .database import ForeignDatabase, Key

COLUMNS = frozenset({"session_id", "history", "metadata"})
"""By these its table is recognised."""
_WANTED = (
    "session_id",
    "user_id",
    "provider",
    "model",
    "status",
    "session_control",
    "created_at",
    "updated_at",
    "last_activity",
    "metadata",
    "history",
)
_IN_CONTEXT = (
    "session_control",
    "provider_thread_id",
    "provider_conversation_id",
    "provider_agent_id",
    "context_limit",
    "auto_truncate",
    "summarization_enabled",
    "total_tokens",
    "last_activity",
    "tags",
    "custom_metadata",
)
_HISTORY_IN_CONTEXT = ("summary", "truncated_at")
_EXTRAS = ("tool_calls", "tool_call_id")
_COMPARED = ("user_id", "provider", "model", "status")


class V1Reader:
    """Of V1's SQLite file."""

    def __init__(self, database: ForeignDatabase, zone: tzinfo | None) -> None:
        self._database = database
        self._zone = zone
        there = database.columns("sessions")
        self._select = f"SELECT {', '.join(c for c in _WANTED if c in there)} FROM sessions"

    def sessions(self) -> Iterator[ImportedSession | Skipped]:
        for key in self._database.keys("sessions"):
            if isinstance(key, int):
                yield Skipped(id=f"row {key}", reason="its session id is no text")
            else:
                yield self._read(key) or Skipped(
                    id=key.id, reason="it was deleted by its program while the file was read"
                )

    def find(self, session_id: str) -> ImportedSession | Skipped | None:
        return self._read(self._database.key_of(session_id))

    def close(self) -> None:
        self._database.close()

    def _read(self, key: Key) -> ImportedSession | Skipped | None:
        try:
            with self._database.errors(of_one=True):
                row = self._database.named(self._select, key)
            return None if row is None else session_of_row(key.id, row, self._zone)
        except UnreadableError as error:
            return Skipped(id=key.id, reason=str(error))


def session_of_row(
    session_id: str, row: Mapping[str, object], zone: tzinfo | None
) -> ImportedSession:
    """The session of a row whose `metadata` and `history` are JSON texts."""
    notes = Notes()
    history = object_of(_document(row, "history"), "its history")
    try:
        metadata = object_of(_document(row, "metadata"), "its metadata")
    except UnreadableError as error:
        metadata = {}
        notes.add(f"{error}: tags and the like are lost, its row tells the rest")
    for name in _COMPARED:
        if name in metadata and name in row and metadata[name] != row[name]:
            notes.add(f"{name} differs between its row and its metadata; the row's is taken")
    return _session(session_id, {**metadata, **row}, history, zone, notes)


def session_of_document(value: object, zone: tzinfo | None) -> ImportedSession:
    """The session of V1's JSON shape."""
    document = object_of(value, "it")
    notes = Notes()
    metadata = object_of(document.get("metadata"), "its metadata")
    history = object_of(document.get("history"), "its history")
    session_id = name_of_document(document)
    if session_id is None:
        raise UnreadableError("it has no session id")
    return _session(session_id, metadata, history, zone, notes)


def name_of_document(value: object) -> str | None:
    """The session id that a document tells, if it tells one."""
    document = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    for part in (document.get("metadata"), document.get("history")):
        if isinstance(part, dict):
            name: object = cast("dict[str, Any]", part).get("session_id")
            if isinstance(name, str):
                return name
    return None


def _document(row: Mapping[str, object], name: str) -> Any:
    text = row.get(name)
    if not isinstance(text, str):
        raise UnreadableError(f"its {name} is no text: {shown(text)}")
    return parsed(text, f"its {name}")


def _session(
    session_id: str,
    facts: Mapping[str, Any],
    history: Mapping[str, Any],
    zone: tzinfo | None,
    notes: Notes,
) -> ImportedSession:
    timeline = Timeline(zone, notes.add)
    found = history.get("messages")
    if not isinstance(found, list):
        raise UnreadableError(f"its history has no list of messages: {shown(found)}")
    if history.get("session_id", session_id) != session_id:
        notes.add("its history names another session; the row's id is taken")
    created, updated = (timeline.apart(facts.get(name)) for name in ("created_at", "updated_at"))
    start = created or updated or EPOCH
    messages = tuple(
        _message(message, f"message {number}", start, timeline, notes)
        for number, message in enumerate(cast("list[object]", found), 1)
    )
    if created is None:
        created = messages[0].timestamp if messages else start
        notes.add("the time of its creation cannot be read; that of its first message is taken")
    if updated is None:
        updated = messages[-1].timestamp if messages else created
        notes.add("the time of its last change cannot be read; that of its last message is taken")
    status = _text(facts, "status", notes)
    context = {name: facts[name] for name in _IN_CONTEXT if name in facts}
    context |= {name: history[name] for name in _HISTORY_IN_CONTEXT if name in history}
    provider = _text(facts, "provider", notes)
    return ImportedSession(
        id=session_id,
        user_id=_text(facts, "user_id", notes),
        provider=provider_of(provider, notes),
        model=_text(facts, "model", notes),
        status=status_of(status, notes),
        created=created,
        updated=updated,
        messages=messages,
        context={"v1": {"status": status, "provider": provider, **context}},
        notes=notes.told(),
    )


def _message(
    value: object, place: str, start: datetime, timeline: Timeline, notes: Notes
) -> ImportedMessage:
    message = object_of(value, place)
    if "content" not in message:
        raise UnreadableError(f"{place} has no content")
    role, original = role_of(message.get("role"), place, notes)
    metadata = message.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        notes.add("metadata that is no JSON object was put under the key 'value'")
        metadata = {"value": metadata}
    return ImportedMessage(
        role=role,
        content=content_of(message["content"], place, notes),
        timestamp=timeline.next(message.get("timestamp"), start=start),
        id=text_or_none(message.get("id")),
        metadata=cast("dict[str, Any]", metadata or {}),
        provider_message_id=text_or_none(message.get("provider_message_id")),
        original_role=original,
        extras={name: message[name] for name in _EXTRAS if message.get(name) is not None},
    )


def _text(facts: Mapping[str, Any], name: str, notes: Notes) -> str:
    found = facts.get(name)
    if isinstance(found, str):
        return found
    if name == "user_id":
        raise UnreadableError(f"its user_id is no text: {shown(found)}")
    notes.add(f"{name} is no text ({shown(found)}); it arrives as 'unknown'")
    return "unknown"
