"""The last 20 of 1,000 messages, from a warm file: in the storage and through the whole API."""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
from apart import apart
from figures import Figure, Scale, Target, beside, percentile
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from langswarm.core.session.actors.model import MessageQuery
from langswarm.core.session.adapters.storage.sqlite.rows import MESSAGE, row_id
from langswarm.core.session.adapters.storage.sqlite.schema import SEQ_MAX
from stored_sessions import fill, session_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Read = Callable[[int], Awaitable[Sequence[object]]]

LIMIT = 20
BARE = (
    f"SELECT {', '.join(MESSAGE)} FROM messages WHERE id BETWEEN ? AND ? "  # noqa: S608 - constants
    "ORDER BY id DESC LIMIT ?"
)


@attrs.frozen
class Sizes:
    """How much is stored and read."""

    sessions: tuple[int, ...]
    messages: int
    reads: int
    repetitions: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(sessions=(1, 1_000), messages=1_000, reads=1_000, repetitions=5),
    "quick": Sizes(sessions=(1, 50), messages=1_000, reads=300, repetitions=3),
    "tiny": Sizes(sessions=(1, 3), messages=40, reads=5, repetitions=1),
}


@attrs.frozen
class Round:
    """Seconds of each read, measured back to back."""

    bare: list[float]
    storage: list[float]
    whole: list[float]


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    found: list[Figure] = []
    for sessions in sizes.sessions:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.db"
            apart(anyio.run, fill, path, sessions, sizes.messages)
            rounds = anyio.run(_rounds, path, sessions, sizes, backend=backend)
        where = f"1 of {sessions:,} sessions" if sessions > 1 else "1 session"
        found += _compared(rounds, where)
    return found


def _compared(rounds: list[Round], where: str) -> list[Figure]:
    def latency(
        name: str, share: float, times: Callable[[Round], list[float]], target: Target | None = None
    ) -> Figure:
        pairs = [
            (percentile(times(each), share) * 1e3, percentile(each.bare, share) * 1e3)
            for each in rounds
        ]
        return beside(f"{name}, p{share * 100:.0f}", "ms", pairs, target)

    return [
        latency(f"{where}, in storage", 0.5, lambda each: each.storage, _most(0.2)),
        latency("  in storage", 0.99, lambda each: each.storage),
        latency("  through the API", 0.5, lambda each: each.whole, _most(0.5)),
        latency("  through the API", 0.99, lambda each: each.whole),
    ]


def _most(milliseconds: float) -> Target:
    return Target(of="value", most=milliseconds)


async def _rounds(path: Path, sessions: int, sizes: Sizes) -> list[Round]:
    storage = SQLiteSessionStorage(path)
    async with create_session_manager(storage) as manager:
        handles = [await manager.get_session(session_id(number)) for number in range(sessions)]
        keys = _keys(path, sessions)
        connection = sqlite3.connect(path, isolation_level=None)

        async def bare(number: int) -> Sequence[object]:
            key = keys[number]
            found = connection.execute(BARE, (row_id(key, 1), row_id(key, SEQ_MAX), LIMIT))
            return found.fetchall()

        async def stored(number: int) -> Sequence[object]:
            return await storage.read_messages(keys[number], MessageQuery(limit=LIMIT))

        async def whole(number: int) -> Sequence[object]:
            return await handles[number].get_messages(limit=LIMIT)

        try:
            for read in (bare, stored, whole):  # the file gets warm
                await _timed(read, [*range(sessions)] * 10 if sessions == 1 else [*range(sessions)])
            found: list[Round] = []
            for repetition in range(sizes.repetitions):
                numbers = random.Random(repetition).choices(range(sessions), k=sizes.reads)
                found.append(
                    Round(
                        bare=await _timed(bare, numbers),
                        storage=await _timed(stored, numbers),
                        whole=await _timed(whole, numbers),
                    )
                )
        finally:
            connection.close()
    return found


def _keys(path: Path, sessions: int) -> list[int]:
    connection = sqlite3.connect(path)
    keys = dict(connection.execute("SELECT id, key FROM sessions").fetchall())
    connection.close()
    return [keys[session_id(number)] for number in range(sessions)]


async def _timed(read: Read, numbers: Sequence[int]) -> list[float]:
    """One read after another."""
    seconds: list[float] = []
    for number in numbers:
        start = time.perf_counter()
        found = await read(number)
        seconds.append(time.perf_counter() - start)
        assert len(found) == LIMIT
    return seconds
