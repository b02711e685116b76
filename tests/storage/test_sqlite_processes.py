"""What remains when processes end, fork, are killed or forget to close."""

from __future__ import annotations

import gc
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest
from langswarm.core.session.actors.model import MessageQuery
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    message,
)

PRELUDE = """
import asyncio, gc, os, sys, anyio
from langswarm.core.session.actors.model import *
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage

path, backend = sys.argv[1:3]
storage = SQLiteSessionStorage(path)

def new(name):
    record = SessionRecord(session_id=name, user_id="ann", provider="mock", model="m",
                           created_us=1, updated_us=1, revision=1)
    after = StoredSession(record=record, documents=SessionDocuments())
    return SessionWrite(expected_revision=0, after=after)
"""

TURNS = """
async def main():
    await storage.open()
    await storage.commit([new(f"s{n}") for n in range(8)])
    states = list(await storage.load([f"s{n}" for n in range(8)]))
    seq = 0
    while True:
        seq += 1
        writes = []
        for n, state in enumerate(states):
            old = state.record
            record = SessionRecord(session_id=old.session_id, user_id="ann", provider="mock",
                model="m", created_us=1, updated_us=seq, revision=old.revision + 1,
                last_seq=2 * seq, key=old.key)
            states[n] = StoredSession(record=record, documents=state.documents)
            pair = tuple(MessageRecord(seq=2 * seq - 1 + i, role=Role.USER, content="x" * 500,
                                       created_us=1) for i in (0, 1))
            writes.append(SessionWrite(expected_revision=old.revision, after=states[n],
                                       messages=pair))
        outcomes = await storage.commit(writes)
        assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
        print(seq, flush=True)
anyio.run(main, backend=backend)
"""

FORK = """
async def before():
    await storage.open()
    await storage.commit([new("before")])
anyio.run(before, backend=backend)

ready, tell = os.pipe()
done, keep = os.pipe()
child = os.fork()

async def in_the_child():
    for call in (lambda: storage.commit([new("child")]), storage.open, storage.close):
        try:
            await call()
        except StorageError as error:
            assert error.code == "closed" and "fork" in str(error), error
        else:
            raise AssertionError(call)

if child == 0:
    os.close(keep)
    anyio.run(in_the_child, backend=backend)
    os.write(tell, b"x")
    os.read(done, 1)  # until the parent has gone on without it
    del storage
    gc.collect()
    sys.exit()

async def after():
    await storage.commit([new("after")])
    await storage.close()

async def once_more():
    await storage.open()
    await storage.commit([new("last")])
    await storage.close()

assert os.read(ready, 1) == b"x"
anyio.run(after, backend=backend)
anyio.run(storage.open, backend=backend)  # the child is alive: it must not hold the lock
os.close(keep)
assert os.waitpid(child, 0)[1] == 0
anyio.run(once_more, backend=backend)
"""

FORGOTTEN = {
    "idle": """
anyio.run(storage.open, backend=backend)
""",
    "in the middle of a commit": """
async def main():
    await storage.open()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await storage.commit([new(f"s{n}") for n in range(1000)])
anyio.run(main, backend=backend)
""",
    "main raises SystemExit": """
async def main():
    await storage.open()
    await storage.commit([new("s")])
    sys.exit(0)
anyio.run(main, backend=backend)
""",
    "garbage": """
anyio.run(storage.open, backend=backend)
del storage
gc.collect()
""",
    "while waiting for the lock": """
async def main():
    await storage.open()
    second = SQLiteSessionStorage(path, lock_wait_seconds=1000)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await second.open()
anyio.run(main, backend=backend)
""",
}

NO_GIVING_UP = """
from langswarm.core.session.adapters.storage import loop_thread
loop_thread.EXIT_SECONDS = 1e6  # what has to be given up at the exit hangs, so that it is seen
"""

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def start(script: str, path: Path, backend: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + script]
    return subprocess.Popen(
        [*command, str(path), backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_all(path: Path) -> dict[str, tuple[int, list[int]]]:
    """Revision and message numbers of every session, read without our code."""
    with sqlite3.connect(path) as connection:
        sessions = connection.execute("SELECT id, key, last_seq FROM sessions").fetchall()
        found = {
            name: (
                last_seq,
                [
                    row[0] & 0xFFFFFFFF
                    for row in connection.execute(
                        "SELECT id FROM messages WHERE id >> 32 = ? ORDER BY id", (key,)
                    )
                ],
            )
            for name, key, last_seq in sessions
        }
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return found


@BACKENDS
@pytest.mark.parametrize("after", [1, 5, 40])
def test_what_was_acknowledged_survives_a_kill(path: Path, backend: str, after: int) -> None:
    """Every acknowledged pair is there, no session has half a pair, and it opens again."""
    with start(TURNS, path, backend) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen = int(line)
            if seen == after:
                process.send_signal(signal.SIGKILL)
        process.wait()

    async def reopen() -> None:
        storage = SQLiteSessionStorage(path)
        await storage.open()
        for number in range(8):
            [stored] = await storage.load([f"s{number}"])
            assert stored is not None
            found = await storage.read_messages(stored.record.key, MessageQuery())
            assert [message.seq for message in found] == list(range(1, stored.record.last_seq + 1))
            assert stored.record.last_seq >= 2 * seen
            assert stored.record.revision == 1 + stored.record.last_seq // 2
        await storage.close()

    anyio.run(reopen, backend=backend)


@BACKENDS
@pytest.mark.parametrize("how", FORGOTTEN)
def test_a_forgotten_storage_ends_with_its_process(path: Path, backend: str, how: str) -> None:
    """At once, without a word, with a complete database and no -wal left."""
    with start(NO_GIVING_UP + FORGOTTEN[how], path, backend) as process:
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    names = {entry.name for entry in path.parent.iterdir()}
    assert names == {"sessions.db", "sessions.db.lock"}
    assert len(read_all(path)) in {0, 1, 1000}


@BACKENDS
def test_a_fork_leaves_the_storage_to_the_parent(path: Path, backend: str) -> None:
    with start(FORK, path, backend) as process:
        _, errors = process.communicate()
    # Newer Pythons warn of any fork beside threads, which is what this test does on purpose.
    errors = re.sub(r".*DeprecationWarning.*fork.*\n?.*", "", errors)
    assert (process.returncode, errors) == (0, "")
    assert set(read_all(path)) == {"before", "after", "last"}


def test_one_storage_serves_one_event_loop_after_another(path: Path) -> None:
    """Asyncio, asyncio again, trio: opened once, never closed in between."""
    storage = SQLiteSessionStorage(path)

    async def use(number: int) -> None:
        await storage.open()
        stored = await create(storage, f"s{number}")
        await commit(storage, change(stored, message(1)))
        assert await contents(storage, 1) == ["text 1"]

    for number, backend in enumerate(("asyncio", "asyncio", "trio", "asyncio")):
        anyio.run(use, number, backend=backend)
    anyio.run(storage.close)


def test_a_storage_that_is_garbage_lets_go_of_its_file(path: Path) -> None:
    storage = SQLiteSessionStorage(path)
    anyio.run(storage.open)
    assert storage._hosted is not None
    thread = storage._hosted[0]._thread
    del storage
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()

    async def reopen() -> None:
        again = SQLiteSessionStorage(path)
        await again.open()
        await again.close()

    anyio.run(reopen)


async def test_a_closed_storage_leaves_no_thread_and_no_descriptor(path: Path) -> None:
    def opened() -> list[str]:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [name for name in map(os.path.realpath, links) if str(path) in name]

    def threads() -> list[threading.Thread]:
        host = "Trio", "AnyIO"  # workers of the event loop, of this test or of one before
        return [each for each in threading.enumerate() if not any(h in each.name for h in host)]

    before = threads()
    storage = SQLiteSessionStorage(path, pool_size=2)
    for _ in range(3):
        await storage.open()
        await create(storage, f"s{time.monotonic_ns()}")
        assert opened()
        await storage.close()
        assert not opened()
        for thread in set(threads()) - set(before):
            thread.join(60)  # the driver's says that it has ended just before it does
        assert set(threads()) <= set(before)  # one of a test before may just have ended
