"""LangSwarm 0.1.0: the same file and table name as V1, with a table of messages; times are UTC.

Messages are ordered by their number. Deleted sessions have left their messages behind: these are
reported and not imported.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from ...actors.model import SessionStatus
from .meaning import (
    Notes,
    content_of,
    count_of,
    object_of,
    parsed,
    provider_of,
    role_of,
    shown,
    text_or_none,
)
from .times import EPOCH, Timeline
from .values import ImportedMessage, ImportedSession, Skipped, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .database import Cell, ForeignDatabase, Key

COLUMNS = frozenset({"session_id", "context_data"})
MESSAGE_COLUMNS = frozenset({"id", "session_id", "role", "content"})
"""By these its tables are recognised."""
_WANTED = (
    "session_id",
    "user_id",
    "provider",
    "model",
    "backend",
    "context_data",
    "created_at",
    "updated_at",
)
_WANTED_OF_MESSAGES = (
    "message_id",
    "role",
    "content",
    "timestamp",
    "metadata",
    "provider_message_id",
    "token_count",
    "finish_reason",
)
_PAGE = 500


class LangSwarm01Reader:
    """Of LangSwarm 0.1.0's SQLite file."""

    def __init__(self, database: ForeignDatabase) -> None:
        self._database = database
        there = database.columns("sessions")
        self._select = f"SELECT {', '.join(c for c in _WANTED if c in there)} FROM sessions"
        there = database.columns("session_messages")
        self._message_columns = tuple(c for c in _WANTED_OF_MESSAGES if c in there)

    def sessions(self) -> Iterator[ImportedSession | Skipped]:
        for key in self._database.keys("sessions"):
            if isinstance(key, int):
                yield Skipped(id=f"row {key}", reason="its session id is no text")
            else:
                yield self._read(key) or Skipped(
                    id=key.id, reason="it was deleted by its program while the file was read"
                )
        yield from self._orphans()

    def find(self, session_id: str) -> ImportedSession | Skipped | None:
        return self._read(self._database.key_of(session_id))

    def close(self) -> None:
        self._database.close()

    def _orphans(self) -> Iterator[Skipped]:
        after: bytes | None = None
        while True:
            with self._database.errors():
                page = self._database.raw_rows(
                    "SELECT CAST(CAST(session_id AS TEXT) AS BLOB), count(*) FROM session_messages"
                    " WHERE NOT EXISTS (SELECT 1 FROM sessions"
                    " WHERE sessions.session_id = session_messages.session_id)"
                    " AND (? IS NULL OR CAST(session_id AS TEXT) > CAST(? AS TEXT))"
                    f" GROUP BY 1 ORDER BY 1 LIMIT {_PAGE}",
                    after,
                    after,
                )
            for raw, count in page:
                after = name = raw or b""
                yield Skipped(
                    id=self._database.name_of(name),
                    reason=f"{count} messages of a session that was deleted; they stay in the file",
                )
            if len(page) < _PAGE:
                return

    def _read(self, key: Key) -> ImportedSession | Skipped | None:
        columns = ", ".join(self._message_columns)
        try:
            with self._database.errors(of_one=True), self._database.one_moment():
                row = self._database.named(self._select, key)
                if row is None:
                    return None
                messages = self._database.rows(
                    f"SELECT {columns} FROM session_messages WHERE session_id = CAST(? AS TEXT)"
                    " ORDER BY id",
                    key.raw,
                )
            named = [dict(zip(self._message_columns, m, strict=True)) for m in messages]
            return _session(key.id, row, named)
        except UnreadableError as error:
            return Skipped(id=key.id, reason=str(error))


def _session(
    session_id: str, row: dict[str, Cell], found: list[dict[str, Cell]]
) -> ImportedSession:
    notes = Notes()
    timeline = Timeline(UTC, notes.add)
    created, updated = (timeline.apart(row.get(name)) for name in ("created_at", "updated_at"))
    start = created or updated or EPOCH
    messages = tuple(
        _message(message, f"message {number}", start, timeline, notes)
        for number, message in enumerate(found, 1)
    )
    user_id = row.get("user_id")
    if not isinstance(user_id, str):
        raise UnreadableError(f"its user_id is no text: {shown(user_id)}")
    provider = text_or_none(row.get("provider"))
    context = _object(row.get("context_data"), "its context", notes)
    if row.get("backend") is not None:
        context = {**context, "langswarm_0_1": {"backend": row["backend"]}}
    return ImportedSession(
        id=session_id,
        user_id=user_id,
        provider=None if provider is None else provider_of(provider, notes),
        model=text_or_none(row.get("model")),
        status=SessionStatus.ACTIVE,
        created=created or (messages[0].timestamp if messages else start),
        updated=updated or (messages[-1].timestamp if messages else start),
        messages=messages,
        context=context,
        notes=notes.told(),
    )


def _message(
    row: dict[str, Cell], place: str, start: datetime, timeline: Timeline, notes: Notes
) -> ImportedMessage:
    role, original = role_of(row.get("role"), place, notes)
    return ImportedMessage(
        role=role,
        content=content_of(row.get("content"), place, notes),
        timestamp=timeline.next(row.get("timestamp"), start=start),
        id=text_or_none(row.get("message_id")),
        metadata=_object(row.get("metadata"), "the metadata of a message", notes),
        provider_message_id=text_or_none(row.get("provider_message_id")),
        token_count=count_of(row.get("token_count")),
        finish_reason=text_or_none(row.get("finish_reason")),
        original_role=original,
    )


def _object(cell: Cell, what: str, notes: Notes) -> dict[str, Any]:
    if cell is None or cell == "":
        return {}
    try:
        value = parsed(cell, what) if isinstance(cell, str) else cell
        return {} if value is None else object_of(value, what)
    except UnreadableError as error:
        notes.add(f"{error}; it was left out")
        return {}
