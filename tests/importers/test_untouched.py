"""A foreign file is only read: nothing in it or beside it changes, whoever has it open."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session.adapters.importers import ImportedSession, open_source
from langswarm.core.session.adapters.importers import database as module
from langswarm.core.session.errors import StorageError

from .old_files import message, row_of, session, write_v1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Another process that has the file open: it says when, and waits until its input is closed.
HOLDER = """
import sqlite3, sys
path, *statements = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
for statement in statements:
    connection.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""
ANOTHER = (
    "INSERT INTO sessions SELECT 'second', user_id, provider, model, status, session_control,"
    " created_at, updated_at, last_activity, metadata, history FROM sessions"
)


class Holder:
    def __init__(self, path: Path, *statements: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), *statements],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    return write_v1(folder / "old.db", [row_of(session(message("kept"), session_id="first"))])


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies are made; none may be left over."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def everything(path: Path) -> dict[str, tuple[bytes, int]]:
    return {
        one.name: (b"" if one.name.endswith("-shm") else one.read_bytes(), one.stat().st_mtime_ns)
        for one in path.parent.iterdir()
    }


def read(path: Path) -> list[str]:
    """The ids in a file that is not changed by that."""
    before = everything(path)
    with open_source(path, source_timezone="UTC") as source:
        found = list(source.sessions())
    assert everything(path) == before
    assert all(isinstance(one, ImportedSession) for one in found)
    return [one.id for one in found]


def test_a_file_in_rollback_mode(old: Path) -> None:
    assert read(old) == ["first"]


def test_a_file_in_wal_mode_that_nobody_has_open(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    assert read(old) == ["first"]


@pytest.mark.parametrize("mode", ["DELETE", "WAL", "PERSIST"])
def test_a_file_that_another_process_has_open_after_it_wrote(old: Path, mode: str) -> None:
    holder = Holder(old, f"PRAGMA journal_mode = {mode}", ANOTHER)
    try:
        assert read(old) == ["first", "second"]
    finally:
        holder.kill()


def test_a_file_whose_writer_is_in_mid_transaction(old: Path) -> None:
    for mode in ("DELETE", "WAL"):
        holder = Holder(old, f"PRAGMA journal_mode = {mode}", "BEGIN IMMEDIATE", ANOTHER)
        try:
            assert read(old) == ["first"]
        finally:
            holder.kill()


def test_what_a_killed_writer_left_in_its_wal_is_read(old: Path) -> None:
    holder = Holder(old, "PRAGMA journal_mode = WAL", ANOTHER)
    holder.kill()
    assert (old.parent / "old.db-wal").stat().st_size
    assert read(old) == ["first", "second"]
    (old.parent / "old.db-shm").unlink()
    assert read(old) == ["first", "second"]


def test_what_a_killed_writer_left_half_done_is_rolled_back_in_a_copy(old: Path) -> None:
    spill = ("PRAGMA cache_size = 1", "PRAGMA cache_spill = 1", "BEGIN IMMEDIATE")
    change = "UPDATE sessions SET history = 'gone'"
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
        " INSERT INTO sessions SELECT 'x' || i, 'u', 'p', 'm', 's', 'c', 't', 't', NULL, 'm',"
        " hex(zeroblob(500)) FROM n"
    )
    Holder(old, *spill, change, many).kill()
    assert (old.parent / "old.db-journal").stat().st_size
    assert read(old) == ["first"]


def test_a_file_in_a_folder_that_cannot_be_written(old: Path) -> None:
    old.chmod(0o400)
    old.parent.chmod(0o500)
    try:
        assert read(old) == ["first"]
    finally:
        old.parent.chmod(0o700)


def test_a_path_that_sqlite_would_misread(old: Path) -> None:
    odd = old.parent / "100% of it?mode=rwc#å.db"
    shutil.copy(old, odd)
    assert read(odd) == ["first"]
    folder = old.parent.parent / "links"
    folder.mkdir()
    link = folder / "link.db"
    link.symlink_to(odd)
    assert read(link) == ["first"]


def test_a_locked_file_is_a_failure_that_may_pass(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    holder = Holder(old, "BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StorageError, match="locked by the program") as caught:
            open_source(old)
        assert (caught.value.code, caught.value.retryable) == ("busy", True)
    finally:
        holder.kill()


def test_a_program_that_opens_the_file_meanwhile_is_noticed(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with open_source(old) as source, closing(sqlite3.connect(old)) as writer:
        writer.execute("DELETE FROM sessions")
        writer.commit()
        with pytest.raises(StorageError, match="opened by another program") as caught:
            list(source.sessions())
    assert (caught.value.code, caught.value.retryable) == ("busy", True)


def test_a_session_that_is_saved_meanwhile_is_read_once_and_holds_nobody_up(old: Path) -> None:
    rows = [row_of(session(message(), session_id=f"id-{number:04}")) for number in range(700)]
    path = write_v1(old.parent / "many.db", rows)
    with open_source(path) as source, closing(sqlite3.connect(path, timeout=0)) as writer:
        found: list[str] = []
        for one in source.sessions():
            found.append(one.id)
            if len(found) == 3:
                for name in ("id-0001", "id-0005", "id-0600"):
                    writer.execute(
                        "INSERT OR REPLACE INTO sessions SELECT * FROM sessions"
                        " WHERE session_id = ?",
                        (name,),
                    )
                writer.execute("DELETE FROM sessions WHERE session_id = 'id-0650'")
                writer.commit()
    assert found == [f"id-{number:04}" for number in range(700) if number != 650]
