"""An aiosqlite connection on which a whole job is one hop, and which mends itself.

aiosqlite sends every call to its thread and waits for it: a transaction of ten statements is ten
hops, and may be cut between any two of them. sqlite3 offers `factory=`, which makes what aiosqlite
takes for the connection: ours runs a job where it is asked for `commit()`. Jobs and commits are
handed over together and both queues are first in, first out, so they meet.

A job begins and ends its own transactions. One that is left open is rolled back before the next
job; where even that fails, or the error of the last job casts doubt on the connection itself, the
next job gets a new connection. All this happens in the driver's thread between two jobs, so that
no job sees what another one has left behind: a read that resolves an unknown outcome must not find
rows that were never committed.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

import aiosqlite

from ....actors.errors import StorageError
from .mapping import is_broken_handle
from .place import uri_of

T = TypeVar("T")

_DOUBTFUL = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
}


class _Job(Generic[T]):
    """A function for the driver's thread and what it returned."""

    __slots__ = ("function", "result")

    def __init__(self, function: Callable[[JobConnection], T]) -> None:
        self.function = function
        self.result: T | None = None


class DoubtsItself:
    """What a job may say of its connection."""

    is_doubtful = False
    """Whether the next job needs another one."""

    def doubt(self, error: Exception) -> None:
        """Say what went wrong, so that the next job gets another connection if need be."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _DOUBTFUL or is_broken_handle(error):
            self.is_doubtful = True


class JobConnection(DoubtsItself, sqlite3.Connection):
    """What a job is given."""


Connect = Callable[..., JobConnection]
"""Makes a connection, as `JobConnection` itself does."""


class _Shell:
    """What aiosqlite takes for the connection: it commits, which runs a job, and closes."""

    def __init__(
        self,
        *args: Any,
        jobs: deque[_Job[Any]],
        check: Callable[[], None],
        set_up: Callable[[sqlite3.Connection], object],
        connect: Connect,
        **kwargs: Any,
    ) -> None:
        self._jobs = jobs
        self._connect = partial(connect, *args, **kwargs)
        self._check = check
        self._set_up = set_up
        self.reopened = 0
        self.inner = self._open()

    def commit(self) -> None:
        """One hop: the job says itself where its transactions begin and end."""
        job = self._jobs.popleft()
        if self.inner.is_doubtful:
            self._check()  # before: to close the last connection to a -wal is to delete it
            self.inner.close()
            self.inner = self._open()
            self.reopened += 1
        inner = self.inner
        try:
            job.result = job.function(inner)
        except Exception as error:
            inner.doubt(error)
            raise
        finally:
            _end_transaction(inner)

    def close(self) -> None:
        """Disconnect."""
        self.inner.close()

    def _open(self) -> JobConnection:
        inner = self._connect()
        try:
            self._set_up(inner)
            self._check()
        except BaseException:
            inner.close()
            raise
        return inner


def _end_transaction(inner: JobConnection) -> None:
    try:
        if inner.in_transaction:
            inner.rollback()
    except sqlite3.Error:
        inner.is_doubtful = True


class Connection:
    """One SQLite connection in a thread of its own; jobs run in the order of `run()`."""

    def __init__(self) -> None:
        self._jobs: deque[_Job[Any]] = deque()
        self._driver: aiosqlite.Connection | None = None
        self._shell: _Shell | None = None
        self.unfinished = 0
        """Jobs that wait or run."""

    @property
    def reopened(self) -> int:
        """How often a new connection was needed."""
        return self._shell.reopened if self._shell is not None else 0

    async def open(
        self,
        path: str,
        *,
        busy_seconds: float,
        check: Callable[[], None],
        set_up: Callable[[sqlite3.Connection], object],
        connect: Connect = JobConnection,
    ) -> None:
        """Connect to a file that exists; `set_up` runs now and whenever it is connected anew.

        `check` raises if it is not the file that it should be.
        """

        def make(*args: Any, **kwargs: Any) -> Any:
            self._shell = _Shell(
                *args, jobs=self._jobs, check=check, set_up=set_up, connect=connect, **kwargs
            )
            return self._shell

        self._driver = await aiosqlite.connect(
            uri_of(path, "mode=rw"),
            uri=True,
            factory=make,
            isolation_level=None,
            timeout=busy_seconds,
        )

    async def run(self, function: Callable[[JobConnection], T]) -> T:
        """Run `function(connection)` in the driver's thread."""
        if self._driver is None:
            raise StorageError("the storage is not open: call open() first", code="closed")
        job = _Job(function)
        self.unfinished += 1
        self._jobs.append(job)
        try:
            await self._driver.commit()
        finally:
            self.unfinished -= 1
        return cast("T", job.result)

    def interrupt(self) -> None:
        """End the statement that runs, from any thread; its job meets SQLITE_INTERRUPT."""
        if self._shell is not None:
            self._shell.inner.interrupt()

    async def close(self) -> None:
        """Finish the jobs, disconnect, end the thread; idempotent."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()
