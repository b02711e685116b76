"""A client's connection, and the answers that go out on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import routes
from .exchange import Exchange, Outlet, processed
from .http1 import BadRequest, HttpRequest, RequestParser
from .replies import VendorError, whole
from .state import Call

if TYPE_CHECKING:
    from .replies import Reply
    from .server import VendorServer

MAX_CONNECTIONS = 5_000


class Connection(asyncio.Protocol):
    """A client's connection: its requests are answered one after another."""

    def __init__(self, server: VendorServer) -> None:
        self._server = server
        self._parser = RequestParser()
        self._task: asyncio.Task[None] | None = None
        self._number = 0
        self._outlet: Outlet | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._outlet = Outlet(transport)
        self._number = self._server.join(self)
        if self._server.open_connections > MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is None:
            # The loop closes the socket after this call: nobody shall take it for closed before.
            asyncio.get_running_loop().call_soon(self._server.leave, self)
        else:
            # It counts as open until its request is settled.
            self._task.add_done_callback(lambda _: self._server.leave(self))
            self._task.cancel()
        if self._outlet is not None:
            self._outlet.resume()

    def pause_writing(self) -> None:
        if self._outlet is not None:
            self._outlet.pause()

    def resume_writing(self) -> None:
        if self._outlet is not None:
            self._outlet.resume()

    def drop_if_idle(self) -> None:
        if self._task is None and self._outlet is not None:
            self._outlet.drop()

    def close(self) -> asyncio.Task[None] | None:
        """The server ends."""
        if self._outlet is not None:
            self._outlet.transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _go_on(self) -> None:
        if self._task is not None or self._outlet is None or self._outlet.transport.is_closing():
            return
        try:
            request = self._parser.next()
        except BadRequest as error:
            self._server.failures.append(error)
            self._outlet.transport.abort()
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._answer(request, self._outlet))

    async def _answer(self, request: HttpRequest, outlet: Outlet) -> None:
        server = self._server
        seen = server.receive(request, self._number)
        fault = server.fault_for(seen)
        call = Call(seen=seen, state=server.state, answer=server.answer)

        def end(outcome: str = "answered") -> None:
            call.release()
            server.settle(seen, exchange, outcome)

        headers = {**call.headers(), **server.headers, **fault.headers}
        exchange = Exchange(outlet, fault, headers, end)
        reply: Reply | None = None
        try:
            reply = fault.reply or _reply_of(call)
            await _play(exchange, call, reply)
        except asyncio.CancelledError:
            if server.finishes_aborted and reply is not None:
                processed(reply)
            end("aborted")
        except Exception as error:  # noqa: BLE001 - told when the server is left
            server.failures.append(error)
            exchange.keep_open = False
            end("failed")
            outlet.reset()
        self._task = None
        if request.headers.get("connection", "").lower() == "close":
            outlet.drop()
        if exchange.keep_open:
            self._go_on()


async def _play(exchange: Exchange, call: Call, reply: Reply) -> None:
    try:
        await exchange.play(reply)
    except VendorError as error:
        # What is refused only when it is processed.
        await exchange.play(_refused(call, error))


def _reply_of(call: Call) -> Reply:
    try:
        return routes.reply_to(call)
    except VendorError as error:
        return _refused(call, error)


def _refused(call: Call, error: VendorError) -> Reply:
    body = {**error.body, "request_id": call.request_id} if call.is_anthropic else error.body
    return whole(body, status=error.status)
