"""Durable appends through the storage actor on SQLite, beside the bare loop and a bare sync.

A writer is one session in a closed loop: it hands over a write of one message, and the next one
when that is acknowledged, which is after COMMIT. Below the turn logic: no manager, no provider.
"""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import bare_loop
from figures import Figure, Meter, Scale, Target, beside, percentile
from langswarm.core.session import SQLiteSessionStorage
from langswarm.core.session.actors.decisions import AppendSystemMessage, append_system
from langswarm.core.session.actors.executor import Executor
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.storage_actor import StorageActor
from langswarm.core.session.actors.wait import current_backend
from langswarm.core.session.adapters.storage.sqlite.rows import changing_row, message_row
from stored_sessions import CREATED_US, fill, session_id, text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from langswarm.core.session.actors.model import SessionWrite, StoredSession
    from langswarm.core.session.actors.wait import Cell
    from langswarm.core.session.adapters.storage.sqlite.rows import Row

    Append = Callable[[SessionWrite], Coroutine[Any, Any, None]]
    Job = Callable[[int, Append], Coroutine[Any, Any, None]]

PROBE_SYNCS = 200
PROBE_SECONDS = 0.5


@attrs.frozen
class Sizes:
    """How many write, how much, how often."""

    writers: int
    appends: int
    repetitions: int


SIZES: dict[Scale, tuple[Sizes, ...]] = {
    "full": (Sizes(1, 1_000, 5), Sizes(100, 100, 7), Sizes(10_000, 5, 3)),
    "quick": (Sizes(1, 200, 3), Sizes(100, 30, 3), Sizes(2_000, 3, 1)),
    "tiny": (Sizes(1, 3, 1), Sizes(5, 3, 1)),
}
LEAST_RATIO = {"asyncio": 0.7, "trio": 0.6}
WITH_TARGETS = 100


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
class Round:
    """What was measured back to back."""

    prebuilt: Run
    made: Run
    bare: Run
    syncs: list[float]


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


def figures(scale: Scale, backend: str) -> list[Figure]:
    return [figure for sizes in SIZES[scale] for figure in _figures(sizes, backend)]


def _figures(sizes: Sizes, backend: str) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        work = anyio.run(_workload, Path(folder) / "sessions.db", sizes)
        gc.collect()
        gc.freeze()  # what is prebuilt is no part of what is measured
        try:
            rounds = [_round(work, sizes, backend) for _ in range(sizes.repetitions)]
        finally:
            gc.unfreeze()
    return _compared(rounds, sizes, backend)


def _compared(rounds: list[Round], sizes: Sizes, backend: str) -> list[Figure]:
    aims = sizes.writers == WITH_TARGETS
    least = Target(of="ratio", least=LEAST_RATIO[backend]) if aims else None
    most = Target(of="value", most=15) if aims else None

    def rate(name: str, run: Callable[[Round], Run], target: Target | None = None) -> Figure:
        pairs = [(run(each).writes_per_second, each.bare.writes_per_second) for each in rounds]
        return beside(name, "writes/s", pairs, target)

    def latency(share: float, target: Target | None = None) -> Figure:
        pairs = [
            (
                percentile(each.prebuilt.latencies, share) * 1e3,
                percentile(each.bare.latencies, share) * 1e3,
            )
            for each in rounds
        ]
        return beside(f"  acknowledged, p{share * 100:.0f}", "ms", pairs, target)

    def sync(share: float) -> Figure:
        found = median(percentile(each.syncs, share) for each in rounds)
        return Figure(name=f"  bare sync, p{share * 100:.0f}", value=found * 1e3, unit="ms")

    writers = f"{sizes.writers:,} writer{'s' if sizes.writers > 1 else ''}"
    grouped = [(each.prebuilt.writes_per_commit, each.bare.writes_per_commit) for each in rounds]
    return [
        rate(f"{writers}, records prebuilt", lambda each: each.prebuilt, least),
        rate("  records made by the writers", lambda each: each.made),
        latency(0.5),
        latency(0.99, most),
        beside("  writes per commit", "writes", grouped),
        sync(0.5),
        sync(0.99),
    ]


def _round(work: Workload, sizes: Sizes, backend: str) -> Round:
    directory = work.file.parent
    paths = [directory / f"{name}.db" for name in ("prebuilt", "made", "bare")]
    for path in paths:
        shutil.copyfile(work.file, path)
    os.sync()  # what was copied is not for the first run to write out

    async def from_log(number: int, append: Append) -> None:
        for write in work.writes[number]:
            await append(write)

    async def making(number: int, append: Append) -> None:
        state = work.states[number]
        for _ in range(sizes.appends):
            write = _append(number, state, time.time_ns() // 1000)
            await append(write)
            state = write.after

    prebuilt = anyio.run(partial(_through_actor, paths[0], sizes, from_log), backend=backend)
    meter, seconds = bare_loop.append(paths[2], work.rows, round(prebuilt.writes_per_commit))
    made = anyio.run(partial(_through_actor, paths[1], sizes, making), backend=backend)
    block = 32 * 1024 if prebuilt.written is None else prebuilt.written // prebuilt.commits
    syncs = _probe(directory / "probe", block)
    _check_same(paths)
    bare = Run(meter.seconds, seconds, len(work.rows), len(seconds), meter.written)
    return Round(prebuilt=prebuilt, made=made, bare=bare, syncs=syncs)


# ---------------------------------------------------------------- what is written


async def _workload(path: Path, sizes: Sizes) -> Workload:
    await fill(path, sizes.writers, 0)
    storage = SQLiteSessionStorage(path)
    await storage.open()
    found = await storage.load([session_id(number) for number in range(sizes.writers)])
    await storage.close()
    states = [state for state in found if state is not None]
    writes = [_appends(number, state, sizes.appends) for number, state in enumerate(states)]
    rows = [_rows(write) for together in zip(*writes, strict=True) for write in together]
    return Workload(path, states, writes, rows)


def _appends(number: int, state: StoredSession, count: int) -> list[SessionWrite]:
    writes: list[SessionWrite] = []
    for step in range(count):
        write = _append(number, state, CREATED_US + 60_000_000 + step)
        writes.append(write)
        state = write.after
    return writes


def _append(number: int, state: StoredSession, now_us: int) -> SessionWrite:
    """The smallest write with a message: one row is added, the session's own row changes."""
    content = text(number, state.record.last_seq + 1)
    return append_system(state, AppendSystemMessage(content=content), now_us)


def _rows(write: SessionWrite) -> tuple[Row, Row]:
    record = write.after.record
    session = (*changing_row(record), record.key, write.expected_revision, record.epoch)
    return session, message_row(record.key, write.messages[0])


# ---------------------------------------------------------------- the three ways


async def _through_actor(path: Path, sizes: Sizes, job: Job) -> Run:
    backend = current_backend()
    latencies: list[float] = []
    async with _storage_actor(path) as storage:

        async def append(write: SessionWrite) -> None:
            start = time.perf_counter()
            cell: Cell[object] = backend.cell()
            storage.submit(write, cell.set)
            outcome = await cell.wait()
            latencies.append(time.perf_counter() - start)
            assert isinstance(outcome, Committed), outcome

        with Meter() as meter:
            async with anyio.create_task_group() as group:
                for number in range(sizes.writers):
                    group.start_soon(job, number, append)
        commits = storage.statistics().batches
    return Run(meter.seconds, latencies, len(latencies), commits, meter.written)


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


def _probe(path: Path, block: int) -> list[float]:
    """Seconds of appending a block of `block` bytes to a file and syncing it."""
    data = os.urandom(block)
    seconds: list[float] = []
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        until = time.perf_counter() + PROBE_SECONDS
        while len(seconds) < PROBE_SYNCS and time.perf_counter() < until:
            start = time.perf_counter()
            os.write(descriptor, data)
            sync(descriptor)
            seconds.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
    return seconds


def _check_same(paths: Sequence[Path]) -> None:
    """All files hold the same rows, but for times."""
    query = """
        SELECT (SELECT count(*) FROM sessions), (SELECT sum(revision) FROM sessions),
               (SELECT count(*) FROM messages), (SELECT sum(length(content)) FROM messages)
    """
    found: set[object] = set()
    for path in paths:
        connection = sqlite3.connect(path)
        found.add(connection.execute(query).fetchone())
        connection.close()
    assert len(found) == 1, found
