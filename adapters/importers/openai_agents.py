"""SQLiteSession of openai-agents: a row per session, a row of JSON per item; times are UTC.

Its items are those of the Responses API. Messages are imported; calls of tools, their results and
reasoning are no messages, and are left out with a note. It knows no users, providers and models.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from ...actors.model import SessionStatus
from .meaning import Notes, content_of, object_of, parsed, role_of, shown, text_or_none
from .times import EPOCH, Timeline
from .values import ImportedMessage, ImportedSession, Skipped, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .database import Cell, ForeignDatabase, Key

COLUMNS = frozenset({"session_id"})
MESSAGE_COLUMNS = frozenset({"id", "session_id", "message_data", "created_at"})
"""By these its tables are recognised."""


class OpenAIAgentsReader:
    """Of a file of SQLiteSession."""

    def __init__(self, database: ForeignDatabase) -> None:
        self._database = database
        wanted = ("session_id", "created_at", "updated_at")
        there = database.columns("agent_sessions")
        self._select = f"SELECT {', '.join(c for c in wanted if c in there)} FROM agent_sessions"

    def sessions(self) -> Iterator[ImportedSession | Skipped]:
        for key in self._database.keys("agent_sessions"):
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
            with self._database.errors(of_one=True), self._database.one_moment():
                row = self._database.named(self._select, key)
                if row is None:
                    return None
                items = self._database.rows(
                    "SELECT message_data, created_at FROM agent_messages"
                    " WHERE session_id = CAST(? AS TEXT) ORDER BY id",
                    key.raw,
                )
            return _session(key.id, row, items)
        except UnreadableError as error:
            return Skipped(id=key.id, reason=str(error))


def _session(
    session_id: str, row: dict[str, Cell], items: list[tuple[Cell, ...]]
) -> ImportedSession:
    notes = Notes()
    timeline = Timeline(UTC, notes.add)
    created, updated = (timeline.apart(row.get(name)) for name in ("created_at", "updated_at"))
    start = created or updated or EPOCH
    read = (
        _message(item, f"item {number}", start, timeline, notes)
        for number, item in enumerate(items, 1)
    )
    messages = tuple(message for message in read if message is not None)
    return ImportedSession(
        id=session_id,
        user_id=None,
        provider=None,
        model=None,
        status=SessionStatus.ACTIVE,
        created=created or (messages[0].timestamp if messages else start),
        updated=updated or (messages[-1].timestamp if messages else start),
        messages=messages,
        notes=notes.told(),
    )


def _message(
    row: tuple[Cell, ...], place: str, start: datetime, timeline: Timeline, notes: Notes
) -> ImportedMessage | None:
    data, time = row
    if not isinstance(data, str):
        raise UnreadableError(f"{place} is no text: {shown(data)}")
    item = object_of(parsed(data, place), place)
    if item.get("type", "message") != "message":
        notes.add(f"items of type {shown(item['type'])} were left out: they are no messages")
        return None
    role, original = role_of(item.get("role"), place, notes)
    return ImportedMessage(
        role=role,
        content=content_of(item.get("content"), place, notes),
        timestamp=timeline.next(time, start=start),
        id=text_or_none(item.get("id")),
        original_role=original,
    )
