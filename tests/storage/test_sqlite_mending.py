"""A connection that is no good any more, and pages that are damaged: what goes on regardless."""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed, MessageQuery, SessionQuery
from langswarm.core.session.adapters.storage.sqlite.connection import JobConnection
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    message,
    new,
    open_turn,
)

from .inside import on_reader, on_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langswarm.core.session.actors.model import StoredSession
    from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage


def failing(error_code: int, *words: str) -> Callable[..., sqlite3.Cursor]:
    """`execute` that fails for statements that begin with one of the words."""
    execute = sqlite3.Connection.execute

    def execute_or_fail(self: JobConnection, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql.startswith(words):
            error = sqlite3.OperationalError(f"planted {error_code}")
            error.sqlite_errorcode = error_code
            raise error
        return execute(self, sql, *args)

    return execute_or_fail


class TestAWriter:
    async def test_that_cannot_roll_back_is_connected_anew(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the transaction had written is neither seen by reading back nor committed later."""

        def no_rollback(self: JobConnection) -> None:
            raise sqlite3.OperationalError("planted")

        stored = await create(storage)
        with monkeypatch.context() as patched:
            fail = failing(sqlite3.SQLITE_FULL, "COMMIT", "ROLLBACK")
            patched.setattr(JobConnection, "execute", fail, raising=False)
            patched.setattr(JobConnection, "rollback", no_rollback, raising=False)
            [outcome] = await storage.commit([change(stored, message(1))])
        assert isinstance(outcome, StorageError)
        assert (outcome.code, outcome.outcome) == ("full", "failed")
        assert await storage.read_back(["s"]) == [stored]
        assert storage.statistics().reopened == 1
        assert await storage.commit([change(stored, message(1, "again"))]) == [Committed(1)]
        assert await contents(storage, 1) == ["again"]

    async def test_that_leaves_a_transaction_open_does_not_pass_it_on(
        self, storage: SQLiteSessionStorage
    ) -> None:
        """An interrupted statement, a bug: the next job begins outside of any transaction."""

        def interrupted(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM sessions")
            raise KeyError

        stored = await create(storage)
        with pytest.raises(KeyError):
            await on_writer(storage, interrupted)
        assert await storage.read_back(["s"]) == [stored]
        assert await storage.commit([change(stored)]) == [Committed(1)]
        assert storage.statistics().reopened == 0

    async def test_whose_handle_is_gone_is_connected_anew(
        self, storage: SQLiteSessionStorage
    ) -> None:
        stored = await create(storage)
        await on_writer(storage, lambda c: c.close())
        assert await storage.commit([change(stored)]) == [Committed(1)]
        assert storage.statistics().reopened == 1

    async def test_that_cannot_be_connected_anew_says_so_and_tries_again(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = await create(storage)
        await on_writer(storage, lambda c: c.close())
        with monkeypatch.context() as patched:
            fail = failing(sqlite3.SQLITE_CANTOPEN, "PRAGMA")
            patched.setattr(JobConnection, "execute", fail, raising=False)
            for _ in range(2):
                with pytest.raises(StorageError) as caught:
                    await storage.commit([change(stored)])
                assert (caught.value.code, caught.value.outcome) == ("io", "failed")
        assert await storage.commit([change(stored)]) == [Committed(1)]


class TestAReader:
    async def test_whose_handle_is_gone_is_connected_anew(
        self, storage: SQLiteSessionStorage
    ) -> None:
        stored = await create(storage)
        await on_reader(storage, lambda c: c.close())
        assert await storage.load(["s"]) == [stored]
        assert storage.statistics().reopened == 1

    async def test_that_met_an_input_output_error_is_connected_anew(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = await create(storage)
        with monkeypatch.context() as patched:
            fail = failing(sqlite3.SQLITE_IOERR_READ, "\n        SELECT")
            patched.setattr(JobConnection, "execute", fail, raising=False)
            with pytest.raises(StorageError) as caught:
                await storage.load(["s"])
            assert caught.value.code == "io"
        assert await storage.load(["s"]) == [stored]
        assert storage.statistics().reopened == 1


async def damage(storage: SQLiteSessionStorage, path: Path, where: Callable[[str], bool]) -> None:
    """Overwrite the leaf pages that hold what `where` finds, at rest."""
    await storage.close()
    content = path.read_bytes()
    pages = range(1, len(content) // 4096)
    hit = [
        number
        for number in pages
        if where(content[number * 4096 : number * 4096 + 4096].decode("latin-1"))
    ]
    assert hit
    with path.open("r+b") as file:
        for number in hit:
            file.seek(number * 4096)
            file.write(os.urandom(4096))
    await storage.open()


async def wide_sessions(storage: SQLiteSessionStorage, count: int) -> list[StoredSession]:
    """Sessions whose rows fill a page each, so that damage hits one alone."""
    for number in range(count):
        stored = await create(storage, f"s{number}", model=f"model {number} " + "m" * 3000)
        await commit(storage, open_turn(stored))
    found = await storage.load([f"s{number}" for number in range(count)])
    return [each for each in found if each is not None]


class TestADamagedPage:
    async def test_of_one_session_leaves_the_others_of_the_same_load_alone(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        """Through the runtime: all are asked for at once; the damaged one alone is an error."""
        await wide_sessions(storage, 5)
        await damage(storage, path, lambda page: "model 2 " in page)
        with pytest.raises(StorageError) as caught:
            await storage.load(["s0", "s2"])
        assert caught.value.code == "corrupt"
        async with create_session_manager(storage) as manager:
            answers: dict[str, Any] = {}
            supervisor = manager._anchor.host.runtime().supervisor
            actor = supervisor.storage
            for name in ("s0", "s1", "s2", "s3", "s4"):
                actor.load(name, partial(answers.__setitem__, name))
            for name in ("s0", "s1", "s3", "s4"):
                session = await manager.get_session(name)
                assert [m.content for m in await session.get_messages()] == ["text 1"]
            with pytest.raises(StorageError) as caught:
                await manager.get_session("s2")
            assert caught.value.code == "corrupt"
            kinds = {name: type(found).__name__ for name, found in answers.items()}
            assert kinds == dict.fromkeys(["s0", "s1", "s3", "s4"], "StoredSession") | {
                "s2": "StorageError"
            }
            assert (await manager.health()).status == "degraded"

    async def test_does_not_keep_the_storage_from_opening_and_recovering_the_others(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        """Its turn was open, as were those of its neighbours: theirs are closed as interrupted."""
        await wide_sessions(storage, 3)
        await damage(storage, path, lambda page: "model 1 " in page)
        assert [found.record.session_id for found in await storage.load_unfinished(9)] == [
            "s0",
            "s2",
        ]
        async with create_session_manager(storage) as manager:
            statistics = manager.statistics()
            assert statistics is not None
            assert statistics.storage.recovered_turns == 2
            session = await manager.get_session("s2")
            assert (await session.get_metrics()).interrupted_turns == 1

    async def test_is_left_out_of_lists_that_have_the_others(
        self,
        storage: SQLiteSessionStorage,
        path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Page by page, as without the damage; what is left out is logged."""
        await wide_sessions(storage, 5)
        await damage(storage, path, lambda page: "model 2 " in page)
        first = await storage.list_sessions(SessionQuery(user_id="ann", limit=3))
        assert [record.session_id for record in first.records] == ["s4", "s3", "s1"]
        rest = SessionQuery(user_id="ann", limit=3, before_key=first.next_key)
        last = await storage.list_sessions(rest)
        assert [record.session_id for record in last.records] == ["s0"]
        assert "session 3 is damaged and left out of a list" in caplog.text

    async def test_is_found_by_verify_and_named(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        await wide_sessions(storage, 3)
        assert (await storage.verify()).ok
        await damage(storage, path, lambda page: "model 1 " in page)
        verification = await storage.verify()
        assert not verification.ok
        assert any(problem.startswith("sessions: ") for problem in verification.problems)

    async def test_is_not_copied_into_a_backup(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        await wide_sessions(storage, 3)
        await damage(storage, path, lambda page: "model 1 " in page)
        with pytest.raises(StorageError, match="damaged") as caught:
            await storage.backup(path.with_name("backup.db"))
        assert caught.value.code == "corrupt"
        assert not list(path.parent.glob("backup*"))

    async def test_in_a_row_that_sqlite_can_read_is_reported_all_the_same(
        self, storage: SQLiteSessionStorage
    ) -> None:
        await create(storage, "bad")
        good = await create(storage, "good")

        def spoil(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE sessions SET status = 'nonsense' WHERE id = 'bad'")
            connection.execute(
                "INSERT INTO messages (id, role, content, created_us, turn_no, token_count,"
                " hidden_by) VALUES (2 << 32 | 1, 'user', CAST(x'ff' AS TEXT), 1, 0, 0, 0)"
            )

        await on_writer(storage, spoil)
        with pytest.raises(StorageError, match="nonsense") as caught:
            await storage.load(["bad"])
        assert caught.value.code == "corrupt"
        with pytest.raises(StorageError, match="UTF-8") as caught:
            await contents(storage, good.record.key)
        assert caught.value.code == "corrupt"
        assert await storage.load(["good"]) == [good]

    async def test_in_json_is_an_error_of_storage_for_those_who_need_it(
        self, storage: SQLiteSessionStorage
    ) -> None:
        """Not a crash: the session is not restarted, what does not need the JSON goes on."""
        async with create_session_manager(storage) as manager:
            session = await manager.create_session("ann", "mock", "m", session_id="s")
            await session.update_context({"a": 1})
            await session.send_message("hello")
            message_id = (await session.get_messages())[0].message_id
        await storage.open()

        def spoil(connection: sqlite3.Connection) -> None:
            connection.execute('UPDATE session_documents SET context = \'{"a": "\x01\' ')
            connection.execute("UPDATE messages SET metadata = '[1]' WHERE id = 1 << 32 | 1")

        await on_writer(storage, spoil)
        async with create_session_manager(storage) as manager:
            session = await manager.get_session("s")
            context = await session.get_context()
            with pytest.raises(StorageError, match="damaged") as caught:
                dict(context)
            assert (caught.value.code, caught.value.retryable) == ("corrupt", False)
            first = (await session.get_messages())[0]
            assert (first.message_id, first.content) == (message_id, "hello")
            with pytest.raises(StorageError, match="a list in place of an object"):
                _ = first.metadata
            with pytest.raises(StorageError, match="damaged"):
                await session.update_context({"b": 2})
            assert (await session.send_message("and on it goes")).seq == 4
            statistics = manager.statistics()
            assert statistics is not None
            assert statistics.supervisor.restarts == 0
            problems = (await manager.verify_storage()).problems
        assert problems == (
            "messages: row 4294967297 has damaged JSON in metadata",
            "session_documents: row 1 has damaged JSON in context",
        )


async def test_a_write_that_does_not_fit_is_invalid_and_alone(
    storage: SQLiteSessionStorage,
) -> None:
    stored = await create(storage)
    stored = await commit(storage, change(stored, message(1)))
    again = change(stored, message(1))
    outcomes = await storage.commit([again, new("other")])
    assert isinstance(outcomes[0], StorageError)
    assert (outcomes[0].code, outcomes[0].outcome) == ("invalid", "failed")
    assert isinstance(outcomes[1], Committed)


@pytest.mark.parametrize("seq", [2**32, 2**32 + 1, 2**53, -1])
async def test_a_number_beyond_its_session_is_invalid_and_reaches_no_other(
    storage: SQLiteSessionStorage, seq: int
) -> None:
    """Its row would lie among those of a session that may be somebody else's."""
    before, stored = await create(storage, "before"), await create(storage)
    behind = await create(storage, "behind")
    outcomes = await storage.commit([change(stored, message(seq)), change(stored, message(1))])
    assert isinstance(outcomes[0], StorageError)
    assert (outcomes[0].code, outcomes[0].outcome) == ("invalid", "failed")
    assert isinstance(outcomes[1], Committed)
    for each in (before, behind):
        assert await storage.read_messages(each.record.key, MessageQuery()) == []
