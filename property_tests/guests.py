"""The scripted provider, the middleware and the hook of the simulated world: what they witness.

How a message is answered stands in the message: `c0.3:slow`; when it is asked for the second time,
it is answered without trouble. The answer names a checksum of the turn and the whole prompt, so
that a prompt that is wrong in anything shows in the history too.
"""

from __future__ import annotations

import math
from collections import Counter
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


def answer_to(turn_id: str, prompt: Sequence[tuple[str, str]]) -> str:
    """The whole answer of a turn to a prompt of (role, content)."""
    return f"re {prompt[-1][1]} #{crc32(repr([turn_id, *prompt]).encode()):08x}"


def pieces_of(answer: str) -> list[str]:
    """As the provider sends them."""
    size = -(-len(answer) // PIECES)
    return [answer[start : start + size] for start in range(0, len(answer), size)]


def conversation_of(turn_id: str) -> str:
    """The provider's own conversation that begins with this turn."""
    return f"conversation {turn_id}"


@attrs.define
class Asked:
    """What a provider was asked for one turn, and what it said. Times are those of the loop."""

    process: int
    prompt: tuple[tuple[str, str], ...]
    resumed: str | None
    """The provider's own conversation that it was told to go on with."""
    begun_at: float
    said: list[tuple[float, str]] = attrs.field(factory=list[tuple[float, str]])
    ended_at: float = math.inf

    def text(self, before: float = math.inf) -> str:
        """All that was said before that time."""
        return "".join(piece for moment, piece in self.said if moment < before)


@attrs.define
class Evidence:
    """What guests saw, over all processes."""

    asked: dict[str, Asked] = attrs.field(factory=dict[str, Asked])
    """By turn."""
    prompts: dict[str, tuple[tuple[str, str], ...]] = attrs.field(
        factory=dict[str, tuple[tuple[str, str], ...]]
    )
    """By user message; the last one, where it was asked again."""
    contexts: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = attrs.field(
        factory=dict[tuple[str, str], tuple[int, tuple[str, ...]]]
    )
    """By turn and user message: version and keys of the context that its middleware saw."""
    times: Counter[str] = attrs.field(factory=Counter[str])
    """By user message: how often it was asked."""


@attrs.define
class Witness:
    """What the guests of one process see."""

    process: int
    evidence: Evidence
    stored: Callable[[str], int]
    """The last seq that is committed of a session."""
    heard: dict[str, list[int]] = attrs.field(factory=dict[str, list[int]])
    """By session: the messages that the hook was told of, by seq."""
    running: dict[str, str] = attrs.field(factory=dict[str, str])
    """By session: the turn that is with a guest, and its message."""
    violations: list[str] = attrs.field(factory=list[str])

    def enters(self, session_id: str, work: str) -> None:
        """A guest begins to work for this turn."""
        other = self.running.setdefault(session_id, work)
        if other != work:
            self.violations.append(f"G2: {session_id} runs {other!r} and {work!r} at once")

    def leaves(self, session_id: str, work: str) -> None:
        """It ended."""
        if self.running.get(session_id) == work:
            del self.running[session_id]

    def asks(self, request: ProviderRequest) -> Asked:
        """A provider is asked."""
        prompt = tuple((message.role.value, message.content) for message in request.messages)
        now = anyio.current_time()
        asked = Asked(self.process, prompt, request.provider_session_id, now)
        if request.turn_id in self.evidence.asked:
            self.violations.append(f"G2: the provider was asked twice for {request.turn_id}")
        self.evidence.asked[request.turn_id] = asked
        self.evidence.prompts[prompt[-1][1]] = prompt
        self.evidence.times[prompt[-1][1]] += 1
        return asked

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
        witness, session_id, turn_id = self.witness, request.session_id, request.turn_id
        asked = witness.asks(request)
        question = asked.prompt[-1][1]
        witness.enters(session_id, f"{turn_id} {question}")
        try:
            is_again = witness.evidence.times[question] % 2 == 0
            how = "slow" if is_again else question.rpartition(":")[2]
            answer = answer_to(turn_id, asked.prompt)
            await _begin(how)
            for piece in pieces_of(answer):
                if how in {"slow", "long"}:
                    await anyio.sleep(0.1)
                asked.said.append((anyio.current_time(), piece))
                yield TextDelta(piece)
                await _go_on(how)
            if how != "trunc":
                yield Completed(
                    input_tokens=len(asked.prompt),
                    output_tokens=len(answer),
                    provider_session_id=request.provider_session_id or conversation_of(turn_id),
                )
        finally:
            asked.ended_at = anyio.current_time()
            witness.leaves(session_id, f"{turn_id} {question}")


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

    def __init__(self, witness: Witness, *, shows: bool) -> None:
        self.witness = witness
        self.holds_back_answers = not shows

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        how = message.content.partition(" #")[0].rpartition(":")[2]
        if message.role != "user":
            await anyio.sleep(1.8 if how == "late" else 0.0)
            if how == "veto":
                raise MessageRefused("not this answer")
            return message
        witness, turn_id = self.witness, message.turn_id or ""
        work = f"{turn_id} {message.content}"
        witness.enters(session_id, work)
        try:
            seen = context.version, tuple(context)
            witness.evidence.contexts[turn_id, message.content] = seen
            await anyio.lowlevel.checkpoint()
            if how == "deny":
                raise MessageRefused("not this message")
            if how == "stall":
                await anyio.sleep_forever()
        finally:
            witness.leaves(session_id, work)
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
