"""Pages of sessions, searches and figures of 30 days, from a file with much in it."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
from apart import apart
from figures import Figure, Scale, Target, beside
from langswarm.core.session import SQLiteSessionStorage
from langswarm.core.session.actors.model import (
    MessageRecord,
    Role,
    SessionDocuments,
    SessionQuery,
    SessionRecord,
    SessionWrite,
    StoredSession,
    UsageQuery,
    UsageRecord,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_DAY = 20_000
DAYS = 30
MODELS = 3
PAGE = 50
CREATED_US = 1_750_000_000_000_000
TEXT = "the weather in Paris will be fine on Saturday and you need no umbrella at all"
WORDS = TEXT.split()
_OF_DAYS = "SELECT * FROM usage_days WHERE day BETWEEN ? AND ?"
_OF_USER = "SELECT * FROM sessions WHERE user_id = ? ORDER BY key DESC LIMIT ?"
_FOUND = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid LIMIT ?"


@attrs.frozen
class Sizes:
    """How much is stored and read."""

    rows: int
    """Of figures, one for each day, user and model."""
    sessions: int
    reads: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(rows=100_000, sessions=100_000, reads=30),
    "quick": Sizes(rows=100_000, sessions=10_000, reads=10),
    "tiny": Sizes(rows=180, sessions=60, reads=2),
}


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lists.db"
        apart(anyio.run, fill, path, sizes)
        return anyio.run(_measured, path, sizes, backend=backend)


async def fill(path: Path, sizes: Sizes) -> None:
    """Sessions of a hundredth as many users, two messages each; figures of 30 days; all indexed."""
    storage = SQLiteSessionStorage(path)
    await storage.open()
    users = sizes.rows // DAYS // MODELS
    used = [
        UsageRecord(
            day=FIRST_DAY + day, user_id=f"u{user}", provider="mock", model=f"m{model}", sessions=1
        )
        for day in range(DAYS)
        for user in range(users)
        for model in range(MODELS)
    ]
    count = max(sizes.sessions, len(used))
    writes = [
        _created(number, sizes, used[number] if number < len(used) else None)
        for number in range(count)
    ]
    for start in range(0, count, 1_000):
        for outcome in await storage.commit(writes[start : start + 1_000]):
            assert not isinstance(outcome, Exception), outcome
    await storage.optimize()
    await storage.close()


def _created(number: int, sizes: Sizes, usage: UsageRecord | None) -> SessionWrite:
    record = SessionRecord(
        session_id=f"{number:032x}",
        user_id=f"u{number % max(1, sizes.sessions // 100)}",
        provider="mock",
        model="mock",
        created_us=CREATED_US,
        updated_us=CREATED_US,
        revision=1,
        last_seq=2,
    )
    texts = (TEXT, f"{WORDS[number % len(WORDS)]} number{number % 1000}")
    messages = tuple(
        MessageRecord(seq=seq, role=Role.USER, content=text, created_us=CREATED_US)
        for seq, text in enumerate(texts, 1)
    )
    after = StoredSession(record=record, documents=SessionDocuments())
    return SessionWrite(
        expected_revision=0, after=after, documents_changed=True, messages=messages, usage=usage
    )


async def _measured(path: Path, sizes: Sizes) -> list[Figure]:
    storage = SQLiteSessionStorage(path)
    await storage.open()
    connection = sqlite3.connect(path, isolation_level=None)

    def bare(text: str, *parameters: object) -> Callable[[], Awaitable[object]]:
        async def read() -> object:
            return connection.execute(text, parameters).fetchall()

        return read

    def page(
        *, user_id: str | None = None, text: str | None = None
    ) -> Callable[[], Awaitable[object]]:
        query = SessionQuery(limit=PAGE, user_id=user_id, text=text)
        return lambda: storage.list_sessions(query)

    days = (FIRST_DAY, FIRST_DAY + DAYS - 1)
    month = UsageQuery(first_day=days[0], last_day=days[1])
    user = bare(_OF_USER, "u1", PAGE)
    rare = bare(_FOUND, '"number7"', PAGE)
    common = bare(_FOUND, '"weather"', PAGE)
    try:
        return [
            await _compared(
                f"30 days of {sizes.rows:,} rows of figures",
                lambda: storage.read_usage(month),
                bare(_OF_DAYS, *days),
                sizes.reads,
                Target(of="value", most=100),
            ),
            await _compared("a page of a user's sessions", page(user_id="u1"), user, sizes.reads),
            await _compared("  that say a rare word", page(text="number7"), rare, sizes.reads),
            await _compared("  that say a common word", page(text="weather"), common, sizes.reads),
            await _compared(
                "  a user's that say a common word",
                page(text="weather", user_id="u1"),
                user,
                sizes.reads,
            ),
        ]
    finally:
        connection.close()
        await storage.close()


async def _compared(
    name: str,
    value: Callable[[], Awaitable[object]],
    floor: Callable[[], Awaitable[object]],
    reads: int,
    target: Target | None = None,
) -> Figure:
    pairs = [(await _timed(value), await _timed(floor)) for _ in range(reads + 1)]
    return beside(name, "ms", pairs[1:], target)


async def _timed(read: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await read()
    return (time.perf_counter() - began) * 1e3
