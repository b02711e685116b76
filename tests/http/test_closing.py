"""Closing while requests run and wait, and one service in several threads at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.testing import simulate

from .wire import (
    CALL,
    PATIENCE_SECONDS,
    answer,
    chunk,
    head,
    idle,
    new_service,
    service_at,
    stream_all,
    wire_server,
)

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

    from .wire import Wire

EVENT = b"data: a\n\n"


@pytest.mark.parametrize("connections", [1, 2, 10])
async def test_closing_disturbs_no_request_and_no_connection_is_left(
    library: str, connections: int
) -> None:
    """Those that run end, those that wait go on, and a second closing leaves nothing open."""
    release = anyio.Event()
    running = 0
    open_now = 0

    async def handler(wire: Wire) -> None:
        nonlocal running, open_now
        open_now += 1
        try:
            while True:
                await wire.request()
                running += 1
                await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
                await release.wait()
                await wire.send(chunk(EVENT) + chunk(b""))
        finally:
            open_now -= 1

    async with service_at(handler, library, max_connections=connections) as service:
        ended: list[list[str]] = []

        async def ask() -> None:
            ended.append(await stream_all(service))

        async with anyio.create_task_group() as group:
            for _ in range(15):
                group.start_soon(ask)
            with anyio.fail_after(PATIENCE_SECONDS):
                while running < connections:
                    await anyio.lowlevel.checkpoint()
            await service.aclose()
            assert ended == []
            release.set()
        assert ended == [["a", "a"]] * 15
        assert idle(service)
        await service.aclose()
        with anyio.fail_after(PATIENCE_SECONDS):
            while open_now:
                await anyio.lowlevel.checkpoint()


def test_several_loops_at_the_same_time_keep_connections_of_their_own(library: str) -> None:
    """None is made twice, and none is left open without anybody who knows of it."""
    requests = 30
    accepted = 0
    url = ""
    started, ended = threading.Event(), threading.Event()
    problems: list[BaseException] = []

    async def handler(wire: Wire) -> None:
        nonlocal accepted
        accepted += 1
        while True:
            await wire.request()
            await wire.send(answer(EVENT, kind="text/event-stream"))

    async def serve() -> None:
        nonlocal url
        async with wire_server(handler) as url:
            started.set()
            await anyio.to_thread.run_sync(ended.wait)

    server = threading.Thread(target=anyio.run, args=(serve,))
    server.start()
    assert started.wait(PATIENCE_SECONDS)
    service = new_service(url, library)
    together = threading.Barrier(4, timeout=PATIENCE_SECONDS)

    async def program() -> None:
        together.wait()
        for _ in range(requests):
            assert await stream_all(service) == ["a"]
        await service.aclose()

    def run(backend: Backend) -> None:
        try:
            anyio.run(program, backend=backend)
        except BaseException as error:  # noqa: BLE001 - told to the test's thread
            problems.append(error)

    backends: list[Backend] = ["asyncio", "trio", "asyncio", "trio"]
    threads = [threading.Thread(target=run, args=(backend,)) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    ended.set()
    server.join(PATIENCE_SECONDS)
    assert problems == []
    assert accepted == len(backends)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_gives_up_in_the_line_uses_up_no_limit_of_ones_own(backend: Backend) -> None:
    """A request that waited for a connection in vain was none: the next ones may go."""

    async def program() -> None:
        service = new_service(
            "http://127.0.0.1:9", max_connections=1, requests_per_minute=5, queue_timeout=10.0
        )
        state = service._here()
        assert state.gate.try_enter()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                with anyio.move_on_after(0.1):
                    await service.begin(CALL, streamed=True)
            group.cancel_scope.cancel()
        assert service._own.delay(0, state.now()) == 0
        state.gate.leave()
        assert idle(service)

    simulate(program, backend=backend, seed=None)
