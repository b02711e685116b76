"""One open database file, on the storage's own event loop: lock, connections, who runs what.

One connection writes, and closes last: SQLite folds the -wal into the file when the last
connection closes, and that must be the one that also does every other checkpoint. One or two more
only read. Whatever has been acknowledged is visible to them, because a read begins after COMMIT
has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ....actors.errors import ConfigurationError, StorageError
from . import queries
from .connection import Connection
from .files import prepare
from .lock import FileLock
from .mapping import storage_error
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ....actors.model import (
        MessageQuery,
        MessageRecord,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
    )
    from ....actors.ports import WriteOutcome

T = TypeVar("T")

MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables; UPDATE FROM is older
LOCK_POLL_SECONDS = 0.05


@attrs.frozen(kw_only=True)
class Options:
    """What SQLiteSessionStorage was told, checked."""

    path: str
    readers: int
    busy_seconds: float
    wal: bool
    synchronous: str
    lock_wait_seconds: float


class Database:
    """Every method runs on the storage's own event loop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._opening = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._lock: FileLock | None = None
        self._writer_connection = Connection()
        self._readers: list[Connection] = []
        self.writer = Writer()
        self.is_open = False

    async def open(self) -> None:
        """Lock, look, connect; all or nothing."""
        async with self._opening:
            if self.is_open:
                return
            if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
                minimum = ".".join(map(str, MINIMUM_SQLITE))
                raise ConfigurationError(
                    f"SQLiteSessionStorage needs SQLite {minimum} or newer, this Python has "
                    f"{sqlite3.sqlite_version}"
                )
            path = os.path.realpath(self._options.path)  # noqa: ASYNC240 - this loop serves this file only
            await self._acquire(FileLock(path))
            try:
                await self._connect(path)
            except BaseException as error:
                await self.close()
                if isinstance(error, sqlite3.Error):
                    raise storage_error(error) from error
                raise
            self.is_open = True

    def hurry(self) -> None:
        """Stop waiting for the lock: the storage is to be closed."""
        self._hurry.set()

    async def close(self) -> None:
        """Disconnect, the writer last, then let the next process in."""
        self.is_open = False
        try:
            for connection in (*self._readers, self._writer_connection):
                await connection.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def commit(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        """All in one transaction, in one hop."""
        self._check_open()
        return await self._writer_connection.run(partial(self.writer.commit, writes))

    async def read_back(self, session_ids: Sequence[str]) -> list[StoredSession | None]:
        """Behind every commit that was handed over: the writer's jobs run in order."""
        self.writer.check()
        return await self._run(self._writer_connection, partial(queries.load, session_ids))

    async def load(self, session_ids: Sequence[str]) -> list[StoredSession | None]:
        """As last committed."""
        return await self._read(partial(queries.load, session_ids))

    async def load_unfinished(self, limit: int) -> list[StoredSession]:
        """Sessions whose turn is open."""
        return await self._read(partial(queries.load_unfinished, limit))

    async def read_messages(self, key: int, query: MessageQuery) -> list[MessageRecord]:
        """Messages of one session."""
        return await self._read(partial(queries.read_messages, key, query))

    async def list_sessions(self, query: SessionQuery) -> list[SessionRecord]:
        """Sessions of one user."""
        return await self._read(partial(queries.list_sessions, query))

    # ------------------------------------------------------------ inside

    async def _acquire(self, lock: FileLock) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.lock_wait_seconds
        while True:
            try:
                lock.acquire()
            except StorageError as error:
                left = deadline - loop.time()
                if error.code != "busy" or left <= 0 or self._hurry.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOCK_POLL_SECONDS)):
                        await self._hurry.wait()
            else:
                self._lock = lock
                return

    async def _connect(self, path: str) -> None:
        prepare(path)
        options = self._options
        await self._writer_connection.open(path, busy_seconds=options.busy_seconds)
        await self._writer_connection.run(partial(_set_up_writer, options))
        await self._writer_connection.run(self.writer.start)
        for _ in range(options.readers if options.wal else 0):
            reader = Connection()
            self._readers.append(reader)
            await reader.open(path, busy_seconds=options.busy_seconds)
            await reader.run(_set_up_reader)

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        # Without WAL a reader and the writer would shut each other out: one connection does it all.
        connection = min(self._readers, key=_by_load, default=self._writer_connection)
        return await self._run(connection, job)

    async def _run(self, connection: Connection, job: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        try:
            return await connection.run(job)
        except sqlite3.Error as error:
            raise storage_error(error) from error

    def _check_open(self) -> None:
        if not self.is_open:
            raise StorageError("the storage is not open: call open() first", code="closed")


def _by_load(connection: Connection) -> int:
    return connection.unfinished


def _set_up_writer(options: Options, connection: sqlite3.Connection) -> None:
    mode = "wal" if options.wal else "delete"
    (actual,) = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    if actual != mode:
        raise StorageError(
            f"SQLite cannot use journal_mode={mode} here (it stays {actual}); WAL needs a local "
            "file system with shared memory",
            code="io",
        )
    # Deleting the journal is the commit when there is no WAL; only EXTRA syncs that deletion.
    extra = options.synchronous == "FULL" and not options.wal
    _set(connection, synchronous="EXTRA" if extra else options.synchronous)
    _set(connection, cache_size=-16384, temp_store="MEMORY", trusted_schema=0, cell_size_check=1)


def _set_up_reader(connection: sqlite3.Connection) -> None:
    _set(connection, query_only=1, wal_autocheckpoint=0, trusted_schema=0, cell_size_check=1)


def _set(connection: sqlite3.Connection, **pragmas: Any) -> None:
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
