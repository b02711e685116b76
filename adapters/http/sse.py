"""Server-sent events from bytes, by the rules of the WHATWG's HTML standard.

Bytes come in any pieces: a line end, a character or a field may be cut anywhere. Lines end with
LF, CR or CRLF; a CR ends its line at once, without waiting for an LF that may never come.

Stricter than the standard in two points, because what is read here is an answer that was paid for
and not a ticker: bytes that are no UTF-8 are an error instead of U+FFFD, and an event may not be
larger than a limit. `id` and `retry` are ignored: a stream is never resumed.
"""

from __future__ import annotations

from typing import Final

import attrs

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one event's fields, and of one line."""

_BOM: Final = b"\xef\xbb\xbf"


class SSEError(ValueError):
    """The bytes are no stream of events that is taken here; the text says why.

    `events` are those that ended before it, within the same bytes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.events: list[ServerSentEvent] = []


@attrs.frozen
class ServerSentEvent:
    """One event; `event` is "message" where the server named none."""

    event: str
    data: str


class SSEParser:
    """Turns bytes into events; feed it what comes, in order.

    `feed` raises SSEError for bytes that are no UTF-8 and for an event of more than
    `max_event_bytes`. What the stream ends within is no event and is lost, as the standard says.
    """

    __slots__ = ("_begun", "_data", "_event", "_max_bytes", "_pieces", "_size", "_skip_lf", "signs")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._size = 0  # bytes of the event and the line that have not ended yet
        self._event = b""
        self._data: list[bytes] = []
        self._skip_lf = False  # the last byte was a CR
        self._begun = False
        self.signs = 0
        """Events and comments so far: what shows that the server is alive."""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that end within these bytes."""
        events: list[ServerSentEvent] = []
        try:
            self._feed(chunk, events)
        except SSEError as error:
            error.events = events
            raise
        return events

    def _feed(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return
        if b"\n" not in chunk and b"\r" not in chunk:
            self._pieces.append(chunk)
            self._grow(len(chunk))
            return
        if self._pieces:
            self._size -= sum(map(len, self._pieces))
            chunk = b"".join((*self._pieces, chunk))
            self._pieces = []
        lines = chunk.splitlines()
        self._skip_lf = chunk.endswith(b"\r")
        if not self._skip_lf and not chunk.endswith(b"\n"):
            self._pieces.append(lines.pop())
        for line in lines:
            self._take(line, events)
        if self._pieces:
            self._grow(len(self._pieces[0]))

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                self.signs += 1
                events.append(self._end())
            self._event = b""
            self._data = []
            self._size = 0
            return
        name, _, value = line.partition(b":")
        if not name:
            self.signs += 1  # a comment
        elif name == b"data":
            self._grow(len(line))
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._event = value.removeprefix(b" ")

    def _end(self) -> ServerSentEvent:
        try:
            data = b"\n".join(self._data).decode()
            event = self._event.decode()
        except UnicodeDecodeError as error:
            raise SSEError(f"an event that is not UTF-8 ({error.reason})") from None
        return ServerSentEvent(event or "message", data)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._max_bytes:
            raise SSEError(f"an event of more than {self._max_bytes:,} bytes")
