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
from langswarm.core.session.actors.model import SessionQuery
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, copying, schema
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    commit,
    create,
    load_one,
    purge,
)

from .inside import pragma

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = Path(__file__).with_name("data")
OLD_VERSIONS = range(1, schema.USER_VERSION)


def script_of(version: int) -> str:
    return (DATA / f"version_{version}.sql").read_text()


@pytest.fixture(params=OLD_VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def old(path: Path, version: int) -> Path:
    """A file as an old version left it, in WAL mode."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.executescript(script_of(version))
    connection.close()
    return path


def schema_of(path: Path) -> Sequence[tuple[str, str]]:
    connection = sqlite3.connect(path)
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All of it, table by table."""
    connection = sqlite3.connect(path)
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'table' "
        "AND name NOT LIKE 'sqlite%' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    )
    tables = [name for (name,) in connection.execute(names)]
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    connection.close()
    return found


async def test_every_row_is_there_after_the_climb(old: Path) -> None:
    before = rows_of(old)
    storage = SQLiteSessionStorage(old)
    await storage.open()
    assert await pragma(storage, "user_version") == schema.USER_VERSION
    await storage.close()
    after = rows_of(old)
    for name, rows in before.items():  # columns that were added are behind the others
        assert [row[: len(rows[0])] for row in after[name]] == rows
    assert after["session_tags"] == [("a", 1), ("b", 1)]
    assert after["search_pending"] == [(1, 1), (2, 1)]
    filled = {name for name in after if name not in before and after[name]}
    assert filled == {"session_tags", "search_pending", "search_config", "search_data"}
    async with create_session_manager(SQLiteSessionStorage(old)) as manager:
        session = await manager.get_session("first")
        assert [m.content for m in await session.get_messages()] == ["Hello", "Good day"]
        assert (await session.get_context())["k"] == 1
        await session.send_message("Still here?")
        cut_off = await manager.get_session("open")
        assert (await cut_off.get_metrics()).interrupted_turns == 1


async def test_what_an_old_version_knows_is_read_and_goes_on(old: Path, version: int) -> None:
    storage = SQLiteSessionStorage(old)
    await storage.open()
    first = await load_one(storage, "first")
    turn = await storage.read_turn(first.record.key, 1)
    assert turn is not None
    assert (turn.state, turn.output_tokens) == ("completed", 7)
    purges = list(await storage.load_purges(16, 9))
    assert [one.provider_session_id for one in purges] == (["conv_0"] if version > 1 else [])
    said = await storage.find_claim("first", "send_message", "k")
    assert (said is not None and said.result == 1) is (version > 2)
    for query, names in (
        (SessionQuery(limit=9, text="good day"), ["first"]),
        (SessionQuery(limit=9, tags=("b",)), ["first"]),
        (SessionQuery(limit=9, user_id="bob", text="anybody"), ["open"]),
    ):
        page = await storage.list_sessions(query)
        assert [record.session_id for record in page.records] == names
    assert (await storage.verify()).ok
    await commit(storage, change(first, claim=claim(), purges=(purge(),), hides=((1, 2, 9),)))
    assert await storage.find_claim("s", "send_message", "k") == claim()
    assert list(await storage.load_purges(claim().created_us, 9)) == [*purges, purge()]
    await storage.close()


async def test_a_file_that_has_climbed_is_as_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for path in (old, new):
        storage = SQLiteSessionStorage(path)
        await storage.open()
        await storage.close()
    assert schema_of(old) == schema_of(new)


async def test_the_file_before_is_kept_beside_it(old: Path, version: int) -> None:
    before, tables = rows_of(old), schema_of(old)
    storage = SQLiteSessionStorage(old)
    await storage.open()
    await storage.close()
    backup = old.with_name(f"sessions.db.v{version}.bak")
    assert (rows_of(backup), schema_of(backup)) == (before, tables)
    assert backup.stat().st_mode & 0o777 == 0o600
    names = {entry.name for entry in old.parent.iterdir()}
    assert names == {"sessions.db", "sessions.db.lock", backup.name}


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
    connection.executescript(script_of(1))
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

source, path, before = sys.argv[1], sys.argv[2], int(sys.argv[3])
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
    backup = f"{path}.v{before}.bak"
    if os.path.exists(backup):
        copy = connect(backup)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",), point
        assert copy.execute("SELECT count(*) FROM messages").fetchone() == (3,), point
        copy.close()
    if version > before and source != "none":
        assert os.path.exists(backup), point
    at_rest.close()
    print(version, tables)
    files.prepare(path)  # the next start goes on from there
    again = connect(path)
    assert again.execute("PRAGMA user_version").fetchone() == (files.USER_VERSION,)
    assert not os.path.exists(backup + ".partial")
    again.close()
"""


@pytest.mark.parametrize("before", [0, *OLD_VERSIONS])
def test_a_kill_at_any_moment_leaves_one_version_complete(before: int, tmp_path: Path) -> None:
    """Killed before and after each statement, sync and rename; the next start completes it."""
    source = tmp_path / "source.db"
    if before:
        connection = sqlite3.connect(source)
        connection.executescript(script_of(before))
        connection.close()
    (tmp_path / "at").mkdir()
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(source) if before else "none",
            str(tmp_path / "at" / "sessions.db"),
            str(before),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    states = set(result.stdout.split("\n")) - {""}
    # A new file is made in one transaction, an old one climbs a step at a time.
    reached = range(before, schema.USER_VERSION + 1) if before else (0, schema.USER_VERSION)
    assert len(states) == len(reached), states  # each with all of its tables
    assert {int(state.split()[0]) for state in states} == set(reached)
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
