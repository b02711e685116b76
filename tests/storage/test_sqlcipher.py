"""A file that SQLCipher encrypts as a whole: the same storage, with a key."""

from __future__ import annotations

import sqlite3
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, cipher
from langswarm.core.session.adapters.storage.sqlite.mapping import is_failed_sync
from langswarm.core.session.errors import ConfigurationError, StorageError
from langswarm.core.session.testing.storage_contract import CONTRACT, DURABILITY, StorageCase
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    listed,
    load_one,
    message,
)

from .inside import on_reader, on_writer
from .test_encryption_sqlite import CANARY, KEY, OTHER, USER, converse, places_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    find_spec("sqlcipher3") is None,
    reason="SQLCIPHER IS NOT TESTED: there is no wheel of sqlcipher3 for this Python",
)
PLAIN_HEADER = b"SQLite format 3\0"


def enciphered(path: Path, key: bytes = KEY, **options: Any) -> SQLiteSessionStorage:
    options.setdefault("synchronous", "OFF")
    return SQLiteSessionStorage(path, pool_timeout=0, sqlcipher_key=key, **options)


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SQLiteSessionStorage]:
    storage = enciphered(path)
    await storage.open()
    yield storage
    await storage.close()


@pytest.mark.parametrize("case", [*CONTRACT, *DURABILITY], ids=str)
def test_it_keeps_the_contract_of_storages(case: StorageCase, tmp_path: Path) -> None:
    case.check(lambda: enciphered(tmp_path / "sessions.db"), backend="asyncio")


async def test_nothing_at_all_is_legible_in_any_file(path: Path) -> None:
    await converse(path, CANARY, sqlcipher_key=KEY, backup_enabled=True)
    for legible in (CANARY, USER, "mock-model", "CREATE TABLE", "SQLite format"):
        assert places_of(legible, path) == {}


async def test_nothing_is_legible_while_it_is_open_nor_in_a_backup(path: Path) -> None:
    config = {"db_path": path, "sqlcipher_key": KEY}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        session = await manager.create_session("ann", "mock", "mock-model")
        await session.send_message(CANARY)
        await manager.backup(path.with_name("copy.db"))
        for legible in (CANARY, "CREATE TABLE"):
            assert places_of(legible, path) == {}
        await session.send_message("not in the copy")
    async with create_session_manager(enciphered(path.with_name("copy.db"))) as manager:
        again = await manager.get_session(session.session_id)
        assert [one.content for one in await again.get_messages(role="user")] == [CANARY]


async def test_text_search_goes_on(storage: SQLiteSessionStorage) -> None:
    assert storage.searches_text
    stored = await create(storage)
    await commit(storage, change(stored, message(1, f"a {CANARY} sings")))
    assert await listed(storage, text=f"sings {CANARY}") == ["s"]


async def test_health_says_so(storage: SQLiteSessionStorage) -> None:
    def ask(connection: sqlite3.Connection) -> str:
        version: str = connection.execute("SELECT sqlite_version()").fetchone()[0]
        return version

    facts = storage.health().facts
    assert facts["encryption"] == "the whole file"
    assert facts["sqlite_version"] == await on_writer(storage, ask)


@pytest.mark.parametrize("without", ["the key", "the right key"])
async def test_it_does_not_open_without(path: Path, without: str) -> None:
    storage = enciphered(path)
    await storage.open()
    await create(storage)
    await storage.close()
    before = path.read_bytes()
    wrong = SQLiteSessionStorage(path) if without == "the key" else enciphered(path, OTHER)
    with pytest.raises(StorageError) as caught:
        await wrong.open()
    await wrong.close()
    assert caught.value.code == ("foreign" if without == "the key" else "key")
    assert "sqlcipher_key" in str(caught.value)
    assert path.read_bytes() == before
    await storage.open()
    assert (await load_one(storage, "s")).record.session_id == "s"
    await storage.close()


async def test_a_plain_file_is_refused_and_left_as_it_is(path: Path) -> None:
    plain = SQLiteSessionStorage(path)
    await plain.open()
    await create(plain)
    await plain.close()
    before = path.read_bytes()
    storage = enciphered(path)
    with pytest.raises(StorageError, match="is not encrypted as a whole") as caught:
        await storage.open()
    await storage.close()
    assert caught.value.code == "foreign"
    assert path.read_bytes() == before
    assert before.startswith(PLAIN_HEADER)


async def test_errors_are_those_of_a_plain_file(storage: SQLiteSessionStorage) -> None:
    def fail(text: str, connection: sqlite3.Connection) -> int:
        try:
            return len(connection.execute(text, ()).fetchall())
        except sqlite3.Error as error:
            return error.sqlite_errorcode

    codes = {
        "SELECT nothing": sqlite3.SQLITE_ERROR,
        "INSERT INTO sessions (key) VALUES (1)": sqlite3.SQLITE_CONSTRAINT,
        "SELECT json('x')": sqlite3.SQLITE_ERROR,
    }
    for text, code in codes.items():
        assert await on_writer(storage, partial(fail, text)) == code
    assert (
        await on_reader(storage, partial(fail, "DELETE FROM sessions")) == sqlite3.SQLITE_READONLY
    )


class _Failing:
    """What stands for a driver whose disk refuses everything."""

    class Error(Exception):
        sqlite_errorcode = sqlite3.SQLITE_IOERR
        sqlite_errorname = "SQLITE_IOERR"

    class OperationalError(Error):
        pass

    class Cursor:
        def execute(self, text: str) -> None:
            raise _Failing.OperationalError(f"disk I/O error at {text}")


def test_an_error_of_a_statement_that_syncs_counts_as_a_failed_sync() -> None:
    execute = cipher._executing(_Failing)
    for text in ("COMMIT", "PRAGMA wal_checkpoint(PASSIVE)", "VACUUM"):
        with pytest.raises(sqlite3.DatabaseError) as caught:
            execute(_Failing.Cursor(), text)
        assert is_failed_sync(caught.value)
    for text in ("SELECT 1", "INSERT INTO t VALUES (1)"):
        with pytest.raises(sqlite3.DatabaseError) as caught:
            execute(_Failing.Cursor(), text)
        assert not is_failed_sync(caught.value)


async def test_a_page_that_was_changed_is_told(path: Path) -> None:
    storage = enciphered(path)
    await storage.open()
    for name in ("a", "b"):
        stored = await create(storage, name)
        texts = [message(seq, f"{seq} {'x' * 900}") for seq in range(1, 40)]
        await commit(storage, change(stored, *texts))
    await storage.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 4096 // 2 * 4096 + 100] ^= 1
    path.write_bytes(data)
    await storage.open()
    found = await storage.verify()
    assert not found.ok
    await storage.close()


async def test_a_file_that_was_cut_off_without_a_wal_is_rolled_back(path: Path) -> None:
    storage = enciphered(path, enable_wal=False)
    await storage.open()
    stored = await create(storage)
    await commit(storage, change(stored, message(1)))

    def cut_off(connection: sqlite3.Connection) -> tuple[bytes, bytes]:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE sessions SET user_id = 'x'")
        connection.execute("CREATE TABLE half (x)")
        for number in range(300):
            connection.execute("INSERT INTO half VALUES (?)", ("y" * 3000 + str(number),))
        journal = path.with_name(f"{path.name}-journal")
        found = path.read_bytes(), journal.read_bytes()
        connection.execute("ROLLBACK")
        return found

    database, journal = await on_writer(storage, cut_off)
    await storage.close()
    path.write_bytes(database)
    path.with_name(f"{path.name}-journal").write_bytes(journal)
    storage = enciphered(path, enable_wal=False)
    await storage.open()
    stored = await load_one(storage, "s")
    assert (stored.record.user_id, await contents(storage, 1)) == ("ann", ["text 1"])
    assert (await storage.verify()).ok
    await storage.close()


async def test_both_kinds_of_encryption_go_together(path: Path) -> None:
    whole = enciphered(path)
    await whole.open()
    stored = await create(whole)
    await commit(whole, change(stored, message(1, CANARY)))
    await whole.close()
    both = enciphered(path, encryption_keys={"a": KEY, "b": OTHER})
    await both.open()
    await create(both, "later")
    expected = "records with the key 'b' and the whole file"
    assert both.health().facts["encryption"] == expected
    report = await both.rotate_keys()
    assert (report.key_id, report.records, report.plain_remains) == ("b", 2, False)
    assert await contents(both, stored.record.key) == [CANARY]
    assert (await both.verify()).ok
    await both.close()


def test_without_sqlcipher3_it_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cipher, "MODULE", "no_such_module")
    cipher._connection_class.cache_clear()
    with pytest.raises(ConfigurationError, match=r"pip install 'langswarm-session\[sqlcipher\]'"):
        enciphered(path)
    monkeypatch.undo()


async def test_the_key_shows_nowhere(
    path: Path, storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    wrong = enciphered(path.with_name("other.db"), OTHER)
    await wrong.open()
    await wrong.close()
    with pytest.raises(StorageError) as caught:
        await enciphered(path.with_name("other.db")).open()
    shown = [repr(storage), repr(vars(storage)), repr(storage.health()), str(caught.value)]
    for text in (*shown, caplog.text):
        assert KEY.hex() not in text
        assert OTHER.hex() not in text
        assert repr(KEY)[2:20] not in text
