"""The scripted provider, the middleware and the hook of the simulated world: what they witness.

How a message is answered stands in the message: `c0.3:slow`. The answer names a checksum of the
whole prompt, so that a prompt that is wrong in anything shows in the history too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import anyio
import anyio.lowlevel
import attrs
from langswarm.core.session.actors.errors import MessageRefused, ProviderError
from langswarm.core.session.actors.ports import Completed, IProvider, TextDelta
from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from langswarm.core.session.actors.ports import ProviderEvent, ProviderRequest
    from langswarm.core.session.runtime.views import SessionContext, SessionMessage

PIECES = 3


def answer_to(prompt: Sequence[tuple[str, str]]) -> str:
    """The whole answer to a prompt of (role, content)."""
    return f"re {prompt[-1][1]} #{crc32(repr(list(prompt)).encode()):08x}"


def pieces_of(answer: str) -> list[str]:
    """As the provider sends them."""
    size = -(-len(answer) // PIECES)
    return [answer[start : start + size] for start in range(0, len(answer), size)]


def conversation_of(question: str) -> str:
    """The provider's own conversation that begins with this question."""
    return f"conversation {question}"


@attrs.define
class Witness:
    """What guests saw, over all processes."""

    prompts: dict[str, tuple[tuple[str, str], ...]]
    """By user message."""
    contexts: dict[str, tuple[int, tuple[str, ...]]]
    """By user message: version and keys of the context that its middleware saw."""
    resumed: dict[str, str | None]
    """By user message: the provider's own conversation that it was told to go on with."""
    stored: Callable[[str], int]
    """The last seq that is committed of a session."""
    heard: dict[str, list[int]] = attrs.field(factory=dict[str, list[int]])
    """By session: the messages that the hook was told of, by seq."""
    running: dict[str, str] = attrs.field(factory=dict[str, str])
    """By session: the message whose turn is with a guest."""
    violations: list[str] = attrs.field(factory=list[str])

    def enters(self, session_id: str, content: str) -> None:
        """A guest begins to work for this turn."""
        other = self.running.setdefault(session_id, content)
        if other != content:
            self.violations.append(f"G2: {session_id} runs {other!r} and {content!r} at once")

    def leaves(self, session_id: str, content: str) -> None:
        """It ended."""
        if self.running.get(session_id) == content:
            del self.running[session_id]

    def hears(self, session_id: str, seq: int) -> None:
        """The hook is told that this message is stored."""
        heard = self.heard.setdefault(session_id, [])
        if heard and seq <= heard[-1]:
            self.violations.append(f"G10: {session_id}: told of {seq} after {heard[-1]}")
        if seq > self.stored(session_id):
            self.violations.append(f"G10: {session_id}: told of {seq} before it was stored")
        heard.append(seq)


class ScriptedProvider(IProvider):
    """Answers as the message says."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        witness, session_id = self.witness, request.session_id
        prompt = tuple((message.role.value, message.content) for message in request.messages)
        question = prompt[-1][1]
        witness.enters(session_id, question)
        witness.prompts[question] = prompt
        witness.resumed[question] = request.provider_session_id
        try:
            how = question.rpartition(":")[2]
            answer = answer_to(prompt)
            await _begin(how)
            for piece in pieces_of(answer):
                if how in {"slow", "long"}:
                    await anyio.sleep(0.1)
                yield TextDelta(piece)
                await _go_on(how)
            if how != "trunc":
                yield Completed(
                    input_tokens=len(prompt),
                    output_tokens=len(answer),
                    provider_session_id=request.provider_session_id or conversation_of(question),
                )
        finally:
            witness.leaves(session_id, question)


async def _begin(how: str) -> None:
    await anyio.lowlevel.checkpoint()
    if how == "fail":
        raise ProviderError("no answer", code="overloaded", retryable=True)
    if how == "bug":
        raise ValueError("a provider's bug")
    if how in {"long", "late"}:
        await anyio.sleep(3.0 if how == "long" else 4.5)


async def _go_on(how: str) -> None:
    if how == "half":
        raise ProviderError("cut off", code="connection", retryable=True)
    if how == "hang":
        await anyio.sleep_forever()


class Recorder(ISessionMiddleware):
    """Notes the context that a turn sees, and refuses or hangs where the message says so."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        how = message.content.partition(" #")[0].rpartition(":")[2]
        if message.role != "user":
            await anyio.sleep(1.8 if how == "late" else 0.0)
            if how == "veto":
                raise MessageRefused("not this answer")
            return message
        witness = self.witness
        witness.enters(session_id, message.content)
        try:
            witness.contexts[message.content] = (context.version, tuple(context))
            await anyio.lowlevel.checkpoint()
            if how == "deny":
                raise MessageRefused("not this message")
            if how == "stall":
                await anyio.sleep_forever()
        finally:
            witness.leaves(session_id, message.content)
        return message


class Listener(ISessionLifecycleHook):
    """Notes the messages that it is told of, and takes its time."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        self.witness.hears(session_id, message.seq)
        await anyio.sleep(0.05)

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        self.witness.hears(session_id, message.seq)
        await anyio.lowlevel.checkpoint()
