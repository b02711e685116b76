"""One service is used in one event loop after another, and closed and used again."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session.adapters.http import client as client_module
from langswarm.core.session.adapters.http.client import Client
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.service import HttpService
from langswarm.core.session.testing import simulate

from .wire import (
    CALL,
    PATIENCE_SECONDS,
    answer,
    chunk,
    head,
    idle,
    new_service,
    read_error,
    service_at,
    stream_all,
    wire_server,
)

if TYPE_CHECKING:
    from .wire import Wire

EVENT = b"data: a\n\n"


async def handler(wire: Wire) -> None:
    while True:
        await wire.request()
        await wire.send(answer(EVENT, kind="text/event-stream"))


def test_a_service_is_made_without_a_loop_and_used_in_one_after_another(library: str) -> None:
    services: list[HttpService] = []

    async def program(*, close: bool) -> None:
        async with wire_server(handler) as url:
            service = services[0] if services else new_service(url, library)
            # The server has another port in each loop.
            service.options = HttpOptions(base_url=url, http_library=library)
            services[:] = [service]
            assert await stream_all(service) == ["a"]
            if close:
                await service.aclose()
                await service.aclose()
                assert await stream_all(service) == ["a"]
                await service.aclose()

    for backend in ("asyncio", "trio", "asyncio", "trio"):
        anyio.run(lambda: program(close=True), backend=backend)


async def test_closing_ends_the_connections(library: str) -> None:
    gone = anyio.Event()

    async def watching(wire: Wire) -> None:
        try:
            await handler(wire)
        finally:
            gone.set()

    async with service_at(watching, library) as service:
        await stream_all(service)
        assert not gone.is_set()
        await service.aclose()
        with anyio.fail_after(PATIENCE_SECONDS):
            await gone.wait()


async def test_closing_from_another_loop_than_the_connections_leaves_them_alone() -> None:
    """It could not close them; they are let go."""
    service = new_service("https://api.example.com")

    async def other() -> None:
        state = service._here()
        assert state.backend.is_current()

    await anyio.to_thread.run_sync(lambda: asyncio.run(other()))
    await service.aclose()
    assert service._states.current() is None


def test_certificates_are_read_once_per_library(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(client_module, "_contexts", {})
    module: Any = pytest.importorskip(library)
    create = module.create_ssl_context

    def watch(**options: Any) -> Any:
        made.append(library)
        return create(**options)

    monkeypatch.setattr(module, "create_ssl_context", watch)

    async def program() -> None:
        for _ in range(2):
            options = HttpOptions(
                base_url="https://api.example.com", http_library=library, max_connections=30
            )
            client = Client(module, options)
            pools = [client.choose() for _ in range(30)]
            assert len(set(map(id, pools))) == 3
            await client.close()

    anyio.run(program)
    assert made == [library]


def test_limits_and_breaker_outlive_a_loop() -> None:
    service = HttpService(
        provider="wire",
        options=HttpOptions(base_url="http://127.0.0.1:9", breaker_failures=1),
        auth=dict,
        read_error=read_error,
    )

    async def program() -> None:
        state = service._here()
        if service._breaker.refused_for(state.now()) is None:
            service._breaker.enter().failed(state.now())
        seconds = service._breaker.refused_for(state.now())
        assert seconds is not None
        assert 5 < seconds <= 10

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(program, backend=backend)
    simulate(program, backend="trio", seed=None)


def test_a_native_cancellation_of_asyncio_gives_everything_back(library: str) -> None:
    """`Task.cancel()` goes through a shield, again and again if it is called so."""

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
        await wire.until_gone()

    async def program() -> None:
        async with service_at(silent, library, max_connections=2) as service:

            async def read() -> None:
                async with service.open(CALL) as stream:
                    async for _ in stream:
                        pass

            for times in (1, 2, 3) * 3:
                task = asyncio.create_task(read())
                for _ in range(50):
                    await asyncio.sleep(0.0005)
                for _ in range(times):
                    task.cancel()
                    await asyncio.sleep(0)
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert idle(service)

    asyncio.run(program())
    gc.collect()
