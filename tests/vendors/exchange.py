"""One request's answer on its way out, with what a fault does to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from .faults import BEFORE_HEADERS, Fault, Point
from .http1 import chunk, dumped, head
from .replies import Raw, Stream, Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .replies import Reply

_NO_LINGER = struct.pack("ii", 1, 0)


class Over(Exception):  # noqa: N818 - no error
    """The answer ends here."""


class Outlet:
    """What is written to one connection; waits while the client reads too slowly."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._ready = asyncio.Event()
        self._ready.set()

    def pause(self) -> None:
        self._ready.clear()

    def resume(self) -> None:
        self._ready.set()

    async def write(self, data: bytes) -> None:
        self.transport.write(data)
        if self.transport.is_closing():
            await asyncio.Event().wait()  # the connection is lost: this task is about to be told
        if not self._ready.is_set():
            await self._ready.wait()

    def reset(self) -> None:
        """RST instead of FIN."""
        stream: socket.socket | None = self.transport.get_extra_info("socket")
        if stream is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def drop(self) -> None:
        """FIN, after what was written."""
        self.transport.close()


class Exchange:
    """Plays a reply, and the fault's actions at their points.

    `on_end` is called just before the last byte or the end of the connection, so that a client who
    has seen the end finds the server's records complete.
    """

    def __init__(
        self,
        outlet: Outlet,
        fault: Fault,
        extra_headers: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        self.last_event = b""
        self.status = 0
        self.events = 0
        self.keep_open = True
        self._outlet = outlet
        self._fault = fault
        self._extra = extra_headers
        self._on_end = on_end
        self._bytes = 0
        self._ended = False
        self._at_bytes = sorted(point.count for point, _ in fault.actions if point.unit == "byte")

    async def play(self, reply: Reply) -> None:
        try:
            if self._fault.processed:
                reply = processed(reply)
            await self._come_to(BEFORE_HEADERS)
            match reply:
                case Whole():
                    # Of known length, as these APIs send it, unless the fault needs pieces.
                    await self._play_whole(reply.status, reply.headers, dumped(reply.body()))
                case Raw():
                    await self._play_whole(reply.status, reply.headers, reply.content)
                case Stream():
                    await self._play_stream(reply)
        except Over:
            return

    async def _play_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if not self._fault.actions and self._fault.write_bytes is None:
            shown = {"content-type": "application/json", **headers}
            shown["content-length"] = str(len(body))
            self.status = status
            self.events = 1
            self._on_end()
            await self._outlet.write(head(status, {**shown, **self._extra}) + body)
            return
        await self._write_head(status, {"content-type": "application/json", **headers})
        await self._event(body)
        self.end_body()

    async def _play_stream(self, reply: Stream) -> None:
        kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await self._write_head(200, {**kind, **reply.headers})
        for event in reply.events:
            await self._event(event.encoded())
        self.end_body()

    async def _write_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        shown = {**headers, "transfer-encoding": "chunked", **self._extra}
        await self._outlet.write(head(status, shown))
        await self._come_to(Point("event", 0))

    async def _event(self, data: bytes) -> None:
        self.last_event = data
        await self.insert(data)
        self.events += 1
        await self._come_to(Point("event", self.events))

    async def _come_to(self, point: Point) -> None:
        for where, act in self._fault.actions:
            if where == point:
                await act(self)

    # ------------------------------------------------------------ for actions

    async def insert(self, data: bytes) -> None:
        """Body bytes, cut where the fault says."""
        while data:
            size = self._fault.write_bytes or len(data)
            while self._at_bytes and self._at_bytes[0] < self._bytes:
                self._at_bytes.pop(0)
            if self._at_bytes and self._at_bytes[0] == self._bytes:
                await self._come_to(Point("byte", self._at_bytes.pop(0)))
                continue
            if self._at_bytes:
                size = min(size, self._at_bytes[0] - self._bytes)
            piece, data = data[:size], data[size:]
            await self._keep_pace()
            await self._outlet.write(chunk(piece))
            self._bytes += len(piece)
        if self._at_bytes and self._at_bytes[0] == self._bytes:
            await self._come_to(Point("byte", self._at_bytes.pop(0)))

    async def _keep_pace(self) -> None:
        pace = self._fault.pace
        if isinstance(pace, (int, float)):
            await asyncio.sleep(pace)
        elif pace is not None:
            await pace.hold()

    def end_body(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end()
            self._outlet.transport.write(chunk(b""))
        raise Over

    def reset(self) -> None:
        self.keep_open = False
        self._on_end()
        self._outlet.reset()
        raise Over

    def drop(self) -> None:
        self.keep_open = False
        self._on_end()
        self._outlet.drop()
        raise Over

    async def stall(self) -> None:
        await asyncio.Event().wait()


def processed(reply: Reply) -> Reply:
    """Everything that the request changes is changed."""
    match reply:
        case Whole():
            body = reply.body()
            produce: Callable[[], object] = lambda: body  # noqa: E731 - one expression
            return Whole(body=produce, status=reply.status, headers=reply.headers)
        case Stream():
            return Stream(events=iter(list(reply.events)), headers=reply.headers)
        case Raw():
            return reply
