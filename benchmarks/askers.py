"""Ways to ask for one streamed turn without us: a bare client, readers, the vendors' own clients.

Each reads its answer to the end and says how much it saw: a bare client counts bytes, a reader of
events these, and who understands them the characters of the answer.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import attrs
import httpx_sse
from recorded import CHAT, MESSAGES, RESPONSES, body_of, headers_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Ask = Callable[[], Awaitable[int]]
    Open = Callable[[str, int], AbstractAsyncContextManager["Asker"]]
    """From the server's URL and the number of connections."""

KEY = "key"


async def _nothing(turns: int) -> None:
    del turns


@attrs.frozen
class Asker:
    """`ask()` is one turn; `prepare(turns)` comes before so many of them, off the clock."""

    ask: Ask
    prepare: Callable[[int], Awaitable[None]] = _nothing


@asynccontextmanager
async def _client(library: str, connections: int) -> AsyncGenerator[Any]:
    """A plain client that may have so many connections; times as the vendors' clients have them."""
    lib = import_module(library)
    limits = lib.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = lib.Timeout(600.0, connect=5.0)
    async with lib.AsyncClient(limits=limits, timeout=timeout) as client:
        yield client


@asynccontextmanager
async def bare(path: str, library: str, url: str, connections: int) -> AsyncGenerator[Asker]:
    """The floor: read the bytes and count them."""
    body, headers = body_of(path), headers_of(path)

    async with _client(library, connections) as client:

        async def ask() -> int:
            seen = 0
            async with client.stream("POST", url + path, json=body, headers=headers) as response:
                async for chunk in response.aiter_bytes():
                    seen += len(chunk)
            return seen

        yield Asker(ask)


@asynccontextmanager
async def httpx_sse_reader(path: str, url: str, connections: int) -> AsyncGenerator[Asker]:
    """httpx-sse's reader on a plain client: events, whose data nobody looks into."""
    body, headers = body_of(path), headers_of(path)

    async with _client("httpx", connections) as client:

        async def ask() -> int:
            seen = 0
            async with httpx_sse.aconnect_sse(
                client, "POST", url + path, json=body, headers=dict(headers)
            ) as source:
                async for _ in source.aiter_sse():
                    seen += 1
            return seen

        yield Asker(ask)


@asynccontextmanager
async def openai_chat_sdk(url: str, connections: int) -> AsyncGenerator[Asker]:
    """The official client, made as its users make it."""
    del connections
    body: dict[str, Any] = body_of(CHAT)
    async with import_module("openai").AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1") as client:

        async def ask() -> int:
            seen = 0
            async for chunk in await client.chat.completions.create(**body):
                if chunk.choices:
                    seen += len(chunk.choices[0].delta.content or "")
            return seen

        yield Asker(ask)


@asynccontextmanager
async def openai_responses_sdk(url: str, connections: int) -> AsyncGenerator[Asker]:
    """The official client, made as its users make it."""
    del connections
    body: dict[str, Any] = body_of(RESPONSES)
    async with import_module("openai").AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1") as client:

        async def ask() -> int:
            seen = 0
            async for event in await client.responses.create(**body):
                if event.type == "response.output_text.delta":
                    seen += len(event.delta)
            return seen

        yield Asker(ask)


@asynccontextmanager
async def anthropic_sdk(url: str, connections: int) -> AsyncGenerator[Asker]:
    """The official client, made as its users make it."""
    del connections
    body: dict[str, Any] = body_of(MESSAGES)
    async with import_module("anthropic").AsyncAnthropic(api_key=KEY, base_url=url) as client:

        async def ask() -> int:
            seen = 0
            async for event in await client.messages.create(**body):
                if event.type == "content_block_delta":
                    seen += len(event.delta.text)
            return seen

        yield Asker(ask)
