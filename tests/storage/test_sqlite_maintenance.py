"""Tidying up, backups and checks, while turns go on."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import ConfigurationError, StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, maintenance
from langswarm.core.session.adapters.storage.sqlite.writer import Writer
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    message,
    new,
)

from .inside import on_writer, pragma

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langswarm.core.session.actors.model import StoredSession


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a database at rest, which must be whole; not what is derived from them."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    text = "SELECT name FROM sqlite_master WHERE type = 'table'"
    derived = ("search", "sqlite_stat")
    names = [name for (name,) in connection.execute(text) if not name.startswith(derived)]
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    connection.close()
    return found


async def large(storage: SQLiteSessionStorage, session_id: str = "s") -> StoredSession:
    """A session of two megabytes in 512 messages."""
    stored = await create(storage, session_id)
    messages = [message(seq, "x" * 4000) for seq in range(1, 513)]
    return await commit(storage, change(stored, *messages))


class Held:
    """Holds a copy after its first slice, in its thread, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        check = os.fsync

        def held(descriptor: int) -> None:
            check(descriptor)
            self.reached.set()
            assert self.go.wait(60)

        monkeypatch.setattr(os, "fsync", held)


async def in_thread(function: Callable[..., Any], *args: Any) -> None:
    await anyio.to_thread.run_sync(function, *args)


class TestABackup:
    async def test_holds_what_was_committed_when_it_began_and_holds_up_no_commit(
        self, storage: SQLiteSessionStorage, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Held in the middle of the copy, commits and reads go on; the copy has none of them."""
        stored = await large(storage)
        held, target = Held(monkeypatch), path.with_name("backup.db")
        async with anyio.create_task_group() as group:
            group.start_soon(storage.backup, target)
            await in_thread(held.reached.wait, 60)
            assert not target.exists()
            for seq in range(513, 533):
                stored = await commit(storage, change(stored, message(seq, "late")))
            held.go.set()
        await storage.close()
        before, after = rows_of(target), rows_of(path)
        assert len(before["messages"]) == 512
        assert after["messages"][:512] == before["messages"]
        assert len(after["messages"]) == 532

    async def test_can_be_opened_and_used_in_place_of_the_file(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        stored = await large(storage)
        made = await storage.backup(path.with_name("backup.db"))
        assert made.size_bytes == path.with_name("backup.db").stat().st_size
        again = SQLiteSessionStorage(made.path)
        await again.open()
        assert await again.load(["s"]) == [stored]
        assert await contents(again, 1) == await contents(storage, 1)
        await commit(again, change(stored, message(513)))
        await again.close()

    async def test_is_readable_by_its_owner_only_and_leaves_nothing_else(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        folder = path.with_name("backups")
        folder.mkdir()
        await storage.backup(folder / "b.db")
        connection = sqlite3.connect(folder / "b.db")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        connection.close()
        assert [entry.name for entry in folder.iterdir()] == ["b.db"]
        assert (folder / "b.db").stat().st_mode & 0o777 == 0o600

    async def test_is_not_spoiled_by_what_a_kill_has_left(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        await large(storage)
        target = path.with_name("backup.db")
        first = await storage.backup(target)
        target.rename(target.with_name("backup.db.partial"))
        left = sqlite3.connect(target.with_name("backup.db.partial"), isolation_level=None)
        left.execute("PRAGMA journal_mode = wal")
        left.execute("DELETE FROM messages")
        wal = target.with_name("backup.db.partial-wal")
        content = wal.read_bytes()
        left.close()
        wal.write_bytes(content)
        again = await storage.backup(target)
        assert again.size_bytes == first.size_bytes
        assert len(rows_of(target)["messages"]) == 512
        assert not list(path.parent.glob("*.partial*"))

    async def test_overwrites_nothing(self, storage: SQLiteSessionStorage, path: Path) -> None:
        other = path.with_name("precious")
        other.write_bytes(b"precious")
        for target in (other, path):
            with pytest.raises(ConfigurationError, match="exists"):
                await storage.backup(target)
        assert other.read_bytes() == b"precious"
        with pytest.raises(ConfigurationError, match="no folder"):
            await storage.backup(path.with_name("no") / "b.db")

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    async def test_that_finds_no_room_leaves_nothing_and_says_so(
        self,
        storage: SQLiteSessionStorage,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        await large(storage)
        with monkeypatch.context() as patched:
            patched.setattr(os, step, full)
            with pytest.raises(StorageError, match="No space left") as caught:
                await storage.backup(path.with_name("backup.db"))
        assert (caught.value.code, caught.value.retryable) == ("full", True)
        assert not list(path.parent.glob("backup*"))
        await storage.backup(path.with_name("backup.db"))

    async def test_ends_when_the_storage_is_closed(
        self, storage: SQLiteSessionStorage, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shutdown does not wait for the rest of it."""
        await large(storage)
        held, errors = Held(monkeypatch), list[StorageError]()

        async def backup() -> None:
            with pytest.raises(StorageError) as caught:
                await storage.backup(path.with_name("backup.db"))
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(backup)
            await in_thread(held.reached.wait, 60)
            assert storage._hosted is not None
            storage._hosted[0].request_stop()
            database = storage._hosted[1]
            while not database.maintenance._hurry:
                await anyio.lowlevel.checkpoint()
            held.go.set()
            await storage.close()
        assert (errors[0].code, errors[0].retryable) == ("closed", True)
        assert not list(path.parent.glob("backup*"))

    async def test_works_without_wal_too(self, path: Path) -> None:
        storage = SQLiteSessionStorage(path, enable_wal=False)
        await storage.open()
        await large(storage)
        await storage.backup(path.with_name("backup.db"))
        assert (await storage.verify()).ok
        await storage.optimize()
        await storage.close()
        assert rows_of(path.with_name("backup.db")) == rows_of(path)


class TestOptimizing:
    async def test_gives_freed_space_back(self, storage: SQLiteSessionStorage, path: Path) -> None:
        stored = await large(storage)
        await storage.optimize()
        before = path.stat().st_size
        await commit(storage, change(stored, message(513), clear_through_seq=512))
        await storage.optimize()
        assert path.stat().st_size < before / 4
        assert await pragma(storage, "freelist_count") == 0
        assert await contents(storage, 1) == ["text 513"]

    async def test_lets_commits_through_between_its_steps(
        self, storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Commits that are handed over while a step runs are done before many more have run."""
        stored = await large(storage)
        await commit(storage, change(stored, clear_through_seq=512))
        commits = 20
        order: list[str] = []
        in_step, handed_over = threading.Event(), threading.Event()
        vacuum, write = maintenance._vacuum, Writer.commit
        monkeypatch.setattr(maintenance, "SLICE_SECONDS", 1e-9)  # the smallest steps

        def watched_vacuum(pages: int, connection: sqlite3.Connection) -> float:
            order.append("step")
            if order.count("step") % 5 == 0 and order.count("handed over") < commits:
                in_step.set()
                assert handed_over.wait(60)
                handed_over.clear()
                order.append("handed over")
            return vacuum(pages, connection)

        def watched_write(writer: Writer, *args: Any) -> Any:
            order.append("commit")
            return write(writer, *args)

        monkeypatch.setattr(maintenance, "_vacuum", watched_vacuum)
        monkeypatch.setattr(Writer, "commit", watched_write)

        async def hand_over(number: int) -> None:
            [outcome] = await storage.commit([new(f"n{number}")])
            assert isinstance(outcome, Committed)

        async with anyio.create_task_group() as group:
            group.start_soon(storage.optimize)
            for number in range(commits):
                await in_thread(in_step.wait, 60)
                in_step.clear()
                group.start_soon(hand_over, number)
                await anyio.wait_all_tasks_blocked()
                handed_over.set()
        assert order.count("step") > 100
        places = [at for at, what in enumerate(order) if what == "handed over"]
        assert len(places) == order.count("commit") == commits
        assert max(order[at:].index("commit") for at in places) <= 3

    async def test_does_not_move_pages_after_a_failed_sync(
        self, storage: SQLiteSessionStorage
    ) -> None:
        assert storage._hosted is not None
        error = sqlite3.OperationalError("planted")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        storage._hosted[1].writer.note(error)
        with pytest.raises(StorageError) as caught:
            await storage.optimize()
        assert caught.value.code == "failed_sync"

    async def test_a_new_file_can_give_space_back(self, storage: SQLiteSessionStorage) -> None:
        assert await pragma(storage, "auto_vacuum") == maintenance.INCREMENTAL


class TestScheduledBackups:
    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        """What happens in another thread gives no signal here."""
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110
                await anyio.sleep(0.005)

    async def test_are_made_in_time_and_the_newest_ones_kept(self, path: Path) -> None:
        storage = SQLiteSessionStorage(
            path, backup_enabled=True, backup_keep=2, backup_interval_hours=0.01 / 3600
        )
        folder = path.with_name("sessions.db.backups")
        await storage.open()
        await create(storage)
        other = folder / "mine.db"
        await self.until(folder.exists)
        other.touch()
        await self.until(lambda: storage.statistics().backups >= 4)
        await storage.close()
        kept = sorted(entry.name for entry in folder.iterdir() if entry != other)
        assert len(kept) == 2
        assert other.exists()
        assert all(name.startswith("sessions-") and name.endswith("Z.db") for name in kept)
        assert len(rows_of(folder / kept[-1])["sessions"]) == 1

    async def test_clear_away_what_a_kill_has_left(self, path: Path) -> None:
        """A part of a copy, and the -wal of its check, which must not meet the next copy."""
        folder = path.with_name("sessions.db.backups")
        folder.mkdir()
        left = folder / "sessions-20250102T030405000000Z.db.partial"
        for name in (left.name, f"{left.name}-wal", "other.partial"):
            (folder / name).write_bytes(b"left")
        storage = SQLiteSessionStorage(path, backup_enabled=True)
        await storage.open()
        await self.until(lambda: storage.statistics().backups == 1)
        await storage.close()
        names = sorted(entry.name for entry in folder.iterdir())
        assert names[0] == "other.partial"
        assert len(names) == 2

    async def test_are_not_made_again_when_the_newest_is_young_enough(self, path: Path) -> None:
        """So a program that restarts often does not fill the disk."""
        folder = path.with_name("sessions.db.backups")
        for number in range(2):
            storage = SQLiteSessionStorage(path, backup_enabled=True)
            await storage.open()
            await create(storage, f"s{number}")
            await self.until(lambda: bool(list(folder.glob("sessions-*.db"))))
            await storage.close()
        assert len(list(folder.iterdir())) == 1

    async def test_that_fail_are_told_by_health_and_harm_nobody(
        self, path: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        storage = SQLiteSessionStorage(
            path, backup_enabled=True, backup_directory=tmp_path / "file"
        )
        async with create_session_manager(storage) as manager:
            await self.until(lambda: storage.health().warning is not None)
            health = await manager.health()
            assert health.status == "degraded"
            assert "backup failed" in str(health.storage.warning)
            session = await manager.create_session("ann", "mock", "m")
            await session.send_message("Hello")

    @pytest.mark.parametrize(
        "options",
        [{"backup_keep": 0}, {"backup_interval_hours": 0}, {"wal_limit_bytes": 1000}],
        ids=str,
    )
    def test_that_cannot_be_are_refused_by_name(self, options: dict[str, Any]) -> None:
        [name] = options
        with pytest.raises(ConfigurationError, match=name):
            SQLiteSessionStorage("x.db", **options)


class TestTheManager:
    async def test_backs_up_verifies_and_optimizes_while_serving(self, path: Path) -> None:
        storage = SQLiteSessionStorage(path)
        async with create_session_manager(storage) as manager:
            session = await manager.create_session("ann", "mock", "m")
            tickets = [session.submit(f"{n}") for n in range(50)]
            made = await manager.backup(path.with_name("backup.db"))
            assert (await manager.verify_storage()).ok
            await manager.optimize_storage()
            for ticket in tickets:
                await ticket
        async with create_session_manager(SQLiteSessionStorage(made.path)) as manager:
            [session] = await manager.get_user_sessions("ann")
            messages = await session.get_messages()
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
            await session.send_message("goes on")

    async def test_says_what_a_storage_in_memory_has_no_file_for(self, path: Path) -> None:
        async with create_session_manager(InMemorySessionStorage()) as manager:
            await manager.optimize_storage()
            assert (await manager.verify_storage()).ok
            with pytest.raises(ConfigurationError, match="makes no backups"):
                await manager.backup(path)
        assert not path.exists()

    async def test_verifies_nothing_when_it_starts(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A check reads the whole file: on demand only."""
        texts: list[str] = []
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await on_writer(storage, lambda c: c.set_trace_callback(texts.append))
        await create(storage)
        await storage.close()
        assert not [text for text in texts if "check" in text and "wal_checkpoint" not in text]
