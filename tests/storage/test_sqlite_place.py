"""A database file, or its -wal, that is not in its place any more: noticed by whoever looks."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, copying
from langswarm.core.session.adapters.storage.sqlite.connection import JobConnection
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    message,
    new,
)

from .inside import on_reader, on_writer
from .test_sqlite_mending import failing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Look = Callable[[SQLiteSessionStorage], Awaitable[object]]


async def verify(storage: SQLiteSessionStorage) -> object:
    return await storage.verify()


async def backup(storage: SQLiteSessionStorage) -> object:
    return await storage.backup(f"{storage.path}.copy")


async def optimize(storage: SQLiteSessionStorage) -> object:
    await storage.optimize()
    return None


async def mended_reader(storage: SQLiteSessionStorage) -> object:
    await on_reader(storage, in_doubt)
    return await storage.load(["s"])


async def mended_writer(storage: SQLiteSessionStorage) -> object:
    await on_writer(storage, in_doubt)
    return await storage.commit([new("other")])


def in_doubt(connection: Any) -> None:
    connection.is_doubtful = True


LOOKS = pytest.mark.parametrize(
    "look", [verify, backup, optimize, mended_reader, mended_writer], ids=lambda look: look.__name__
)


def listing(path: Path) -> dict[str, tuple[int, int]]:
    """What there is of the database: inodes and sizes."""
    return {
        found.name: (found.stat().st_ino, found.stat().st_size)
        for found in path.parent.iterdir()
        if not found.name.endswith((".lock", "-shm"))
    }


async def other_database(path: Path) -> Path:
    """Another one of ours, closed."""
    other = SQLiteSessionStorage(path.with_name("other.db"))
    await other.open()
    await create(other, "other's")
    await other.close()
    return path.with_name("other.db")


@LOOKS
@pytest.mark.parametrize("event", ["moved", "replaced", "emptied"])
async def test_a_look_at_a_file_that_is_gone_harms_nothing_and_ends_writing(
    storage: SQLiteSessionStorage, path: Path, look: Look, event: str
) -> None:
    """G3: no empty file is made, no -wal is deleted: put back, it has all that was acknowledged."""
    stored = await create(storage)
    stored = await commit(storage, change(stored, message(1, "acknowledged")))
    other = await other_database(path)
    path.rename(path.with_name("elsewhere.db"))
    if event == "replaced":
        other.rename(path)
    elif event == "emptied":
        path.touch()
    before = listing(path)
    with pytest.raises(StorageError, match="put the file back in its place") as caught:
        await look(storage)
    assert (caught.value.code, caught.value.retryable) == ("io", False)
    assert listing(path) == before
    assert storage.health().writes_stopped
    [refused] = await storage.commit([new("later")]) if look is not mended_writer else [None]
    assert refused is None or (isinstance(refused, StorageError) and refused.outcome == "failed")
    await storage.close()
    path.with_name("elsewhere.db").replace(path)
    again = SQLiteSessionStorage(path)
    await again.open()
    assert await again.load(["s"]) == [stored]
    assert await contents(again, 1) == ["acknowledged"]
    await again.close()


@pytest.mark.parametrize("step", ["_fill", "_check"])
async def test_a_move_during_a_backup_leaves_no_backup(
    storage: SQLiteSessionStorage, path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    do = getattr(copying, step)

    def moving(*args: Any) -> None:
        path.rename(path.with_name("elsewhere.db"))
        do(*args)

    await create(storage)
    monkeypatch.setattr(copying, step, moving)
    with pytest.raises(StorageError, match="put the file back"):
        await storage.backup(path.with_name("backup.db"))
    assert not list(path.parent.glob("backup*"))


@pytest.mark.parametrize("tables", [(), ("CREATE TABLE other (a)",)], ids=["empty", "other"])
def test_a_copy_of_something_else_is_no_backup(path: Path, tables: tuple[str, ...]) -> None:
    source = sqlite3.connect(path, isolation_level=None)
    for text in tables:
        source.execute(text)
    with pytest.raises(StorageError, match="not one of this program") as caught:
        copying.copy(source, str(path.with_name("copy.db")))
    assert caught.value.code == "foreign"
    source.close()
    assert not list(path.parent.glob("copy*"))


async def test_scheduled_backups_of_a_file_that_is_gone_push_out_no_good_one(path: Path) -> None:
    storage = SQLiteSessionStorage(
        path, backup_enabled=True, backup_keep=1, backup_interval_hours=0.01 / 3600
    )
    folder = path.with_name("sessions.db.backups")
    await storage.open()
    await create(storage)
    with anyio.fail_after(60):
        while not storage.statistics().backups:  # noqa: ASYNC110 - in another thread
            await anyio.sleep(0.005)
        path.unlink()
        while not storage.health().writes_stopped:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    await storage.close()
    [kept] = folder.glob("sessions-*.db")
    connection = sqlite3.connect(kept)
    # The first one may have been made before the session was; it is one of ours in any case.
    assert connection.execute("SELECT count(*) FROM sessions").fetchone()[0] <= 1
    connection.close()
    assert not path.exists()


async def test_scheduled_backups_go_on_after_one_that_could_not_open_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SQLiteSessionStorage(
        path, backup_enabled=True, backup_keep=1, backup_interval_hours=0.01 / 3600
    )
    await storage.open()
    with anyio.fail_after(60):
        with monkeypatch.context() as patched:
            # Too many open files, for one.
            fail = failing(sqlite3.SQLITE_CANTOPEN, "PRAGMA query_only")
            patched.setattr(JobConnection, "execute", fail, raising=False)
            while storage.health().warning is None:  # noqa: ASYNC110 - in another thread
                await anyio.sleep(0.005)
        while storage.health().warning is not None:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    assert storage.statistics().backups
    await storage.close()


class TestAWal:
    @pytest.mark.parametrize("event", ["deleted", "replaced"])
    async def test_that_is_gone_ends_writing_before_anything_is_acknowledged(
        self, storage: SQLiteSessionStorage, path: Path, event: str
    ) -> None:
        """G3: SQLite would go on writing to it, and a kill would lose it all."""
        stored = await create(storage)
        wal = path.with_name(f"{path.name}-wal")
        if event == "replaced":
            shutil.copy(wal, path.with_name("copy"))
            path.with_name("copy").rename(wal)
        else:
            wal.unlink()
        for expected in ("unknown", "failed"):
            [error] = await storage.commit([change(stored, message(1))])
            assert isinstance(error, StorageError)
            assert (error.code, error.retryable, error.outcome) == ("io", False, expected)
            assert "-wal" in str(error)
        health = storage.health()
        assert health.writes_stopped
        assert "-wal" in str(health.warning)

    @LOOKS
    async def test_that_is_gone_is_not_made_anew_by_a_look(
        self, storage: SQLiteSessionStorage, path: Path, look: Look
    ) -> None:
        await create(storage)
        path.with_name(f"{path.name}-wal").unlink()
        before = listing(path)
        with pytest.raises(StorageError, match="-wal"):
            await look(storage)
        assert listing(path) == before
        assert storage.health().writes_stopped

    async def test_that_was_deleted_is_saved_by_a_clean_end(self, path: Path) -> None:
        storage = SQLiteSessionStorage(path)
        await storage.open()
        stored = await create(storage)
        path.with_name(f"{path.name}-wal").unlink()
        [error] = await storage.commit([new("other")])
        assert isinstance(error, StorageError)
        await storage.close()
        await storage.open()
        assert await storage.load(["s"]) == [stored]
        await storage.close()

    async def test_that_is_gone_is_told_by_health_before_the_next_commit(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        """A -wal that is missing is not one of no bytes."""
        await create(storage)
        assert storage.health().warning is None
        path.with_name(f"{path.name}-wal").unlink()
        assert "-wal" in str(storage.health().warning)

    async def test_is_the_same_one_from_opening_to_closing(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        """Not deleted by checkpoints, nor when a connection is made anew."""
        wal = path.with_name(f"{path.name}-wal")
        first = wal.stat().st_ino
        await create(storage)
        await storage.optimize()
        for job in (on_writer, on_reader):
            await job(storage, in_doubt)
            await storage.commit([new(job.__name__)])
            await storage.load(["s"])
        await storage.verify()
        assert wal.stat().st_ino == first
        assert storage.statistics().reopened == 2

    async def test_stays_when_the_writer_is_connected_anew_before_anything_was_read(
        self, storage: SQLiteSessionStorage, path: Path
    ) -> None:
        """The readers have it open from the start: the writer is never the last one to close."""
        await on_writer(storage, in_doubt)
        assert await storage.commit([new("one")]) == [Committed(1)]
        assert storage.health().warning is None

    @pytest.mark.parametrize("event", ["missing", "empty"])
    async def test_without_its_database_is_not_deleted_by_opening(
        self, path: Path, event: str
    ) -> None:
        """G3: a restart before the file is put back in its place keeps what the -wal has."""
        kill = (
            "import os, sys, anyio\n"
            "from langswarm.core.session import *\n"
            "async def main():\n"
            "    async with create_session_manager(SQLiteSessionStorage(sys.argv[1])) as manager:\n"
            "        await manager.create_session('ann', 'mock', 'm', session_id='s')\n"
            "        os._exit(0)\n"
            "anyio.run(main)\n"
        )
        await anyio.to_thread.run_sync(
            lambda: subprocess.run([sys.executable, "-c", kill, path], check=True)
        )
        path.rename(path.with_name("elsewhere.db"))
        if event == "empty":
            path.touch()
        before = listing(path)
        storage = SQLiteSessionStorage(path)
        with pytest.raises(StorageError, match="put the file back") as caught:
            await storage.open()
        assert caught.value.code == "io"
        assert listing(path) == before
        path.with_name("elsewhere.db").replace(path)
        await storage.open()
        [found] = await storage.load(["s"])
        assert found is not None
        await storage.close()


class TestAPlaceThatCannotBeLookedAt:
    @pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOTDIR, errno.EIO, errno.EACCES])
    async def test_leaves_the_outcome_of_a_commit_unknown_and_ends_writing(
        self,
        storage: SQLiteSessionStorage,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
    ) -> None:
        """What COMMIT has stored is not called failed, and no call meets a bare OSError."""
        stat = os.stat

        def failing(name: Any, *args: Any, **kwargs: Any) -> os.stat_result:
            if str(name).startswith(str(path)):
                raise OSError(code, os.strerror(code), name)
            return stat(name, *args, **kwargs)

        stored = await create(storage)
        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", failing)
            outcomes = await storage.commit([change(stored, message(1)), new("two")])
            assert os.strerror(code) in str(storage.health().warning)
        for outcome in outcomes:
            assert isinstance(outcome, StorageError)
            assert (outcome.code, outcome.outcome) == ("io", "unknown")
        assert storage.health().writes_stopped
        [refused] = await storage.commit([new("three")])
        assert isinstance(refused, StorageError)
        assert refused.outcome == "failed"
        [one, two] = await storage.load(["s", "two"])
        assert one is not None
        assert two is not None
        assert one.record.revision == stored.record.revision + 1

    async def test_is_no_error_of_health(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        storage = SQLiteSessionStorage(folder / "x.db")
        await storage.open()
        [made] = await storage.commit([new("one")])
        assert isinstance(made, Committed)
        folder.rename(tmp_path / "away")
        folder.write_text("a file")
        assert storage.health().warning is not None
        assert storage.health().facts["file_bytes"] == 0
        [outcome] = await storage.commit([new("two")])
        assert isinstance(outcome, StorageError)
        assert outcome.outcome == "unknown"
        await storage.close()
