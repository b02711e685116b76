"""Ways to ask for one streamed turn through us: HTTP alone, a provider, a session per turn."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from askers import KEY, Asker
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.errors import ProviderError
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.http.service import HttpCall, HttpService
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider
from langswarm.core.session.providers import ProviderRequest, TextDelta
from recorded import CHAT, MAX_ANSWER_TOKENS, MESSAGES, MODEL, QUESTION, body_of, headers_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from langswarm.core.session import Session
    from langswarm.core.session.providers import IProvider

NAME = "p"


@asynccontextmanager
async def http_layer(path: str, library: str, url: str, connections: int) -> AsyncGenerator[Asker]:
    """HttpService alone: events, whose data nobody looks into."""
    service = HttpService(
        provider=NAME,
        options=HttpOptions(base_url=url, max_connections=connections, http_library=library),
        auth=dict,
        read_error=_read_error,
    )
    call = HttpCall(method="POST", path=path, body=body_of(path), headers=headers_of(path))

    async def ask() -> int:
        seen = 0
        async with service.open(call) as stream:
            async for events in stream:
                seen += len(events)
        return seen

    try:
        yield Asker(ask)
    finally:
        await service.aclose()


def _read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    return ProviderError(f"{status} {dict(headers)} {body}", code="internal", provider=NAME)


@asynccontextmanager
async def provider(path: str, library: str, url: str, connections: int) -> AsyncGenerator[Asker]:
    """The provider of that path, asked as a session asks it."""
    asked = _provider(path, library, url, connections)
    request = ProviderRequest(
        session_id="s",
        turn_id="t",
        model=MODEL,
        messages=(PromptMessage(role=Role.USER, content=QUESTION),),
        config=_config(path),
        provider_session_id=None,
    )

    async def ask() -> int:
        seen = 0
        async for event in asked.stream(request):
            if isinstance(event, TextDelta):
                seen += len(event.text)
        return seen

    try:
        yield Asker(ask)
    finally:
        await asked.aclose()


@asynccontextmanager
async def sessions(path: str, library: str, url: str, connections: int) -> AsyncGenerator[Asker]:
    """The whole public API on memory storage: each turn is the first one of a new session."""
    asked = _provider(path, library, url, connections)
    ready: list[Session] = []
    async with create_session_manager(providers={NAME: asked}) as manager:

        async def prepare(turns: int) -> None:
            ready.extend(
                [
                    await manager.create_session("u", NAME, MODEL, provider_config=_config(path))
                    for _ in range(turns)
                ]
            )

        async def ask() -> int:
            return len((await ready.pop().send_message(QUESTION)).content)

        yield Asker(ask, prepare)


def _provider(path: str, library: str, url: str, connections: int) -> IProvider:
    if path == MESSAGES:
        return AnthropicProvider(
            KEY, base_url=url, max_connections=connections, http_library=library
        )
    kind = OpenAIChatProvider if path == CHAT else OpenAIProvider
    return kind(KEY, base_url=f"{url}/v1", max_connections=connections, http_library=library)


def _config(path: str) -> Mapping[str, object]:
    """The OpenAI provider without a conversation of the vendor's: one request for one turn."""
    if path == MESSAGES:
        return {"max_tokens": MAX_ANSWER_TOKENS}
    return {} if path == CHAT else {"state": "local"}
