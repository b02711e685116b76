"""What is read: each function is one hop and, but for very many ids, one statement."""

from __future__ import annotations

import logging
import sqlite3
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from .listing import LAST_KEY, LAST_NUMBER, is_storable, nearest
from .mapping import is_damage
from .rows import (
    CLAIM,
    CLAIM_NAME,
    DOCUMENTS,
    MESSAGE,
    PURGE,
    SESSION,
    TURN,
    read_claim,
    read_message,
    read_purge,
    read_stored,
    read_turn,
    row_id,
)
from .schema import SEQ_BITS, SEQ_MAX
from .sealing import NO_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ....actors.model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        StoredSession,
        TurnRecord,
    )
    from .sealing import Vault

logger = logging.getLogger("langswarm.core.session")

_CHUNK = 512
"""Ids per statement at most."""

_OPEN_TURN = f"(s.key << {SEQ_BITS} | s.open_turn_no)"


def _names(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{table}.{name}" for name in columns)


_STORED = ", ".join((_names("s", SESSION), _names("d", DOCUMENTS), _names("t", TURN)))

_LOAD_UNFINISHED = f"""
    SELECT {_STORED} FROM turns AS t
    JOIN sessions AS s ON s.key = t.id >> {SEQ_BITS} AND t.id = {_OPEN_TURN}
    LEFT JOIN session_documents AS d ON d.session_key = s.key
    WHERE t.state = 'open' AND t.id BETWEEN ? AND ? ORDER BY t.id LIMIT ?
"""
_OPEN_TURNS = "SELECT id FROM turns WHERE state = 'open' ORDER BY id"

_TURN = f"SELECT {', '.join(TURN)} FROM turns WHERE id = ?"
_FIND_CLAIM = (
    f"SELECT {', '.join(CLAIM)} FROM claims "
    f"WHERE {' AND '.join(f'{name} = ?' for name in CLAIM_NAME)}"
)
_DUE_PURGES = (
    f"SELECT {', '.join(PURGE)} FROM provider_purges WHERE due_us <= ? ORDER BY due_us, id LIMIT ?"
)


@cache
def _load_text(ids: int) -> str:
    return f"""
        SELECT {_STORED} FROM sessions AS s
        LEFT JOIN session_documents AS d ON d.session_key = s.key
        LEFT JOIN turns AS t ON s.open_turn_no AND t.id = {_OPEN_TURN}
        WHERE s.id IN ({", ".join("?" * ids)})
    """


def load(
    session_ids: Sequence[str], connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> list[StoredSession | None]:
    """The sessions in the order of the ids, None for unknown ones."""
    found: dict[str, StoredSession] = {}
    storable = [name for name in session_ids if is_storable(name)]
    for start in range(0, len(storable), _CHUNK):
        chunk: list[str | None] = [*storable[start : start + _CHUNK]]
        size = 1 << (len(chunk) - 1).bit_length()
        chunk += [None] * (size - len(chunk))  # NULL is IN nothing
        for row in connection.execute(_load_text(size), chunk).fetchall():
            stored = read_stored(vault.open_stored(row))
            found[stored.record.session_id] = stored
    return [found.get(name) for name in session_ids]


def load_unfinished(
    limit: int, connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> list[StoredSession]:
    """Up to `limit` sessions with an open turn; without those that are damaged."""
    try:
        rows = connection.execute(_LOAD_UNFINISHED, (0, LAST_NUMBER, nearest(limit))).fetchall()
        return [read_stored(vault.open_stored(row)) for row in rows]
    except (sqlite3.DatabaseError, LookupError, TypeError, ValueError) as error:
        if not is_damage(error):
            raise
    found: list[StoredSession] = []
    for (turn_id,) in connection.execute(_OPEN_TURNS).fetchall():
        try:
            rows = connection.execute(_LOAD_UNFINISHED, (turn_id, turn_id, 1)).fetchall()
            found.extend(read_stored(vault.open_stored(row)) for row in rows)
        except (sqlite3.DatabaseError, LookupError, TypeError, ValueError) as error:
            if not is_damage(error):
                raise
            logger.exception("the open turn of session %s is damaged", turn_id >> SEQ_BITS)
        if len(found) == limit:
            break
    return found


def read_messages(
    key: int, query: MessageQuery, connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> list[MessageRecord]:
    """The newest matching messages, in `seq` order."""
    first = max(query.after_seq, 0) + 1
    last = SEQ_MAX if query.before_seq is None else min(query.before_seq - 1, SEQ_MAX)
    limit = -1 if query.limit is None else max(nearest(query.limit), 0)
    if last < first or not _is_key(key) or not is_storable(query.message_id or ""):
        return []  # behind these limits are rows of other sessions
    conditions = ["id BETWEEN ? AND ?"]
    parameters: list[int | str] = [row_id(key, first), row_id(key, last)]
    if not query.include_hidden:
        conditions.append("hidden_by = 0")
    if query.for_prompt:
        conditions.append("role != 'system' AND finish_reason IS NOT 'failed'")
    wanted: tuple[tuple[str, int | str | None], ...] = (
        ("role = ?", query.role and query.role.value),
        ("created_us >= ?", query.since_us),
        ("created_us < ?", query.until_us),
        ("message_id = ?", query.message_id),
        ("turn_no = ?", query.turn_no),
    )
    for condition, value in wanted:
        if value is not None:
            conditions.append(condition)
            parameters.append(nearest(value) if isinstance(value, int) else value)
    text = (
        f"SELECT {', '.join(MESSAGE)} FROM messages WHERE {' AND '.join(conditions)} "
        "ORDER BY id DESC LIMIT ?"
    )
    if query.metadata and limit:
        all_rows = connection.execute(text, (*parameters, -1))
        messages = (read_message(vault.open_message(row)) for row in all_rows)
        return _with_metadata(messages, query)[::-1]
    rows = connection.execute(text, (*parameters, limit)).fetchall()
    rows.reverse()
    return [read_message(vault.open_message(row)) for row in rows]


def _with_metadata(messages: Iterable[MessageRecord], query: MessageQuery) -> list[MessageRecord]:
    """Up to the limit; SQLite's own JSON functions would take 1 for true."""
    from ..json_match import object_has_all  # noqa: PLC0415 - json: not for every program

    matching = (one for one in messages if object_has_all(one.metadata, query.metadata))
    return list(islice(matching, query.limit))


def turn(
    key: int, turn_no: int, connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> TurnRecord | None:
    """The turn of that number."""
    if not 0 < turn_no <= SEQ_MAX or not _is_key(key):
        return None
    row = connection.execute(_TURN, (row_id(key, turn_no),)).fetchone()
    return None if row is None else read_turn(vault.open_turn(row))


def find_claim(
    scope: str, method: str, key: str, connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> Claim | None:
    """What was done under this idempotency key."""
    name = (scope, method, key)
    if not all(map(is_storable, name)):
        return None
    row = connection.execute(_FIND_CLAIM, name).fetchone()
    return None if row is None else read_claim(vault.open_claim(row))


def load_purges(now_us: int, limit: int, connection: sqlite3.Connection) -> list[Purge]:
    """Those that are due, the one that is due longest first."""
    rows = connection.execute(_DUE_PURGES, (nearest(now_us), max(nearest(limit), 0))).fetchall()
    return [read_purge(row) for row in rows]


def _is_key(key: int) -> bool:
    return 0 < key <= LAST_KEY
