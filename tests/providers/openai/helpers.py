"""Talks to an OpenAIProvider as the runtime does, turn after turn."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.actors.ports import ConversationStarted
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.providers import Completed, ProviderEvent, ProviderRequest, TextDelta

if TYPE_CHECKING:
    from ...vendors import VendorServer

KEY = "sk-canary-0123456789abcdef"


class Connect:
    """Makes providers of the server; the fixture `connect` closes them."""

    def __init__(self, server: VendorServer) -> None:
        self._server = server
        self.made: list[OpenAIProvider] = []

    def __call__(self, **options: Any) -> OpenAIProvider:
        given: dict[str, Any] = {
            "api_key": KEY,
            "base_url": self._server.openai_url,
            "stall_timeout": 40.0,
        }
        self.made.append(OpenAIProvider(**{**given, **options}))
        return self.made[-1]

    async def close(self) -> None:
        """Close all that were made."""
        for provider in self.made:
            await provider.aclose()


def user(text: str) -> PromptMessage:
    return PromptMessage(role=Role.USER, content=text)


def system(text: str) -> PromptMessage:
    return PromptMessage(role=Role.SYSTEM, content=text)


def answer(text: str, item_id: str | None = None) -> PromptMessage:
    return PromptMessage(role=Role.ASSISTANT, content=text, provider_message_id=item_id)


class Chat:
    """One session: what was said, and its conversation at the vendor."""

    def __init__(self, provider: OpenAIProvider, *said: PromptMessage, **config: Any) -> None:
        self.provider = provider
        self.said = list(said)
        self.config = config
        self.conversation_id: str | None = None
        self.model = "gpt-5"
        self.events: list[ProviderEvent] = []
        """Of the last turn."""
        self.turns = 0

    def request(self, text: str) -> ProviderRequest:
        self.turns += 1
        return ProviderRequest(
            session_id="s",
            turn_id=f"s/{self.turns}",
            model=self.model,
            messages=(*self.said, user(text)),
            config=self.config,
            provider_session_id=self.conversation_id,
        )

    async def ask(self, text: str) -> Completed:
        """One turn; what came before a failure is in `events`."""
        self.events = []
        request = self.request(text)
        async with aclosing(self.provider.stream(request)) as events:
            async for event in events:
                self.events.append(event)
                if isinstance(event, ConversationStarted):
                    self.conversation_id = event.provider_session_id
        end = self.events[-1]
        assert isinstance(end, Completed)
        assert sum(isinstance(event, Completed) for event in self.events) == 1
        self.conversation_id = end.provider_session_id
        self.said += [user(text), answer(self.text, end.provider_message_id)]
        return end

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.events if isinstance(each, TextDelta))

    @property
    def started(self) -> list[str]:
        return [e.provider_session_id for e in self.events if isinstance(e, ConversationStarted)]
