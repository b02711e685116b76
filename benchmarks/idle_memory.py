"""Memory of live sessions that do nothing, and what is left of them once they are evicted.

The sessions with their history are put into an SQLite file first, in bulk. One cheap call then
makes each live through the public API, and its handle is dropped. Resident memory is what the
system sees, allocator and caches included; traced memory is what Python objects hold, exactly,
measured on fewer sessions because tracing is slow.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs
from apart import apart
from figures import Figure, Scale, Target
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from stored_sessions import fill, session_id, text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from langswarm.core.session import SessionManager

HISTORY = 20
TOUCHERS = 200


@attrs.frozen
class Sizes:
    """How many sessions are live at once."""

    resident: int
    traced: int
    windows: int
    """Of these, how many then run a turn, which gives them a prompt window."""


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(resident=100_000, traced=10_000, windows=5_000),
    "quick": Sizes(resident=5_000, traced=2_000, windows=500),
    "tiny": Sizes(resident=20, traced=10, windows=5),
}


@attrs.define
class Account:
    """Bytes and things at the four moments of a run."""

    before: int = 0
    live: int = 0
    windows: int = 0
    evicted: int = 0
    tasks: int = 0
    descriptors: int = 0
    counted_window_bytes: int = 0


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    traced = _in_file(sizes.traced, sizes.windows, _traced, backend)
    resident = _in_file(sizes.resident, sizes.windows, _resident, backend)
    most = Target(of="value", most=2048)
    windows = min(sizes.windows, sizes.traced)

    def per_session(name: str, number: int, count: int, target: Target | None = None) -> Figure:
        return Figure(name=name, value=number / count, unit="bytes", target=target)

    return [
        per_session(
            f"live, {sizes.resident:,} sessions, resident",
            resident.live - resident.before,
            sizes.resident,
            most,
        ),
        per_session(
            f"live, {sizes.traced:,} sessions, traced",
            traced.live - traced.before,
            sizes.traced,
            most,
        ),
        per_session("  its prompt window, traced", traced.windows - traced.live, windows),
        per_session("  its prompt window, as counted", traced.counted_window_bytes, windows),
        Figure(name="  tasks per session", value=resident.tasks / sizes.resident, unit="tasks"),
        Figure(
            name="  descriptors per session",
            value=resident.descriptors / sizes.resident,
            unit="fds",
        ),
        per_session("evicted, traced", traced.evicted - traced.before, sizes.traced),
        per_session("evicted, resident", resident.evicted - resident.before, sizes.resident),
    ]


def _in_file(count: int, windows: int, measure: Callable[[], int], backend: str) -> Account:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        spares = max(10, count // 50)
        apart(
            anyio.run, fill, path, count + spares, HISTORY
        )  # or it would leave free memory behind
        tracing = measure is _traced
        if tracing:
            tracemalloc.start()
        try:
            return anyio.run(
                partial(_measured, path, count, spares, min(windows, count), measure),
                backend=backend,
            )
        finally:
            if tracing:
                tracemalloc.stop()


async def _measured(
    path: Path, count: int, spares: int, windows: int, measure: Callable[[], int]
) -> Account:
    account = Account()
    live = range(count)
    async with create_session_manager(
        SQLiteSessionStorage(path), max_live_sessions=2 * count + 100, idle_seconds=86_400.0
    ) as manager:
        spare_ids = range(count, count + spares)
        await _each(partial(_touch, manager), spare_ids)  # caches fill, code paths warm up
        _evict(manager, spare_ids)
        tasks, descriptors = _tasks(), _descriptors()
        account.before = measure()
        await _each(partial(_touch, manager), live)
        _check_live(manager, count)
        account.live = measure()
        account.tasks = _tasks() - tasks
        account.descriptors = _descriptors() - descriptors
        await _each(partial(_send, manager), range(windows))
        account.windows = measure()
        statistics = manager.statistics()
        assert statistics is not None
        account.counted_window_bytes = statistics.supervisor.cached_window_bytes
        _evict(manager, live)
        _check_live(manager, 0)
        account.evicted = measure()
    return account


async def _each(job: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await job(number)

    async with anyio.create_task_group() as group:
        for _ in range(TOUCHERS):
            group.start_soon(worker)


async def _touch(manager: SessionManager, number: int) -> None:
    session = await manager.get_session(session_id(number))
    await session.update_context({"step": number})


async def _send(manager: SessionManager, number: int) -> None:
    session = await manager.get_session(session_id(number))
    await session.send_message(text(number, HISTORY))


def _evict(manager: SessionManager, numbers: Iterable[int]) -> None:
    supervisor = manager._anchor.host.runtime().supervisor  # noqa: SLF001 - time would do it too
    for number in numbers:
        assert supervisor.evict(session_id(number))


def _check_live(manager: SessionManager, count: int) -> None:
    statistics = manager.statistics()
    assert statistics is not None
    assert (statistics.supervisor.live, statistics.supervisor.idle) == (count, count)


# ---------------------------------------------------------------- what is measured


def _resident() -> int:
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # no /proc: the peak is the best there is
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _tasks() -> int:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        living: int = trio.lowlevel.current_statistics().tasks_living
        return living
    return len(asyncio.all_tasks())


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
