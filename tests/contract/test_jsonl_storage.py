"""The example loses nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import StorageError, create_session_manager
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    contents,
    create,
    load_one,
    message,
    new,
)

from .storages import EXAMPLE, json_lines

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import Any

WRITER = """
import runpy, sys, anyio

JsonLinesStorage = runpy.run_path(sys.argv[1])["JsonLinesStorage"]


async def main():
    from langswarm.core.session import create_session_manager

    async with create_session_manager(JsonLinesStorage(sys.argv[2])) as manager:
        session = await manager.create_session("ada", "mock", "mock-model", session_id="s")
        for number in range(100_000):
            await session.send_message(f"message {number}")
            print(number, flush=True)


anyio.run(main, backend=sys.argv[3])
"""


FORKED = """
import os, runpy, sys, anyio
from langswarm.core.session import StorageError

JsonLinesStorage = runpy.run_path(sys.argv[1])["JsonLinesStorage"]


async def main(storage, call):
    try:
        await call()
    except StorageError as error:
        print(error.code, flush=True)


storage = JsonLinesStorage(sys.argv[2])
anyio.run(main, storage, storage.open)
if not os.fork():
    anyio.run(main, storage, lambda: storage.commit([]))
    os._exit(0)
os.wait()
anyio.run(main, storage, storage.close)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


async def three_batches(path: Path) -> list[bytes]:
    """A file of three lines: a session, its first message, its second."""
    storage = json_lines(path)
    await storage.open()
    stored = await create(storage)
    for seq in (1, 2):
        await storage.commit([change(stored, message(seq, f"{seq}\n\N{OWL}"))])
        stored = await load_one(storage, "s")
    await storage.close()
    return path.read_bytes().splitlines(keepends=True)


async def test_a_torn_last_line_is_dropped_wherever_it_was_torn(path: Path) -> None:
    *whole, last = await three_batches(path)
    for length in (*range(0, len(last), 7), len(last) - 1):
        path.write_bytes(b"".join(whole) + last[:length])
        storage = json_lines(path)
        await storage.open()
        stored = await load_one(storage, "s")
        assert await contents(storage, stored.record.key) == ["1\n\N{OWL}"]
        if length % 70 == 0:  # and it goes on from there
            assert await storage.commit([change(stored, message(2))]) == [Committed(1)]
            await storage.close()
            storage = json_lines(path)
            await storage.open()
            assert (await load_one(storage, "s")).record.revision == 3
        await storage.close()


async def test_a_last_line_with_a_hole_in_it_is_dropped_too(path: Path) -> None:
    """After a power cut the end of a line may be on the disk without its middle."""
    *whole, last = await three_batches(path)
    path.write_bytes(b"".join(whole) + last[:40] + bytes(len(last) - 60) + last[-20:])
    storage = json_lines(path)
    await storage.open()
    assert (await load_one(storage, "s")).record.revision == 2
    await storage.close()


def sealed(asked: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(asked), asked)


async def refused_as_corrupt(path: Path, match: str) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match=match) as caught:
        await json_lines(path).open()
    assert caught.value.code == "corrupt"
    assert path.read_bytes() == before


async def test_a_whole_last_line_that_asks_for_something_unknown_is_refused(path: Path) -> None:
    """Another version of the program wrote it, and acknowledged it."""
    *whole, last = await three_batches(path)
    asked = json.loads(last[9:])
    asked["commit"][0]["after"]["record"]["unknown"] = 1
    for unknown in (json.dumps(asked).encode(), b'{"unknown": 1}', b"[1]", b"null"):
        path.write_bytes(b"".join(whole) + sealed(unknown))
        await refused_as_corrupt(path, "line 3 .* something unknown")


async def test_damage_that_is_still_json_is_found(path: Path) -> None:
    first, second, third = await three_batches(path)
    path.write_bytes(first + second.replace(b'"content": "1', b'"content": "9') + third)
    await refused_as_corrupt(path, "line 2 .* is damaged")


async def test_health_counts_what_was_torn(path: Path) -> None:
    await three_batches(path)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"torn")
    storage = json_lines(path)
    await storage.open()
    assert storage.health().facts["dropped_bytes"] == 4
    assert storage.health().facts["size_bytes"] == path.stat().st_size == whole
    await storage.close()


async def test_a_damaged_line_before_others_is_refused_and_left_as_it_is(path: Path) -> None:
    first, second, third = await three_batches(path)
    damaged = first + second[:-9] + b"\n" + third
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="line 2") as caught:
        await json_lines(path).open()
    assert caught.value.code == "corrupt"
    assert path.read_bytes() == damaged


async def test_a_second_storage_is_refused_until_the_first_is_closed(path: Path) -> None:
    first, second = json_lines(path), json_lines(path)
    await first.open()
    with pytest.raises(StorageError) as caught:
        await second.open()
    assert caught.value.code == "busy"
    await first.close()
    await second.open()
    await second.close()


async def test_nothing_is_acknowledged_after_a_failed_sync(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = json_lines(path)
    await storage.open()
    stored = await create(storage)

    def fail(_descriptor: int) -> None:
        raise OSError(5, "planted")

    with monkeypatch.context() as planted:
        planted.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="planted"):
            await storage.commit([new("lost")])
    with pytest.raises(StorageError) as caught:
        await storage.read_back(["lost"])
    assert caught.value.code == "failed_sync"
    with pytest.raises(StorageError):
        await storage.commit([new("later")])
    assert await storage.load(["s"]) == [stored]
    assert storage.health().writes_stopped
    await storage.close()


@pytest.mark.parametrize("to", ["nothing", "another file"])
async def test_nothing_is_acknowledged_in_a_file_that_is_no_longer_there(
    path: Path, to: str
) -> None:
    storage = json_lines(path)
    await storage.open()
    await create(storage)
    path.rename(path.with_name("moved"))
    if to == "another file":
        path.touch()
    with pytest.raises(OSError, match=r"No such file|another file"):
        await storage.commit([new("lost")])
    with pytest.raises(StorageError) as caught:
        await storage.read_back(["lost"])
    assert caught.value.code == "failed_sync"
    await storage.close()


class SlowDisk:
    """The first time that the function of `os` is called from here on, it waits for `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        original: Any = getattr(os, name)

        def slow(*arguments: Any) -> Any:
            if not self.begun.is_set():
                self.begun.set()
                assert self.go_on.wait(60)
            return original(*arguments)

        monkeypatch.setattr(os, name, slow)

    async def cancels(self, call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """The call's task, cancelled once the disk has begun and before it is done."""
        task = asyncio.create_task(call)
        await asyncio.to_thread(self.begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        return task


def test_a_commit_whose_task_is_cancelled_is_done_before_anything_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's own task.cancel(), once and again; a second storage finds what was acknowledged."""

    async def main() -> list[str]:
        storage = json_lines(path)
        await storage.open()
        stored = await create(storage)
        disk = SlowDisk(monkeypatch, "write")
        cut = await disk.cancels(storage.commit([change(stored, message(1, "cut"))]))
        cut.cancel()
        later = asyncio.create_task(storage.read_back(["s"]))
        with suppress(asyncio.CancelledError):
            await cut
        disk.go_on.set()
        [found] = await later
        assert found is not None
        assert found.record.revision == 2
        assert await storage.commit([change(found, message(2, "kept"))]) == [Committed(1)]
        await storage.close()
        return await texts_of(path)

    assert asyncio.run(main()) == ["cut", "kept"]


def test_a_close_waits_for_the_append_of_a_cancelled_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[str]:
        storage = json_lines(path)
        await storage.open()
        stored = await create(storage)
        disk = SlowDisk(monkeypatch, "write")
        cut = await disk.cancels(storage.commit([change(stored, message(1, "cut"))]))
        cut.cancel()
        closing = asyncio.create_task(storage.close())
        with suppress(asyncio.CancelledError):
            await cut
        second = json_lines(path)
        with pytest.raises(StorageError) as caught:
            await second.open()
        assert caught.value.code == "busy"
        disk.go_on.set()
        await closing
        return await texts_of(path)

    assert asyncio.run(main()) == ["cut"]


async def texts_of(path: Path) -> list[str]:
    """The messages of the session, by a storage of their own."""
    storage = json_lines(path)
    await storage.open()
    found = await contents(storage, (await load_one(storage, "s")).record.key)
    await storage.close()
    return list(found)


def test_an_open_whose_task_is_cancelled_leaves_nothing_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        storage, second = json_lines(path), json_lines(path)
        disk = SlowDisk(monkeypatch, "fsync")
        opening = await disk.cancels(storage.open())
        disk.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await second.open()
        await second.close()
        await storage.open()
        await storage.close()

    asyncio.run(main())


def test_a_forked_child_is_refused(path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(EXAMPLE), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert done.stdout == "closed\n"


async def test_sessions_survive_their_manager(path: Path) -> None:
    async with create_session_manager(json_lines(path)) as manager:
        session = await manager.create_session("ada", "mock", "mock-model")
        await session.update_context({"city": "London"})
        await session.send_message("Hello")
    async with create_session_manager(json_lines(path)) as manager:
        again = await manager.get_session(session.session_id)
        messages = await again.get_messages()
        assert [one.content for one in messages] == ["Hello", "Mock response to: Hello"]
        assert (await again.get_context())["city"] == "London"
        await again.send_message("And again")
        assert again.message_count == 4


def test_the_script_shows_a_conversation_that_survives_its_manager() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], check=True, capture_output=True, text=True)
    assert done.stdout == "user: Hello\nassistant: Mock response to: Hello\n"


def write_until_killed(path: Path, backend: str) -> int:
    """The number of the last message that a process acknowledged before it was killed."""
    command = [sys.executable, "-c", WRITER, str(EXAMPLE), str(path), backend]
    acknowledged = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if line.endswith("\n"):
                acknowledged = int(line)
            if acknowledged == 20:
                writer.kill()
    assert writer.returncode == -signal.SIGKILL
    return acknowledged


async def test_what_was_acknowledged_survives_a_kill(path: Path, anyio_backend_name: str) -> None:
    acknowledged = write_until_killed(path, anyio_backend_name)
    async with create_session_manager(json_lines(path)) as manager:
        session = await manager.get_session("s")
        sent = [one.content for one in await session.get_messages() if one.role == "user"]
        assert sent[: acknowledged + 1] == [f"message {n}" for n in range(acknowledged + 1)]
        assert len(sent) <= acknowledged + 2
        await session.send_message("it goes on")
