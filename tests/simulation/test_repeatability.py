"""The same seed is the same run: in every process, whatever ran before, without a warning."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session.testing import Backend, DeadlockError, StepLimitError, simulate

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)

REPEATED = """
import json, sys
import anyio
from langswarm.core.session.testing import simulate

log = []

async def cleanup(name):
    with anyio.CancelScope():
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

async def nested(name):
    async with anyio.create_task_group() as tg:
        for i in range(4):
            tg.start_soon(cleanup, (*name, i))

async def main():
    async with anyio.create_task_group() as tg:
        for i in range(12):
            tg.start_soon(nested, (i,))
        await anyio.sleep(1)
        tg.cancel_scope.cancel()

out = []
for backend in ("asyncio", "trio"):
    for seed in (None, 1, 2):
        log.clear()
        result = simulate(main, backend=backend, seed=seed)
        out.append([result.trace.digest, str(log), result.deviations == {}])
print(json.dumps(out))
"""


# The whole runtime: two processes on one disk, the first of which is killed in the middle.
WHOLE_RUNTIME = """
import json
import anyio
from langswarm.core.session import ISessionMiddleware, SessionError, create_session_manager
from langswarm.core.session.testing import (
    ScriptedProvider, ScriptedTurn, SendRecorder, SimulatedDisk, SimulatedStorage, simulate
)

def answer(request):
    question = request.messages[-1].content
    end = ValueError("a bug") if question.endswith("3") else "complete"
    return ScriptedTurn(text="re: " + question, latency_seconds=0.1, chunks=3, end=end)

async def send(recorder, session, text, seconds):
    with anyio.move_on_after(seconds):
        try:
            await recorder.send(session, text)
        except SessionError:
            pass

async def process(disk, recorder, number):
    storage = SimulatedStorage(disk)
    provider = ScriptedProvider(answer)
    manager = create_session_manager(
        storage,
        providers={"scripted": provider},
        middleware=[ISessionMiddleware()],
        idle_seconds=0.2,
        max_live_sessions=2,
    )
    async with anyio.create_task_group() as group:
        for name in "abc":
            try:
                session = await manager.get_session(name)
            except SessionError:
                session = await manager.create_session("ada", "scripted", "m", session_id=name)
            for place in range(5):
                text = f"{number}.{name}.{place}"
                group.start_soon(send, recorder, session, text, 0.3 if place == 4 else 100)
        if number == 0:
            await anyio.sleep(0.5)
            storage.die()
    await manager.aclose(drain_seconds=0 if number == 0 else None)

def run(backend, seed):
    disk, recorder = SimulatedDisk(latency_seconds=0.01), SendRecorder()
    async def main():
        for number in range(2):
            await process(disk, recorder, number)
    result = simulate(main, backend=backend, seed=seed)
    written = [
        (write.after.record.session_id, write.after.record.revision) for write in disk.writes
    ]
    told = [(call.text, call.told.value, call.ended) for call in recorder.sent]
    return [result.trace.digest, str([written, told]), result.deviations == {}]

import logging
logging.disable(logging.CRITICAL)
print(json.dumps([run(b, seed) for b in ("asyncio", "trio") for seed in (None, 1, 2)]))
"""


@pytest.mark.parametrize("program", [REPEATED, WHOLE_RUNTIME], ids=["cancellation", "runtime"])
def test_the_same_seed_is_the_same_schedule_in_every_process(program: str) -> None:
    """Sets of tasks and of scopes are cancelled here; neither hash seed nor addresses show."""
    outputs: list[list[list[object]]] = []
    for hash_seed in ("0", "1", "2", "random"):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        outputs.append(json.loads(done.stdout))
    assert all(output == outputs[0] for output in outputs)
    assert len({str(row[0]) for row in outputs[0]}) == 6
    assert [row[2] for row in outputs[0]] == [True, False, False] * 2


@both
def test_repeated_runs_in_one_process_are_equal(backend: Backend) -> None:
    """Counters that go on over all loops of a process do not show in the trace."""

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            for delay in (3, 1, 2):
                tg.start_soon(anyio.sleep, delay)

    digests = {simulate(main, backend=backend, seed=9).trace.digest for _ in range(5)}
    assert len(digests) == 1


@both
def test_nothing_warns(backend: Backend) -> None:
    """No open loop, no coroutine that was never awaited, however the run ends."""

    async def stuck() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.sleep_forever)
            tg.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(anyio.lowlevel.checkpoint, backend=backend, seed=0)
        for limit in (1, 2, 3, 100):
            with pytest.raises((DeadlockError, StepLimitError)):
                simulate(stuck, backend=backend, seed=0, max_steps=limit)
        gc.collect()
