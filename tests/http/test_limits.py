"""Retries, limits per minute and the breaker, in virtual time and through a client handed in."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Literal

import anyio
import httpx
import httpx2
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.retries import pause_seconds
from langswarm.core.session.adapters.http.service import HttpCall, HttpService
from langswarm.core.session.adapters.http.trouble import HttpTroubleError
from langswarm.core.session.testing import simulate

from .wire import CALL, idle, read_error, stream_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Backend = Literal["asyncio", "trio"]
Result = tuple[int, dict[str, str], str]
OK: Result = (200, {}, "{}")


def plain(status: int, text: str = "") -> Result:
    return (status, {}, text)


class Vendor:
    """Answers by a list, then with success; notes when it was asked."""

    def __init__(self, *results: Result | Exception, seconds: float = 0.0) -> None:
        self.results = list(results)
        self.seconds = seconds
        self.times: list[float] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.times.append(round(anyio.current_time() - self.began, 6))
        result = self.results.pop(0) if self.results else OK
        if self.seconds:
            await anyio.sleep(self.seconds)
        if isinstance(result, Exception):
            raise result
        status, headers, text = result
        return httpx.Response(status, headers=headers, text=text)

    def service(self, **options: Any) -> HttpService:
        self.began = anyio.current_time()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return HttpService(
            provider="wire",
            options=HttpOptions(
                base_url="https://api.example.com/v1", http_client=client, **options
            ),
            auth=dict,
            read_error=read_error,
            rng=Random(7),
        )


def in_virtual_time(program: Callable[[], Awaitable[None]]) -> Callable[[Backend], None]:
    def test(backend: Backend) -> None:
        simulate(program, backend=backend, seed=None)

    test.__doc__ = program.__doc__
    marked: Callable[[Backend], None] = pytest.mark.parametrize("backend", ["asyncio", "trio"])(
        test
    )
    return marked


async def failure(service: HttpService, call: HttpCall = CALL) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await service.fetch(call)
    assert idle(service)
    return caught.value


@in_virtual_time
async def test_a_call_is_repeated_after_pauses_from_zero_to_a_bound_that_doubles() -> None:
    vendor = Vendor((500, {}, "no"), httpx.ConnectError("no"), (429, {}, "no"))
    answer = await vendor.service(max_retries=3).fetch(CALL)
    assert answer.status == 200
    rng = Random(7)
    expected = [0.0]
    for retry in range(3):
        expected.append(expected[-1] + pause_seconds(retry, rng))
    assert vendor.times == pytest.approx(expected, abs=1e-5)


@in_virtual_time
async def test_the_last_error_goes_up_when_the_retries_are_used_up() -> None:
    vendor = Vendor(*[plain(500, f"no {number}") for number in range(9)])
    error = await failure(vendor.service())
    assert str(error) == "HTTP 500: no 2"
    assert str(error.__cause__) == "HTTP status 500"
    assert len(vendor.times) == 3


@in_virtual_time
async def test_retry_after_is_waited_to_the_second() -> None:
    vendor = Vendor((429, {"retry-after": "20"}, ""), (503, {"retry-after-ms": "1500"}, ""))
    await vendor.service().fetch(CALL)
    assert vendor.times == [0.0, 20.0, 21.5]


@in_virtual_time
async def test_a_longer_pause_than_max_retry_wait_is_not_waited_but_told() -> None:
    vendor = Vendor((429, {"retry-after": "61"}, ""))
    error = await failure(vendor.service())
    assert error.retry_after_seconds == 61.0
    assert error.retryable
    assert anyio.current_time() - vendor.began == 0
    vendor = Vendor((429, {"retry-after": "61"}, ""))
    await vendor.service(max_retry_wait=100, queue_timeout=100).fetch(CALL)
    assert vendor.times == [0.0, 61.0]


@in_virtual_time
async def test_x_should_retry_goes_before_the_status() -> None:
    vendor = Vendor((500, {"x-should-retry": "false"}, ""))
    error = await failure(vendor.service())
    assert not error.retryable
    assert len(vendor.times) == 1
    vendor = Vendor((400, {"x-should-retry": "true"}, ""))
    await vendor.service().fetch(CALL)
    assert len(vendor.times) == 2


@in_virtual_time
async def test_a_call_that_may_not_be_repeated_is_so_only_after_a_refusal() -> None:
    once = HttpCall(method="POST", path="/", body={}, repeatable=False)
    for failed, times in (
        (httpx.ConnectError("no"), 2),
        (plain(429), 2),
        (httpx.ReadError("no"), 1),
        (plain(502), 1),
        (httpx.RemoteProtocolError("no"), 1),
    ):
        vendor = Vendor(failed)
        service = vendor.service()
        if times == 1:
            await failure(service, once)
        else:
            await service.fetch(once)
        assert len(vendor.times) == times, failed


@in_virtual_time
async def test_requests_per_minute_are_kept_to_first_come_first_served() -> None:
    vendor = Vendor()
    service = vendor.service(requests_per_minute=60, queue_timeout=100)
    order: list[int] = []

    async def one(number: int) -> None:
        await service.fetch(CALL)
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(80):
            group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
    assert vendor.times == pytest.approx([0.0] * 60 + [float(number) for number in range(1, 21)])
    assert order == list(range(80))


@in_virtual_time
async def test_tokens_per_minute_are_kept_to() -> None:
    vendor = Vendor()
    service = vendor.service(tokens_per_minute=600)
    call = HttpCall(method="POST", path="/", tokens=300)
    for _ in range(4):
        await service.fetch(call)
    assert vendor.times == pytest.approx([0.0, 0.0, 30.0, 60.0])


@in_virtual_time
async def test_a_wait_longer_than_queue_timeout_is_refused_at_once() -> None:
    vendor = Vendor()
    service = vendor.service(requests_per_minute=1, queue_timeout=59)
    await service.fetch(CALL)
    began = anyio.current_time()
    error = await failure(service)
    assert anyio.current_time() == began
    assert isinstance(error, HttpTroubleError)
    assert (error.code, error.retryable, error.ambiguous) == ("rate_limit", True, False)
    assert error.retry_after_seconds == pytest.approx(60.0)
    assert "requests_per_minute or tokens_per_minute" in str(error)
    assert len(vendor.times) == 1


@in_virtual_time
async def test_what_the_headers_tell_slows_the_next_requests_of_that_model_only() -> None:
    used_up = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "50s",
    }
    vendor = Vendor((200, used_up, "{}"))
    service = vendor.service()
    await service.fetch(CALL)
    await service.fetch(HttpCall(method="POST", path="/", body={"model": "another"}))
    await service.fetch(CALL)
    assert vendor.times == pytest.approx([0.0, 0.0, 5.0])


@in_virtual_time
async def test_one_refusal_with_retry_after_holds_all_of_the_model_back() -> None:
    vendor = Vendor((429, {"retry-after": "10"}, ""))
    service = vendor.service(max_retries=0)
    await failure(service)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(service.fetch, CALL)
    assert vendor.times == [0.0] + [10.0] * 5


@in_virtual_time
async def test_one_who_gives_up_waiting_does_not_stop_the_line() -> None:
    vendor = Vendor()
    service = vendor.service(requests_per_minute=60)
    for _ in range(60):
        await service.fetch(CALL)
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.5):
            await service.fetch(CALL)
        group.start_soon(service.fetch, CALL)
    assert vendor.times[60:] == pytest.approx([1.0])
    assert idle(service)


@in_virtual_time
async def test_a_service_that_is_down_is_left_alone_and_tried_once_after_a_pause() -> None:
    vendor = Vendor(*[httpx.ConnectError("no")] * 3, (529, {}, ""), seconds=0.25)
    service = vendor.service(breaker_failures=3, breaker_pause=10, max_retries=0)
    for _ in range(3):
        await failure(service)
    began = anyio.current_time()
    error = await failure(service)
    assert anyio.current_time() == began
    assert isinstance(error, HttpTroubleError)
    assert (error.code, error.retryable, error.ambiguous) == ("overloaded", True, False)
    assert error.retry_after_seconds == pytest.approx(10.0)
    assert "breaker_failures=3 times in a row" in str(error)
    assert len(vendor.times) == 3
    await anyio.sleep(10)
    outcomes: list[str] = []

    async def one() -> None:
        try:
            await service.fetch(CALL)
            outcomes.append("ok")
        except ProviderError as error:
            outcomes.append(str(error)[:24])

    for ends in ("HTTP 529: ", "ok"):
        outcomes.clear()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
        assert sorted(set(outcomes)) == sorted({ends, "provider 'wire': https://"[:24]})
        assert outcomes.count(ends) == 1
        await anyio.sleep(10)
    await service.fetch(CALL)


@in_virtual_time
async def test_a_callers_own_faults_never_open_the_breaker() -> None:
    vendor = Vendor(*[plain(status) for status in (400, 401, 403, 404, 422, 429)] * 5)
    service = vendor.service(breaker_failures=1, max_retries=0)
    for _ in range(30):
        await failure(service)
    await service.fetch(CALL)


@in_virtual_time
async def test_a_trial_that_was_cancelled_is_followed_by_another() -> None:
    vendor = Vendor(httpx.ConnectError("no"), seconds=1)
    service = vendor.service(breaker_failures=1, breaker_pause=5, max_retries=0)
    await failure(service)
    await anyio.sleep(5)
    with anyio.move_on_after(0.5):
        await service.fetch(CALL)
    await service.fetch(CALL)


@in_virtual_time
async def test_a_service_that_stalls_counts_as_down() -> None:
    vendor = Vendor(seconds=1_000)
    service = vendor.service(breaker_failures=1, timeout=5, max_retries=0)
    error = await failure(service)
    assert error.code == "timeout"
    assert anyio.current_time() - vendor.began == pytest.approx(5)
    assert (await failure(service)).code == "overloaded"


@in_virtual_time
async def test_ten_minutes_of_a_slow_answer_are_waited_and_no_more() -> None:
    vendor = Vendor(seconds=599)
    service = vendor.service(max_retries=0)
    await service.fetch(CALL)
    vendor.seconds = 601
    error = await failure(service)
    assert "timeout=600 s" in str(error)


@in_virtual_time
async def test_a_stalled_stream_ends_after_a_minute_and_pings_are_signs_of_life() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            await anyio.sleep(59)
            yield b": ping\n\n"
        yield b"data: a\n\n"
        await anyio.sleep(1_000)

    async def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body())

    vendor = Vendor()
    vendor.answer = handler  # type: ignore[method-assign]
    service = vendor.service()
    with pytest.raises(HttpTroubleError, match="stalled for stall_timeout=60 s") as caught:
        await stream_all(service)
    assert anyio.current_time() - vendor.began == pytest.approx(5 * 59 + 60)
    assert caught.value.code == "timeout"
    assert idle(service)


@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_client_that_is_handed_in_is_used_as_it_is_and_not_closed(module: Any) -> None:
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        if request.url.path.endswith("/events"):
            content = b"data: a\n\n"
            return module.Response(
                200, headers={"content-type": "text/event-stream"}, content=content
            )
        return module.Response(200, json={"ok": True})

    hooked: list[str] = []

    async def hook(request: Any) -> None:
        hooked.append(str(request.url))

    async with module.AsyncClient(
        transport=module.MockTransport(answer),
        headers={"x-of-client": "1"},
        event_hooks={"request": [hook]},
    ) as client:
        service = HttpService(
            provider="wire",
            options=HttpOptions(base_url="https://api.example.com/v1", http_client=client),
            auth=lambda: {"authorization": "Bearer k"},
            read_error=read_error,
        )
        assert (await service.fetch(CALL)).body == {"ok": True}
        assert await stream_all(service, HttpCall(method="GET", path="events")) == ["a"]
        await service.aclose()
        assert not client.is_closed
        assert (await service.fetch(CALL)).body == {"ok": True}
    assert hooked[0] == "https://api.example.com/v1/ask"
    assert seen[0].headers["x-of-client"] == "1"
    assert seen[0].headers["authorization"] == "Bearer k"


async def test_an_error_of_a_hook_is_an_error_of_the_client() -> None:
    async def hook(request: httpx.Request) -> None:
        raise LookupError("in the hook")

    async with httpx.AsyncClient(event_hooks={"request": [hook]}) as client:
        service = HttpService(
            provider="wire",
            options=HttpOptions(base_url="https://api.example.com/v1", http_client=client),
            auth=dict,
            read_error=read_error,
        )
        error = await failure(service)
    assert error.code == "internal"
    assert "in the hook" in str(error.__cause__)
