"""What `verify` finds: pages that SQLite cannot read, and rows that make no sense.

SQLite's own check is one statement per table. The rows are read as for a session, by the same
functions, in slices of some milliseconds: each is one statement with a snapshot of its own, so that
the -wal may start over between two of them, and without a -wal a commit may come in between. Only
one row at a time is in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from functools import cache
from typing import TYPE_CHECKING

import attrs

from ..encryption.records import SealError
from .mapping import is_damage, storage_error
from .rows import (
    CLAIM,
    CLAIM_NAME,
    DOCUMENTS,
    MESSAGE,
    PURGE,
    SESSION,
    TURN,
    USAGE_DAY,
    USAGE_DAY_NAME,
    USAGE_USER,
    USAGE_USER_NAME,
    read_claim,
    read_message,
    read_purge,
    read_session,
    read_turn,
    read_usage_day,
)
from .schema import CREATE_SEARCH, SEQ_BITS, SEQ_MAX, USAGE_COUNTS
from .sealing import DOCUMENT_FIELDS, NO_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .rows import Row
    from .sealing import Vault

PROBLEMS = 100
"""How many problems `verify` names at most."""
FIRST_ROWS = 64
MOST_ROWS = 1024
"""Of a slice."""

_NO_SESSION = "WHEN NOT EXISTS (SELECT 1 FROM sessions WHERE key = {}) THEN 'belongs to no session'"
_OF_SESSION = "(SELECT {} FROM sessions WHERE key = session_key)"
_NO_DOCUMENTS = """
    WHEN NOT EXISTS (SELECT 1 FROM session_documents WHERE session_key = key)
    THEN 'has no row in session_documents'
"""
_NO_OPEN_TURN = f"""
    WHEN open_turn_no <> 0 AND NOT EXISTS (
        SELECT 1 FROM turns AS t
        WHERE t.id = (key << {SEQ_BITS} | open_turn_no) AND t.state = 'open'
    ) THEN 'has lost its open turn'
"""
_UNKNOWN_OPEN_TURN = f"""
    WHEN state = 'open' AND NOT EXISTS (
        SELECT 1 FROM sessions
        WHERE key = turns.id >> {SEQ_BITS} AND open_turn_no = turns.id & {SEQ_MAX}
    ) THEN 'is open, and its session does not know of it'
"""


_OF_CONFIG = "SELECT value FROM json_each(config, '$.tags')"
_OF_TABLE = """
    SELECT tag FROM session_tags AS t WHERE t.session_key = session_documents.session_key
"""
_OTHER_TAGS = f"""
    WHEN codec = 0 AND NOT EXISTS ({_OF_TABLE} AND typeof(tag) <> 'text') AND (
        EXISTS ({_OF_CONFIG} EXCEPT {_OF_TABLE}) OR EXISTS ({_OF_TABLE} EXCEPT {_OF_CONFIG})
    ) THEN 'has other tags in session_tags'
"""
_SAME_DAY = " AND ".join(f"usage_users.{name} = usage_days.{name}" for name in USAGE_DAY_NAME)
_NO_SUM = f"""
    WHEN NOT EXISTS (SELECT 1 FROM usage_days WHERE {_SAME_DAY}) THEN 'is in no row of usage_days'
"""
_COUNTS = ", ".join(f"usage_days.{count}" for count in USAGE_COUNTS)
_SUMS = ", ".join(f"coalesce(sum(usage_users.{count}), 0)" for count in USAGE_COUNTS)
_OTHER_SUM = f"""
    WHEN ({_COUNTS}) IS NOT (SELECT {_SUMS} FROM usage_users WHERE {_SAME_DAY})
    THEN 'is not the sum of usage_users'
"""


def _json(column: str) -> str:
    return f"""
        WHEN codec = 0 AND {column} IS NOT NULL
        AND CASE WHEN json_valid({column}) THEN json_type({column}) ELSE '' END <> 'object'
        THEN 'has damaged JSON in {column}'
    """


@attrs.frozen(kw_only=True, eq=False)
class _Table:
    """How the rows of a table are read, and what is wrong with one that can be read."""

    name: str
    rows: str = ""
    """What to read in place of the table itself."""
    key: Sequence[str]
    """The columns of its primary key."""
    key_types: Sequence[str] = ("INTEGER",)
    columns: Sequence[str]
    open: Callable[[Vault, Row], Row] = lambda _, row: row
    """Its values as they were before a key sealed them."""
    read: Callable[[Row], object]
    problems: Sequence[str] = ()
    """Branches of a CASE."""
    encoded: Collection[str] = ()
    """Columns that may be anything in SQLite, and are text."""
    has_codec: bool = True


_TABLES = (
    _Table(
        name="sessions",
        key=("key",),
        columns=SESSION,
        read=read_session,
        problems=(_NO_DOCUMENTS, _NO_OPEN_TURN),
    ),
    _Table(
        name="session_documents",
        key=("session_key",),
        columns=(*DOCUMENTS, "session_key", *map(_OF_SESSION.format, ("id", "user_id"))),
        open=lambda vault, row: vault.open_documents(row[:-3], *row[-3:]),
        read=tuple,
        problems=(
            _NO_SESSION.format("session_key"),
            *map(_json, DOCUMENT_FIELDS),
            _OTHER_TAGS,
        ),
        encoded=DOCUMENT_FIELDS,
    ),
    _Table(
        name="messages",
        key=("id",),
        columns=MESSAGE,
        open=lambda vault, row: vault.open_message(row),
        read=read_message,
        problems=(
            _NO_SESSION.format(f"messages.id >> {SEQ_BITS}"),
            _json("metadata"),
            _json("provider_metadata"),
        ),
        encoded=("content", "metadata", "provider_metadata"),
    ),
    _Table(
        name="turns",
        key=("id",),
        columns=TURN,
        open=lambda vault, row: vault.open_turn(row),
        read=read_turn,
        problems=(_NO_SESSION.format(f"turns.id >> {SEQ_BITS}"), _UNKNOWN_OPEN_TURN),
        encoded=("partial_text", "error_text"),
    ),
    _Table(
        name="claims",
        key=CLAIM_NAME,
        key_types=("TEXT", "TEXT", "TEXT"),
        columns=CLAIM,
        open=lambda vault, row: vault.open_claim(row),
        read=read_claim,
    ),
    _Table(name="provider_purges", key=("id",), columns=PURGE, read=read_purge, has_codec=False),
    _Table(
        name="session_tags",
        rows="(SELECT DISTINCT session_key FROM session_tags)",
        key=("session_key",),
        columns=("session_key",),
        read=tuple,
        problems=(_NO_SESSION.format("session_key"),),
        has_codec=False,
    ),
    _Table(
        name="search_pending",
        key=("session_key",),
        columns=("from_seq",),
        read=tuple,
        problems=(_NO_SESSION.format("session_key"),),
        has_codec=False,
    ),
    _Table(
        name="usage_users",
        key=USAGE_USER_NAME,
        key_types=("INTEGER", "TEXT", "TEXT", "TEXT"),
        columns=USAGE_USER,
        read=tuple,
        problems=(_NO_SUM,),
        has_codec=False,
    ),
    _Table(
        name="usage_days",
        key=USAGE_DAY_NAME,
        key_types=("INTEGER", "TEXT", "TEXT"),
        columns=USAGE_DAY,
        read=read_usage_day,
        problems=(_OTHER_SUM,),
        has_codec=False,
    ),
)


def tables(connection: sqlite3.Connection) -> list[str]:
    """All there are, SQLite's own as well."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in rows]


def check_pages(table: str, connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with one table and its indexes."""
    try:
        if table == "search":
            return _check_search(connection)
        rows = connection.execute(f"PRAGMA integrity_check('{table}')").fetchmany(PROBLEMS)
    except sqlite3.DatabaseError as error:
        mapped = storage_error(error)
        if mapped.code != "corrupt":
            raise
        return [f"{table}: {mapped}"]
    return [f"{table}: {text}" for (text,) in rows if text != "ok"]


def _check_search(connection: sqlite3.Connection) -> list[str]:
    """Check a copy in memory: FTS5 takes the lock for writing to check its own tables."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        copy.execute(CREATE_SEARCH)
        connection.execute("BEGIN")
        try:
            for table in ("search_config", "search_data", "search_idx"):
                copy.execute(f"DELETE FROM {table}")
                rows = connection.execute(f"SELECT * FROM {table}")
                marks = ", ".join("?" * len(rows.description))
                copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        finally:
            connection.execute("COMMIT")
        copy.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    return []


def checks_of(table: str, vault: Vault = NO_KEYS) -> RowCheck:
    """For one table; of one that is not ours, nothing."""
    return RowCheck(next((known for known in _TABLES if known.name == table), None), vault)


class RowCheck:
    """Goes through the rows of a table, slice by slice."""

    def __init__(self, table: _Table | None, vault: Vault) -> None:
        self._table = table
        self._vault = vault
        self._last: Row = ()
        self.problems: list[str] = []
        self.is_done = table is None

    def run(self, rows: int, connection: sqlite3.Connection) -> float:
        """The next slice; the seconds that it took."""
        began = time.monotonic()
        if self._table is not None:
            connection.text_factory = _text_of
            try:
                self._slice(self._table, rows, connection)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.problems.append(f"{self._table.name}: {storage_error(error)}")
                self.is_done = True
            finally:
                connection.text_factory = str
        return time.monotonic() - began

    def _slice(self, table: _Table, rows: int, connection: sqlite3.Connection) -> None:
        keys, found = len(table.key), 0
        text = _select(table, first=not self._last)
        for row in connection.execute(text, (*self._last, rows)):
            found += 1
            self._last = row[:keys]
            problem = _problem(table, row[keys:], self._vault)
            if problem is not None:
                name = self._last[0] if keys == 1 else self._last
                self.problems.append(f"{table.name}: row {name} {problem}")
        self.is_done = found < rows or len(self.problems) >= PROBLEMS


class _Undecodable(bytes):
    """Text that is not UTF-8; with it, a row can be read to its end and named."""

    __slots__ = ()


def _text_of(raw: bytes) -> str | _Undecodable:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _Undecodable(raw)


@cache
def _select(table: _Table, *, first: bool) -> str:
    """The key, the columns, 1 if they are text and not encoded, what is wrong."""
    keys = ", ".join(table.key)
    problem = f"CASE {' '.join(table.problems)} END" if table.problems else "NULL"
    plain = "codec = 0" if table.has_codec else "1"
    # As SQLite has it: text that is not UTF-8 comes back as bytes.
    after = ", ".join(f"CAST(? AS {kind})" for kind in table.key_types)
    where = "" if first else f"WHERE ({keys}) > ({after})"
    rows = table.rows or table.name
    return (
        f"SELECT {keys}, {', '.join(table.columns)}, {plain}, {problem} FROM {rows} {where} "
        f"ORDER BY {keys} LIMIT ?"
    )


def _problem(table: _Table, row: Row, vault: Vault) -> str | None:
    *values, is_plain, problem = row
    for name, value in zip(table.columns, values, strict=True):
        if isinstance(value, _Undecodable):
            return f"has text that is not UTF-8 in {name}"
        if is_plain and name in table.encoded and not isinstance(value, str | None):
            return f"has no text in {name}"
    if problem is not None:
        return str(problem)
    try:
        table.read(table.open(vault, tuple(values)))
    except SealError as error:
        return f"cannot be read: {error}"
    except (LookupError, TypeError, ValueError) as error:
        return f"makes no sense: {error!r}"
    return None
