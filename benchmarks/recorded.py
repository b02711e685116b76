"""Streamed answers of the tests' reference server, recorded, to be said again by a leaner one.

The vendors send each event in a chunk of HTTP of its own, and so does the reference server; what
stands between may join them.
"""

from __future__ import annotations

import json
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
MODEL = "m"
QUESTION = "What is the answer?"
DELTA_BYTES = 20
MAX_ANSWER_TOKENS = 4_096

_ASKED: Mapping[str, Mapping[str, Any]] = {
    CHAT: {
        "messages": [{"role": "user", "content": QUESTION}],
        "stream_options": {"include_usage": True},
    },
    MESSAGES: {
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": MAX_ANSWER_TOKENS,
    },
    RESPONSES: {"input": [{"role": "user", "content": QUESTION}], "store": False},
}
_HEADERS = {
    "accept": "text/event-stream",
    "authorization": "Bearer key",
    "content-type": "application/json",
}


@attrs.frozen
class Recorded:
    """One answer: its head, and the events as they came."""

    head: bytes
    events: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of all events."""
        return sum(map(len, self.events))

    def pieces(self, *, per_chunk: int = 1) -> list[bytes]:
        """What to write, a chunk at a time: the head goes with the first, the end with the last."""
        chunks = [
            _chunk(b"".join(self.events[first : first + per_chunk]))
            for first in range(0, len(self.events), per_chunk)
        ]
        chunks[0] = self.head + chunks[0]
        chunks[-1] += _chunk(b"")
        return chunks

    def at_once(self, *, per_chunk: int = 1) -> list[bytes]:
        """The same in a single piece."""
        return [b"".join(self.pieces(per_chunk=per_chunk))]


def body_of(path: str) -> dict[str, Any]:
    """The request's JSON: the least that a streamed turn needs."""
    return {"model": MODEL, "stream": True, **_ASKED[path]}


def headers_of(path: str) -> dict[str, str]:
    """The headers of the request, but for those that a client makes by itself."""
    return {**_HEADERS, "anthropic-version": "2023-06-01"} if path == MESSAGES else _HEADERS


def record(deltas: int) -> dict[str, Recorded]:
    """The answers by path, with so many deltas of DELTA_BYTES each."""
    with _reference_server(deltas=deltas, delta_bytes=DELTA_BYTES) as url:
        return {path: _ask(url, path) for path in (CHAT, MESSAGES, RESPONSES)}


def _reference_server(**options: int) -> AbstractContextManager[str]:
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    start = cast(
        "Callable[..., AbstractContextManager[str]]",
        import_module("vendors.process").vendor_process,
    )
    return start(**options)


def _ask(url: str, path: str) -> Recorded:
    body = json.dumps(body_of(path)).encode()
    headers = {**headers_of(path), "connection": "close", "content-length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10.0) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, end, rest = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), said
    return Recorded(head + end, tuple(_chunks(rest)))


def _chunks(rest: bytes) -> list[bytes]:
    found: list[bytes] = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return found
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
