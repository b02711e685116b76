"""An aiosqlite connection on which a whole job is one hop.

aiosqlite sends every call to its thread and waits for it: a transaction of ten statements is ten
hops, and may be cut between any two of them. sqlite3 offers `factory=`, a class to be used for
the connection: ours runs a job where aiosqlite asks for `commit()`. Jobs and commits are handed
over together and both queues are first in, first out, so they meet.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import aiosqlite

from ....actors.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Job(Generic[T]):
    """A function for the driver's thread and what it returned."""

    __slots__ = ("function", "result")

    def __init__(self, function: Callable[[sqlite3.Connection], T]) -> None:
        self.function = function
        self.result: T | None = None


class JobConnection(sqlite3.Connection):
    """Runs the next job of `jobs` when it is told to commit."""

    def __init__(self, *args: Any, jobs: deque[_Job[Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs = jobs

    def commit(self) -> None:
        """One hop: the job says itself where its transactions begin and end."""
        job = self._jobs.popleft()
        job.result = job.function(self)


class Connection:
    """One SQLite connection in a thread of its own; jobs run in the order of `run()`."""

    def __init__(self) -> None:
        self._jobs: deque[_Job[Any]] = deque()
        self._driver: aiosqlite.Connection | None = None
        self.unfinished = 0
        """Jobs that wait or run."""

    async def open(self, path: str, *, busy_seconds: float) -> None:
        """Connect to a file that exists."""
        self._driver = await aiosqlite.connect(
            path,
            factory=partial(JobConnection, jobs=self._jobs),
            isolation_level=None,
            timeout=busy_seconds,
        )

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
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

    async def close(self) -> None:
        """Finish the jobs, disconnect, end the thread; idempotent."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()
