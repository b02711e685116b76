"""The SQL texts that write rows, one row each, and their execution over many.

Texts that carry many rows (`VALUES (...), (...)`) need fewer steps, at each of which sqlite3 gives
the GIL back and takes it again. That was measured and is no gain: under a host thread that never
rests, 100 updates and inserts take a sixth less time row by row, beside an idle one a fifth, and
there is one text of each kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import (
    CLAIM,
    CLAIM_NAME,
    DOCUMENTS,
    MESSAGE,
    PURGE,
    PURGE_NAME,
    SESSION,
    SESSION_CHANGING,
    SESSION_FENCE,
    TAG,
    TURN,
    USAGE_DAY,
    USAGE_DAY_NAME,
    USAGE_USER,
    USAGE_USER_NAME,
)
from .schema import USAGE_COUNTS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from .rows import Row


def _insert(table: str, columns: Sequence[str], verb: str = "INSERT") -> str:
    marks = ", ".join("?" * len(columns))
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({marks})"


def _assignments(columns: Sequence[str], first: int, separator: str) -> str:
    """`a = ?2, b = ?3` for two columns, the first of which is parameter 2."""
    return separator.join(f"{name} = ?{number}" for number, name in enumerate(columns, first))


INSERT_SESSIONS = _insert("sessions", SESSION)
"""Rows of SESSION."""

UPDATE_SESSIONS = (
    f"UPDATE sessions SET {_assignments(SESSION_CHANGING, len(SESSION_FENCE) + 1, ', ')} "
    f"WHERE {_assignments(SESSION_FENCE, 1, ' AND ')}"
)
"""Rows of SESSION_FENCE + SESSION_CHANGING; touches only what the fence still describes."""

PUT_DOCUMENTS = _insert("session_documents", ("session_key", *DOCUMENTS), "INSERT OR REPLACE")
"""Rows of the session's key + DOCUMENTS."""

INSERT_MESSAGES = _insert("messages", MESSAGE)
"""Rows of MESSAGE."""

INSERT_TURNS = _insert("turns", TURN)
"""Rows of TURN."""

UPDATE_TURNS = f"UPDATE turns SET {_assignments(TURN[1:], 2, ', ')} WHERE id = ?1"
"""Rows of TURN; the id is where, not what: naming it in SET would move the row."""

MARK_MESSAGES = "UPDATE messages SET finish_reason = ?2 WHERE id = ?1"
"""Rows of message id, finish_reason."""

CLEAR_MESSAGES = "DELETE FROM messages WHERE id BETWEEN ? AND ?"
"""Rows of first id, last id."""

HIDE_MESSAGES = "UPDATE messages SET hidden_by = ?3 WHERE id BETWEEN ?1 AND ?2 AND hidden_by = 0"
"""Rows of first id, last id, hidden_by."""

# Not INSERT OR ...: that would take a value of a wrong type for a row that is there already.
_PUT = ", ".join(f"{name} = excluded.{name}" for name in CLAIM if name not in CLAIM_NAME)
PUT_CLAIMS = (
    f"{_insert('claims', CLAIM)} ON CONFLICT ({', '.join(CLAIM_NAME)}) DO UPDATE SET {_PUT}"
)
"""Rows of CLAIM."""

QUEUE_PURGES = (
    f"{_insert('provider_purges', PURGE)} ON CONFLICT ({', '.join(PURGE_NAME)}) DO NOTHING"
)
"""Rows of PURGE."""

CLEAR_TAGS = "DELETE FROM session_tags WHERE session_key = ?"
"""Rows of the session's key."""

INSERT_TAGS = _insert("session_tags", TAG)
"""Rows of TAG."""


def _add_usage(table: str, columns: Sequence[str], name: Sequence[str]) -> str:
    sums = ", ".join(f"{count} = {count} + excluded.{count}" for count in USAGE_COUNTS)
    return f"{_insert(table, columns)} ON CONFLICT ({', '.join(name)}) DO UPDATE SET {sums}"


ADD_USAGE_OF_USERS = _add_usage("usage_users", USAGE_USER, USAGE_USER_NAME)
"""Rows of USAGE_USER."""

ADD_USAGE_OF_DAYS = _add_usage("usage_days", USAGE_DAY, USAGE_DAY_NAME)
"""Rows of USAGE_DAY."""

ERASE_TURNS = "DELETE FROM turns WHERE id BETWEEN ? AND ?"
"""Rows of first id, last id."""
ERASE_PENDING = "DELETE FROM search_pending WHERE session_key = ?"
ERASE_DOCUMENTS = "DELETE FROM session_documents WHERE session_key = ?"
ERASE_SESSIONS = "DELETE FROM sessions WHERE key = ?"
"""Rows of the session's key."""
ERASE_CLAIMS = "DELETE FROM claims WHERE scope = ?"
"""Rows of the session's id."""

SWEEP_CLAIMS = f"""
    DELETE FROM claims WHERE ({", ".join(CLAIM_NAME)}) IN (
        SELECT {", ".join(CLAIM_NAME)} FROM claims WHERE created_us < ? ORDER BY created_us LIMIT ?
    )
"""
"""A row of the time, how many."""

_THE_PURGE = _assignments(PURGE_NAME, 1, " AND ")
DELETE_PURGE = f"DELETE FROM provider_purges WHERE {_THE_PURGE}"
"""A row of PURGE_NAME."""

RETRY_PURGE = (
    "UPDATE provider_purges SET due_us = ?3, last_error = ?4, attempts = attempts + 1 "
    f"WHERE {_THE_PURGE}"
)
"""A row of PURGE_NAME + due_us, last_error."""


def run_rows(connection: sqlite3.Connection, text: str, rows: Sequence[Row]) -> int:
    """Run a statement of the above for each row; how many rows of the table were touched."""
    if not rows:
        return 0
    return connection.executemany(text, rows).rowcount
