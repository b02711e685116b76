"""A key shows up nowhere, whichever way a call fails."""

from __future__ import annotations

import json
import logging
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import httpx
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.secret import Secret
from langswarm.core.session.adapters.http.service import HttpCall, HttpService

from .wire import CALL, KEY, answer, head, new_service, read_error, stream_all, wire_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .wire import Wire

CANARY = "canary-key"
ECHOES = [KEY, quote(KEY, safe=""), json.dumps(KEY)]

ANSWERS: dict[str, bytes] = {
    "nothing": b"",
    "an echo instead of HTTP": f"{KEY}\r\n\r\n".encode(),
    "an echo in a header's name": f"HTTP/1.1 200 OK\r\n{KEY}: 1\r\n\r\n".encode(),
    "a redirect to an echo": answer("", 302, {"location": f"https://x/{quote(KEY)}"}),
    "an echo as type": answer("x", kind=f"text/{KEY}"),
    "an echo as text": answer(
        " ".join((*ECHOES, KEY[:14])), 401, {"x-request-id": KEY}, kind="text/plain"
    ),
    "an echo as JSON": answer(json.dumps({"error": ECHOES}), 500),
    "an echo that is cut": answer("a" * 65_530 + KEY, 500),
    "an echo in place of a stream": answer(" ".join(ECHOES), kind="text/plain"),
    "an echo in place of a chunk": head(headers={"transfer-encoding": "chunked"}) + KEY.encode(),
    "an echo that is no UTF-8": answer(
        f"data: {KEY} ".encode() + b"\xff\n\n", kind="text/event-stream"
    ),
    "an echo that is too large": answer(f"data: {KEY * 200_000}\n\n", kind="text/event-stream"),
    "silence": head(headers={"transfer-encoding": "chunked"}),
}


def shown(error: BaseException) -> str:
    """All that anybody may print of an error."""
    told: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None:
            continue
        told += [str(each), repr(each), repr(each.args), repr(each.__dict__)]
        todo += [each.__cause__, each.__context__]
    printed = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join((*told, *printed.format()))


def assert_nothing_shows(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    for text in (shown(error), caplog.text):
        where = text.find(CANARY)
        assert where < 0, text[max(0, where - 300) : where + 100]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_no_answer_makes_a_key_show(
    name: str, streamed: bool, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # At level DEBUG the client's own library writes down whatever a service sends.
    caplog.set_level(logging.INFO, "httpcore")
    caplog.set_level(logging.INFO, "httpcore2")

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(ANSWERS[name])
        if name == "silence":
            await wire.until_gone()

    async with wire_server(handler) as url:
        service = new_service(url, library, timeout=0.2 if name == "silence" else 10)
        error = await _failure(service, streamed=streamed)
        await service.aclose()
    assert_nothing_shows(error, caplog)


async def _failure(service: HttpService, *, streamed: bool) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await (stream_all(service) if streamed else service.fetch(CALL))
    return caught.value


async def test_nothing_that_is_logged_at_any_level_about_a_request_holds_the_key(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def handler(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(answer("{}"))

    async with wire_server(handler) as url:
        service = new_service(url, library, headers={"x-gateway-token": "canary-key-of-a-gateway"})
        await service.fetch(CALL)
        await service.aclose()
    assert caplog.text
    assert CANARY not in caplog.text
    assert "canary" not in repr(service.options) + repr(service) + repr(CALL)


class Raising(httpx.AsyncBaseTransport):
    """Fails as a library may: with the headers in its text."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        value = request.headers.raw
        error = self.kind(f"Illegal header value {value!r}")
        raise error from ValueError(f"within: {value!r}")


@pytest.mark.parametrize(
    "kind",
    [
        httpx.LocalProtocolError,
        httpx.ConnectError,
        httpx.ReadError,
        httpx.RemoteProtocolError,
        httpx.PoolTimeout,
        httpx.ReadTimeout,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
        httpx.CookieConflict,
        OSError,
        anyio.ClosedResourceError,
        RuntimeError,
    ],
)
async def test_no_exception_of_the_client_makes_a_key_show(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx.AsyncClient(transport=Raising(kind)) as client:
        service = new_service("https://api.example.com", http_client=client)
        error = await _failure(service, streamed=True)
    assert_nothing_shows(error, caplog)
    assert error.__cause__ is not None
    if kind is not anyio.ClosedResourceError:
        assert "[secret]" in str(error.__cause__)
    assert error.code in {"connection", "invalid_request", "overloaded", "timeout", "internal"}


async def test_a_key_that_no_header_can_hold_fails_when_it_is_given_and_not_when_it_is_sent() -> (
    None
):
    key = Secret("canary-key")

    def auth() -> Mapping[str, str]:
        return {"x-api-key": key.reveal() + "\n"}

    async def nobody(wire: Wire) -> None:
        await wire.until_gone()

    async with wire_server(nobody) as url:
        service = HttpService(
            provider="wire",
            options=HttpOptions(base_url=url, max_retries=0),
            auth=auth,
            read_error=read_error,
            secrets=[key],
        )
        error = await _failure(service, streamed=False)
        await service.aclose()
    assert error.code == "invalid_request"
    assert CANARY not in shown(error)


async def test_an_auth_that_raises_is_an_error_that_tells_no_more_than_allowed() -> None:
    key = Secret("canary-key")

    def auth() -> Mapping[str, str]:
        raise LookupError(f"no such vault: {key.reveal()}")

    service = HttpService(
        provider="wire",
        options=HttpOptions(base_url="https://api.example.com"),
        auth=auth,
        read_error=read_error,
        secrets=[key],
    )
    error = await _failure(service, streamed=True)
    assert error.code == "internal"
    assert CANARY not in shown(error)
    await service.aclose()


async def test_a_body_that_is_no_json_does_not_tell_what_is_in_it() -> None:
    service = new_service("https://api.example.com")
    call: Any = HttpCall(method="POST", path="/", body={"a": {KEY}})
    with pytest.raises(ProviderError) as caught:
        await service.fetch(call)
    assert "canary" not in str(caught.value)
