"""The file: how it is opened, whom it belongs to, what is left alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import ConfigurationError, StorageError
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, database
from langswarm.core.session.adapters.storage.sqlite.schema import APPLICATION_ID
from langswarm.core.session.testing.storage_contract.builders import change, create, message

from .inside import on_reader, pragma

if TYPE_CHECKING:
    from pathlib import Path


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but our lock."""
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if not entry.name.endswith(".lock")
    }


class TestSettings:
    async def test_make_every_commit_durable(self, storage: SQLiteSessionStorage) -> None:
        assert await pragma(storage, "journal_mode") == "wal"
        assert await pragma(storage, "synchronous") == 2  # FULL
        assert await pragma(storage, "application_id") == APPLICATION_ID

    async def test_keep_readers_from_writing_and_from_checkpoints(
        self, storage: SQLiteSessionStorage
    ) -> None:
        assert await pragma(storage, "query_only", where=on_reader) == 1
        assert await pragma(storage, "wal_autocheckpoint", where=on_reader) == 0

    async def test_sync_the_deletion_of_the_journal_where_that_is_the_commit(
        self, path: Path
    ) -> None:
        storage = SQLiteSessionStorage(path, enable_wal=False)
        await storage.open()
        assert await pragma(storage, "journal_mode") == "delete"
        assert await pragma(storage, "synchronous") == 3  # EXTRA
        await storage.close()

    async def test_can_change_from_one_opening_to_the_next(self, path: Path) -> None:
        for wal, mode in ((True, "wal"), (False, "delete"), (True, "wal")):
            storage = SQLiteSessionStorage(path, enable_wal=wal, synchronous="NORMAL")
            await storage.open()
            assert await pragma(storage, "journal_mode") == mode
            assert await pragma(storage, "synchronous") == 1
            await storage.close()

    @pytest.mark.parametrize(("asked", "opened"), [(1, 1), (2, 2), (20, 2)])
    async def test_open_two_readers_at_most(self, path: Path, asked: int, opened: int) -> None:
        storage = SQLiteSessionStorage(path, pool_size=asked, max_overflow=20, pool_timeout=30)
        await storage.open()
        assert storage._hosted is not None
        assert len(storage._hosted[1]._readers) == opened
        await storage.close()

    @pytest.mark.parametrize(
        "options",
        [
            {"pool_size": 0},
            {"max_overflow": -1},
            {"pool_timeout": -1},
            {"lock_wait_seconds": -0.1},
            {"synchronous": "full"},
            {"db_path": ""},
            {"db_path": ":memory:"},
            {"db_path": "file:x.db?mode=ro"},
        ],
        ids=str,
    )
    def test_that_cannot_be_are_refused_by_name(self, options: dict[str, object]) -> None:
        [(name, value)] = options.items()
        with pytest.raises(ConfigurationError, match=name) as caught:
            SQLiteSessionStorage(**options)  # type: ignore[arg-type]
        assert repr(value) in str(caught.value)

    async def test_need_a_recent_sqlite(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "MINIMUM_SQLITE", (99, 0, 0))
        with pytest.raises(ConfigurationError, match=r"99\.0\.0"):
            await SQLiteSessionStorage(path).open()
        assert not path.exists()


class TestTheFile:
    async def test_is_readable_by_its_owner_only(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        await create(storage)
        modes = {entry.name: oct(entry.stat().st_mode & 0o777) for entry in path.parent.iterdir()}
        assert modes == dict.fromkeys(
            ["sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db.lock"], "0o600"
        )

    async def test_is_one_file_again_after_closing(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        await create(storage)
        await storage.close()
        assert sorted(snapshot(path.parent)) == ["sessions.db"]

    async def test_stays_the_same_when_the_working_directory_changes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        storage = SQLiteSessionStorage()
        monkeypatch.chdir("/")
        await storage.open()
        await storage.close()
        assert (tmp_path / "langswarm-session.db").exists()

    async def test_may_have_any_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a b?c#d%41\N{OWL}.db"
        for _ in range(2):
            storage = SQLiteSessionStorage(path)
            await storage.open()
            await storage.close()
        assert path.exists()

    async def test_may_be_empty_before(self, path: Path) -> None:
        path.touch()
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await create(storage)
        await storage.close()

    async def test_in_no_folder_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="folder") as caught:
            await SQLiteSessionStorage(tmp_path / "no" / "sessions.db").open()
        assert caught.value.code == "io"

    async def test_that_is_a_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError) as caught:
            await SQLiteSessionStorage(tmp_path).open()
        assert caught.value.code == "io"


OTHERS = {
    "V1": (
        "CREATE TABLE sessions (session_id TEXT PRIMARY KEY, user_id TEXT, history TEXT)",
        "LangSwarm V1",
    ),
    "0.1.0": (
        """CREATE TABLE sessions (session_id TEXT PRIMARY KEY, context_data TEXT);
        CREATE TABLE session_messages (id INTEGER PRIMARY KEY, content TEXT)""",
        r"LangSwarm 0\.1\.0",
    ),
    "another program": ("CREATE TABLE bookmarks (url TEXT)", "another program"),
    "same table name": ("CREATE TABLE sessions (id INTEGER)", "another program"),
    "empty but marked": ("PRAGMA application_id = 99", "another program"),
    "newer": (
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 999",
        "format 999",
    ),
}


class TestAForeignFile:
    @pytest.mark.parametrize("kind", OTHERS)
    @pytest.mark.parametrize("journal", ["delete", "wal"])
    async def test_is_refused_by_name_and_not_touched(
        self, path: Path, kind: str, journal: str
    ) -> None:
        script, text = OTHERS[kind]
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.executescript(script)
        connection.close()
        before = snapshot(path.parent)
        with pytest.raises(StorageError, match=text) as caught:
            await SQLiteSessionStorage(path).open()
        assert caught.value.code == "foreign"
        assert not caught.value.retryable
        assert snapshot(path.parent) == before

    async def test_in_use_by_its_program_is_refused_and_not_touched(self, path: Path) -> None:
        """What it has written is in its -wal alone; the file itself looks empty."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        before = snapshot(path.parent)
        with pytest.raises(StorageError, match="another program"):
            await SQLiteSessionStorage(path).open()
        after = snapshot(path.parent)
        assert {**after, "sessions.db-shm": b""} == {**before, "sessions.db-shm": b""}
        connection.close()

    @pytest.mark.parametrize("content", [b"x", b"no database " * 500, b"\0" * 4096])
    async def test_that_is_no_database_is_refused_and_not_touched(
        self, path: Path, content: bytes
    ) -> None:
        path.write_bytes(content)
        with pytest.raises(StorageError, match="not an SQLite database") as caught:
            await SQLiteSessionStorage(path).open()
        assert caught.value.code == "foreign"
        assert path.read_bytes() == content

    async def test_is_let_go_of_at_once(self, path: Path) -> None:
        path.write_bytes(b"no database " * 500)
        storage = SQLiteSessionStorage(path)
        with pytest.raises(StorageError):
            await storage.open()
        path.unlink()
        await storage.open()
        await storage.close()


HOLD = """
import sys, anyio
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage
async def main():
    storage = SQLiteSessionStorage(sys.argv[1])
    await storage.open()
    print("open", flush=True)
    sys.stdin.readline()
    await storage.close()
anyio.run(main)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the file until a line arrives or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


class TestTheLock:
    async def test_refuses_a_second_process_and_names_the_first(self, path: Path) -> None:
        with hold(path) as other:
            with pytest.raises(StorageError, match=f"process {other.pid}") as caught:
                await SQLiteSessionStorage(path).open()
            other.communicate("\n")
        assert caught.value.code == "busy"
        assert caught.value.retryable
        assert "one process" in str(caught.value)
        assert "PostgreSQL" in str(caught.value)

    async def test_refuses_a_second_storage_of_this_process(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        with pytest.raises(StorageError, match="this process") as caught:
            await SQLiteSessionStorage(path).open()
        assert caught.value.code == "busy"
        await create(storage)  # the first goes on

    async def test_follows_links(
        self, storage: SQLiteSessionStorage, path: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(path)
        with pytest.raises(StorageError, match="this process"):
            await SQLiteSessionStorage(link).open()

    async def test_of_a_killed_process_is_no_obstacle(self, path: Path) -> None:
        with hold(path) as other:
            other.kill()
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await storage.close()

    async def test_can_be_waited_for(self, storage: SQLiteSessionStorage, path: Path) -> None:
        second = SQLiteSessionStorage(path, lock_wait_seconds=30)
        async with anyio.create_task_group() as group:
            group.start_soon(second.open)
            await anyio.wait_all_tasks_blocked()
            assert not second.statistics().is_open
            await storage.close()
        assert second.statistics().is_open
        await second.close()

    async def test_is_waited_for_no_longer_than_asked(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        with pytest.raises(StorageError, match="this process"):
            await SQLiteSessionStorage(path, lock_wait_seconds=0.1).open()

    async def test_is_not_waited_for_once_the_storage_is_closed(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        second = SQLiteSessionStorage(path, lock_wait_seconds=1000)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:

                async def wait_for_it() -> None:
                    with pytest.raises(StorageError, match="this process"):
                        await second.open()

                group.start_soon(wait_for_it)
                await anyio.wait_all_tasks_blocked()
                await second.close()

    async def test_names_its_holder_while_held(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        lock = path.with_name("sessions.db.lock")
        assert lock.read_text() == f"{os.getpid()}\n"
        await storage.close()
        assert lock.read_text() == ""


class TestAFileThatIsNotInItsPlaceAnyMore:
    @pytest.mark.parametrize("wal", [True, False], ids=["wal", "journal"])
    @pytest.mark.parametrize("event", ["deleted", "moved", "replaced"])
    async def test_ends_writing_before_anything_is_acknowledged(
        self, path: Path, event: str, wal: bool
    ) -> None:
        """G3: SQLite would go on writing to a file that nobody finds; we say so instead."""
        storage = SQLiteSessionStorage(path, enable_wal=wal)
        await storage.open()
        stored = await create(storage)
        if event == "deleted":
            path.unlink()
        else:
            path.rename(path.with_name("elsewhere.db"))
        if event == "replaced":
            path.write_bytes(b"")
        # With a -wal the first is in that file, wherever it is; without one SQLite looks before.
        expected = ["unknown", "failed"] if wal else ["failed", "failed"]
        for number, outcome in enumerate(expected, 1):
            [error] = await storage.commit([change(stored, message(number))])
            assert isinstance(error, StorageError)
            assert (error.code, error.retryable, error.outcome) == ("io", False, outcome)
            assert "put the file back in its place, then restart" in str(error)
        if wal:
            with pytest.raises(StorageError, match="moved or replaced"):
                await storage.read_back(["s"])
            assert storage.health().writes_stopped
        await storage.close()

    async def test_reaches_the_caller_as_an_outcome_unknown_and_is_told_by_health(
        self, path: Path
    ) -> None:
        async with create_session_manager(SQLiteSessionStorage(path)) as manager:
            session = await manager.create_session("ann", "mock", "m")
            await session.send_message("before")
            path.rename(path.with_name("elsewhere.db"))
            with pytest.raises(StorageError, match="put the file back") as caught:
                await session.send_message("after")
            assert caught.value.outcome == "unknown"
            with pytest.raises(StorageError, match="put the file back"):
                await session.reopen()  # nothing to write, but what it is decided on may not last
            assert (await manager.health()).status == "failed"
            assert (await session.get_messages())[0].content == "before"
            path.with_name("elsewhere.db").rename(path)
        async with create_session_manager(SQLiteSessionStorage(path)) as manager:
            again = await manager.get_session(session.session_id)
            assert (await again.send_message("goes on")).content.endswith("goes on")

    async def test_that_was_opened_through_a_link_may_lose_the_link(self, path: Path) -> None:
        """Not an error, because the file itself is where it was."""
        link = path.with_name("link.db")
        link.symlink_to(path)
        storage = SQLiteSessionStorage(link)
        await storage.open()
        link.unlink()
        await create(storage)
        await storage.close()
        assert path.exists()
