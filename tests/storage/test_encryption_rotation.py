"""Rotation of keys: everything is sealed with the new one, while turns go on and after a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, maintenance
from langswarm.core.session.adapters.storage.sqlite import rotation as rotations
from langswarm.core.session.adapters.storage.sqlite.rotation import Rotation
from langswarm.core.session.cli.held import HeldFile, keys_of
from langswarm.core.session.errors import StorageError
from langswarm.core.session.interfaces import KeyRotation
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    commit,
    contents,
    create,
    listed,
    load_one,
    message,
    open_turn,
)

from .inside import on_writer, pragma
from .test_encryption_sqlite import CANARY, KEY, OTHER, THIRD, change_file, places_of, sealed

if TYPE_CHECKING:
    from pathlib import Path

SESSIONS = 12
_ELSEWHERE = """
    SELECT sum(n) FROM (
        SELECT count(*) AS n FROM messages WHERE codec <> 1 OR key_id <> ?1
        UNION ALL SELECT count(*) FROM turns WHERE codec <> 1 OR key_id <> ?1
        UNION ALL SELECT count(*) FROM session_documents WHERE codec <> 1 OR key_id <> ?1
        UNION ALL SELECT count(*) FROM claims WHERE codec <> 1 OR key_id <> ?1
        UNION ALL SELECT count(*) FROM session_tags WHERE typeof(tag) <> 'blob'
    )
"""


async def fill(storage: SQLiteSessionStorage, canary: str = CANARY) -> None:
    for number in range(SESSIONS):
        stored = await create(storage, f"s{number}")
        documents = attrs.evolve(
            stored.documents, config=f'{{"tags": ["{canary}", "t{number}"]}}', context='{"c": 1}'
        )
        texts = [message(seq, f"{canary} {seq} {'x' * 40 * seq}") for seq in range(1, 8)]
        stored = await commit(
            storage,
            change(
                stored,
                *texts,
                documents=documents,
                documents_changed=True,
                tags=(canary, f"t{number}"),
                claim=claim(scope=f"s{number}"),
            ),
        )
        await commit(storage, open_turn(stored, partial_text=canary, error_text=canary))


async def check(storage: SQLiteSessionStorage, canary: str = CANARY) -> None:
    """All that `fill` has stored reads as it was."""
    for number in range(SESSIONS):
        stored = await load_one(storage, f"s{number}")
        assert stored.documents.context == '{"c": 1}'
        assert stored.open_turn is not None
        assert (stored.open_turn.partial_text, stored.open_turn.error_text) == (canary, canary)
        found = await contents(storage, stored.record.key)
        assert found[:7] == [f"{canary} {seq} {'x' * 40 * seq}" for seq in range(1, 8)]
        assert await storage.find_claim(f"s{number}", "send_message", "k") is not None
        assert await listed(storage, tags=(canary, f"t{number}")) == [f"s{number}"]
    assert len(await listed(storage, tags=(canary,))) == SESSIONS


async def sealed_elsewhere(storage: SQLiteSessionStorage, key_id: str) -> int:
    """How many rows are not sealed with that key."""

    def ask(connection: sqlite3.Connection) -> int:
        found: int = connection.execute(_ELSEWHERE, (key_id,)).fetchone()[0]
        return found

    return await on_writer(storage, ask)


RECORDS = SESSIONS * (1 + 8 + 1 + 1)
"""Of each: documents, eight messages, a turn, a claim."""


@pytest.mark.parametrize("wal", [True, False])
async def test_a_plain_file_is_encrypted_and_nothing_of_it_stays_legible(
    path: Path, wal: bool
) -> None:
    plain = SQLiteSessionStorage(path, enable_wal=wal, synchronous="OFF")
    await plain.open()
    await fill(plain)
    gone = await create(plain, "gone")
    rows = [message(seq, f"{CANARY} {seq} {'x' * 90 * seq}") for seq in range(1, 30)]
    gone = await commit(plain, change(gone, *rows))
    if wal:
        assert len(await listed(plain, text=CANARY)) == SESSIONS + 1
    await commit(plain, change(gone, clear_through_seq=30))
    await plain.close()
    assert places_of(CANARY, path)

    storage = sealed(path, enable_wal=wal)
    await storage.open()
    assert await pragma(storage, "secure_delete") == 1
    await check(storage)
    report = await storage.rotate_keys()
    assert (report.records, report.unreadable) == (RECORDS + 1, 0)
    assert (report.keys_in_use, report.plain_remains) == (("a",), False)
    assert await sealed_elsewhere(storage, "a") == 0
    await storage.backup(path.with_name("copy.db"))
    assert places_of(CANARY, path) == {}
    await check(storage)
    assert (await storage.verify()).ok
    await storage.close()
    assert places_of(CANARY, path) == {}


async def test_what_is_written_to_a_plain_file_with_keys_is_encrypted_at_once(path: Path) -> None:
    plain = SQLiteSessionStorage(path, synchronous="OFF")
    await plain.open()
    await fill(plain, "before")
    await plain.close()
    storage = sealed(path)
    await storage.open()
    await check(storage, "before")
    stored = await load_one(storage, "s0")
    stored = await commit(storage, change(stored, message(20, CANARY)))
    assert (await contents(storage, stored.record.key))[-1] == CANARY
    for number in range(SESSIONS):  # what was plain is deleted as ever
        stored = await load_one(storage, f"s{number}")
        await commit(storage, change(stored, clear_through_seq=5))
    assert places_of(CANARY, path) == {}
    assert (await storage.verify()).ok
    await storage.close()


async def test_what_is_left_on_pages_goes_when_they_are_written_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that grow in turn: their pages are divided, and keep what was moved away."""
    plain = SQLiteSessionStorage(path, synchronous="OFF")
    await plain.open()
    stored = [await create(plain, f"s{number}") for number in range(30)]
    for seq in range(1, 25):
        texts = [message(seq, CANARY * (1 + (seq * 7 + n * 5) % 40)) for n in range(len(stored))]
        writes = [change(one, text) for one, text in zip(stored, texts, strict=True)]
        await plain.commit(writes)
        stored = [attrs.evolve(write.after) for write in writes]
    await plain.commit([change(one, clear_through_seq=9) for one in stored[::3]])
    await plain.close()
    storage = sealed(path)
    await storage.open()

    async def nothing(self: maintenance.Maintenance) -> bool:
        return False

    with monkeypatch.context() as patched:
        patched.setattr(maintenance.Maintenance, "rebuild", nothing)
        assert (await storage.rotate_keys()).plain_remains
    await storage.close()  # folds the -wal in
    assert places_of(CANARY, path), "nothing was left: the test shows nothing"
    await storage.open()
    assert not (await storage.rotate_keys()).plain_remains
    assert places_of(CANARY, path) == {}
    await storage.close()
    assert places_of(CANARY, path) == {}


async def test_a_file_that_is_encrypted_in_part_can_be_looked_at(path: Path) -> None:
    plain = SQLiteSessionStorage(path, synchronous="OFF")
    await plain.open()
    await fill(plain)
    await plain.close()
    storage = sealed(path)
    await storage.open()
    await create(storage, "new")
    await storage.close()
    for keys, code in (({"a": KEY}, None), ({"a": OTHER}, "key")):
        held = HeldFile(path, keys_of({"encryption_keys": keys}))
        if code is None:
            held.connect()
            assert (await contents(held, 1))[0].startswith(CANARY)
            assert (await load_one(held, "new")).record.session_id == "new"
        else:
            with pytest.raises(StorageError) as caught:
                held.connect()
            assert caught.value.code == code
        held.disconnect()


async def test_a_new_file_has_nothing_to_be_rotated(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    report = await storage.rotate_keys()
    assert report == KeyRotation(
        key_id="a", records=0, unreadable=0, keys_in_use=("a",), plain_remains=False
    )
    await storage.close()


async def test_after_a_rotation_the_old_key_is_not_needed(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    await check(storage)
    report = await storage.rotate_keys()
    assert (report.key_id, report.records, report.keys_in_use) == ("b", RECORDS, ("b",))
    await check(storage)
    await storage.close()
    storage = sealed(path, encryption_keys={"b": OTHER})
    await storage.open()
    assert await sealed_elsewhere(storage, "b") == 0
    await check(storage)
    assert (await storage.verify()).ok
    await storage.close()


async def test_turns_go_on_while_keys_are_rotated(path: Path) -> None:
    async with create_session_manager(sealed(path)) as manager:
        sessions = [await manager.create_session("ann", "mock", "m") for _ in range(4)]
        for session in sessions:
            for number in range(10):
                await session.send_message(f"before {number}")
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    async with create_session_manager(storage) as manager:
        sessions = [await manager.get_session(session.session_id) for session in sessions]
        reports: list[KeyRotation] = []

        async def rotate() -> None:
            reports.append(await manager.rotate_encryption_keys())

        async def talk(session: Any) -> None:
            for number in range(10):
                await session.send_message(f"during {number}", metadata={"n": number})
                await session.update_context({"n": number})

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rotate)
            for session in sessions:
                tasks.start_soon(talk, session)
        assert reports[0].keys_in_use == ("b",)
        for session in sessions:
            texts = [one.content for one in await session.get_messages(role="user")]
            wanted = [f"{when} {n}" for when in ("before", "during") for n in range(10)]
            assert texts == wanted
        assert (await manager.rotate_encryption_keys()).records == 0
        assert (await manager.verify_storage()).ok


async def test_one_that_was_cut_off_goes_on_where_it_was(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    both = partial(sealed, path, encryption_keys={"a": KEY, "b": OTHER})
    left = RECORDS
    for slices in range(1, 6):
        storage = both()
        await storage.open()
        assert storage._hosted is not None
        thread, database = storage._hosted
        rotation = Rotation(database._vault)
        for _ in range(slices):
            await thread.call(database._change, rotation.run)
        await check(storage)
        await storage.close()  # without its end
        assert rotation._records <= left
        left -= rotation._records
    storage = both()
    await storage.open()
    assert (await storage.rotate_keys()).records == left
    await storage.close()
    storage = sealed(path, encryption_keys={"b": OTHER})
    await storage.open()
    await check(storage)
    await storage.close()


_KILLED = """
import asyncio, os, signal, sys
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage
from langswarm.core.session.adapters.storage.sqlite.rotation import Rotation

run, slices = Rotation.run, int(sys.argv[2])


def run_or_die(self, connection):
    global slices
    found = run(self, connection)
    slices -= 1
    if slices <= 0:
        os.kill(os.getpid(), signal.SIGKILL)  # before its commit
    return found


async def rotate():
    keys = {"a": bytes(range(32)), "b": bytes(range(32, 64))}
    storage = SQLiteSessionStorage(sys.argv[1], encryption_keys=keys)
    await storage.open()
    await storage.rotate_keys()


Rotation.run = run_or_die
asyncio.run(rotate())
"""


@pytest.mark.parametrize("slices", [1, 3])
async def test_after_a_kill_everything_reads_and_the_next_one_finishes(
    path: Path, slices: int
) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    command = [sys.executable, "-c", _KILLED, str(path), str(slices)]
    done = subprocess.run(command, check=False, timeout=50)  # noqa: ASYNC221 - nothing else runs
    assert done.returncode == -signal.SIGKILL
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    await check(storage)
    assert 0 < (await storage.rotate_keys()).records <= RECORDS
    await storage.close()
    storage = sealed(path, encryption_keys={"b": OTHER})
    await storage.open()
    await check(storage)
    await storage.close()


async def test_a_slice_ends_after_some_milliseconds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows it was to look at: here each takes a second."""
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    assert storage._hosted is not None
    thread, database = storage._hosted
    rotation = Rotation(database._vault)
    seconds = count()
    monkeypatch.setattr(rotations, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    await thread.call(database._change, rotation.run)
    assert rotation._records == 1
    await storage.close()


async def test_what_cannot_be_read_stays_and_keeps_its_key(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    change_file(path, ("UPDATE messages SET role = 'system' WHERE id = ?", (1 << 32 | 1,)))
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    report = await storage.rotate_keys()
    assert (report.unreadable, report.records) == (1, RECORDS - 1)
    assert report.keys_in_use == ("a", "b")
    with pytest.raises(StorageError) as caught:
        await contents(storage, 1)
    assert caught.value.code == "corrupt"
    await storage.close()


async def test_what_a_missing_key_hides_stays_and_is_counted(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    await create(storage, "later")
    await storage.close()
    storage = sealed(path, encryption_keys={"b": OTHER, "c": THIRD})
    await storage.open()
    report = await storage.rotate_keys()
    assert (report.key_id, report.records, report.unreadable) == ("c", 1, RECORDS)
    assert report.keys_in_use == ("a", "b", "c")
    await storage.close()
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER, "c": THIRD})
    await storage.open()
    report = await storage.rotate_keys()
    assert (report.records, report.keys_in_use) == (RECORDS, ("c",))
    await check(storage)
    await storage.close()


async def test_as_long_as_a_reader_needs_the_old_pages_it_says_that_they_are_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_TRUNCATION_SECONDS", 0.001)
    plain = SQLiteSessionStorage(path, synchronous="OFF")
    await plain.open()
    await fill(plain)
    await plain.close()
    storage = sealed(path)
    await storage.open()
    await create(storage, "new")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchone()
    report = await storage.rotate_keys()
    assert (report.unreadable, report.plain_remains) == (0, True)
    reader.execute("COMMIT")
    reader.close()
    report = await storage.rotate_keys()
    assert (report.records, report.plain_remains) == (0, False)
    assert places_of(CANARY, path) == {}
    await storage.close()


async def test_it_ends_when_the_storage_is_closed(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await fill(storage)
    await storage.close()
    storage = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await storage.open()
    ends: list[str] = []

    async def rotate() -> None:
        try:
            await storage.rotate_keys()
        except StorageError as error:
            ends.append(error.code)
        else:
            ends.append("done")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rotate)
        await anyio.lowlevel.checkpoint()
        await storage.close()
    assert ends in (["closed"], ["done"])
