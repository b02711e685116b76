"""What `verify` finds in a file that SQLite itself has nothing against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import SessionExistsError, StorageError
from langswarm.core.session.actors.model import Committed, MessageQuery, SessionQuery
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, verification
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    commit,
    create,
    message,
    new,
    open_turn,
    purge,
)

from .inside import on_writer

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from langswarm.core.session.actors.model import StoredSession

ROW = 1 << 32 | 1
DAMAGES = {
    "DELETE FROM session_documents WHERE session_key = 1": (
        "sessions: row 1 has no row in session_documents"
    ),
    "UPDATE sessions SET status = 'nonsense' WHERE key = 1": (
        "sessions: row 1 makes no sense: KeyError('nonsense')"
    ),
    "UPDATE messages SET role = 'wizard' WHERE id = 1 << 32 | 1": (
        f"messages: row {ROW} makes no sense: KeyError('wizard')"
    ),
    "UPDATE messages SET content = x'00' WHERE id = 1 << 32 | 1": (
        f"messages: row {ROW} has no text in content"
    ),
    "UPDATE messages SET content = CAST(x'ff' AS TEXT) WHERE id = 1 << 32 | 1": (
        f"messages: row {ROW} has text that is not UTF-8 in content"
    ),
    "UPDATE claims SET scope = CAST(x'ff' AS TEXT)": (
        "claims: row (b'\\xff', 'send_message', 'k') has text that is not UTF-8 in scope"
    ),
    "UPDATE provider_purges SET provider = CAST(x'ff' AS TEXT)": (
        "provider_purges: row 1 has text that is not UTF-8 in provider"
    ),
    "UPDATE messages SET metadata = '[1]' WHERE id = 1 << 32 | 1": (
        f"messages: row {ROW} has damaged JSON in metadata"
    ),
    "UPDATE session_documents SET config = '{' WHERE session_key = 1": (
        "session_documents: row 1 has damaged JSON in config"
    ),
    "UPDATE messages SET id = 9 << 32 | 1 WHERE id = 1 << 32 | 1": (
        f"messages: row {9 << 32 | 1} belongs to no session"
    ),
    "UPDATE session_documents SET session_key = 9 WHERE session_key = 2": (
        "session_documents: row 9 belongs to no session"
    ),
    "UPDATE turns SET id = 9 << 32 | 1 WHERE id = 1 << 32 | 1": (
        f"turns: row {9 << 32 | 1} belongs to no session"
    ),
    "DELETE FROM turns WHERE id = 1 << 32 | 1": "sessions: row 1 has lost its open turn",
    "UPDATE turns SET state = 'closed' WHERE id = 1 << 32 | 1": (
        f"turns: row {ROW} makes no sense: KeyError('closed')"
    ),
    "UPDATE sessions SET open_turn_no = 0 WHERE key = 1": (
        f"turns: row {ROW} is open, and its session does not know of it"
    ),
}


async def filled(storage: SQLiteSessionStorage) -> StoredSession:
    """A row in each table, a turn that is open, a second session."""
    stored = await commit(storage, open_turn(await create(storage)))
    await create(storage, "other")
    return await commit(storage, change(stored, claim=claim(), purges=(purge(),)))


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "journal"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_finds_rows_that_no_program_of_ours_has_written(
    path: Path, damage: str, wal: bool
) -> None:
    storage = SQLiteSessionStorage(path, enable_wal=wal)
    await storage.open()
    await filled(storage)
    assert (await storage.verify()).problems == ()
    await on_writer(storage, lambda connection: connection.execute(damage))
    problems = (await storage.verify()).problems
    await storage.close()
    assert DAMAGES[damage] in problems


async def test_names_each_damaged_row_and_goes_on_behind_it(
    storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the slices are small, and two bad rows are in one."""
    monkeypatch.setattr(verification, "FIRST_ROWS", 3)
    stored = await create(storage)
    await commit(storage, change(stored, *(message(seq) for seq in range(1, 101))))
    bad = [ROW, ROW + 1, ROW + 50, ROW + 99]

    def spoil(connection: sqlite3.Connection) -> None:
        for at, row in enumerate(bad):
            text = ("role = 'wizard'", "content = CAST(x'ff' AS TEXT)")[at % 2]
            connection.execute(f"UPDATE messages SET {text} WHERE id = ?", (row,))

    await on_writer(storage, spoil)
    problems = (await storage.verify()).problems
    assert [int(problem.split()[2]) for problem in problems] == bad


async def test_names_a_hundred_at_most(storage: SQLiteSessionStorage) -> None:
    stored = await create(storage)
    await commit(storage, change(stored, *(message(seq) for seq in range(1, 301))))
    await on_writer(storage, lambda c: c.execute("UPDATE messages SET role = 'wizard'"))
    assert len((await storage.verify()).problems) == verification.PROBLEMS


async def test_lets_commits_through_between_its_slices_without_a_wal(path: Path) -> None:
    storage = SQLiteSessionStorage(path, enable_wal=False)
    await storage.open()
    stored = await create(storage)
    await commit(storage, change(stored, *(message(seq, "x" * 200) for seq in range(1, 20_001))))
    done: list[bool] = []

    async def verify() -> None:
        done.append((await storage.verify()).ok)

    async with anyio.create_task_group() as group:
        group.start_soon(verify)
        for number in range(3):
            [outcome] = await storage.commit([new(f"n{number}")])
            assert isinstance(outcome, Committed)
        assert not done
    assert done == [True]
    await storage.close()


async def test_a_session_without_its_documents_is_damaged_not_missing(
    storage: SQLiteSessionStorage,
) -> None:
    """Whoever is told that the id is taken, and to open it, is told then what is wrong with it."""
    async with create_session_manager(storage) as manager:
        for name in ("s", "t"):
            session = await manager.create_session("ann", "mock", "m", session_id=name)
            await session.send_message("hello")
    await storage.open()
    await on_writer(storage, lambda c: c.execute("DELETE FROM session_documents WHERE rowid = 1"))
    for ids in (["s"], ["t", "s"]):
        with pytest.raises(StorageError, match="no row in session_documents") as caught:
            await storage.load(ids)
        assert caught.value.code == "corrupt"
    async with create_session_manager(storage) as manager:
        with pytest.raises(StorageError) as caught:
            await manager.get_session("s")
        assert caught.value.code == "corrupt"
        with pytest.raises(SessionExistsError, match="open it with get_session"):
            await manager.create_session("ann", "mock", "m", session_id="s")
        assert len(await (await manager.get_session("t")).get_messages()) == 2


async def test_an_open_turn_of_a_session_without_documents_is_logged_and_left_out(
    storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        await commit(storage, open_turn(await create(storage, name)))
    await on_writer(storage, lambda c: c.execute("DELETE FROM session_documents WHERE rowid = 1"))
    assert [one.record.session_id for one in await storage.load_unfinished(9)] == ["b"]
    assert "the open turn of session 1 is damaged" in caplog.text


HUGE = 2**70
SESSIONS = {
    SessionQuery(user_id="\ud800", limit=9): 0,
    SessionQuery(user_id="ann", limit=9, before_key=HUGE): 1,
    SessionQuery(user_id="ann", limit=9, before_key=-HUGE): 0,
    SessionQuery(user_id="ann", limit=HUGE): 1,
    SessionQuery(user_id="ann", limit=9, active_since_us=HUGE): 0,
}
MESSAGES = {
    MessageQuery(message_id="\ud800"): 0,
    MessageQuery(after_seq=-HUGE): 2,
    MessageQuery(after_seq=-5): 2,
    MessageQuery(since_us=HUGE): 0,
    MessageQuery(until_us=HUGE): 2,
    MessageQuery(since_us=-HUGE): 2,
    MessageQuery(turn_no=HUGE): 0,
    MessageQuery(limit=HUGE): 2,
}


async def test_values_that_cannot_be_stored_match_nothing(storage: SQLiteSessionStorage) -> None:
    """Not "the database is damaged", no bare OverflowError; and rows of no other session."""
    await commit(storage, change(await create(storage, "first"), message(1)))
    await on_writer(storage, lambda c: c.execute("UPDATE sessions SET user_id = 'bob'"))
    stored = await commit(storage, change(await create(storage), message(1), message(2)))
    for sessions, count in SESSIONS.items():
        assert len((await storage.list_sessions(sessions)).records) == count, sessions
    for messages, count in MESSAGES.items():
        assert len(await storage.read_messages(2, messages)) == count, messages
    for key in (-HUGE, -1, 0, 2**31, 2**62, HUGE):
        assert await storage.read_messages(key, MessageQuery()) == []
        assert await storage.read_turn(key, 1) is None
    assert await storage.load_unfinished(HUGE) == []
    assert await storage.load_purges(HUGE, HUGE) == []
    assert await storage.load_purges(-HUGE, 1) == []
    assert await storage.sweep_claims(-HUGE, HUGE) == 0
    assert await storage.sweep_claims(HUGE, HUGE) == 0
    assert storage.statistics().reopened == 0
    await commit(storage, change(await create(storage, "third"), message(1)))
    await commit(storage, change(stored, clear_through_seq=2**32 + 5))
    assert len(await storage.read_messages(3, MessageQuery())) == 1
