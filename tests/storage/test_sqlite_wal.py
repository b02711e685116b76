"""The -wal: folded in behind the commits, bounded under load and under a reader."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, checkpoint
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    create,
    message,
    new,
)

from .inside import on_writer, pragma

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from langswarm.core.session.actors.model import StoredSession

LIMIT = 8 * 1024 * 1024


@pytest.fixture
async def bounded(path: Path) -> AsyncIterator[SQLiteSessionStorage]:
    storage = SQLiteSessionStorage(path, wal_limit_bytes=LIMIT)
    await storage.open()
    yield storage
    await storage.close()


def wal_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


async def write(storage: SQLiteSessionStorage, stored: StoredSession) -> StoredSession:
    """A quarter of a megabyte more."""
    seq = stored.record.last_seq + 1
    return await commit(storage, change(stored, message(seq, "x" * 262_144)))


def reader_of(path: Path) -> sqlite3.Connection:
    """Another program that looks at what is stored now and does not let go."""
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sessions").fetchone()
    return reader


async def test_the_wal_stays_short_under_a_sustained_load(
    bounded: SQLiteSessionStorage, path: Path
) -> None:
    """Ten times the size of a checkpoint is written; the file never grows past one and a batch."""
    stored = await create(bounded)
    longest = 0
    for _ in range(160):
        stored = await write(bounded, stored)
        longest = max(longest, wal_bytes(path))
    assert longest < checkpoint.CHECKPOINT_BYTES + 2 * 262_144 + 65_536
    assert bounded.statistics().checkpoints >= 8
    assert bounded.health().warning is None


async def test_sqlite_itself_makes_no_checkpoint_in_the_middle_of_a_commit(
    storage: SQLiteSessionStorage,
) -> None:
    assert await pragma(storage, "wal_autocheckpoint") == 0
    assert await pragma(storage, "journal_size_limit") == checkpoint.CHECKPOINT_BYTES


async def test_a_reader_that_stays_makes_commits_fail_cleanly_at_the_limit_and_no_sooner(
    bounded: SQLiteSessionStorage, path: Path
) -> None:
    """Beyond `wal_limit_bytes` nothing is written; when the reader has gone, it goes on at once."""
    stored = await create(bounded)
    reader = reader_of(path)
    refused: object = None
    for _ in range(100):
        seq = stored.record.last_seq + 1
        [outcome] = await bounded.commit([change(stored, message(seq, "x" * 262_144))])
        if not isinstance(outcome, Committed):
            refused = outcome
            break
        [after] = await bounded.load(["s"])
        assert after is not None
        stored = after
    assert isinstance(refused, StorageError)
    assert (refused.code, refused.retryable, refused.outcome) == ("busy", True, "failed")
    assert "wal_limit_bytes" in str(refused)
    assert LIMIT < wal_bytes(path) < LIMIT + 2 * 262_144
    assert await bounded.load(["s"]) == [stored]  # reading goes on
    reader.close()
    await write(bounded, stored)
    assert wal_bytes(path) < checkpoint.CHECKPOINT_BYTES


async def test_a_reader_that_stays_does_not_cost_a_checkpoint_per_commit(
    bounded: SQLiteSessionStorage, path: Path
) -> None:
    stored = await create(bounded)
    reader = reader_of(path)
    for _ in range(24):  # 6 MB
        stored = await write(bounded, stored)
    assert 1 <= bounded.statistics().checkpoints <= 4
    reader.close()


async def test_a_long_wal_is_told_by_health(
    bounded: SQLiteSessionStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langswarm.core.session.adapters.storage.sqlite import health  # noqa: PLC0415

    monkeypatch.setattr(health, "WAL_WARNING_BYTES", 1)
    await create(bounded)
    assert "reading the database for long" in str(bounded.health().warning)


@pytest.mark.parametrize(
    ("fault", "stops"),
    [
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR_WRITE, False),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
    ],
)
async def test_a_checkpoint_that_fails_is_told_and_a_failed_sync_ends_writing(
    storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch, fault: int, *, stops: bool
) -> None:
    """What is acknowledged is in the -wal, so a full disk loses nothing; a sync is fail-stop."""
    from langswarm.core.session.adapters.storage.sqlite.connection import (  # noqa: PLC0415
        JobConnection,
    )

    execute = sqlite3.Connection.execute

    def failing(self: JobConnection, sql: str, *args: Any) -> sqlite3.Cursor:
        if "wal_checkpoint" in sql:
            error = sqlite3.OperationalError(f"planted {fault}")
            error.sqlite_errorcode = fault
            raise error
        return execute(self, sql, *args)

    stored = await create(storage)
    with monkeypatch.context() as patched:
        patched.setattr(JobConnection, "execute", failing, raising=False)
        while not storage.health().warning:
            write_more = change(stored, message(stored.record.last_seq + 1, "x" * 262_144))
            await storage.commit([write_more])  # the checkpoint runs beside: it may be refused
            [now] = await storage.load(["s"])
            assert now is not None
            stored = now
    health = storage.health()
    assert health.writes_stopped is stops
    [outcome] = await storage.commit([new("other")])
    if stops:
        assert isinstance(outcome, StorageError)
        assert (outcome.code, outcome.outcome) == ("failed_sync", "failed")
        assert await storage.load(["s"]) == [stored]
        return
    assert isinstance(outcome, Committed)
    for _ in range(8):
        stored = await write(storage, stored)
    assert storage.health().warning is None
    assert storage.statistics().checkpoints >= 1


async def test_optimize_cuts_the_wal_to_nothing(storage: SQLiteSessionStorage, path: Path) -> None:
    stored = await create(storage)
    await write(storage, stored)
    await storage.optimize()
    assert wal_bytes(path) == 0
    assert await on_writer(storage, lambda c: c.in_transaction) is False
