"""The example loses nothing that was acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
    from pathlib import Path

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
