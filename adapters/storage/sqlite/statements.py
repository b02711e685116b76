"""SQL texts that carry many rows each, and their execution.

sqlite3 gives the GIL back and takes it again at every step of a statement, and under a busy host
each taking may wait for a whole switch interval. So a batch must be few steps: rows travel as
`VALUES (...), (...), ...` in chunks whose sizes are powers of two, which bounds the number of
different texts; sqlite3 keeps the compiled statement of each.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from .rows import (
    DOCUMENTS,
    MESSAGE,
    SESSION,
    SESSION_CHANGING,
    SESSION_FENCE,
    TURN,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from .rows import Row

CHUNK = 128
"""Rows per statement at most: 128 of the widest row are an eighth of SQLite's 32,766 parameters."""


def values(rows: int, width: int) -> str:
    """`(?, ?), (?, ?)` for 2 rows of width 2."""
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * rows)


@cache
def insert_sessions(rows: int) -> str:
    """Rows of SESSION."""
    return f"INSERT INTO sessions ({', '.join(SESSION)}) VALUES {values(rows, len(SESSION))}"


@cache
def update_sessions(rows: int) -> str:
    """Rows of SESSION_FENCE + SESSION_CHANGING; touches only what the fence still describes."""
    first = len(SESSION_FENCE) + 1
    changes = ", ".join(
        f"{name} = v.column{number}" for number, name in enumerate(SESSION_CHANGING, first)
    )
    fence = " AND ".join(
        f"sessions.{name} = v.column{number}" for number, name in enumerate(SESSION_FENCE, 1)
    )
    rows_text = values(rows, len(SESSION_FENCE) + len(SESSION_CHANGING))
    return f"UPDATE sessions SET {changes} FROM (VALUES {rows_text}) AS v WHERE {fence}"


@cache
def put_documents(rows: int) -> str:
    """Rows of the session's key + DOCUMENTS."""
    names = ("session_key", *DOCUMENTS)
    return f"INSERT OR REPLACE INTO session_documents ({', '.join(names)}) VALUES " + values(
        rows, len(names)
    )


@cache
def insert_messages(rows: int) -> str:
    """Rows of MESSAGE."""
    return f"INSERT INTO messages ({', '.join(MESSAGE)}) VALUES {values(rows, len(MESSAGE))}"


@cache
def insert_turns(rows: int) -> str:
    """Rows of TURN."""
    return f"INSERT INTO turns ({', '.join(TURN)}) VALUES {values(rows, len(TURN))}"


@cache
def update_turns(rows: int) -> str:
    """Rows of TURN; the id is where, not what: naming it in SET would move the row."""
    changes = ", ".join(f"{name} = v.column{number}" for number, name in enumerate(TURN[1:], 2))
    return (
        f"UPDATE turns SET {changes} FROM (VALUES {values(rows, len(TURN))}) AS v "
        "WHERE turns.id = v.column1"
    )


@cache
def mark_messages(rows: int) -> str:
    """Rows of message id, finish_reason."""
    return (
        f"UPDATE messages SET finish_reason = v.column2 FROM (VALUES {values(rows, 2)}) AS v "
        "WHERE messages.id = v.column1"
    )


CLEAR_MESSAGES = "DELETE FROM messages WHERE id BETWEEN ? AND ?"


def run_rows(
    connection: sqlite3.Connection, text: Callable[[int], str], rows: Sequence[Row]
) -> int:
    """Run a statement of the above over all rows in as few steps as possible; rows touched."""
    touched = 0
    start, left = 0, len(rows)
    while left:
        size = min(CHUNK, 1 << left.bit_length() - 1)
        chunk = rows[start : start + size]
        touched += connection.execute(text(size), [*chain.from_iterable(chunk)]).rowcount
        start += size
        left -= size
    return touched
