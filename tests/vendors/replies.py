"""What a handler makes of a request: an answer in one piece or in events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .http1 import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .values import Json


@attrs.frozen
class Event:
    """One server-sent event; `name` None: it has data only."""

    data: Json | str
    name: str | None = None

    def encoded(self) -> bytes:
        data = self.data.encode() if isinstance(self.data, str) else dumped(self.data)
        name = b"" if self.name is None else b"event: %b\n" % self.name.encode()
        return b"%bdata: %b\n\n" % (name, data)


@attrs.frozen
class Comment:
    """A line that says nothing, as some servers send while they work."""

    text: str

    def encoded(self) -> bytes:
        return b": %b\n\n" % self.text.encode()


@attrs.frozen(kw_only=True)
class Whole:
    """An answer in one piece, made when it is sent."""

    body: Callable[[], object]
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class Stream:
    """An answer in events, made one by one as they are sent."""

    events: Iterator[Event | Comment]
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class Raw:
    """Bytes as they are: what no API of these would say."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


Reply = Whole | Stream | Raw


def whole(body: object, *, status: int = 200) -> Whole:
    return Whole(body=lambda: body, status=status)


class VendorError(Exception):
    """The API refuses: status and body as it words them."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


def openai_error(
    status: int,
    message: str,
    *,
    type: str = "invalid_request_error",  # noqa: A002 - the field's name
    param: str | None = None,
    code: str | None = None,
) -> VendorError:
    error = {"message": message, "type": type, "param": param, "code": code}
    return VendorError(status, {"error": error})


def anthropic_error(
    status: int,
    kind: str,
    message: str,
    *,
    details: Json | None = None,
) -> VendorError:
    error: Json = {"type": kind, "message": message}
    if details is not None:
        error["details"] = details
    return VendorError(status, {"type": "error", "error": error})
