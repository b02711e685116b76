"""A server of raw bytes on 127.0.0.1, in the test's own event loop, and a service that asks it."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.secret import Secret
from langswarm.core.session.adapters.http.service import HttpCall, HttpService

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from anyio.abc import ByteStream, SocketStream

    Handler = Callable[["Wire"], Awaitable[None]]

PATIENCE_SECONDS = 60.0
KEY = 'canary-key/with"odd+parts'
CALL = HttpCall(method="POST", path="/ask", body={"model": "m", "text": "é"})
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Wire:
    """One connection as the server sees it."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._rest = b""

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: head and body. Raises one of GONE at the end."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += await self.stream.receive()
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        size = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        while len(self._rest) < size:
            self._rest += await self.stream.receive()
        body, self._rest = self._rest[:size], self._rest[size:]
        return head, body

    async def send(self, content: bytes) -> None:
        await self.stream.send(content)

    async def reset(self) -> None:
        """End the connection with an RST."""
        raw: socket.socket = self.stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no SQL
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()

    async def until_gone(self) -> None:
        """Until the client closes."""
        while True:
            await self.stream.receive()


def head(
    status: int = 200, headers: Mapping[str, str] | None = None, *, kind: str = "text/event-stream"
) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(
    content: bytes | str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    kind: str = "application/json",
) -> bytes:
    """A whole answer."""
    content = content.encode() if isinstance(content, str) else content
    return (
        head(status, {"content-length": str(len(content)), **(headers or {})}, kind=kind) + content
    )


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


@asynccontextmanager
async def wire_server(handler: Handler) -> AsyncGenerator[str]:
    """Serve each connection with the handler; gives the base URL. Ends with the test."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with suppress(*GONE, OSError):
                await handler(Wire(stream))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no SQL
            group.start_soon(listener.serve, serve)
            yield f"http://127.0.0.1:{port}/v1"
            group.cancel_scope.cancel()


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    return ProviderError(
        f"HTTP {status}: {body}",
        code="overloaded" if status >= 429 else "invalid_request",
        provider="wire",
        retryable=status >= 429,
    )


def new_service(base_url: str, library: str = "httpx", **options: Any) -> HttpService:
    key = Secret(KEY)
    settings: dict[str, Any] = {"http_library": library, "max_retries": 0, **options}
    return HttpService(
        provider="wire",
        options=HttpOptions(base_url=base_url, **settings),
        auth=lambda: {"x-api-key": key.reveal()},
        read_error=read_error,
        secrets=[key],
        rng=Random(1),
    )


@asynccontextmanager
async def service_at(
    handler: Handler, library: str = "httpx", **options: Any
) -> AsyncGenerator[HttpService]:
    """A service that asks a server of this handler."""
    async with wire_server(handler) as url:
        service = new_service(url, library, **options)
        try:
            yield service
            assert idle(service)
        finally:
            await service.aclose()


async def stream_all(service: HttpService, call: HttpCall = CALL) -> list[str]:
    """The data of all events."""
    async with service.open(call) as stream:
        return [event.data async for events in stream for event in events]


def idle(service: HttpService) -> bool:
    """Whether nothing is held: no place in the line, no place in a pool, no count of a meter."""
    state = service._states.latest
    if state is None:
        return True
    return (
        state.gate._free == service.options.max_connections
        and not any(pool.in_use for pool in state.client._pools)
        and not any(meter._flying for meter in service._models.values())
    )
