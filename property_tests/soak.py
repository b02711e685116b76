"""Sessions without end: python -m property_tests.soak MINUTES [--backend B].

On SQLite and on the real event loop, with real time: sessions are created, used by callers that
come and go, evicted, archived and deleted, while the storage, the provider and a hook fail now and
then. Again and again all of it comes to rest; then everything that is left over is counted. After
the first rest nothing may grow: not the number of objects of ours, of tasks, of threads, of
descriptors. Memory may (the allocator and SQLite's cache have their own ways), by a slope that the
report shows and that has a limit.

Ends with exit code 1 if something grew, if anybody was told of a bug of the runtime, or if nothing
was done.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session import (
    ISessionLifecycleHook,
    SessionError,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.errors import RuntimeBugError
from langswarm.core.session.testing import Fault, FaultyStorage

from .running import BACKENDS

if TYPE_CHECKING:
    from langswarm.core.session import Session, SessionManager, SessionMessage
    from langswarm.core.session.testing import Backend

CALLERS = 50
ROUND_SESSIONS = 5_000
LIVE_SESSIONS = 100
BYTES_PER_SESSION = 64
"""The limit of the slope, once there are so many rests that it means something."""
LEAST_RESTS = 15
PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen(kw_only=True)
class Rest:
    """What there is while nothing is done."""

    sessions: int
    """That were created so far."""
    objects: Counter[str]
    """Of our classes, by name."""
    tasks: int
    threads: int
    descriptors: int
    resident_bytes: int


class StumblingHook(ISessionLifecycleHook):
    """Raises now and then."""

    def __init__(self) -> None:
        self._calls = 0

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        del session_id, message
        self._calls += 1
        if self._calls % 97 == 0:
            raise RuntimeError("planned: a hook's bug")


class Soak:
    """One process, one backend."""

    def __init__(self, folder: Path, backend: Backend, seed: int) -> None:
        self.storage = FaultyStorage(SQLiteSessionStorage(folder / "soak.db"))
        self.backend: Backend = backend
        self.turns = 0
        self.bugs: list[str] = []
        self.errors: Counter[str] = Counter()
        self.rests: list[Rest] = []
        self._rng = random.Random(seed)
        self._created = 0

    async def run(self, seconds: float) -> None:
        """Rounds until the time is up, a rest after each."""
        manager = create_session_manager(
            self.storage,
            hooks=[StumblingHook()],
            max_live_sessions=LIVE_SESSIONS,
            idle_seconds=0.05,
        )
        until = time.monotonic() + seconds
        async with manager:
            while time.monotonic() < until or len(self.rests) < 3:
                await self._round(manager)
                await self._come_to_rest(manager)
                self.rests.append(self._count())

    async def _round(self, manager: SessionManager) -> None:
        for _ in range(20):
            fault = self._rng.choice([Fault.FAILS, Fault.LOST_AFTER, Fault.ONE_FAILS])
            call = self._rng.randrange(1, ROUND_SESSIONS // 10)
            try:
                self.storage.fail("commit", fault, call=call)
            except ValueError:
                continue  # that call is to fail already
        async with anyio.create_task_group() as group:
            for _ in range(CALLERS):
                group.start_soon(self._caller, manager, ROUND_SESSIONS // CALLERS)

    async def _caller(self, manager: SessionManager, sessions: int) -> None:
        for _ in range(sessions):
            self._created += 1
            try:
                session = await manager.create_session(
                    f"user {self._rng.randrange(100)}",
                    "mock",
                    "soak",
                    provider_config={"error_rate": 0.02},
                )
            except SessionError as error:
                self._note(error)
                continue
            await self._converse(session)

    async def _converse(self, session: Session) -> None:
        steps = self._rng.choices(
            (self._send, self._leave, self._update, self._read), (6, 1, 1, 1), k=3
        )
        last = self._rng.choice((None, None, session.archive, session.delete))
        for step in steps:
            try:
                await step(session)
            except SessionError as error:
                self._note(error)
        if last is not None:
            try:
                await last()
            except SessionError as error:
                self._note(error)

    def _note(self, error: SessionError) -> None:
        """Planned faults make errors; but none is the runtime's own."""
        self.errors[type(error).__name__] += 1
        if isinstance(error, RuntimeBugError):
            self.bugs.append(repr(error))

    async def _send(self, session: Session) -> None:
        await session.send_message("How are you?")
        self.turns += 1

    async def _leave(self, session: Session) -> None:
        with anyio.move_on_after(self._rng.random() * 0.005):
            await session.send_message("I am gone before you answer")

    async def _update(self, session: Session) -> None:
        await session.update_context(mood=self._rng.random())

    async def _read(self, session: Session) -> None:
        await session.get_messages(limit=10)

    async def _come_to_rest(self, manager: SessionManager) -> None:
        """Until every session is evicted; polled, as somebody outside would."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            statistics = manager.statistics()
            if statistics is None or statistics.supervisor.live == 0:
                return
            await anyio.sleep(0.02)
        raise TimeoutError("sessions are live although nobody uses them")

    def _count(self) -> Rest:
        gc.collect()
        ours = Counter(
            kind.__qualname__
            for kind in map(type, gc.get_objects())
            if str(kind.__module__).startswith("langswarm.core.session.")
            and not str(kind.__module__).startswith("langswarm.core.session.testing")
        )
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return Rest(
            sessions=self._created,
            objects=ours,
            tasks=_tasks(self.backend),
            threads=threading.active_count(),
            descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - it counts
            resident_bytes=resident * PAGE,
        )


def _tasks(backend: Backend) -> int:
    if backend == "trio":
        import trio.lowlevel  # noqa: PLC0415 - on trio only

        return trio.lowlevel.current_statistics().tasks_living
    import asyncio  # noqa: PLC0415 - on asyncio only

    return len(asyncio.all_tasks())


def slope(rests: list[Rest]) -> float:
    """Resident bytes per session, by least squares."""
    xs = [rest.sessions for rest in rests]
    ys = [rest.resident_bytes for rest in rests]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - middle_x) ** 2 for x in xs
    )


def grown(first: Rest, last: Rest) -> list[str]:
    """What is more than it was."""
    found = [
        f"{name}: {getattr(first, name)} -> {getattr(last, name)}"
        for name in ("tasks", "threads", "descriptors")
        if getattr(last, name) > getattr(first, name)
    ]
    return found + [
        f"{name}: {first.objects[name]} -> {count} objects"
        for name, count in last.objects.items()
        if count > first.objects[name]
    ]


def complaints(work: Soak) -> list[str]:
    """What is wrong with the work itself, whatever grew."""
    found = [f"{len(work.bugs)} x a bug of the runtime, first {bug}" for bug in work.bugs[:1]]
    return found if work.turns else [*found, "not one turn was done"]


def soak(backend: Backend, seconds: float, seed: int) -> tuple[str, bool]:
    """The report of one backend, and whether all was well."""
    logging.disable(logging.CRITICAL)  # planned faults are logged by thousands
    with tempfile.TemporaryDirectory() as folder:
        work = Soak(Path(folder), backend, seed)
        anyio.run(work.run, seconds, backend=backend)
    first, last = work.rests[0], work.rests[-1]
    half = work.rests[len(work.rests) // 3 :]
    found = grown(first, last)
    per_session = slope(half)
    if per_session > BYTES_PER_SESSION and len(work.rests) >= LEAST_RESTS:
        found.append(f"{per_session:.1f} resident bytes per session, more than {BYTES_PER_SESSION}")
    text = (
        f"{backend}: {last.sessions:,} sessions, {work.turns:,} turns, errors {dict(work.errors)}; "
        f"{len(work.rests)} rests, at the last one {sum(last.objects.values())} objects, "
        f"{last.tasks} tasks, {last.threads} threads, {last.descriptors} descriptors, "
        f"{last.resident_bytes / 2**20:.1f} MB resident, {per_session:+.2f} bytes per session; "
        f"{'grew: ' + '; '.join(found) if found else 'nothing grew'}"
    )
    wrong = complaints(work)
    return "; ".join([text, *wrong]), not found and not wrong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Use sessions without end, and count leftovers.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    backends: list[Backend] = options.backend or list(BACKENDS)
    work = partial(soak, seconds=options.minutes * 60, seed=options.seed)
    good = True
    with ProcessPoolExecutor(len(backends)) as pool:
        for text, is_good in pool.map(work, backends):
            sys.stdout.write(f"{text}\n")
            good = good and is_good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
