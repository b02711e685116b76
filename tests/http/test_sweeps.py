"""A request is cancelled wherever it can be: nothing it held is lost, and the next ones are served.

In virtual time, with pools whose wire is a function in this process.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.client import Client, Pool
from langswarm.core.session.testing import sweep_cancellations

from .wire import idle, new_service, stream_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from langswarm.core.session.adapters.http.service import HttpService
    from langswarm.core.session.testing import Backend, Cancellations

MODES: list[tuple[Backend, bool]] = [("asyncio", False), ("asyncio", True), ("trio", False)]
EVENT = b"data: a\n\n"
MOMENT = 0.001


class Body(httpx.AsyncByteStream):
    """Three events, with waits before and after each."""

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        for _ in range(3):
            await anyio.sleep(MOMENT)
            yield EVENT

    async def aclose(self) -> None:
        await anyio.sleep(MOMENT)


class Wire:
    """Answers by a list of statuses, then with success; None: the connection is lost."""

    def __init__(self, *statuses: int | None) -> None:
        self.statuses = list(statuses)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(MOMENT)
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            raise httpx.ReadError("lost")
        if status != 200:
            return httpx.Response(status, headers={"retry-after-ms": "5"}, stream=Body())
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=Body())


async def ask(service: HttpService) -> list[str]:
    """As a provider asks: attempt after attempt."""
    attempts = service.attempts()
    while True:
        try:
            return await stream_all(service)
        except ProviderError as error:
            if not await attempts.again(error):
                raise


async def quietly(service: HttpService) -> None:
    with suppress(ProviderError):
        await ask(service)


@pytest.mark.parametrize(("backend", "native"), MODES)
@pytest.mark.parametrize(
    ("statuses", "options"),
    [
        ((), {"max_connections": 1}),
        ((429, 503), {"max_connections": 1, "max_retries": 3}),
        ((None, 500), {"max_connections": 2, "breaker_failures": 2, "breaker_pause": 0.5}),
        ((), {"max_connections": 1, "requests_per_minute": 3}),
        ((None,), {"max_connections": 1, "breaker_failures": 1, "breaker_pause": 0.001}),
    ],
)
def test_wherever_a_request_is_cancelled_everything_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
    backend: Backend,
    native: bool,
    statuses: tuple[int | None, ...],
    options: dict[str, Any],
) -> None:
    """One of three at once is cancelled, and once more on its way out; then three more come."""
    wire = Wire()

    def make_pool(client: Client, places: int) -> Pool:
        return Pool(httpx.MockTransport(wire.handle), places)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "_make_pool", make_pool)

    async def program(sweep: Cancellations) -> list[str]:
        wire.statuses = list(statuses)
        service = new_service("http://127.0.0.1:9", queue_timeout=86_400.0, **options)
        if options.get("breaker_failures") == 1:
            await quietly(service)
            await anyio.sleep(1)  # the next one is the trial
        async with anyio.create_task_group() as group:
            group.start_soon(sweep.call, ask, service)
            group.start_soon(quietly, service)
            group.start_soon(quietly, service)
        problems = [] if idle(service) else ["something is still held"]
        wire.statuses = []
        await anyio.sleep(1)
        before = anyio.current_time()
        served = [await stream_all(service) for _ in range(3)]
        if served != [["a"] * 3] * 3:
            problems.append("a later request was not served")
        limited = options.get("requests_per_minute")
        if limited is None and anyio.current_time() - before > 1:
            problems.append("a later request had to wait")
        if limited is not None and anyio.current_time() - before > 61:
            problems.append("a request that was given up used a limit up")
        await service.aclose()
        if not idle(service):
            problems.append("something is held at the end")
        return problems

    report = sweep_cancellations(
        program, lambda found: found, backend=backend, native=native, points=2
    )
    assert not report.violations, report
    assert report.runs > 10
