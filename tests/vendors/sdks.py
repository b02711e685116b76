"""The vendors' own clients against this server: what they send for a call.

theirs = await openai_request_of(vendor, lambda client: client.responses.create(...))
ours = sent(vendor.last)
assert ours == theirs
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

    from .server import Seen, VendorServer

KEY = "sk-reference-0123456789"
COMPARED_HEADERS = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "authorization",
        "content-type",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "x-api-key",
    }
)


@attrs.frozen(kw_only=True)
class Sent:
    """Of a request what two clients must agree upon."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Those of COMPARED_HEADERS."""
    body: Any


def sent(seen: Seen) -> Sent:
    """What a request says, without what each client says in its own way."""
    headers = {name: seen.headers[name] for name in COMPARED_HEADERS & seen.headers.keys()}
    return Sent(
        method=seen.method, path=seen.path, query=seen.query, headers=headers, body=seen.body
    )


def openai_client(server: VendorServer, **options: Any) -> AsyncOpenAI:
    """Use it with `async with`. Options are the constructor's; no retries unless told."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - takes a second, few tests need it

    given: dict[str, Any] = {"api_key": KEY, "base_url": server.openai_url, "max_retries": 0}
    return AsyncOpenAI(**{**given, **options})


def anthropic_client(server: VendorServer, **options: Any) -> AsyncAnthropic:
    """Use it with `async with`. Options are the constructor's; no retries unless told."""
    from anthropic import AsyncAnthropic  # noqa: PLC0415 - takes a second, few tests need it

    given: dict[str, Any] = {"api_key": KEY, "base_url": server.anthropic_url, "max_retries": 0}
    return AsyncAnthropic(**{**given, **options})


async def openai_request_of(
    server: VendorServer, call: Callable[[AsyncOpenAI], Awaitable[object]], **options: Any
) -> Sent:
    """What OpenAI's client sends for this call; a stream is read to its end."""
    async with openai_client(server, **options) as client:
        return await _request_of(server, partial(call, client))


async def anthropic_request_of(
    server: VendorServer, call: Callable[[AsyncAnthropic], Awaitable[object]], **options: Any
) -> Sent:
    """What Anthropic's client sends for this call; a stream is read to its end."""
    async with anthropic_client(server, **options) as client:
        return await _request_of(server, partial(call, client))


async def _request_of(server: VendorServer, call: Callable[[], Awaitable[object]]) -> Sent:
    before = len(server.requests)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Assistants API is deprecated", DeprecationWarning)
        waiting = call()
    result: Any = await waiting
    if hasattr(result, "__aiter__"):
        # Their iterators leave generators behind that trio complains of.
        await result.response.aread()
    return sent(server.requests[before])
