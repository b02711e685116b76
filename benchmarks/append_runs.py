"""Appends to many sessions: what is stored, and the ways to store it through the storage actor.

A writer is one session in a closed loop: it hands over a write of one message, and the next one
when that is acknowledged, which is after COMMIT. Below the turn logic: no manager, no provider.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs
from figures import Meter
from langswarm.core.session import SQLiteSessionStorage
from langswarm.core.session.actors.decisions import AppendMessage
from langswarm.core.session.actors.decisions import append as append_message
from langswarm.core.session.actors.executor import Executor
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.storage_actor import StorageActor
from langswarm.core.session.actors.wait import current_backend
from langswarm.core.session.adapters.storage.sqlite.rows import changing_row, message_row
from stored_sessions import CREATED_US, fill, session_id, text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
    from pathlib import Path

    from langswarm.core.session.actors.model import SessionWrite, StoredSession
    from langswarm.core.session.actors.wait import Cell
    from langswarm.core.session.adapters.storage.sqlite.rows import Row

    Append = Callable[[SessionWrite], Coroutine[Any, Any, None]]
    Writer = Callable[[int, Append], Coroutine[Any, Any, None]]


@attrs.frozen
class Run:
    """One run of all appends."""

    seconds: float
    latencies: list[float]
    writes: int
    commits: int
    written: int | None
    """Bytes handed to write(); None: this system does not say."""

    @property
    def writes_per_second(self) -> float:
        return self.writes / self.seconds

    @property
    def writes_per_commit(self) -> float:
        return self.writes / self.commits


@attrs.frozen
class Workload:
    """What all runs of one number of writers store."""

    file: Path
    """The sessions, without messages; each run begins with a copy."""
    states: list[StoredSession]
    writes: list[list[SessionWrite]]
    """Of each writer, in order."""
    rows: list[tuple[Row, Row]]
    """The same writes as rows, the first ones of all writers in front."""


async def record(path: Path, writers: int, appends: int) -> Workload:
    """Make the file and all that will be written to it."""
    await fill(path, writers, 0)
    storage = SQLiteSessionStorage(path)
    await storage.open()
    found = await storage.load([session_id(number) for number in range(writers)])
    await storage.close()
    states = [state for state in found if state is not None]
    writes = [_chain(number, state, appends) for number, state in enumerate(states)]
    rows = [_rows(write) for together in zip(*writes, strict=True) for write in together]
    return Workload(path, states, writes, rows)


def _chain(number: int, state: StoredSession, count: int) -> list[SessionWrite]:
    writes: list[SessionWrite] = []
    for step in range(count):
        write = append(number, state, CREATED_US + 60_000_000 + step)
        writes.append(write)
        state = write.after
    return writes


def append(number: int, state: StoredSession, now_us: int) -> SessionWrite:
    """The smallest write with a message: one row is added, the session's own row changes."""
    content = text(number, state.record.last_seq + 1)
    return append_message(state, AppendMessage(content=content), now_us)


def _rows(write: SessionWrite) -> tuple[Row, Row]:
    record = write.after.record
    session = (*changing_row(record), record.key, write.expected_revision, record.epoch)
    return session, message_row(record.key, write.messages[0])


async def by_tasks(path: Path, writers: int, writer: Writer) -> Run:
    """A task for each writer, which awaits its acknowledgements."""
    backend = current_backend()
    latencies: list[float] = []
    meter = Meter()
    async with _storage_actor(path) as storage:

        async def acknowledged(write: SessionWrite) -> None:
            start = time.perf_counter()
            cell: Cell[object] = backend.cell()
            storage.submit(write, cell.set)
            outcome = await cell.wait()
            latencies.append(time.perf_counter() - start)
            assert isinstance(outcome, Committed), outcome

        line = _Line(writers)
        async with anyio.create_task_group() as group:
            for number in range(writers):
                group.start_soon(line.run, partial(writer, number, acknowledged))
            await anyio.wait_all_tasks_blocked()
            with meter:
                line.begin.set()
                await line.all_done.wait()
            line.leave.set()
        commits = storage.statistics().batches
    return Run(meter.seconds, latencies, len(latencies), commits, meter.written)


async def by_call_backs(path: Path, log: list[list[SessionWrite]]) -> Run:
    """No tasks but those of the storage actor: what the session actors do with plain commands."""
    meter = Meter()
    async with _storage_actor(path) as storage:
        chains = _Chains(storage, len(log))
        with meter:
            for writes in log:
                chains.go_on(iter(writes))
            await chains.over.wait()
        assert chains.failure is None, chains.failure
        commits = storage.statistics().batches
    return Run(meter.seconds, chains.latencies, len(chains.latencies), commits, meter.written)


class _Chains:
    """Writers without tasks: each hands its next write over in the call that acknowledges one."""

    def __init__(self, storage: StorageActor, writers: int) -> None:
        self.latencies: list[float] = []
        self.failure: object = None
        self.over = anyio.Event()
        self._storage = storage
        self._left = writers

    def go_on(self, writes: Iterator[SessionWrite]) -> None:
        write = next(writes, None)
        if write is None:
            self._left -= 1
            if not self._left:
                self.over.set()
            return
        start = time.perf_counter()

        def settled(outcome: object) -> None:
            self.latencies.append(time.perf_counter() - start)
            if isinstance(outcome, Committed):
                self.go_on(writes)
            else:
                self.failure = outcome
                self.over.set()

        self._storage.submit(write, settled)


class _Line:
    """Lets the writers begin together; what starting and ending their tasks costs is not timed."""

    def __init__(self, writers: int) -> None:
        self.begin = anyio.Event()
        self.all_done = anyio.Event()
        self.leave = anyio.Event()
        self._left = writers

    async def run(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.begin.wait()
        await job()
        self._left -= 1
        if not self._left:
            self.all_done.set()
        await self.leave.wait()


@asynccontextmanager
async def _storage_actor(path: Path) -> AsyncGenerator[StorageActor]:
    backend = current_backend()
    executor = Executor(backend)
    storage = StorageActor(
        SQLiteSessionStorage(path),
        backend,
        executor,
        wall_clock_us=lambda: time.time_ns() // 1000,
        batch_size=Limits().storage_batch_size,
    )
    done = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(executor.own, done.wait, storage.aclose)
        await storage.opened()
        yield storage
        done.set()
