"""What a session costs that is not in memory: its first turn, and finding it at all."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
from apart import apart
from figures import Figure, Scale, beside, percentile
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from stored_sessions import fill, session_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session import Session

QUESTION = "What is the capital of France, and how many people live there?"


@attrs.frozen
class Sizes:
    """How much is stored, and how often it is tried."""

    sessions: int
    messages: int
    starts: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(sessions=300, messages=1_000, starts=30),
    "quick": Sizes(sessions=30, messages=1_000, starts=5),
    "tiny": Sizes(sessions=3, messages=40, starts=1),
}


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        apart(anyio.run, fill, path, sizes.sessions, sizes.messages)
        evicted, live = anyio.run(_turns, path, sizes.sessions, backend=backend)
        found = anyio.run(_look_ups, path, sizes.sessions, backend=backend)
        cold: list[float] = []
        opened: list[float] = []
        for _ in range(sizes.starts):
            cold.append(anyio.run(_cold_start, path, backend=backend))
            opened.append(_bare_open(path))

    def milliseconds(
        name: str, value: Sequence[float], floor: Sequence[float], share: float
    ) -> Figure:
        pair = percentile(value, share) * 1e3, percentile(floor, share) * 1e3
        return beside(f"{name}, p{share * 100:.0f}", "ms", [pair])

    def alone(name: str, share: float) -> Figure:
        value = percentile(found, share) * 1e3
        return Figure(name=f"{name}, p{share * 100:.0f}", value=value, unit="ms")

    return [
        milliseconds("turn of an evicted session; floor: live", evicted, live, 0.5),
        milliseconds("  the same", evicted, live, 0.99),
        alone("get_session, evicted", 0.5),
        alone("  the same", 0.99),
        milliseconds("get_session, cold manager", cold, opened, 0.5),
    ]


async def _turns(path: Path, sessions: int) -> tuple[list[float], list[float]]:
    """A turn of each session after its eviction, and the next one, while it is live."""
    evicted: list[float] = []
    live: list[float] = []
    async with create_session_manager(SQLiteSessionStorage(path)) as manager:
        supervisor = manager._anchor.host.runtime().supervisor  # noqa: SLF001 - time would do it
        handles = [await manager.get_session(session_id(number)) for number in range(sessions)]
        for session in handles:
            await _turn(session)
        for session in handles:
            assert supervisor.evict(session.session_id)
        for session in handles:
            evicted.append(await _turn(session))
            live.append(await _turn(session))
    return evicted, live


async def _turn(session: Session) -> float:
    start = time.perf_counter()
    await session.send_message(QUESTION)
    return time.perf_counter() - start


async def _look_ups(path: Path, sessions: int) -> list[float]:
    """`get_session` of sessions that nobody holds, on a manager that is open."""
    seconds: list[float] = []
    async with create_session_manager(SQLiteSessionStorage(path)) as manager:
        for number in range(sessions):
            start = time.perf_counter()
            await manager.get_session(session_id(number))
            seconds.append(time.perf_counter() - start)
    return seconds


async def _cold_start(path: Path) -> float:
    """The first call of all on a new manager: it opens the file."""
    manager = create_session_manager(SQLiteSessionStorage(path))
    start = time.perf_counter()
    await manager.get_session(session_id(0))
    seconds = time.perf_counter() - start
    await manager.aclose()
    return seconds


def _bare_open(path: Path) -> float:
    start = time.perf_counter()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    found = connection.execute("SELECT * FROM sessions WHERE id = ?", (session_id(0),)).fetchone()
    seconds = time.perf_counter() - start
    connection.close()
    assert found is not None
    return seconds
