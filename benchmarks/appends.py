"""Durable appends through the storage actor on SQLite, beside the bare loop and a bare sync."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import anyio
import append_runs
import attrs
import bare_loop
from append_runs import Run, append, by_call_backs, by_tasks
from figures import Figure, Scale, Target, beside, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from append_runs import Append, Workload

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
class Round:
    """What was measured back to back."""

    prebuilt: Run
    made: Run
    called_back: Run
    bare: Run
    syncs: list[float]


def figures(scale: Scale, backend: str) -> list[Figure]:
    return [figure for sizes in SIZES[scale] for figure in _figures(sizes, backend)]


def _figures(sizes: Sizes, backend: str) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sessions.db"
        work = anyio.run(append_runs.record, file, sizes.writers, sizes.appends)
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
        rate(writers, lambda each: each.called_back, least),
        rate("  a task for each writer", lambda each: each.prebuilt),
        rate("  tasks, records made by them", lambda each: each.made),
        latency(0.5),
        latency(0.99, most),
        beside("  writes per commit", "writes", grouped),
        sync(0.5),
        sync(0.99),
    ]


def _round(work: Workload, sizes: Sizes, backend: str) -> Round:
    directory = work.file.parent
    paths = [directory / f"{name}.db" for name in ("prebuilt", "made", "called", "bare")]
    for path in paths:
        shutil.copyfile(work.file, path)
    os.sync()  # what was copied is not for the first run to write out

    async def from_log(number: int, acknowledged: Append) -> None:
        for write in work.writes[number]:
            await acknowledged(write)

    async def making(number: int, acknowledged: Append) -> None:
        state = work.states[number]
        for _ in range(sizes.appends):
            write = append(number, state, time.time_ns() // 1000)
            await acknowledged(write)
            state = write.after

    prebuilt = anyio.run(partial(by_tasks, paths[0], sizes.writers, from_log), backend=backend)
    meter, seconds = bare_loop.append(paths[3], work.rows, round(prebuilt.writes_per_commit))
    made = anyio.run(partial(by_tasks, paths[1], sizes.writers, making), backend=backend)
    called_back = anyio.run(partial(by_call_backs, paths[2], work.writes), backend=backend)
    block = 32 * 1024 if prebuilt.written is None else prebuilt.written // prebuilt.commits
    syncs = _probe(directory / "probe", block)
    _check_same(paths)
    bare = Run(meter.seconds, seconds, len(work.rows), len(seconds), meter.written)
    return Round(prebuilt=prebuilt, made=made, called_back=called_back, bare=bare, syncs=syncs)


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
