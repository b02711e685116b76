"""Transactions: how few steps they take, and what happens when one goes wrong."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import aiosqlite
import anyio
import attrs
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed, SessionDocuments
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, statements
from langswarm.core.session.adapters.storage.sqlite.connection import JobConnection
from langswarm.core.session.adapters.storage.sqlite.schema import CREATE
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    message,
    new,
    open_turn,
)

from .inside import on_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langswarm.core.session.actors.ports import WriteOutcome


async def many_turns(storage: SQLiteSessionStorage, count: int) -> list[Any]:
    """Writes that open a turn in each of `count` new sessions."""
    names = [f"s{number}" for number in range(count)]
    await storage.commit([new(name) for name in names])
    return [open_turn(stored) for stored in await storage.load(names) if stored is not None]


class TestABatch:
    async def test_crosses_to_the_driver_once(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So nothing can come between BEGIN and COMMIT, not even a cancellation."""
        hops: list[Any] = []
        execute: Any = vars(aiosqlite.Connection)["_execute"]

        async def counted(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            hops.append(function)
            return await execute(self, function, *args, **kwargs)

        writes = await many_turns(storage, 50)
        monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
        await storage.commit(writes)
        assert len(hops) == 1
        await storage.commit(writes)  # conflicts: the repetition is in the same hop
        assert len(hops) == 2
        await storage.load([f"s{number}" for number in range(50)])
        assert len(hops) == 3

    def test_finds_what_it_updates_by_primary_key(self) -> None:
        connection = sqlite3.connect(":memory:")
        for statement in CREATE:
            connection.execute(statement)
        for text in (
            statements.UPDATE_SESSIONS,
            statements.UPDATE_TURNS,
            statements.MARK_MESSAGES,
        ):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [1] * text.count("?"))
            steps = [step[3] for step in plan]
            assert steps[-1].endswith("USING INTEGER PRIMARY KEY (rowid=?)"), steps
        connection.close()

    async def test_counts_what_it_did(self, storage: SQLiteSessionStorage) -> None:
        stored = await create(storage)
        await storage.commit([new("s"), new("t")])
        await storage.commit([change(stored, message(1))])
        statistics = storage.statistics()
        assert statistics.is_open
        assert (statistics.batches, statistics.repeated) == (3, 1)
        assert (statistics.writes, statistics.refused) == (3, 1)
        assert not statistics.writes_stopped
        await storage.close()
        assert not storage.statistics().is_open
        assert not SQLiteSessionStorage("unused.db").statistics().is_open


class TestDocuments:
    async def test_are_not_written_again_by_a_turn(self, storage: SQLiteSessionStorage) -> None:
        """The bytes per turn do not grow with the context."""
        documents = SessionDocuments(context='{"big": "' + "x" * 100_000 + '"}')
        stored = await create(storage)
        stored = await commit(storage, change(stored, documents=documents, documents_changed=True))
        texts: list[str] = []
        await on_writer(storage, lambda c: c.set_trace_callback(texts.append))
        await commit(storage, open_turn(stored))
        assert not [text for text in texts if "session_documents" in text and "INTO" in text]


HOSTILE: dict[str, dict[str, Any]] = {
    "lone surrogate": {"content": "\ud800"},
    "lone surrogate in an id": {"message_id": "\udfff"},
    "2^63": {"token_count": 2**63},
    "another type": {"content": object()},
    "NULL where none may be": {"content": None},
    "text where a number belongs": {"token_count": "many"},
}


class TestAHostileValue:
    @pytest.mark.parametrize("kind", HOSTILE)
    async def test_fails_alone(self, storage: SQLiteSessionStorage, kind: str) -> None:
        bad_place = await create(storage, "bad")
        good_place = await create(storage, "good")
        bad = change(bad_place, attrs.evolve(message(1), **HOSTILE[kind]))
        good = change(good_place, message(1))
        outcomes = await storage.commit([bad, good])
        assert isinstance(outcomes[0], StorageError)
        assert outcomes[0].outcome == "failed"
        assert isinstance(outcomes[1], Committed)
        assert await storage.load(["bad"]) == [bad_place]
        assert await contents(storage, good_place.record.key) == ["text 1"]

    async def test_in_a_session_id_fails_alone(self, storage: SQLiteSessionStorage) -> None:
        outcomes = await storage.commit([new("\ud800"), new("good")])
        assert isinstance(outcomes[0], StorageError)
        assert isinstance(outcomes[1], Committed)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Maps the first word of a statement to the SQLite error that it shall meet."""
    faults: dict[str, int] = {}

    def patch(name: str, run: Callable[..., sqlite3.Cursor]) -> None:
        def failing(self: JobConnection, sql: str, *args: Any) -> sqlite3.Cursor:
            code = faults.get(sql.partition(" ")[0])
            if code is not None:
                error = sqlite3.OperationalError(f"planted {code}")
                error.sqlite_errorcode = code
                raise error
            return run(self, sql, *args)

        monkeypatch.setattr(JobConnection, name, failing, raising=False)

    patch("execute", sqlite3.Connection.execute)
    patch("executemany", sqlite3.Connection.executemany)
    yield faults
    faults.clear()


def only_error(outcomes: Any) -> StorageError:
    """The error that all of them share; each caller has an object of its own."""
    assert all(isinstance(outcome, StorageError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
    assert len({str(outcome) for outcome in outcomes}) == 1
    error: StorageError = outcomes[0]
    return error


async def next_batch(storage: SQLiteSessionStorage) -> list[WriteOutcome]:
    return list(await storage.commit([new("x"), new("y")]))


class TestAFault:
    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            (sqlite3.SQLITE_FULL, ("full", True)),
            (sqlite3.SQLITE_BUSY, ("busy", True)),
            (sqlite3.SQLITE_READONLY, ("read_only", False)),
            (sqlite3.SQLITE_IOERR_WRITE, ("io", False)),
        ],
    )
    async def test_of_the_place_fails_the_batch_and_not_the_next(
        self,
        storage: SQLiteSessionStorage,
        faulty: dict[str, int],
        fault: int,
        expected: tuple[str, bool],
    ) -> None:
        for statement in ("BEGIN", "INSERT"):
            faulty[statement] = fault
            error = only_error(await next_batch(storage))
            assert (error.code, error.retryable) == expected
            assert error.outcome == "failed"
            assert await storage.load(["x", "y"]) == [None, None]
            faulty.clear()
        assert {type(outcome) for outcome in await next_batch(storage)} == {Committed}
        assert storage.statistics().repeated == 0

    async def test_of_a_sync_ends_writing_for_good(
        self, storage: SQLiteSessionStorage, faulty: dict[str, int]
    ) -> None:
        """Linux may have dropped the pages and still show them: nothing proves anything."""
        stored = await create(storage)
        faulty["COMMIT"] = sqlite3.SQLITE_IOERR_FSYNC
        error = only_error(await next_batch(storage))
        assert (error.code, error.retryable, error.outcome) == ("failed_sync", False, "unknown")
        faulty.clear()
        error = only_error(await next_batch(storage))
        assert error.code == "failed_sync"
        assert storage.statistics().writes_stopped
        with pytest.raises(StorageError, match="sync"):
            await storage.read_back(["x"])
        assert await storage.load(["s"]) == [stored]
        assert await contents(storage, stored.record.key) == []

    async def test_in_writing_the_commit_leaves_the_outcome_open(
        self, storage: SQLiteSessionStorage, faulty: dict[str, int]
    ) -> None:
        faulty["COMMIT"] = sqlite3.SQLITE_IOERR_WRITE
        error = only_error(await next_batch(storage))
        assert (error.code, error.outcome) == ("io", "unknown")
        faulty.clear()
        assert await storage.read_back(["x", "y"]) == [None, None]
        assert {type(outcome) for outcome in await next_batch(storage)} == {Committed}

    async def test_nobody_thought_of_still_answers_every_caller(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> int:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr("langswarm.core.session.adapters.storage.sqlite.batch.run_rows", broken)
            error = only_error(await next_batch(storage))
        assert (error.code, error.outcome) == ("unknown", "failed")
        assert {type(outcome) for outcome in await next_batch(storage)} == {Committed}


class TestARealFault:
    async def test_a_full_database_is_a_clean_failure(self, storage: SQLiteSessionStorage) -> None:
        stored = await create(storage)
        write = change(stored, message(1, "x" * 200_000))

        async def limit(pages: int) -> None:
            text = f"PRAGMA max_page_count = {pages}"
            await on_writer(storage, lambda c: c.execute(text).fetchone())

        await limit(1)  # SQLite rounds it up to what is used
        error = only_error(await storage.commit([write]))
        assert (error.code, error.retryable, error.outcome) == ("full", True, "failed")
        await limit(1_000_000)
        assert await storage.commit([write]) == [Committed(stored.record.key)]

    async def test_a_database_locked_by_another_program_is_busy_until_it_lets_go(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        stored = await create(storage)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        error = only_error(await storage.commit([change(stored, message(1))]))
        assert (error.code, error.retryable, error.outcome) == ("busy", True, "failed")
        assert await storage.load(["s"]) == [stored]  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert await storage.commit([change(stored, message(1))]) == [Committed(stored.record.key)]

    async def test_pool_timeout_waits_for_another_program(self, path: Path) -> None:
        storage = SQLiteSessionStorage(path, pool_timeout=30)
        await storage.open()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outcomes: list[WriteOutcome] = []

        async def write() -> None:
            outcomes.extend(await storage.commit([new("s")]))

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            assert not outcomes
            other.execute("ROLLBACK")
        other.close()
        assert isinstance(outcomes[0], Committed)
        await storage.close()

    async def test_damaged_pages_are_reported_and_the_rest_stays_readable(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        large = message(1, "y" * 50_000)
        bad = await commit(storage, change(await create(storage, "bad"), large))
        [root] = await on_writer(
            storage,
            lambda c: c.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'messages'"
            ).fetchone(),
        )
        await storage.close()
        with path.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(b"\xff" * 4096)
        await storage.open()
        with pytest.raises(StorageError, match="damaged") as caught:
            await contents(storage, bad.record.key)
        assert caught.value.code == "corrupt"
        assert await storage.load(["bad"]) == [bad]
        outcomes = await storage.commit([change(bad, message(2)), new("good")])
        assert isinstance(outcomes[0], StorageError)
        assert outcomes[0].code == "corrupt"
        assert isinstance(outcomes[1], Committed)
