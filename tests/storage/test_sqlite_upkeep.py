"""Sweeping claims and settling purges: beside the commits, and failing as they do."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, statements
from langswarm.core.session.adapters.storage.sqlite.connection import JobConnection
from langswarm.core.session.adapters.storage.sqlite.maintenance import MOST_ROWS
from langswarm.core.session.adapters.storage.sqlite.schema import CREATE
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    claim,
    commit,
    create,
    load_one,
    message,
    new,
    purge,
)

from .inside import on_writer
from .test_sqlite_mending import failing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Call = Callable[[SQLiteSessionStorage], Awaitable[object]]

SWEEP: Call = lambda storage: storage.sweep_claims(START_US + 1, 9)  # noqa: E731
DONE: Call = lambda storage: storage.settle_purge(purge(), retry_us=None, error=None)  # noqa: E731
RETRY: Call = lambda storage: storage.settle_purge(purge(), retry_us=9, error="why")  # noqa: E731

CALLS = pytest.mark.parametrize("call", [SWEEP, DONE, RETRY], ids=["sweep", "done", "retry"])
CLAIMS = 20 * MOST_ROWS


async def with_both(storage: SQLiteSessionStorage) -> None:
    """A claim and a purge."""
    await commit(storage, change(await create(storage), claim=claim(), purges=(purge(),)))


async def is_as_before(storage: SQLiteSessionStorage) -> bool:
    found = await storage.find_claim("s", "send_message", "k")
    return (found, await storage.load_purges(START_US, 9)) == (claim(), [purge()])


async def many_claims(storage: SQLiteSessionStorage) -> None:
    names = [f"s{number}" for number in range(CLAIMS)]
    await storage.commit([new(name) for name in names])
    loaded = [stored for stored in await storage.load(names) if stored is not None]
    await storage.commit([change(one, claim=claim(one.record.session_id)) for one in loaded])


async def test_a_sweep_lets_each_commit_through_after_one_short_transaction(
    storage: SQLiteSessionStorage,
) -> None:
    """Five commits, one after the other, are answered before a sweep of many steps is."""
    await many_claims(storage)
    stored = await create(storage, "meanwhile")
    swept: list[int] = []
    deleted: list[int] = []

    def note(text: str) -> None:
        deleted.append(text.lstrip().startswith("DELETE FROM claims"))

    async def sweep() -> None:
        swept.append(await storage.sweep_claims(START_US + 1, CLAIMS))

    await on_writer(storage, lambda connection: connection.set_trace_callback(note))
    async with anyio.create_task_group() as group:
        group.start_soon(sweep)
        for _ in range(5):
            stored = await commit(storage, change(stored))
        assert swept == []
    assert swept == [CLAIMS]
    assert sum(deleted) >= CLAIMS / MOST_ROWS


async def test_a_sweep_ends_where_nothing_is_left(storage: SQLiteSessionStorage) -> None:
    await with_both(storage)
    assert await storage.sweep_claims(START_US + 1, 10**9) == 1
    assert await storage.sweep_claims(START_US + 1, 10**9) == 0


async def test_what_is_written_beside_the_commits_is_folded_in_too(
    storage: SQLiteSessionStorage, path: Path
) -> None:
    """Without a commit in between the -wal stays as short as under commits."""
    await with_both(storage)
    before = storage.statistics().checkpoints
    for attempt in range(100):
        text = "ab"[attempt % 2] * 100_000  # SQLite writes only the pages that change
        await storage.settle_purge(purge(), retry_us=START_US, error=text)
    assert storage.statistics().checkpoints > before
    assert path.with_name(f"{path.name}-wal").stat().st_size < 6 * 1024 * 1024


@CALLS
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (sqlite3.SQLITE_FULL, ("full", True)),
        (sqlite3.SQLITE_BUSY, ("busy", True)),
        (sqlite3.SQLITE_READONLY, ("read_only", False)),
    ],
)
async def test_a_fault_of_the_place_leaves_everything_as_it_was(
    storage: SQLiteSessionStorage,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    fault: int,
    expected: tuple[str, bool],
) -> None:
    await with_both(storage)
    for word in ("BEGIN", "COMMIT"):
        with monkeypatch.context() as patched:
            patched.setattr(JobConnection, "execute", failing(fault, word), raising=False)
            with pytest.raises(StorageError) as caught:
                await call(storage)
        assert (caught.value.code, caught.value.retryable) == expected
        assert caught.value.outcome == "failed"
        assert await is_as_before(storage)
    await call(storage)
    assert not await is_as_before(storage)


@CALLS
async def test_a_failed_sync_ends_writing_for_all(
    storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    await with_both(storage)
    with monkeypatch.context() as patched:
        fail = failing(sqlite3.SQLITE_IOERR_FSYNC, "COMMIT")
        patched.setattr(JobConnection, "execute", fail, raising=False)
        with pytest.raises(StorageError) as caught:
            await call(storage)
    assert (caught.value.code, caught.value.outcome) == ("failed_sync", "unknown")
    [outcome] = await storage.commit([new("later")])
    assert isinstance(outcome, StorageError)
    assert outcome.code == "failed_sync"
    with pytest.raises(StorageError) as caught:
        await call(storage)
    assert (caught.value.code, caught.value.outcome) == ("failed_sync", "failed")


@CALLS
async def test_a_file_that_is_gone_is_noticed(
    storage: SQLiteSessionStorage, path: Path, call: Call
) -> None:
    await with_both(storage)
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StorageError, match="moved") as caught:
        await call(storage)
    assert caught.value.outcome == "unknown"


async def test_an_error_text_that_cannot_be_stored_is_refused_and_the_purge_stays(
    storage: SQLiteSessionStorage,
) -> None:
    await with_both(storage)
    with pytest.raises(StorageError) as caught:
        await storage.settle_purge(purge(), retry_us=9, error="lone \ud800")
    assert (caught.value.code, caught.value.outcome) == ("invalid", "failed")
    assert await is_as_before(storage)


@CALLS
async def test_beyond_the_limit_of_the_wal_nothing_is_written(path: Path, call: Call) -> None:
    storage = SQLiteSessionStorage(path, wal_limit_bytes=8 * 1024 * 1024)
    await storage.open()
    await with_both(storage)
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sessions").fetchone()
    stored = await load_one(storage, "s")
    for seq in range(1, 10):
        stored = await commit(storage, change(stored, message(seq, "x" * 1_000_000)))
    with pytest.raises(StorageError) as caught:
        await call(storage)
    assert caught.value.code == "busy"
    assert await is_as_before(storage)
    reader.close()
    await call(storage)
    assert not await is_as_before(storage)
    await storage.close()


def test_each_statement_finds_its_rows_by_an_index() -> None:
    connection = sqlite3.connect(":memory:")
    for statement in CREATE:
        connection.execute(statement)
    for text in (
        statements.HIDE_MESSAGES,
        statements.SWEEP_CLAIMS,
        statements.DELETE_PURGE,
        statements.RETRY_PURGE,
    ):
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [1] * text.count("?"))
        steps = [step[3] for step in plan]
        assert not [step for step in steps if step.startswith("SCAN") or "TEMP" in step], steps
    connection.close()
