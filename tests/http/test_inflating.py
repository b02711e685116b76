"""Compressed answers that nobody asked for: unpacked in bounded pieces, or refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.inflating import MAX_PIECE_BYTES, Inflated
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.service import HttpService
from langswarm.core.session.adapters.http.trouble import HttpTroubleError

from .wire import CALL, answer, head, idle, read_error, service_at, stream_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .wire import Handler, Wire

EVENTS = b"data: a\n\ndata: b\n\n"
RAW = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(EVENTS),
    "x-gzip": gzip.compress(EVENTS),
    " GZIP ": gzip.compress(EVENTS),
    "deflate": zlib.compress(EVENTS),
    "Deflate": RAW.compress(EVENTS) + RAW.flush(),
    "identity": EVENTS,
    "": EVENTS,
}


def says(content: bytes, encoding: str, kind: str = "text/event-stream") -> Handler:
    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"content-encoding": encoding}, kind=kind) + content)

    return handler


@pytest.mark.parametrize("encoding", PACKED)
async def test_an_answer_that_is_compressed_all_the_same_is_read(
    encoding: str, library: str
) -> None:
    async with service_at(says(PACKED[encoding], encoding), library) as service:
        assert await stream_all(service) == ["a", "b"]


async def test_events_that_are_flushed_one_by_one_come_one_by_one(library: str) -> None:
    packer = zlib.compressobj(wbits=31)

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(head(headers={"content-encoding": "gzip"}))
        await wire.send(packer.compress(b"data: a\n\n") + packer.flush(zlib.Z_SYNC_FLUSH))
        await wire.until_gone()

    async with service_at(handler, library) as service, service.open(CALL) as stream:
        assert [event.data for event in await anext(stream)] == ["a"]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (gzip.compress(gzip.compress(EVENTS)), "gzip, gzip"),
        (EVENTS, "br"),
        (EVENTS, "gzip"),
        (EVENTS, "deflate"),
        (gzip.compress(EVENTS)[:-4], "gzip"),
    ],
)
async def test_what_cannot_be_unpacked_is_an_error(
    content: bytes, encoding: str, library: str
) -> None:
    async with service_at(says(content, encoding), library) as service:
        with pytest.raises(HttpTroubleError) as caught:
            await stream_all(service)
    assert (caught.value.code, caught.value.ambiguous) == ("protocol", True)
    assert "compressed its answer" in str(caught.value)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
async def test_a_bomb_is_stopped_before_it_fills_the_memory(kind: str, library: str) -> None:
    packer = zlib.compressobj(9, wbits=31)
    megabyte = b"data" + b"x" * 999_996
    bomb = b"".join(packer.compress(megabyte) for _ in range(60)) + packer.flush()
    async with service_at(says(bomb, "gzip", kind), library) as service:
        tracemalloc.start()
        try:
            with pytest.raises(HttpTroubleError, match="more than"):
                await (stream_all(service) if "event" in kind else service.fetch(CALL))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 45_000_000


async def test_pieces_are_bounded_wherever_the_packed_bytes_are_cut() -> None:
    content = bytes(range(256)) * 2_000
    packed = gzip.compress(content)

    async def cut(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    for size in (1, 7, 4_096, len(packed)):
        pieces = [piece async for piece in Inflated(cut(size), "gzip")]
        assert max(map(len, pieces)) <= MAX_PIECE_BYTES
        assert b"".join(pieces) == content


async def test_an_error_whose_body_cannot_be_read_is_what_its_status_says(library: str) -> None:
    async def handler(wire: Wire) -> None:
        await wire.request()
        headers = {"retry-after": "7", "content-length": "100"}
        await wire.send(answer("cut", 429, headers))

    async with service_at(handler, library) as service:
        with pytest.raises(ProviderError) as caught:
            await service.fetch(CALL)
    assert (str(caught.value), caught.value.retry_after_seconds) == ("HTTP 429: ", 7.0)


async def test_headers_bring_no_control_characters(library: str) -> None:
    """They are shown in errors, which end up in terminals."""

    async def handler(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: \x9b31mtext\tx\r\n\r\n")

    async with service_at(handler, library) as service:
        with pytest.raises(HttpTroubleError, match="but 31mtextx") as caught:
            await stream_all(service)
    assert str(caught.value).isprintable()


async def test_a_client_that_was_handed_in_is_unpacked_in_the_same_way() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
        return httpx.Response(200, headers=headers, content=gzip.compress(EVENTS))

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    service = HttpService(
        provider="wire",
        options=HttpOptions(base_url="https://api.example.com", http_client=client),
        auth=dict,
        read_error=read_error,
    )
    assert await stream_all(service) == ["a", "b"]
    assert idle(service)
    await client.aclose()
