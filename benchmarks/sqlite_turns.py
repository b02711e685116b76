"""100 sessions x 20 turns on one SQLite file through the whole API, beside the bare loop."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
import bare_loop
import turn_log
from figures import Figure, Meter, Scale, Target, beside, percentile
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from turn_log import TurnLog, question

if TYPE_CHECKING:
    from collections.abc import Callable

    from langswarm.core.session import Session, SessionManager


@attrs.frozen
class Sizes:
    """How many take part."""

    sessions: int
    turns: int
    repetitions: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(sessions=100, turns=20, repetitions=9),
    "quick": Sizes(sessions=100, turns=20, repetitions=3),
    "tiny": Sizes(sessions=3, turns=2, repetitions=1),
}


@attrs.frozen
class Run:
    """One run of all turns."""

    meter: Meter
    latencies: list[float]
    commits: int


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    log = turn_log.record(sizes.sessions, sizes.turns)
    bare: list[Run] = []
    whole: list[Run] = []
    for _ in range(sizes.repetitions):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            bare.append(_bare(directory / "bare.db", log, sizes))
            job = partial(_whole, directory / "runtime.db", sizes)
            whole.append(anyio.run(job, backend=backend))
            _check_same(directory / "bare.db", directory / "runtime.db")
    return _compared(whole, bare, sizes)


def _compared(whole: list[Run], bare: list[Run], sizes: Sizes) -> list[Figure]:
    turns = sizes.sessions * sizes.turns
    target = Target(of="ratio", least=0.25)

    def compared(
        name: str, unit: str, number: Callable[[Run], float], target: Target | None = None
    ) -> Figure:
        pairs = [(number(one), number(other)) for one, other in zip(whole, bare, strict=True)]
        return beside(name, unit, pairs, target)

    def latency(share: float) -> Figure:
        name = f"  turn latency p{share * 100:.0f}"
        return compared(name, "ms", lambda run: percentile(run.latencies, share) * 1e3)

    found = [
        compared(
            f"{sizes.sessions} sessions x {sizes.turns} turns",
            "turns/s",
            lambda run: turns / run.meter.seconds,
            target,
        ),
        compared(
            "  CPU per turn, all threads", "us CPU", lambda run: run.meter.cpu_seconds / turns * 1e6
        ),
        latency(0.5),
        latency(0.99),
        compared("  commits", "commits", lambda run: run.commits),
    ]
    if all(run.meter.written is not None for run in (*whole, *bare)):
        found.append(
            compared(
                "  bytes written per turn", "bytes", lambda run: (run.meter.written or 0) / turns
            )
        )
    return found


def _bare(path: Path, log: TurnLog, sizes: Sizes) -> Run:
    meter, rounds = bare_loop.run(path, log)
    return Run(meter, rounds, commits=2 * sizes.turns)


async def _whole(path: Path, sizes: Sizes) -> Run:
    latencies: list[float] = []

    async def user(number: int, session: Session) -> None:
        for turn in range(sizes.turns):
            start = time.perf_counter()
            await session.send_message(question(number, turn))
            latencies.append(time.perf_counter() - start)

    async with create_session_manager(SQLiteSessionStorage(path)) as manager:
        sessions = [
            await manager.create_session(f"user-{number}", "mock", "mock-model")
            for number in range(sizes.sessions)
        ]
        commits = _commits(manager)
        with Meter() as meter:
            async with anyio.create_task_group() as group:
                for number, session in enumerate(sessions):
                    group.start_soon(user, number, session)
        commits = _commits(manager) - commits
    return Run(meter, latencies, commits)


def _commits(manager: SessionManager) -> int:
    statistics = manager.statistics()
    assert statistics is not None
    return statistics.storage.batches


def _check_same(one: Path, other: Path) -> None:
    """Both files hold the same rows, but for ids and times."""
    text = """
        SELECT (SELECT count(*) FROM sessions), (SELECT sum(revision) FROM sessions),
               (SELECT count(*) FROM messages), (SELECT sum(length(content)) FROM messages),
               (SELECT count(*) FROM turns WHERE state = 'completed')
    """
    found: list[object] = []
    for path in (one, other):
        connection = sqlite3.connect(path)
        found.append(connection.execute(text).fetchone())
        connection.close()
    assert found[0] == found[1], found
