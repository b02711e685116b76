"""A provider that asks a service over the network and streams what it says.

    python examples/streaming_provider.py
    python examples/streaming_provider.py trio

The service is started here, on a port of this machine: it is asked one line of JSON and answers
with lines of JSON, `{"text": ...}` and at last `{"end": true}`.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from langswarm.core.session import ProviderError, create_session_manager
from langswarm.core.session.providers import Completed, IProvider, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

MAX_LINE_BYTES = 65_536
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0


class LineProvider(IProvider):
    """One connection per turn: it is closed however the turn ends."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        async with await self._connect() as socket:
            lines = BufferedByteReceiveStream(socket)
            asked = [{"role": each.role, "content": each.content} for each in request.messages]
            await socket.send(json.dumps(asked).encode() + b"\n")
            while "text" in (said := await self._next(lines)):
                yield TextDelta(said["text"])
        yield Completed()  # the connection is free already

    async def _connect(self) -> SocketStream:
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                return await anyio.connect_tcp("127.0.0.1", self._port)
        except OSError as error:  # a TimeoutError is one, too
            raise ProviderError("no connection", code="connection", retryable=True) from error

    async def _next(self, lines: BufferedByteReceiveStream) -> dict[str, str]:
        try:
            with anyio.fail_after(SILENCE_SECONDS):
                line = await lines.receive_until(b"\n", MAX_LINE_BYTES)
            said: dict[str, str] = json.loads(line)
        except TimeoutError as error:
            raise ProviderError("it fell silent", code="timeout", retryable=True) from error
        except (anyio.IncompleteRead, anyio.BrokenResourceError) as error:
            raise ProviderError("it was cut off", code="truncated", retryable=True) from error
        except (anyio.DelimiterNotFound, ValueError) as error:
            raise ProviderError("that is no answer", code="protocol") from error
        return said


async def serve(socket: SocketStream) -> None:
    """The service: says what it was asked, word by word; to "Break" it breaks off."""
    async with socket:
        line = await BufferedByteReceiveStream(socket).receive_until(b"\n", MAX_LINE_BYTES)
        for word in json.loads(line)[-1]["content"].split():
            await socket.send(json.dumps({"text": f"{word} "}).encode() + b"\n")
            if word == "Break":
                return
        await socket.send(b'{"end": true}\n')


async def main() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no database
    async with listener, anyio.create_task_group() as group:
        group.start_soon(partial(listener.serve, serve))
        providers = {"line": LineProvider(port)}
        async with create_session_manager(providers=providers) as manager:
            session = await manager.create_session("ada", "line", "any")
            answer = await session.send_message("Owls see in the dark")
            print(repr(answer.content))
            try:
                await session.send_message("Break off")
            except ProviderError as error:
                print(error.code, error.retryable)
            answer = await session.send_message("Still there")
            print(repr(answer.content))
        group.cancel_scope.cancel()


anyio.run(main, backend=sys.argv[1] if sys.argv[1:] else "asyncio")
