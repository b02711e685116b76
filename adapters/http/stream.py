"""One answer on its way: read within deadlines and limits, closed whatever happens.

Two clocks run. `timeout` is for the attempt as a whole, from its start to the last byte.
`stall_timeout` is for the time without a sign of life: of a streamed answer a whole event or a
whole comment, of another body any bytes. So a server that sends only pings or comments lives on
until `timeout` ends it, and one that drips the bytes of an event that never ends is stopped by
`stall_timeout`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from .inflating import Inflated, is_packed
from .sse import MAX_EVENT_BYTES, ServerSentEvent, SSEError, SSEParser
from .trouble import HttpTroubleError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import httpx

    from ...actors.wait import Backend
    from .breaker import Permit
    from .buckets import Meter
    from .client import Client, Pool
    from .gate import Gate
    from .troubles import Troubles

CLOSING_SECONDS: Final = 2.0
"""Closing takes no longer, not even of a connection whose other end does not answer."""
FINISHING_SECONDS: Final = 0.5
"""So long the end of a body is waited for after the last event, to use its connection again."""
_UNWINDING_PIECES: Final = 100
"""What a client may still give out though it is cancelled, from its own buffers."""

logger = logging.getLogger("langswarm.core.session")


@attrs.frozen(kw_only=True)
class HttpAnswer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    """Names in lower case."""
    body: Any = attrs.field(repr=False)
    """Parsed JSON; None for an empty body."""


@attrs.define(eq=False)
class Lease:
    """What one attempt holds of its service; given back once, by plain code."""

    gate: Gate
    client: Client
    meter: Meter
    tokens: int
    permit: Permit
    pool: Pool | None = None
    _is_landed: bool = False
    _is_over: bool = False

    def landed(self) -> None:
        """The service has counted the request."""
        if not self._is_landed:
            self._is_landed = True
            self.meter.landed(self.tokens)

    def end(self) -> None:
        """Give everything back."""
        if not self._is_over:
            self._is_over = True
            self.landed()
            self.permit.abandoned()
            self.client.give_back(self.pool)
            self.gate.leave()

    async def tidy(self, backend: Backend) -> None:
        """Close replaced connections that nobody uses any more, within two seconds, shielded."""
        if self.client.has_retired:
            with backend.scope(backend.now() + CLOSING_SECONDS, shield=True):
                await self.client.sweep()


class HttpStream:
    """An answer whose head is here; iterate it for lists of events, one per read of the socket.

    Iterating raises ProviderError: code `timeout` when it stalls or takes too long, `connection`
    or `truncated` when the connection ends within it, `protocol` for what is no stream of events.
    """

    def __init__(
        self,
        response: httpx.Response,
        *,
        backend: Backend,
        now: Callable[[], float],
        lease: Lease,
        troubles: Troubles,
        total_at: float,
        stall: float,
    ) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = troubles.without_secrets(
            {
                name.decode("latin-1").lower(): _text_of(value)
                for name, value in response.headers.raw
            }
        )
        self._response = response
        self._source: AsyncIterator[bytes] = lease.client.body(response)
        self._chunks = self._source
        encoding = self.headers.get("content-encoding", "")
        if is_packed(encoding) and not response.is_stream_consumed:
            self._chunks = Inflated(self._source, encoding)
        self._backend = backend
        self._now = now
        self._lease = lease
        self._troubles = troubles
        self._total_at = total_at
        self._stall = stall
        self._alive_at = backend.now()
        self._parser = SSEParser()
        self._garbled: HttpTroubleError | None = None
        self._is_ended = False
        self._is_closed = False
        self.is_document = False
        """Whether the body is one document instead of events; it is given out as one event."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ServerSentEvent]:
        try:
            return await self._next()
        except HttpTroubleError as error:
            # Without the frames below, whose locals hold what the service said.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error

    async def _next(self) -> list[ServerSentEvent]:
        if self.is_document:
            return [await self._document()]
        while True:
            raise_if(self._garbled)
            chunk = await self._read()
            if chunk is None:
                raise StopAsyncIteration
            signs = self._parser.signs
            try:
                events = self._parser.feed(chunk)
            except SSEError as error:
                # What came whole before it is given out, however the bytes are cut.
                self._garbled = self._troubles.malformed(str(error))
                events = error.events
            if self._parser.signs != signs:
                self._alive_at = self._backend.now()
            if events:
                return events

    async def _document(self) -> ServerSentEvent:
        if self._is_ended:
            raise StopAsyncIteration
        content = await self.read(MAX_EVENT_BYTES)
        trouble: HttpTroubleError | None = None
        try:
            return ServerSentEvent("message", content.decode())
        except UnicodeDecodeError as error:
            trouble = self._troubles.malformed(f"a document that is not UTF-8 ({error.reason})")
        raise_if(trouble)
        raise AssertionError  # pragma: no cover - raised above

    async def read(self, most: int, *, cut: bool = False) -> bytes:
        """The body, at most so many bytes; of a longer one the beginning, or ProviderError."""
        announced = self.headers.get("content-length", "")
        if not cut and announced.isdecimal() and int(announced) > most:
            raise self._troubles.too_large(most)
        pieces: list[bytes] = []
        size = 0
        while (chunk := await self._read()) is not None:
            self._alive_at = self._backend.now()
            pieces.append(chunk)
            size += len(chunk)
            if size > most:
                if cut:
                    break
                raise self._troubles.too_large(most)
        return b"".join(pieces)[:most]

    async def finish(self) -> None:
        """Read to the end of the body, if it is near: then the connection can be used again.

        What is wrong with it does not matter any more.
        """
        with self._backend.scope(self._backend.now() + FINISHING_SECONDS):
            try:
                while not self._is_ended:
                    if await anext(self._chunks, None) is None:
                        self._is_ended = True
            except Exception as error:  # noqa: BLE001 - the answer is complete; closing tells the rest
                logger.debug("the end of an answer was not read: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Let the connection go, within two seconds, shielded from cancellation. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        backend = self._backend
        try:
            with backend.scope(backend.now() + CLOSING_SECONDS, shield=True):
                await self._unwind()
                await self._response.aclose()
                close: Callable[[], Any] | None = getattr(self._source, "aclose", None)
                if close is not None:
                    await close()
        except Exception as error:  # noqa: BLE001 - the answer is here or given up; nothing hangs on it
            logger.debug("a connection was not closed in order: %s", type(error).__name__)
        finally:
            self._lease.end()
            await self._lease.tidy(backend)

    async def _unwind(self) -> None:
        """Leave the client's generators, which are nested, from the innermost on.

        Closing the outermost leaves the others to the garbage collector, of which trio warns.
        """
        if self._is_ended:
            return
        with self._backend.scope() as scope:
            scope.cancel()
            for _ in range(_UNWINDING_PIECES):
                if await anext(self._source, None) is None:
                    break
        self._is_ended = True

    async def _read(self) -> bytes | None:
        backend = self._backend
        deadline = min(self._total_at, self._alive_at + self._stall)
        trouble: HttpTroubleError | None = None
        chunk: bytes | None = None
        try:
            with backend.scope(deadline) as scope:
                chunk = await anext(self._chunks, None)
            if scope.cancelled_caught:
                trouble = self._troubles.too_late(is_total=deadline == self._total_at, begun=True)
        except Exception as error:  # noqa: BLE001 - mapped, whatever it is
            trouble = self._troubles.failed(self._lease.client, error, begun=True)
        if trouble is not None:
            self._lease.permit.failed(self._now())
        raise_if(trouble)
        if chunk is None:
            self._is_ended = True
        self._lease.permit.succeeded()
        return chunk


def _text_of(value: bytes) -> str:
    """A header's value; without the control characters that would reach a terminal with a log."""
    text = value.decode("latin-1")
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def raise_if(trouble: HttpTroubleError | None) -> None:
    """Raise it, outside of what led to it: no exception of the client's becomes its context."""
    if trouble is not None:
        try:
            raise trouble
        finally:
            trouble = None  # its traceback holds this frame
