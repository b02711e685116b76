"""The floor of SQLite turns: one thread, plain sqlite3, the same rows, two commits per round.

All sessions' opening rows in one transaction, then all closing rows in the next, as the runtime
would at its very best: no event loop, no actor, no provider, rows made before the clock starts.
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
    from pathlib import Path

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


def _prepare(connection: sqlite3.Connection, log: TurnLog) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in CREATE:
        connection.execute(statement)
    connection.executemany(_insert("sessions", SESSION), log.new_sessions)
    connection.executemany(
        _insert("session_documents", ("session_key", *DOCUMENTS)), log.new_documents
    )
    connection.execute("COMMIT")
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
