"""What goes over the wire, and what may come back: every fault ends as a ProviderError, soon."""

from __future__ import annotations

import gzip
import json
import socket
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.service import HttpCall, HttpService
from langswarm.core.session.adapters.http.trouble import HttpTroubleError

from .wire import (
    CALL,
    KEY,
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
    from langswarm.core.session.actors.errors import ProviderCode

    from .wire import Wire

EVENT = b"data: a\n\n"


async def failure(service: HttpService, call: HttpCall = CALL) -> HttpTroubleError:
    with pytest.raises(HttpTroubleError) as caught:
        await stream_all(service, call)
    assert caught.value.provider == "wire"
    assert caught.value.__context__ is None
    return caught.value


async def test_a_request_is_json_with_the_key_and_nothing_unknown(library: str) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handler(wire: Wire) -> None:
        while True:
            seen.append(await wire.request())
            await wire.send(answer('{"ok": "é"}', headers={"X-Request-Id": "r1"}))

    async with service_at(handler, library, headers={"X-Team": "a"}) as service:
        call = HttpCall(
            method="POST",
            path="/ask/conv_1",
            body={"text": "é", "n": None},
            query={"limit": "2", "a b": "&"},
            headers={"anthropic-version": "1"},
        )
        result = await service.fetch(call)
        assert (result.status, result.body) == (200, {"ok": "é"})
        assert result.headers["x-request-id"] == "r1"
        await service.fetch(HttpCall(method="DELETE", path="ask"))
    lines = seen[0][0].decode().split("\r\n")
    assert lines[0] == "POST /v1/ask/conv_1?limit=2&a+b=%26 HTTP/1.1"
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
    }
    assert headers.pop("host").startswith("127.0.0.1:")
    assert headers == {
        "user-agent": "langswarm-session",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "22",
        "x-team": "a",
        "anthropic-version": "1",
        "x-api-key": KEY,
    }
    assert json.loads(seen[0][1]) == {"text": "é", "n": None}
    assert seen[1][1] == b""
    assert b"content-type" not in seen[1][0]


async def test_one_connection_serves_one_request_after_the_other(library: str) -> None:
    connections = 0

    async def handler(wire: Wire) -> None:
        nonlocal connections
        connections += 1
        while True:
            await wire.request()
            await wire.send(answer(EVENT, kind="text/event-stream"))

    async with service_at(handler, library) as service:
        for _ in range(5):
            assert await stream_all(service) == ["a"]
            assert (await service.attempts().again(ProviderError("", code="auth"))) is False
    assert connections == 1


async def test_no_cookie_is_kept(library: str) -> None:
    seen: list[bytes] = []

    async def handler(wire: Wire) -> None:
        while True:
            seen.append((await wire.request())[0])
            await wire.send(answer("{}", headers={"set-cookie": "session=1; path=/"}))

    async with service_at(handler, library) as service:
        await service.fetch(CALL)
        await service.fetch(CALL)
    assert len(seen) == 2
    assert b"cookie" not in b"".join(seen).lower()


async def test_a_stream_is_read_in_pieces_of_one_byte(library: str) -> None:
    content = 'event: x\r\ndata: {"t": "é😀"}\r\n\r\n: ping\r\n\r\ndata: b\r\n\r\n'.encode()

    async def handler(wire: Wire) -> None:
        await wire.request()
        for byte in answer(content, kind="text/event-stream; charset=utf-8"):
            await wire.send(bytes([byte]))
        await wire.until_gone()

    async with service_at(handler, library) as service:
        assert await stream_all(service) == ['{"t": "é😀"}', "b"]


async def test_a_body_that_is_packed_all_the_same_is_unpacked(library: str) -> None:

    async def handler(wire: Wire) -> None:
        await wire.request()
        packed = gzip.compress(EVENT * 3)
        await wire.send(
            answer(packed, headers={"content-encoding": "gzip"}, kind="text/event-stream")
        )
        await wire.until_gone()

    async with service_at(handler, library) as service:
        assert await stream_all(service) == ["a"] * 3


FAULTS: dict[str, tuple[bytes, ProviderCode, bool, str]] = {
    "nothing": (b"", "connection", True, "ended the connection"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "connection", True, "spoke no HTTP"),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-", "connection", True, "ended the connection"),
    "an endless head": (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000, "connection", True, "HTTP"),
    "cut by length": (
        head(headers={"content-length": "100"}) + EVENT,
        "truncated",
        True,
        "ended the connection within its answer",
    ),
    "cut in chunks": (
        head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT),
        "truncated",
        True,
        "within its answer",
    ),
    "broken chunks": (
        head(headers={"transfer-encoding": "chunked"}) + b"zz\r\n",
        "truncated",
        True,
        "within its answer",
    ),
    "HTML": (
        answer("<html>no</html>", kind="text/html"),
        "protocol",
        True,
        "no stream of events but text/html: '<html>no</html>'",
    ),
    "JSON": (answer("{}"), "protocol", True, "no stream of events but application/json"),
    "bad UTF-8": (answer(b"data: \xff\n\n", kind="text/event-stream"), "protocol", True, "UTF-8"),
    "a large event": (
        answer(b"data: " + b"a" * 5_000_000 + b"\n\n", kind="text/event-stream"),
        "protocol",
        True,
        "an event of more than 4,194,304 bytes",
    ),
    "a redirect": (
        answer("", 307, {"location": "https://elsewhere.example/v1?q=1"}),
        "invalid_request",
        False,
        "HTTP 307, a redirect to 'https://elsewhere.example/v1'; redirects are not followed",
    ),
    "not modified": (answer("", 304), "invalid_request", False, "HTTP 304"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_stream_that_is_none_is_an_error(name: str, library: str) -> None:
    content, code, ambiguous, text = FAULTS[name]

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(content)

    async with service_at(handler, library) as service:
        error = await failure(service)
        assert idle(service)
    assert error.code == code
    assert error.ambiguous is ambiguous
    assert text in str(error)


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (answer("<html>", kind="text/html"), "protocol", "no JSON (text/html)"),
        (answer(b'{"a": \xff}'), "protocol", "no JSON"),
        (answer("[" * 100_000), "protocol", "no JSON"),
        (
            head(headers={"content-length": "104857600"}, kind="application/json"),
            "protocol",
            "more than 16,777,216 bytes",
        ),
        (head(headers={"content-length": "9"}) + b"{", "truncated", "within its answer"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_an_error(
    content: bytes, code: str, text: str, library: str
) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(content)

    async with service_at(handler, library) as service:
        with pytest.raises(HttpTroubleError, match="wire") as caught:
            await service.fetch(CALL)
    assert caught.value.code == code
    assert text in str(caught.value)


async def test_an_endless_body_is_refused_when_it_is_too_large(library: str) -> None:
    sent = 0

    async def handler(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(head(headers={"transfer-encoding": "chunked"}, kind="application/json"))
        piece = chunk(b" " * 1_000_000)
        for _ in range(100):
            await wire.send(piece)
            sent += 1

    async with service_at(handler, library) as service:
        with pytest.raises(HttpTroubleError, match="more than 16,777,216 bytes"):
            await service.fetch(CALL)
    assert 16 < sent < 40


async def test_a_large_error_body_is_read_in_part(library: str) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(
            head(500, {"content-length": "104857600"}, kind="text/plain") + b"a" * 1_000_000
        )
        await wire.until_gone()

    async with service_at(handler, library) as service:
        with pytest.raises(ProviderError, match="HTTP 500: aaa") as caught:
            await service.fetch(CALL)
    assert len(str(caught.value)) < 70_000


async def test_a_reset_is_an_error_that_says_how_far_the_request_came(library: str) -> None:
    async def handler(wire: Wire) -> None:
        _, body = await wire.request()
        if b"late" in body:
            await wire.send(head(headers={"transfer-encoding": "chunked"}) + chunk(EVENT))
        await wire.reset()

    async with service_at(handler, library) as service:
        error = await failure(service)
        assert (error.code, error.ambiguous, error.retryable) == ("connection", True, True)
        error = await failure(service, HttpCall(method="POST", path="/", body={"late": 1}))
        assert error.code in {"connection", "truncated"}
        assert error.ambiguous


async def test_a_refused_connection_leaves_no_doubt(library: str) -> None:
    async def nobody(wire: Wire) -> None:
        raise AssertionError

    async with wire_server(nobody) as url:
        pass
    service = new_service(url, library)
    error = await failure(service)
    assert (error.code, error.ambiguous, error.retryable) == ("connection", False, True)
    assert "refused; check base_url" in str(error)
    await service.aclose()


async def test_a_name_that_is_not_found_leaves_no_doubt(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_args: object, **_keywords: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    service = new_service("https://nowhere.invalid/v1", library)
    error = await failure(service)
    assert (error.code, error.ambiguous, error.retryable) == ("connection", False, True)
    assert "the name of https://nowhere.invalid was not found" in str(error)
    await service.aclose()


async def test_tls_with_a_server_that_speaks_none_leaves_no_doubt(library: str) -> None:
    async def handler(wire: Wire) -> None:
        await wire.stream.receive()
        await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with wire_server(handler) as url:
        service = new_service(url.replace("http:", "https:"), library)
        error = await failure(service)
        await service.aclose()
    assert (error.code, error.ambiguous) == ("connection", False)
    assert "check that base_url names an https port" in str(error)


@pytest.mark.parametrize("answered", ["nothing", "half a head", "the head", "half an event"])
async def test_silence_ends_by_the_stall_timeout(answered: str, library: str) -> None:
    content = {
        "nothing": b"",
        "half a head": b"HTTP/1.1 200 OK\r\n",
        "the head": head(headers={"transfer-encoding": "chunked"}),
        "half an event": head(headers={"transfer-encoding": "chunked"}) + chunk(b"data: a\n"),
    }[answered]

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(content)
        await wire.until_gone()

    async with service_at(handler, library, stall_timeout=0.05) as service:
        error = await failure(service)
        assert idle(service)
    assert (error.code, error.ambiguous, error.retryable) == ("timeout", True, True)
    assert "stall_timeout=0.05 s" in str(error)


async def test_streams_that_stall_open_the_breaker_for_its_pause(library: str) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"transfer-encoding": "chunked"}))
        await wire.until_gone()

    async with service_at(handler, library, stall_timeout=0.02, breaker_failures=1) as service:
        assert (await failure(service)).code == "timeout"
        refused = await failure(service)
    assert refused.code == "overloaded"
    assert refused.retry_after_seconds is not None
    assert 5 < refused.retry_after_seconds <= 10


@pytest.mark.parametrize(
    ("drop", "option"),
    [(b": ping\n\n", "timeout"), (b"data: a\n\n", "timeout"), (b"data: a", "stall_timeout")],
)
async def test_pings_for_ever_end_by_the_total_and_drips_by_the_stall_timeout(
    drop: bytes, option: str, library: str
) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"transfer-encoding": "chunked"}))
        while True:
            await wire.send(chunk(drop))
            await anyio.sleep(0.01)

    options = (
        {"timeout": 0.3, "stall_timeout": 60} if option == "timeout" else {"stall_timeout": 0.1}
    )
    async with service_at(handler, library, **options) as service:
        error = await failure(service)
    assert error.code == "timeout"
    assert f" {option}=" in str(error)


async def test_a_body_that_drips_ends_by_the_total_timeout(library: str) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"content-length": "100000"}, kind="application/json"))
        while True:
            await wire.send(b" ")
            await anyio.sleep(0.01)

    async with service_at(handler, library, timeout=0.2) as service:
        with pytest.raises(HttpTroubleError, match=r" timeout=0\.2 s") as caught:
            await service.fetch(CALL)
    assert caught.value.code == "timeout"


async def test_the_connect_timeout_is_told(library: str) -> None:
    """A server whose TLS never begins."""

    async def handler(wire: Wire) -> None:
        await wire.until_gone()

    async with wire_server(handler) as url:
        service = new_service(url.replace("http:", "https:"), library, connect_timeout=0.05)
        error = await failure(service)
        await service.aclose()
    assert (error.code, error.ambiguous, error.retryable) == ("timeout", False, True)
    assert "connect_timeout=0.05 s" in str(error)


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/..", "a/.", "/%2e%2E/b", "/a?b=1", "/a#b", "/a b", "/a\\b", "/a\nb", "/é", "/%"],
)
async def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    async def nobody(wire: Wire) -> None:
        raise AssertionError

    async with service_at(nobody) as service:
        error = await failure(service, HttpCall(method="GET", path=path))
    assert (error.code, error.ambiguous, error.retryable) == ("invalid_request", False, False)


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": "\ud800"}, {"a": object()}])
async def test_a_body_that_is_no_json_is_refused(body: dict[str, object]) -> None:
    async def nobody(wire: Wire) -> None:
        raise AssertionError

    async with service_at(nobody) as service:
        error = await failure(service, HttpCall(method="POST", path="/", body=body))
    assert error.code == "invalid_request"
    assert "its body is no JSON" in str(error)


async def test_proxies_of_the_environment_are_not_used(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key goes where base_url says and nowhere else; a proxy is a matter of http_client."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer("{}"))

    async with service_at(handler, library) as service:
        assert (await service.fetch(CALL)).body == {}
