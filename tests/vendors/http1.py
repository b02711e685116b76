"""HTTP/1.1 as far as a client of these APIs needs it. Pure: bytes in, requests out."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
_END_OF_HEAD = b"\r\n\r\n"


class BadRequest(Exception):  # noqa: N818 - it is an answer
    """This is no request that can be answered; the connection ends."""


@attrs.frozen(kw_only=True)
class HttpRequest:
    method: str
    path: str
    query: Mapping[str, str]
    """The last value of each name; names like `include[]` stay as they are."""
    headers: Mapping[str, str]
    """Names in lower case; values of one name are joined by a comma."""
    content: bytes

    def json(self) -> Any:
        """The body; None: it is empty or no JSON."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class RequestParser:
    """Requests of one connection, one after another."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._missing = 0

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> HttpRequest | None:
        """The next request if all of it is there. Raises BadRequest."""
        if self._head is None and not self._read_head():
            return None
        if self._head is None or len(self._bytes) < self._missing:
            return None
        (method, target, headers), self._head = self._head, None
        content = bytes(self._bytes[: self._missing])
        del self._bytes[: self._missing]
        parts = urlsplit(target)
        return HttpRequest(
            method=method,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=headers,
            content=content,
        )

    def _read_head(self) -> bool:
        end = self._bytes.find(_END_OF_HEAD)
        if end < 0:
            if len(self._bytes) > MAX_HEAD_BYTES:
                raise BadRequest("the head is too large")
            return False
        lines = self._bytes[:end].decode("latin-1").split("\r\n")
        del self._bytes[: end + len(_END_OF_HEAD)]
        start = lines[0].split(" ")
        if len(start) != 3 or not start[2].startswith("HTTP/1."):
            raise BadRequest(f"no request line: {lines[0]!r}")
        headers = _headers(lines[1:])
        self._missing = _length(headers)
        self._head = (start[0], start[1], headers)
        return True


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise BadRequest(f"no header: {line!r}")
        name = name.lower()
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest("a body of a known length is wanted")
    try:
        length = int(headers.get("content-length", "0"))
    except ValueError:
        raise BadRequest("content-length is no number") from None
    if not 0 <= length <= MAX_BODY_BYTES:
        raise BadRequest("the body is too large")
    return length


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Unknown"
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A chunk of a body whose length is not known; of no bytes: the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def dumped(value: object) -> bytes:
    """JSON as the vendors send it: compact, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
