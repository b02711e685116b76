"""G4, G5: kill -9 in mid-turn: the acknowledged is there, the open turn is closed at reopen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .helpers import Echo, Store, contents

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
import anyio
from langswarm.core.session import IProvider, create_session_manager
from langswarm.core.session.providers import Completed, TextDelta

path, backend, stage = sys.argv[1:]

class Provider(IProvider):
    async def stream(self, request):
        text = request.messages[-1].content
        yield TextDelta("answer ")
        if text == "hang":
            print("hanging", flush=True)
            await anyio.sleep_forever()
        yield TextDelta("to " + text)
        yield Completed()

async def send_for_ever(session):
    number = 0
    while True:
        await session.send_message(str(number))
        print("acknowledged", number, flush=True)
        number += 1

async def main():
    manager = create_session_manager(
        storage="sqlite", storage_config={"db_path": path}, providers={"openai": Provider()},
        checkpoint_seconds=0,  # the text so far is not stored, however late the kill comes
    )
    session = await manager.create_session("user", "openai", "gpt-4", session_id="s")
    await session.update_context(a=1)
    if stage == "turn":
        await session.send_message("one")
        ticket, behind = session.submit("hang"), session.submit("behind")
        await ticket
    else:
        others = [
            await manager.create_session("user", "openai", "gpt-4", session_id=f"o{n}")
            for n in range(20)
        ]
        async with anyio.create_task_group() as group:
            for other in [session, *others]:
                group.start_soon(send_for_ever, other)

anyio.run(main, backend=backend)
"""


def killed(path: Path, backend: str, stage: str, after_lines: int) -> list[str]:
    """Run the program, kill it after so many lines of output; returns those that it had said."""
    command = [sys.executable, "-c", PROGRAM, str(path), backend, stage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after_lines)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("child_backend", ["asyncio", "trio"])
async def test_g5_the_turn_open_at_a_kill_is_closed_as_interrupted(
    sqlite: Store, child_backend: str
) -> None:
    """G5: before the first read; the queue is gone, the rest is there, the session is usable."""
    assert killed(sqlite.path, child_backend, "turn", 1) == ["hanging"]
    provider = Echo()
    async with sqlite.manager(provider) as manager:
        session = await manager.get_session("s")
        assert await contents(session) == ["one", "answer to one", "hang"]
        metrics = await session.get_metrics()
        assert (metrics.interrupted_turns, metrics.completed_turns) == (1, 1)
        assert dict(await session.get_context()) == {"a": 1}
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.storage.recovered_turns == 1
        answer = await session.send_message("next")
        assert (answer.seq, answer.content) == (5, "answer to next")
        assert provider.prompts()[0][0] == "one"
        assert provider.prompts()[0][-1] == "next"


async def test_g4_everything_acknowledged_before_a_kill_is_there(sqlite: Store) -> None:
    """G4: 21 sessions writing at full speed, killed: no acknowledged turn is missing or half."""
    lines = killed(sqlite.path, "asyncio", "load", 100)
    counts: dict[str, int] = {}
    for line in lines:
        number = line.removeprefix("acknowledged ")
        counts[number] = counts.get(number, 0) + 1
    async with sqlite.manager(Echo()) as manager:
        histories = [
            await session.get_messages() for session in await manager.get_user_sessions("user")
        ]
        for history in histories:
            assert [m.seq for m in history] == list(range(1, len(history) + 1))
            turns = len(history) // 2
            answers = [m.content for m in history if m.role == "assistant"]
            assert answers == [f"answer to {number}" for number in range(len(answers))]
            assert len(answers) in {turns, turns + len(history) % 2}
        for number, count in counts.items():
            answered = [h for h in histories if any(m.content == f"answer to {number}" for m in h)]
            assert len(answered) >= count
