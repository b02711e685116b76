"""A server in a process of its own that says again what it was told: one answer for each path.

It does the least that a server can do, so that the client under measurement is never kept waiting
for long, and its CPU is not the client's. It reads its answers from its input, prints its port and
ends when its input does. `pause` seconds lie between two pieces of an answer.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

MAX_CONNECTIONS = 5_000
_END_SECONDS = 10.0
_END_OF_HEAD = b"\r\n\r\n"


@contextmanager
def replaying(
    answers: Mapping[str, Sequence[bytes]], *, pause: float = 0.0
) -> Generator[str, None, None]:
    """The URL of a server that answers each path with these pieces."""
    told = {path: [piece.decode("latin-1") for piece in pieces] for path, pieces in answers.items()}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"answers": told, "pause": pause}) + "\n")
            process.stdin.flush()
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the server's process did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class Connection(asyncio.Protocol):
    """Requests of one client, one after another; of each only its path and length are read."""

    live = 0

    def __init__(self, answers: Mapping[bytes, Sequence[bytes]], pause: float) -> None:
        self._answers = answers
        self._pause = pause
        self._bytes = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        Connection.live += 1
        if Connection.live > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        Connection.live -= 1

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, end, body = self._bytes.partition(_END_OF_HEAD)
        if end and len(body) >= _length(head):
            self._bytes = b""
            self._say(iter(self._answers[head.split(b" ", 2)[1]]))

    def _say(self, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece is None or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(piece)
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._say, pieces)
        else:
            self._say(pieces)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])


async def _serve() -> None:
    told = json.loads(sys.stdin.readline())
    answers = {
        path.encode(): [piece.encode("latin-1") for piece in pieces]
        for path, pieces in told["answers"].items()
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(answers, told["pause"]), "127.0.0.1", 0, backlog=MAX_CONNECTIONS
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
