"""One streamed turn: deltas per read, repeats before the first text only, facts at the end."""

from __future__ import annotations

from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import anyio
import httpx
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.secret import Secret
from langswarm.core.session.adapters.http.service import HttpCall, HttpService
from langswarm.core.session.adapters.providers.asking import ask
from langswarm.core.session.providers import Completed, TextDelta
from langswarm.core.session.testing import simulate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    from langswarm.core.session.adapters.http.sse import ServerSentEvent
    from langswarm.core.session.providers import ProviderEvent

Backend = Literal["asyncio", "trio"]
KEY = "canary-key-of-the-vendor"
TYPE = {"content-type": "text/event-stream"}


class WordReader:
    """Each event is a word; "." ends the answer, "!" is an error that comes within it."""

    def feed(self, event: ServerSentEvent) -> Iterable[str | Completed]:
        if event.data == ".":
            yield Completed(output_tokens=7, metadata={"of": "the vendor"})
        elif event.data.startswith("!"):
            raise ProviderError(event.data, code="overloaded", retryable=True)
        else:
            yield event.data

    def end(self) -> Completed:
        raise ProviderError("cut off", code="truncated", retryable=True)


def words(*given: str) -> bytes:
    return "".join(f"data: {word}\n\n" for word in given).encode()


class Vendor:
    """Answers each request with the next list of pieces, one read each."""

    def __init__(self, *answers: list[bytes | Exception] | httpx.Response) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        found = self.answers.pop(0)
        if isinstance(found, httpx.Response):
            return found

        async def pieces() -> AsyncGenerator[bytes]:
            for piece in found:
                await anyio.lowlevel.checkpoint()
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        headers = {
            **TYPE,
            "X-Request-Id": f"req_1 {KEY}",
            "x-ratelimit-remaining-tokens": "90",
        }
        return httpx.Response(200, headers=headers, content=pieces())

    def service(self, **options: Any) -> HttpService:
        def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
            return ProviderError(str(body), code="overloaded", retryable=status >= 500)

        key = Secret(KEY)
        return HttpService(
            provider="words",
            options=HttpOptions(
                base_url="https://api.example.com",
                http_client=httpx.AsyncClient(transport=httpx.MockTransport(self.handle)),
                **options,
            ),
            auth=lambda: {"authorization": f"Bearer {key.reveal()}"},
            read_error=read_error,
            secrets=[key],
            rng=Random(3),
        )


CALL = HttpCall(method="POST", path="/words", body={})


async def all_of(service: HttpService, call: HttpCall = CALL) -> list[ProviderEvent]:
    return [event async for event in ask(service, call, WordReader)]


async def rest_of(events: AsyncGenerator[ProviderEvent]) -> list[ProviderEvent]:
    return [event async for event in events]


def in_virtual_time(program: Callable[[], Awaitable[None]]) -> Callable[[Backend], None]:
    def test(backend: Backend) -> None:
        simulate(program, backend=backend, seed=None)

    test.__doc__ = program.__doc__
    marked: Callable[[Backend], None] = pytest.mark.parametrize("backend", ["asyncio", "trio"])(
        test
    )
    return marked


@in_virtual_time
async def test_the_texts_of_one_read_are_one_delta_and_the_end_has_the_facts() -> None:
    vendor = Vendor([words("a", "b", "c"), words("d")[:5], words("d")[5:], words("e", ".", "f")])
    events = await all_of(vendor.service())
    assert events == [
        TextDelta("abc"),
        TextDelta("d"),
        TextDelta("e"),
        Completed(
            output_tokens=7,
            metadata={
                "request_id": "req_1 [secret]",
                "rate_limits": {"remaining-tokens": "90"},
                "of": "the vendor",
            },
        ),
    ]


@in_virtual_time
async def test_a_failure_before_the_first_text_is_repeated_with_a_new_reader() -> None:
    vendor = Vendor(
        httpx.Response(503, text="busy"),
        [words("!early")],
        [words(), httpx.ReadError("lost")],
        [],
        [words("a", ".")],
    )
    events = await all_of(vendor.service(max_retries=4))
    assert events[0] == TextDelta("a")
    assert vendor.asked == 5


@in_virtual_time
async def test_nothing_is_repeated_after_the_first_text() -> None:
    for rest in ([words("!late")], [httpx.ReadError("lost")], [], [words("b", "!late")]):
        vendor = Vendor([words("a"), *rest], [words("never", ".")])
        events = ask(vendor.service(), CALL, WordReader)
        assert await anext(events) == TextDelta("a")
        with pytest.raises(ProviderError):
            await rest_of(events)
        assert vendor.asked == 1


@in_virtual_time
async def test_the_text_before_an_error_in_the_same_read_is_given_out() -> None:
    vendor = Vendor([words("a", "b", "!late")])
    events = ask(vendor.service(), CALL, WordReader)
    assert await anext(events) == TextDelta("ab")
    with pytest.raises(ProviderError, match="!late"):
        await anext(events)


@in_virtual_time
async def test_a_call_that_may_not_be_repeated_goes_up_where_it_may_have_arrived() -> None:
    once = HttpCall(method="POST", path="/words", body={}, repeatable=False)
    for first, asked in (
        (httpx.Response(502, text="lost"), 1),
        ([words("!early")], 1),
        ([httpx.ReadError("lost")], 1),
        (httpx.Response(529, text="busy"), 2),
    ):
        vendor = Vendor(first, [words("a", ".")])  # type: ignore[arg-type]
        service = vendor.service()
        if asked == 1:
            with pytest.raises(ProviderError):
                await all_of(service, once)
        else:
            assert len(await all_of(service, once)) == 2
        assert vendor.asked == asked


@in_virtual_time
async def test_an_end_without_the_last_event_is_a_failure() -> None:
    vendor = Vendor([words("a")])
    with pytest.raises(ProviderError, match="cut off") as caught:
        await all_of(vendor.service())
    assert caught.value.code == "truncated"


@in_virtual_time
async def test_no_text_of_a_vendor_brings_the_key_back() -> None:
    vendor = Vendor([words(f"!wrong key {KEY}")])
    with pytest.raises(ProviderError) as caught:
        await all_of(vendor.service(max_retries=0))
    assert str(caught.value) == "!wrong key [secret]"
    assert caught.value.__context__ is None


@in_virtual_time
async def test_leaving_an_answer_half_way_gives_its_connection_back() -> None:
    vendor = Vendor([words("a"), words("b"), words(".")], [words("c", ".")])
    service = vendor.service(max_connections=1)
    async with aclosing(ask(service, CALL, WordReader)) as events:
        assert await anext(events) == TextDelta("a")
    assert (await all_of(service))[0] == TextDelta("c")


@in_virtual_time
async def test_the_connection_is_free_when_the_end_is_told() -> None:
    vendor = Vendor([words("a", ".")], [words("b", ".")])
    service = vendor.service(max_connections=1)
    async with aclosing(ask(service, CALL, WordReader)) as events:
        async for event in events:
            if isinstance(event, Completed):
                assert (await all_of(service))[0] == TextDelta("b")


@in_virtual_time
async def test_a_body_that_goes_on_after_the_end_is_not_waited_for() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        async def pieces() -> AsyncGenerator[bytes]:
            yield words("a", ".")
            await anyio.sleep_forever()

        return httpx.Response(200, headers=TYPE, content=pieces())

    vendor = Vendor()
    vendor.handle = handle  # type: ignore[method-assign]
    began = anyio.current_time()
    events = await all_of(vendor.service())
    assert isinstance(events[-1], Completed)
    assert anyio.current_time() - began == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [b"data: \xff\n\n", b"data: " + b"x" * 5_000_000])
async def test_an_answer_that_is_complete_stands_whatever_follows_in_the_same_read(
    wrong: bytes,
) -> None:
    vendor = Vendor([words("a", "b", ".") + wrong])
    delta, end = await all_of(vendor.service())
    assert delta == TextDelta("ab")
    assert isinstance(end, Completed)


async def test_what_came_before_garbage_in_the_same_read_is_given_out() -> None:
    vendor = Vendor([words("a", "b") + b"data: \xff\n\n"])
    events = ask(vendor.service(), CALL, WordReader)
    assert await anext(events) == TextDelta("ab")
    with pytest.raises(ProviderError) as caught:
        await anext(events)
    assert caught.value.code == "protocol"
    assert vendor.asked == 1
