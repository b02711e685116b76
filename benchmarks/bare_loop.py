"""The floor of what is written to SQLite: one thread, plain sqlite3, the same rows in groups.

As the runtime would at its very best: no event loop, no actor, no provider, rows made before the
clock starts. Turns: all sessions' opening rows in one transaction, then all closing rows in the
next. Appends: groups of the size that the storage actor reached.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from figures import Meter
from langswarm.core.session.adapters.storage.sqlite.rows import (
    DOCUMENTS,
    MESSAGE,
    SESSION,
    SESSION_CHANGING,
    SESSION_FENCE,
    TURN,
)
from langswarm.core.session.adapters.storage.sqlite.schema import CREATE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langswarm.core.session.adapters.storage.sqlite.rows import Row
    from turn_log import Batch, TurnLog


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - constants


def _assign(columns: tuple[str, ...], between: str) -> str:
    return between.join(f"{name} = ?" for name in columns)


INSERT_MESSAGE = _insert("messages", MESSAGE)
INSERT_TURN = _insert("turns", TURN)
UPDATE_TURN = f"UPDATE turns SET {_assign(TURN[1:], ', ')} WHERE id = ?"  # noqa: S608 - constants
UPDATE_SESSION = (
    f"UPDATE sessions SET {_assign(SESSION_CHANGING, ', ')} "  # noqa: S608 - constants
    f"WHERE {_assign(SESSION_FENCE, ' AND ')}"
)


def run(path: Path, log: TurnLog) -> tuple[Meter, list[float]]:
    """Store the log in a new file; what it took, and the seconds of each round."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(connection, log)
        closings = [[(*row[1:], row[0]) for row in closing.turns] for _, closing in log.rounds]
        seconds: list[float] = []
        with Meter() as meter:
            for (opening, closing), closed in zip(log.rounds, closings, strict=True):
                start = time.perf_counter()
                _commit(connection, opening, INSERT_TURN, opening.turns)
                _commit(connection, closing, UPDATE_TURN, closed)
                seconds.append(time.perf_counter() - start)
    finally:
        connection.close()
    return meter, seconds


def append(path: Path, rows: Sequence[tuple[Row, Row]], group: int) -> tuple[Meter, list[float]]:
    """Store (session, message) rows in a file that has the sessions; the seconds of each commit."""
    groups = [rows[start : start + group] for start in range(0, len(rows), group)]
    sorted_rows = [tuple(zip(*some, strict=True)) for some in groups]
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _set_up(connection)
        seconds: list[float] = []
        with Meter() as meter:
            for sessions, messages in sorted_rows:
                start = time.perf_counter()
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(UPDATE_SESSION, sessions)
                connection.executemany(INSERT_MESSAGE, messages)
                connection.execute("COMMIT")
                seconds.append(time.perf_counter() - start)
    finally:
        connection.close()
    return meter, seconds


def _prepare(connection: sqlite3.Connection, log: TurnLog) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in CREATE:
        connection.execute(statement)
    connection.executemany(_insert("sessions", SESSION), log.new_sessions)
    connection.executemany(
        _insert("session_documents", ("session_key", *DOCUMENTS)), log.new_documents
    )
    connection.execute("COMMIT")
    _set_up(connection)


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")


def _commit(
    connection: sqlite3.Connection, batch: Batch, turn_text: str, turns: list[tuple[object, ...]]
) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(UPDATE_SESSION, batch.sessions)
    connection.executemany(INSERT_MESSAGE, batch.messages)
    connection.executemany(turn_text, turns)
    connection.execute("COMMIT")
