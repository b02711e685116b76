"""Cancelled requests give everything back, at once, and never take a place with them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http import stream as stream_module
from langswarm.core.session.adapters.http.client import CONNECTIONS_PER_POOL, Client
from langswarm.core.session.adapters.http.service import HttpCall
from langswarm.core.session.adapters.http.trouble import HttpTroubleError

from .wire import CALL, PATIENCE_SECONDS, answer, chunk, head, idle, service_at, stream_all

if TYPE_CHECKING:
    from langswarm.core.session.adapters.http.client import Pool
    from langswarm.core.session.adapters.http.service import HttpService

    from .wire import Handler, Wire

EVENT = b"data: a\n\n"
REQUESTS = 600


def whimsical(rng: Random) -> Handler:
    """A server that answers soon, and closes its connections in all the ways there are."""

    async def handler(wire: Wire) -> None:
        while True:
            await wire.request()
            await anyio.sleep(rng.choice((0, 0.001, 0.003)))
            way = rng.random()
            if way < 0.2:
                header = {"connection": "close"}
                await wire.send(answer(EVENT, headers=header, kind="text/event-stream"))
                return
            await wire.send(answer(EVENT, kind="text/event-stream"))
            if way < 0.4:
                return

    return handler


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_cancellations_leaves_every_connection_usable(
    library: str, seed: int
) -> None:
    """30 tasks on 10 connections, each request cancelled at a random moment; then 100 of 100."""
    rng = Random(seed)
    cancelled = 0
    codes: set[str] = set()
    left = REQUESTS

    async with service_at(whimsical(rng), library, max_connections=10, max_retries=2) as service:

        async def storm() -> None:
            nonlocal cancelled, left
            while left > 0:
                left -= 1
                with anyio.move_on_after(rng.choice((0, 0.0002, 0.001, 0.003, 0.01))) as scope:
                    try:
                        await stream_all(service)
                    except ProviderError as error:
                        codes.add(error.code)
                cancelled += scope.cancelled_caught

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(storm)
        assert cancelled > REQUESTS // 4
        assert codes <= {"connection", "truncated"}
        assert idle(service)

        served = 0

        async def calm() -> None:
            nonlocal served
            attempts = service.attempts()
            while True:
                try:
                    assert await stream_all(service) == ["a"]
                    break
                except ProviderError as error:  # the server may close a connection it kept
                    if not await attempts.again(error):
                        raise
            served += 1

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(calm)
        assert served == 100


async def test_a_pool_that_lost_its_places_is_replaced_and_the_request_goes_on(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cancellations under contention do to a pool of httpx 0.28: no place is ever free."""
    retired: list[Pool] = []
    retire = Client.retire

    def watch(client: Client, pool: Pool) -> None:
        retired.append(pool)
        retire(client, pool)

    monkeypatch.setattr(Client, "retire", watch)

    async def handler(wire: Wire) -> None:
        while True:
            _, body = await wire.request()
            if b"hold" in body:
                await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
                await wire.until_gone()
            await wire.send(answer(EVENT, kind="text/event-stream"))

    async with service_at(handler, library, max_connections=CONNECTIONS_PER_POOL) as service:
        assert await stream_all(service) == ["a"]
        assert service._states.latest is not None
        (pool,) = service._states.latest.client._pools
        await _fill(service, pool)
        assert await stream_all(service) == ["a"]
        assert retired == [pool]
        assert await stream_all(service) == ["a"]
        assert retired == [pool]
        assert service._states.latest.client._retired == []


async def _fill(service: HttpService, pool: Pool) -> None:
    """Take all places of a pool behind the service's back."""
    assert service._states.latest is not None
    hold = HttpCall(method="POST", path="/", body={"hold": 1})
    url, content = service._write(hold)
    for _ in range(CONNECTIONS_PER_POOL):
        request = service._request(service._states.latest, hold, url, content, streamed=True)
        response = await pool.send(request)
        assert response.status_code == 200


@pytest.mark.parametrize("moment", ["in the queue", "before the head", "within the body"])
async def test_a_cancelled_request_gives_back_what_it_held(moment: str, library: str) -> None:
    arrived = anyio.Event()
    gone = anyio.Event()

    async def handler(wire: Wire) -> None:
        await wire.request()
        if moment == "within the body":
            await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
        arrived.set()
        try:
            await wire.until_gone()
        finally:
            gone.set()

    async with service_at(handler, library, max_connections=1) as service:
        async with anyio.create_task_group() as group:
            group.start_soon(stream_all, service)
            await arrived.wait()
            if moment == "in the queue":
                with anyio.move_on_after(0.01):
                    await stream_all(service)
                assert service._states.latest is not None
                assert service._states.latest.gate.waiting == 0
            group.cancel_scope.cancel()
        assert idle(service)
        with anyio.fail_after(PATIENCE_SECONDS):
            await gone.wait()


async def test_closing_waits_no_longer_than_its_bound_though_the_client_hangs(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "CLOSING_SECONDS", 0.05)

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
        await wire.until_gone()

    async with service_at(handler, library) as service:
        opening = service.open(CALL)
        stream = await opening.__aenter__()
        assert await anext(stream)
        closing = stream._response.aclose
        monkeypatch.setattr(stream._response, "aclose", anyio.sleep_forever)
        with anyio.move_on_after(PATIENCE_SECONDS) as scope:
            scope.cancel()
            await opening.__aexit__(None, None, None)
        assert idle(service)
        await closing()


async def test_the_line_for_connections_is_first_come_first_served() -> None:
    order: list[int] = []
    release = anyio.Event()

    async def handler(wire: Wire) -> None:
        while True:
            _, body = await wire.request()
            if b"first" in body:
                await release.wait()
            await wire.send(answer(EVENT, kind="text/event-stream"))

    async with service_at(handler, max_connections=1) as service:

        async def one(number: int) -> None:
            await stream_all(service)
            order.append(number)

        async with anyio.create_task_group() as group:
            group.start_soon(_first, service)
            await anyio.wait_all_tasks_blocked()
            for number in range(20):
                group.start_soon(one, number)
                await anyio.wait_all_tasks_blocked()
            release.set()
    assert order == list(range(20))


async def _first(service: HttpService) -> None:
    await stream_all(service, HttpCall(method="POST", path="/", body={"first": 1}))


async def test_who_waits_too_long_for_a_connection_is_told_which_option_says_so() -> None:
    release = anyio.Event()

    async def handler(wire: Wire) -> None:
        await wire.request()
        await release.wait()
        await wire.send(answer(EVENT, kind="text/event-stream"))
        await wire.until_gone()

    async with (
        service_at(handler, max_connections=1, queue_timeout=0.02) as service,
        anyio.create_task_group() as group,
    ):
        group.start_soon(stream_all, service)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(HttpTroubleError, match=r"queue_timeout=0\.02 s") as caught:
            await stream_all(service)
        error = caught.value
        assert (error.code, error.retryable, error.ambiguous) == ("overloaded", True, False)
        assert not error.worth_repeating
        release.set()
