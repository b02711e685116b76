"""Unpacks answers that a server compressed although it was asked not to, in small pieces.

The HTTP library would unpack all that came with one read at once: 790 bytes of gzip within gzip
become 400 MB. Here a piece is bounded, and so what comes of it is never more than what is taken.
One method is taken, gzip or deflate, since those are what servers in between use unasked.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Self

from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_PIECE_BYTES: Final = 65_536
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_WINDOW: Final = -15


class PackingError(Exception):
    """What came cannot be unpacked."""


def is_packed(encoding: str) -> bool:
    """Whether a `content-encoding` names any method."""
    return encoding.strip().lower() not in {"", "identity"}


class Inflated:
    """The pieces of a body, unpacked. Iterating raises PackingError, and what its source does."""

    def __init__(self, source: AsyncIterator[bytes], encoding: str) -> None:
        self._source = source
        self._method = encoding.strip().lower()
        window = _WINDOWS.get(self._method)
        self._inflater = None if window is None else zlib.decompressobj(window)
        self._packed = b""
        self._is_begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._inflater is None:
            raise PackingError(f"an answer packed with {self._method[:100]!r}")
        while True:
            piece = self._inflate()
            if piece:
                await checkpoint()  # a thousand pieces may come of one read
                return piece
            chunk = await anext(self._source, None)
            if chunk is None:
                if self._is_begun and not self._inflater.eof:
                    raise PackingError(f"a {self._method} that is cut off")
                raise StopAsyncIteration
            self._packed += chunk

    def _inflate(self) -> bytes:
        assert self._inflater is not None  # noqa: S101 - looked at by the caller
        # Not asked while there is nothing, but for what is still within it.
        try:
            piece = self._inflater.decompress(self._packed, MAX_PIECE_BYTES)
        except zlib.error as error:
            if self._is_begun or self._method != "deflate":
                raise PackingError(f"no {self._method} ({error})") from None
            # Some servers leave the header away.
            self._inflater, self._is_begun = zlib.decompressobj(_RAW_WINDOW), True
            return self._inflate()
        self._is_begun = self._is_begun or bool(self._packed)
        self._packed = self._inflater.unconsumed_tail
        return piece
