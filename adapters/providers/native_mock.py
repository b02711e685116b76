"""A mock that keeps conversations of its own, as vendors do: to see that they are used rightly."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import attrs

from ...actors.ports import Completed, ConversationStarted, TextDelta
from .mock import MockProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ...actors.ports import ProviderEvent, ProviderRequest

MAX_CONVERSATIONS = 65_536
"""Conversations that are kept; the one that is longest unused goes first."""


class NativeMockProvider(MockProvider):
    """As `MockProvider`, with state at the provider's side.

    The first turn of a session begins a conversation with the whole window; later ones send the
    question only, as long as the session may go on with it; one that is gone is begun afresh. A
    turn that fails or is stopped leaves its question, and what it had said, in the conversation: as
    at a vendor's, it is spoilt then.
    """

    keeps_conversations = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conversations: OrderedDict[str, list[str]] = OrderedDict()
        """By their ids, the texts in each: what the provider believes was said."""

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn, in a conversation of the provider's own."""
        name = request.provider_session_id
        texts = [message.content for message in request.messages]
        if name is None or name not in self.conversations:
            name = f"conv_{os.urandom(8).hex()}"
            self.conversations[name] = texts
            while len(self.conversations) > MAX_CONVERSATIONS:
                self.conversations.popitem(last=False)
            yield ConversationStarted(name)
        else:
            self.conversations.move_to_end(name)
            self.conversations[name].append(texts[-1])
        said = ""
        events: Any = super().stream(request)
        try:
            async for event in events:
                if isinstance(event, TextDelta):
                    said += event.text
                    yield event
                elif isinstance(event, Completed):
                    yield attrs.evolve(event, provider_session_id=name)
        finally:
            self.conversations.get(name, []).append(said)
            await events.aclose()

    async def delete_conversation(self, provider_session_id: str) -> None:
        """Forget it; one that is not there is forgotten already."""
        self.conversations.pop(provider_session_id, None)
