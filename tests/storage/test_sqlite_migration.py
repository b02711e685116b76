"""A file of an earlier version: brought up to date whole or not at all, with a way back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, copying, schema
from langswarm.core.session.testing.storage_contract.builders import create

from .inside import pragma

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION_1 = Path(__file__).with_name("data") / "version_1.sql"


@pytest.fixture
def old(path: Path) -> Path:
    """A file as version 1 left it, in WAL mode."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.executescript(VERSION_1.read_text())
    connection.close()
    return path


def schema_of(path: Path) -> Sequence[tuple[str, str]]:
    connection = sqlite3.connect(path)
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What version 1 knows."""
    connection = sqlite3.connect(path)
    tables = ("sessions", "session_documents", "messages", "turns")
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    connection.close()
    return found


async def test_every_row_of_version_1_is_there_after_the_step(old: Path) -> None:
    before = rows_of(old)
    storage = SQLiteSessionStorage(old)
    await storage.open()
    assert await pragma(storage, "user_version") == schema.USER_VERSION
    await storage.close()
    assert rows_of(old) == before
    async with create_session_manager(SQLiteSessionStorage(old)) as manager:
        session = await manager.get_session("first")
        assert [m.content for m in await session.get_messages()] == ["Hello", "Good day"]
        assert (await session.get_context())["k"] == 1
        await session.send_message("Still here?")
        cut_off = await manager.get_session("open")
        assert (await cut_off.get_metrics()).interrupted_turns == 1


async def test_a_file_that_has_climbed_is_as_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for path in (old, new):
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await storage.close()
    assert schema_of(old) == schema_of(new)


async def test_the_file_before_is_kept_beside_it(old: Path) -> None:
    before, tables = rows_of(old), schema_of(old)
    storage = SQLiteSessionStorage(old)
    await storage.open()
    await storage.close()
    backup = old.with_name("sessions.db.v1.bak")
    assert (rows_of(backup), schema_of(backup)) == (before, tables)
    assert backup.stat().st_mode & 0o777 == 0o600
    names = {entry.name for entry in old.parent.iterdir()}
    assert names == {"sessions.db", "sessions.db.lock", "sessions.db.v1.bak"}


async def test_a_new_file_and_one_of_this_version_get_no_backup(path: Path) -> None:
    for _ in range(2):
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await storage.close()
    assert not list(path.parent.glob("*.bak"))


async def test_without_room_for_the_backup_the_file_is_left_as_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tables = rows_of(old), schema_of(old)
    failure = StorageError("planted: no room", code="full", retryable=True)

    def full(*_: object, **__: object) -> int:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(copying, "copy", full)
        with pytest.raises(StorageError, match="no room"):
            await SQLiteSessionStorage(old).open()
    assert (rows_of(old), schema_of(old)) == (before, tables)
    storage = SQLiteSessionStorage(old)
    await storage.open()
    await storage.close()


async def test_a_file_of_a_newer_version_is_refused_and_not_touched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.read_text())
    connection.execute(f"PRAGMA user_version = {schema.USER_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="a newer one") as caught:
        await SQLiteSessionStorage(path).open()
    assert caught.value.code == "foreign"
    assert path.read_bytes() == before


KILLED = """
import os, shutil, signal, sqlite3, sys
from langswarm.core.session.adapters.storage.sqlite import copying, files

left = 0

def tick():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Watched(sqlite3.Connection):
    def execute(self, *args):
        tick()
        result = super().execute(*args)
        tick()
        return result
    def backup(self, *args, **kwargs):
        super().backup(*args, **kwargs)
        tick()
    def close(self):
        tick()
        super().close()

def watched(function):
    def wrapper(*args, **kwargs):
        tick()
        result = function(*args, **kwargs)
        tick()
        return result
    return wrapper

connect = sqlite3.connect
files.sqlite3.connect = lambda *args, **kw: connect(*args, factory=Watched, **kw)
for name in ("replace", "unlink", "fsync", "open"):
    setattr(os, name, watched(getattr(os, name)))

source, path = sys.argv[1:]
killed = 0
while True:
    for entry in os.listdir(os.path.dirname(path)):
        os.remove(os.path.join(os.path.dirname(path), entry))
    if source != "none":
        shutil.copy(source, path)
    point = killed + 1
    child = os.fork()
    if child == 0:
        left = point
        files.prepare(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, (point, status)
    killed = point
    folder = os.path.dirname(path)
    shutil.copytree(folder, folder + "-next", dirs_exist_ok=True)
    files.prepare(os.path.join(folder + "-next", "sessions.db"))  # it is the first to look
    shutil.rmtree(folder + "-next")
    at_rest = connect(path) if os.path.exists(path) else connect(":memory:")
    [version] = at_rest.execute("PRAGMA user_version").fetchone()
    [tables] = at_rest.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert at_rest.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    backup = path + ".v1.bak"
    if os.path.exists(backup):
        copy = connect(backup)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",), point
        assert copy.execute("SELECT count(*) FROM messages").fetchone() == (3,), point
        copy.close()
    if version > 1 and source != "none":
        assert os.path.exists(backup), point
    at_rest.close()
    print(version, tables)
    files.prepare(path)  # the next start goes on from there
    again = connect(path)
    assert again.execute("PRAGMA user_version").fetchone() == (files.USER_VERSION,)
    assert not os.path.exists(backup + ".partial")
    again.close()
"""


@pytest.mark.parametrize("kind", ["version 1", "new"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_version(kind: str, tmp_path: Path) -> None:
    """Killed before and after each statement, sync and rename; the next start completes it."""
    source = tmp_path / "source.db"
    connection = sqlite3.connect(source)
    connection.executescript(VERSION_1.read_text())
    connection.close()
    (tmp_path / "at").mkdir()
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(source) if kind == "version 1" else "none",
            str(tmp_path / "at" / "sessions.db"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    states = set(result.stdout.split("\n")) - {""}
    new = f"{schema.USER_VERSION} "
    old = "1 " if kind == "version 1" else "0 "
    assert len(states) == 2, states  # each with all of its tables
    assert {state[:2] for state in states} == {old, new}
    assert len(result.stdout.splitlines()) > 20


def cut_off(script: str, path: Path) -> None:
    """Another process that ends without a rollback."""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


async def test_a_cut_off_transaction_of_another_program_is_left_to_it(path: Path) -> None:
    """Rolling it back would be a change: its file and its journal stay as they are."""
    script = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("CREATE TABLE bookmarks (url TEXT)")
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN")
connection.executemany("INSERT INTO bookmarks VALUES (?)", [("x" * 3000,)] * 500)
os._exit(0)
"""
    cut_off(script, path)
    journal = path.with_name("sessions.db-journal")
    before = path.read_bytes(), journal.read_bytes()
    assert before[1]
    with pytest.raises(StorageError, match="another program") as caught:
        await SQLiteSessionStorage(path).open()
    assert caught.value.code == "foreign"
    assert (path.read_bytes(), journal.read_bytes()) == before


async def test_a_transaction_that_was_cut_off_in_rollback_mode_is_rolled_back(path: Path) -> None:
    """Without WAL a kill leaves a half written file and its journal: the next start mends it."""
    storage = SQLiteSessionStorage(path, enable_wal=False)
    await storage.open()
    await create(storage)
    await storage.close()
    script = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN")
connection.execute("PRAGMA user_version = 77")
insert = "INSERT INTO session_documents (session_key, context, context_version) VALUES (?, ?, 1)"
connection.executemany(insert, [(n, "x" * 3000) for n in range(100, 600)])
os._exit(0)
"""
    cut_off(script, path)
    assert path.with_name("sessions.db-journal").stat().st_size
    again = SQLiteSessionStorage(path, enable_wal=False)
    await again.open()
    assert await again.load(["s"]) != [None]
    assert (await again.verify()).ok
    await again.close()
