"""What can go wrong on the way: one `Fault` for one request, to be given to `server.script`.

A fault is a list of actions, each at a point of the answer: before its headers, after them, after
so many events, after so many bytes of the body. `reset(events=2) & unknown_event()` is both.
An answer in one piece counts as one event.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from .http1 import dumped
from .replies import Raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .gates import Gate


class Outgoing(Protocol):
    """An answer on its way, as actions see it."""

    last_event: bytes

    def reset(self) -> None: ...
    def drop(self) -> None: ...
    def end_body(self) -> None: ...
    async def stall(self) -> None: ...
    async def insert(self, data: bytes) -> None: ...


Action = "Callable[[Outgoing], Awaitable[None]]"


@attrs.frozen
class Point:
    """Where in an answer: `head` (before the headers), after `event` n or `byte` n of the body."""

    unit: Literal["head", "event", "byte"]
    count: int = 0


BEFORE_HEADERS = Point("head")
AFTER_HEADERS = Point("event", 0)


@attrs.frozen(kw_only=True)
class Fault:
    """What happens to one request."""

    reply: Raw | None = None
    """Sent instead of an answer; the request is not processed."""
    processed: bool = False
    """The request is processed in full before any action: only its answer suffers."""
    actions: tuple[tuple[Point, Callable[[Outgoing], Awaitable[None]]], ...] = ()
    write_bytes: int | None = None
    """The body is written in chunks of so many bytes."""
    pace: Gate | float | None = None
    """Before each chunk: a gate to pass, or seconds to wait."""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Sent in addition."""

    def __and__(self, other: Fault) -> Fault:
        return Fault(
            reply=self.reply or other.reply,
            processed=self.processed or other.processed,
            actions=(*self.actions, *other.actions),
            write_bytes=self.write_bytes or other.write_bytes,
            pace=self.pace if self.pace is not None else other.pace,
            headers={**self.headers, **other.headers},
        )


def _at(point: Point, action: Callable[[Outgoing], Awaitable[None]]) -> Fault:
    return Fault(actions=((point, action),))


def _point(events: int | None, after_bytes: int | None) -> Point:
    if after_bytes is not None:
        return Point("byte", after_bytes)
    return BEFORE_HEADERS if events is None else Point("event", events)


# ---------------------------------------------------------------- instead of an answer


def status(
    code: int,
    body: Mapping[str, Any] | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An error, not processed. A body of None: OpenAI's shape and Anthropic's at once."""
    if body is None:
        error = {"type": "api_error", "message": f"fault {code}", "param": None, "code": None}
        body = {"type": "error", "error": error}
    content = body.encode() if isinstance(body, str) else dumped(body)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    shown = {"content-type": kind, **(headers or {})}
    return Fault(reply=Raw(status=code, content=content, headers=shown))


def storm(code: int, times: int, **headers: str) -> list[Fault]:
    """The same error many times: `storm(429, 3, retry_after="1")`."""
    return [status(code, headers=_named(headers)) for _ in range(times)]


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def html(code: int = 200) -> Fault:
    """What a gateway says."""
    page = b"<!doctype html><html><body><h1>It works!</h1></body></html>"
    return Fault(reply=Raw(status=code, content=page, headers={"content-type": "text/html"}))


def redirect(location: str, code: int = 307) -> Fault:
    """Elsewhere, another origin maybe."""
    return Fault(reply=Raw(status=code, content=b"", headers={"location": location}))


def raw(content: bytes, content_type: str = "application/json", code: int = 200) -> Fault:
    """These bytes as the whole body."""
    return Fault(reply=Raw(status=code, content=content, headers={"content-type": content_type}))


def huge_body(size: int = 100_000_000, *, content_type: str = "application/json") -> Fault:
    """A body of so many bytes that is no end of a JSON string, or of one event."""
    start = b'data: {"x":"' if content_type == "text/event-stream" else b'{"x":"'

    async def flood(out: Outgoing) -> None:
        block = b"x" * 65_536
        left = size - len(start)
        while left > 0:
            await out.insert(block[:left])
            left -= len(block)
        out.end_body()

    reply = Raw(content=start, headers={"content-type": content_type})
    return Fault(reply=reply, actions=((Point("event", 1), flood),))


def with_headers(**headers: str) -> Fault:
    """No fault: the answer as it is, with more headers: `with_headers(retry_after="1")`."""
    return Fault(headers=_named(headers))


# ---------------------------------------------------------------- the connection


def reset(*, events: int | None = None, after_bytes: int | None = None) -> Fault:
    """RST: before the headers, after `events` events (0: after the headers), or after bytes."""

    async def act(out: Outgoing) -> None:
        out.reset()

    return _at(_point(events, after_bytes), act)


def drop(*, events: int | None = None, after_bytes: int | None = None) -> Fault:
    """FIN where more was promised: the body's end is missing."""

    async def act(out: Outgoing) -> None:
        out.drop()

    return _at(_point(events, after_bytes), act)


def truncate(*, events: int = 0, after_bytes: int | None = None) -> Fault:
    """The body ends well as HTTP sees it, but too early: no terminal event."""

    async def act(out: Outgoing) -> None:
        out.end_body()

    return _at(_point(events, after_bytes), act)


def stall(*, events: int | None = None, after_bytes: int | None = None) -> Fault:
    """Nothing more, for ever, on an open connection."""

    async def act(out: Outgoing) -> None:
        await out.stall()

    return _at(_point(events, after_bytes), act)


def half_open() -> Fault:
    """Accepted and read, never answered."""
    return stall()


def hold(gate: Gate, *, events: int | None = None, after_bytes: int | None = None) -> Fault:
    """Wait at the gate; then on as if nothing had been."""

    async def act(out: Outgoing) -> None:
        del out
        await gate.hold()

    return _at(_point(events, after_bytes), act)


def lost(*, by: Literal["reset", "drop", "stall"] = "reset") -> Fault:
    """Processed in full, but no byte of the answer arrives."""
    trouble = {"reset": reset, "drop": drop, "stall": stall}[by]()
    return attrs.evolve(trouble, processed=True)


def slices(size: int = 1) -> Fault:
    """The body in chunks of so many bytes."""
    return Fault(write_bytes=size)


def trickle(pace: Gate | float, size: int = 1) -> Fault:
    """Slow loris: so many bytes at each step of the gate, or every so many seconds."""
    return Fault(write_bytes=size, pace=pace)


# ---------------------------------------------------------------- the events


def insert(data: bytes, *, events: int = 0) -> Fault:
    """These bytes between two events."""

    async def act(out: Outgoing) -> None:
        await out.insert(data)

    return _at(Point("event", events), act)


def malformed_chunk(*, events: int = 1, name: str | None = None) -> Fault:
    """An event whose data is half a JSON object."""
    data = b'data: {"type":"response.output_text.delta","delta":\n\n'
    return insert(_name_line(name) + data, events=events)


def bad_utf8(*, events: int = 1, name: str | None = None) -> Fault:
    """An event that is no UTF-8."""
    data = b'data: {"type":"ping","text":"\xff\xfe"}\n\n'
    return insert(_name_line(name) + data, events=events)


def _name_line(name: str | None) -> bytes:
    return b"" if name is None else b"event: %b\n" % name.encode()


def unknown_event(*, events: int = 1) -> Fault:
    """An event of a type that is made up."""
    data = b'{"type":"vendor.news","sequence_number":1,"choices":[]}'
    return insert(b"event: vendor.news\ndata: " + data + b"\n\n", events=events)


def in_stream_error(body: Mapping[str, Any], *, events: int = 1, name: str | None = None) -> Fault:
    """An error as an event of a stream that began well, and its end."""
    data = _name_line(name) + b"data: " + json.dumps(body).encode() + b"\n\n"
    return insert(data, events=events) & truncate(events=events)


def duplicate(*, events: int = 1) -> Fault:
    """Event number `events` comes twice."""

    async def act(out: Outgoing) -> None:
        await out.insert(out.last_event)

    return _at(Point("event", events), act)
