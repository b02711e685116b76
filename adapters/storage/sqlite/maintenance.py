"""Tidying up, backups and checks, beside the turns.

What has to write (`optimize`) runs on the writer's connection as many small jobs, with the commits
that have arrived in between; the size of a job follows from how long the last one took. What only
reads (`backup`, `verify`) has a connection and a thread of its own, so that nobody waits for it: in
WAL mode a reader's snapshot holds up no commit. Without WAL it would, so there it takes its turn on
the writer's connection, and the turns wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ....actors.errors import StorageError
from ....actors.ports import Backup, Verification
from . import copying, verification
from .connection import Connection, JobConnection
from .mapping import storage_error
from .sealing import NO_KEYS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from .checkpoint import Checkpoints
    from .connection import Connect
    from .sealing import Vault
    from .writer import Writer

T = TypeVar("T")

SLICE_SECONDS = 0.005
"""How long a job of `optimize` should take: a commit that arrives meanwhile waits as long."""
FIRST_PAGES = 16
MOST_PAGES = 4096
FIRST_ROWS = 16
MOST_ROWS = 128
"""Of a sweep: each may be on a page of its own that is not in memory."""
_IN_MEMORY = "MEMORY"
_IN_A_FILE = "FILE"
"""Where a copy of the whole is made; it may be larger than the memory, and no cipher covers it."""
_TRUNCATIONS = 40
_TRUNCATION_SECONDS = 0.05
"""How often, and after what time, it is tried again to cut a -wal that is being read."""
INCREMENTAL = 2
"""What `PRAGMA auto_vacuum` says then."""


class Maintenance:
    """Of one open database; every method runs on the storage's own event loop."""

    def __init__(
        self,
        path: str,
        *,
        wal: bool,
        busy_seconds: float,
        writer: Writer,
        checkpoints: Checkpoints,
        connection: Connection,
        set_up_reader: Callable[[sqlite3.Connection], object],
        vault: Vault = NO_KEYS,
        connect: Connect = JobConnection,
    ) -> None:
        self._path = path
        self._wal = wal
        self._busy_seconds = busy_seconds
        self._writer = writer
        self._checkpoints = checkpoints
        self._connection = connection
        self._set_up_reader = set_up_reader
        self._vault = vault
        self._connect = connect
        self._has_cipher = connect is not JobConnection
        self._one_at_a_time = asyncio.Lock()
        self._reading: Connection | None = None
        self._hurry = False

    def hurry(self) -> None:
        """End what is running: the storage is to be closed."""
        self._hurry = True
        if self._reading is not None:
            self._reading.interrupt()

    # ------------------------------------------------------------ optimize

    async def optimize(self) -> None:
        """Give free pages back, refresh the planner's statistics, cut the -wal."""
        async with self._one_at_a_time:
            pages = FIRST_PAGES
            free = await self._write(_free_pages)
            while free > 0 and not self._hurry:
                seconds = await self._write(partial(_vacuum, pages))
                free -= pages
                pages = next_slice(pages, seconds, MOST_PAGES)
                if self._wal and self._checkpoints.is_due():
                    await self._connection.run(partial(self._checkpoints.run, self._writer))
            await self._write(_refresh_statistics)
            if self._wal:
                await self._connection.run(partial(self._checkpoints.truncate, self._writer))

    async def _write(self, job: Callable[[JobConnection], T]) -> T:
        def guarded(connection: JobConnection) -> T:
            self._writer.check_place()
            self._writer.check()
            try:
                return job(connection)
            except sqlite3.Error as error:
                self._writer.note(error)
                raise
            finally:
                self._writer.look()  # how long the -wal has become

        return await self._connection.run(guarded)

    # ------------------------------------------------------------ encryption

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """No other maintenance meanwhile."""
        async with self._one_at_a_time:
            yield

    async def rebuild(self) -> bool:
        """Write all pages anew, so that nothing is left on them of what was before.

        Whether that is so: not while a reader needs what is in the -wal. Commits wait for it.
        """
        await self._write(partial(_rebuild, _IN_MEMORY if self._has_cipher else _IN_A_FILE))
        for _ in range(_TRUNCATIONS if self._wal else 0):
            await self._connection.run(partial(self._checkpoints.truncate, self._writer))
            if self._checkpoints.is_empty:
                return True
            await asyncio.sleep(_TRUNCATION_SECONDS)
        return not self._wal

    # ------------------------------------------------------------ backup and verify

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        """All that is committed now, in a new file."""
        target = os.path.abspath(path)  # noqa: PTH100, ASYNC240 - as db_path
        copying.check_target(target)
        async with self._one_at_a_time, self._reader() as reader:
            copy = partial(copying.copy, path=target, watch=self._watch, connect=self._connect)
            size = await self._read(reader, copy)
        return Backup(path=target, size_bytes=size)

    async def verify(self) -> Verification:
        """What is wrong with the file: pages, then rows, table by table."""
        problems: list[str] = []
        async with self._one_at_a_time, self._reader() as reader:
            for table in await self._read(reader, verification.tables):
                found = await self._read(reader, partial(verification.check_pages, table))
                problems.extend(found or await self._check_rows(table, reader))
                if len(problems) >= verification.PROBLEMS:
                    break
        return Verification(problems=tuple(problems[: verification.PROBLEMS]))

    async def _check_rows(self, table: str, reader: Connection) -> list[str]:
        check = verification.checks_of(table, self._vault)
        rows = verification.FIRST_ROWS
        while not check.is_done:
            seconds = await self._read(reader, partial(check.run, rows))
            rows = next_slice(rows, seconds, verification.MOST_ROWS)
        return check.problems

    def _watch(self) -> None:
        """Raise if the storage is to be closed, or its file is not in its place any more."""
        if self._hurry:
            raise StorageError("the storage is closing", code="closed", retryable=True)
        self._writer.check_place()

    async def _read(self, reader: Connection, job: Callable[[sqlite3.Connection], T]) -> T:
        self._watch()
        with self._telling():
            result = await reader.run(job)
        self._writer.check_place()
        return result

    @contextlib.contextmanager
    def _telling(self) -> Generator[None]:
        """An error of SQLite, as ours; that the file is gone, rather than what this led to."""
        try:
            yield
        except sqlite3.Error as error:
            self._writer.check_place()
            raise storage_error(error) from error

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncGenerator[Connection]:
        self._watch()
        if not self._wal:
            yield self._connection
            return
        self._reading = reading = Connection()
        try:
            with self._telling():
                await reading.open(
                    self._path,
                    busy_seconds=self._busy_seconds,
                    check=self._writer.check_place,
                    set_up=self._set_up_reader,
                    connect=self._connect,
                )
            yield reading
        finally:
            self._reading = None
            await reading.close()


def next_slice(size: int, seconds: float, most: int) -> int:
    """How large the next job should be after one of this size that took this long."""
    return min(most, max(1, int(size * SLICE_SECONDS / max(seconds, 1e-6))))


def _free_pages(connection: sqlite3.Connection) -> int:
    """How many pages can be given back; none in a file of version 1, which cannot do it."""
    (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return free if mode == INCREMENTAL else 0


def _vacuum(pages: int, connection: sqlite3.Connection) -> float:
    """Give that many free pages back to the file system; the seconds that it took."""
    began = time.monotonic()
    # As a script: sqlite3 ends a statement without columns after its first row, here a page.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    return time.monotonic() - began


def _rebuild(where: str, connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA temp_store = {where}")
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute(f"PRAGMA temp_store = {_IN_MEMORY}")


def _refresh_statistics(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA analysis_limit = 200")
    connection.execute("PRAGMA optimize").fetchall()
