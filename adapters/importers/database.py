"""An SQLite file of another program, read without a trace.

Nothing is written beside it either. SQLite makes a -wal and a -shm when it reads a file in WAL
mode, so it is told that nobody else can be there (`immutable`) where that is seen to be so, and to
look at the -shm only (`readonly_shm`) where another process has the file open. What a program left
behind when it was killed - a journal that is to be rolled back, a -wal without its -shm - can only
be read by writing: that is done in a copy, in a folder of our own.

No read lasts longer than one session: a program that writes to the file meanwhile is not held up.

A process that has the file open for writing itself loses its locks when the file is closed here:
that is how POSIX has it. Read a file from another process than the one that writes it, or in turn.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

from ...actors.errors import ConfigurationError, StorageError
from .values import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Generator

MAGIC = b"SQLite format 3\0"
MAX_VALUE_BYTES = 256 * 2**20
"""Of one value in a file; a session that is larger is skipped."""
BUSY_SECONDS = 5.0
"""For another program's lock."""
OURS = 0x4C535353
"""The application id of this runtime's own files."""
_COPIES = 3
_HEADER_BYTES = 100
_PAGE = 500
_LOWEST = -(2**63)
_FILE_FORMAT = slice(18, 20)
_WAL_MODE = 2
_NEEDS_WRITING = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

Cell = str | int | float | None
_Mark = tuple[int, ...]


class Key(NamedTuple):
    """Where a session is."""

    rowid: int | None
    raw: bytes
    """Its id in UTF-8, or what stands in its place."""
    id: str


def start_of(path: str) -> bytes:
    """The first bytes of a file. Raises ConfigurationError for what is no file to be read."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a str all along
        start = b""
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:  # noqa: PTH123
                start = file.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no file {path}; check the path") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path!r} cannot be read ({error}); check the path and the permissions of the file "
            "and its folders"
        ) from error
    if stat.S_ISDIR(mode):
        raise ConfigurationError(f"{path} is a folder; name the file that is in it")
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"{path} is no regular file; name the file to import")
    return start


class ForeignDatabase:
    """One connection to a file of another program; used by one thread at a time."""

    def __init__(self, path: str, start: bytes) -> None:
        self._shown = path
        self._path = os.path.realpath(path)
        self._copy: str | None = None
        self._unmoved: _Mark | None = None
        """What the file must still look like: SQLite was told that nobody changes it."""
        self._connection = self._connect(in_wal_mode=_WAL_MODE in start[_FILE_FORMAT])
        try:
            with self.errors():
                self._connection.execute("PRAGMA query_only = ON")
                self._connection.execute("PRAGMA trusted_schema = OFF")
                encoding = self.row("PRAGMA encoding")
            self._check_encoding(encoding)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """May be called again."""
        self._connection.close()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def row(self, sql: str, *values: Any) -> tuple[Cell, ...] | None:
        """The first row."""
        rows = self.rows(f"{sql} LIMIT 1" if sql.startswith("SELECT") else sql, *values)
        return rows[0] if rows else None

    def rows(self, sql: str, *values: Any) -> list[tuple[Cell, ...]]:
        """All rows, so that nothing is held open. Raises UnreadableError for bad texts."""
        return [tuple(_cell(value) for value in row) for row in self.raw_rows(sql, *values)]

    def raw_rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows, with texts as bytes."""
        found = self._connection.execute(sql, values).fetchall()
        self._check_unmoved()
        return found

    def name_of(self, raw: bytes) -> str:
        """The id of these bytes."""
        return raw.decode("utf-8", "backslashreplace")

    def keys(self, table: str) -> Generator[Key | int]:
        """Of all sessions, ordered by id; last the row numbers of those whose id is no text.

        By id, since V1 gives a session another row number whenever it saves it: one that is saved
        meanwhile is neither missed nor read twice.
        """
        raw, rowid = b"", _LOWEST
        while True:
            with self.errors():
                page = self.raw_rows(
                    f"SELECT rowid, CAST(session_id AS BLOB) FROM {table}"
                    " WHERE typeof(session_id) = 'text'"
                    " AND (session_id, rowid) > (CAST(? AS TEXT), ?)"
                    f" ORDER BY session_id, rowid LIMIT {_PAGE}",
                    raw,
                    rowid,
                )
            for rowid, raw in page:
                yield Key(rowid, raw, self.name_of(raw))
            if len(page) < _PAGE:
                break
        rowid = _LOWEST
        while True:
            with self.errors():
                odd = self.rows(
                    f"SELECT rowid FROM {table} WHERE typeof(session_id) <> 'text'"
                    f" AND rowid > ? ORDER BY rowid LIMIT {_PAGE}",
                    rowid,
                )
            for (found,) in odd:
                rowid = cast("int", found)
                yield rowid
            if len(odd) < _PAGE:
                return

    def key_of(self, session_id: str) -> Key:
        """Of a session that may be there or not."""
        return Key(None, session_id.encode("utf-8", "surrogatepass"), session_id)

    def named(self, select: str, key: Key) -> dict[str, Cell] | None:
        """The columns of the session's row by their names; None: it was deleted meanwhile."""
        by_id = f"{select} WHERE session_id = CAST(? AS TEXT)"
        for sql, values in (
            (f"{by_id} AND rowid = ? LIMIT 1", (key.raw, key.rowid)),
            (f"{by_id} LIMIT 1", (key.raw,)),
        ):
            cursor = self._connection.execute(sql, values)
            rows = cursor.fetchall()
            self._check_unmoved()
            if rows:
                names = [column[0] for column in cursor.description]
                return dict(zip(names, map(_cell, rows[0]), strict=True))
        return None

    def columns(self, table: str) -> frozenset[str]:
        """Of a table, by a name that is a constant; none if there is no such table."""
        with self.errors():
            if self.row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table):
                return frozenset(str(row[1]) for row in self.rows(f"PRAGMA table_info({table})"))
        return frozenset()

    def application_id(self) -> int:
        with self.errors():
            (found,) = self.row("PRAGMA application_id") or (0,)
        return found if isinstance(found, int) else 0

    @contextlib.contextmanager
    def one_moment(self) -> Generator[None]:
        """All reads in it see the file as it is at one moment."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def errors(self, *, of_one: bool = False) -> Generator[None]:
        """sqlite3's exceptions become ours; `of_one`: damage is that of one session only."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if of_one and code in _DAMAGE | {sqlite3.SQLITE_TOOBIG}:
                raise UnreadableError(_of_one(code)) from error
            raise self._error(error, code) from error
        except UnicodeDecodeError as error:  # of SQLite's own text about the damage
            if of_one:
                raise UnreadableError(_of_one(sqlite3.SQLITE_CORRUPT)) from error
            raise self._error(error, sqlite3.SQLITE_CORRUPT) from error
        except UnreadableError as error:
            if of_one:
                raise
            raise self._error(error, sqlite3.SQLITE_CORRUPT) from error

    def _error(self, error: Exception, code: int) -> StorageError:
        if code in _DAMAGE:
            return StorageError(
                f"{self._shown} is damaged or cut off ({error}); nothing was written to it: get a "
                "whole copy of it from a backup, or save what can be saved with the command "
                f"`sqlite3 FILE .recover`, and import that",
                code="corrupt",
            )
        if code in _LOCKED:
            return StorageError(
                f"{self._shown} is locked by the program that writes it ({error}); nothing was "
                "written: stop that program, or try again",
                code="busy",
                retryable=True,
            )
        if code == sqlite3.SQLITE_ERROR:
            return StorageError(
                f"{self._shown} has tables that look like the right ones and are not ({error}); "
                "nothing was written to it: import the file that the old program wrote",
                code="foreign",
            )
        return StorageError(
            f"{self._shown} cannot be read ({error}); nothing was written to it: check the "
            "permissions of the file and its folder, and the disk",
            code="io",
        )

    def _check_encoding(self, encoding: tuple[Cell, ...] | None) -> None:
        if encoding != ("UTF-8",):
            raise StorageError(
                f"{self._shown} is a database with texts in UTF-16, which none of the old programs "
                "wrote; nothing was written to it: import the file that the old program wrote",
                code="foreign",
            )

    # ------------------------------------------------------------------ opening

    def _connect(self, *, in_wal_mode: bool) -> sqlite3.Connection:
        wal, shm = f"{self._path}-wal", f"{self._path}-shm"
        if not in_wal_mode:
            return self._tried("mode=ro") or self._copied("-journal")
        if os.path.exists(wal) and os.path.exists(shm):  # noqa: PTH110
            return self._tried("mode=ro", "readonly_shm=1") or self._copied("-wal")
        if _size(wal):
            return self._copied("-wal")
        self._unmoved = self._mark()
        with self.errors():
            return _open(self._path, "mode=ro", "immutable=1")

    def _tried(self, *options: str) -> sqlite3.Connection | None:
        """None: it can only be read by writing."""
        with self.errors():
            connection = _open(self._path, *options)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            except sqlite3.Error as error:
                connection.close()
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NEEDS_WRITING:
                    return None
                raise
            except BaseException:
                connection.close()
                raise
        return connection

    def _copied(self, ending: str) -> sqlite3.Connection:
        """A connection to a copy that is made at one moment, as far as can be seen."""
        self._copy = tempfile.mkdtemp(prefix="langswarm-import-")
        copy = os.path.join(self._copy, "copy.db")  # noqa: PTH118
        try:
            for _ in range(_COPIES):
                before = self._mark(ending)
                shutil.copyfile(self._path, copy)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(self._path + ending, copy + ending)
                if self._mark(ending) == before:
                    with self.errors():
                        return _open(copy, "mode=rw")
            raise StorageError(
                f"{self._shown} was written to all the time while it was copied; nothing was "
                "written to it: stop the program that does, and try again",
                code="busy",
                retryable=True,
            )
        except OSError as error:
            shutil.rmtree(self._copy, ignore_errors=True)
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"{self._shown} was left behind by a program that was killed, so a copy of it is "
                f"read, and that could not be made ({error}): make room in "
                f"{tempfile.gettempdir()}, or start the old program once and end it",
                code="io",
            ) from error

    def _mark(self, ending: str = "-wal") -> _Mark:
        numbers: list[int] = []
        for path in (self._path, self._path + ending):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(path)  # noqa: PTH116
                numbers += (found.st_ino, found.st_size, found.st_mtime_ns)
        return tuple(numbers)

    def _check_unmoved(self) -> None:
        if self._unmoved is not None and self._mark() != self._unmoved:
            raise StorageError(
                f"{self._shown} was opened by another program while it was read; nothing was "
                "written to it: start the import again",
                code="busy",
                retryable=True,
            )


def _open(path: str, *options: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path))}?{'&'.join(options)}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    connection.text_factory = bytes
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


def _cell(value: Any) -> Cell:
    if not isinstance(value, bytes):
        return value  # type: ignore[no-any-return]
    try:
        return value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it has bytes that are no text ({error.reason})") from error


def _of_one(code: int) -> str:
    if code == sqlite3.SQLITE_TOOBIG:
        return f"it has a value of more than {MAX_VALUE_BYTES} bytes"
    return "its part of the file is damaged"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return 0
