"""The vendor's conversation holds what the history says, or it is given up: random programs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import (
    ISessionMiddleware,
    ISessionStorage,
    MockProvider,
    ProviderError,
    Session,
    SessionContext,
    SessionManager,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.errors import TurnNotFoundError, TurnStateError
from langswarm.core.session.storage import InMemorySessionStorage

from ...vendors import faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...vendors import VendorServer
    from .helpers import Connect

STEPS = 14
SECRET = "secret"


class Redact(ISessionMiddleware):
    """Takes one word out of answers: the vendor knows more than the history then."""

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        del session_id, context
        if message.role == "assistant":
            message.content = message.content.replace(SECRET, "...")
        return message


class Program:
    """A session that much happens to, on a storage that outlives its managers."""

    def __init__(self, seed: int, vendor: VendorServer, connect: Connect) -> None:
        self._choice = random.Random(seed)
        self._vendor = vendor
        self._connect = connect
        self._storage: ISessionStorage = InMemorySessionStorage()
        self._count = 0
        self._most = self._choice.choice([3, 6, 100])
        self.done: list[str] = []

    def manager(self) -> SessionManager:
        provider = self._connect(max_retries=1, max_retry_wait=0.0)
        providers = {"openai": provider, "other": MockProvider()}
        return create_session_manager(self._storage, providers=providers, middleware=[Redact()])

    async def run(self) -> None:
        left = STEPS
        is_new = True
        while left:
            async with self.manager() as manager:
                session = await (
                    manager.create_session(
                        "ada",
                        "openai",
                        "gpt-5",
                        session_id="s",
                        session_config={"max_messages": self._most},
                        provider_config={"fallbacks": [("other", "m")]},
                    )
                    if is_new
                    else manager.get_session("s")
                )
                is_new = False
                for _ in range(self._choice.randint(1, left)):
                    left -= 1
                    await self._step(session)
                if not left:
                    await self._send(session)  # begins another one if the last turn was no good
                    self._check(session, await session.get_messages())
                    await self._only(session.provider_session_id)

    async def _step(self, session: Session) -> None:
        verbs: list[Callable[[Session], Awaitable[None]]] = [
            *[self._send] * 4,
            self._fail,
            self._fall_back,
            self._lose,
            self._stop,
            self._again,
            self._rewind,
            self._clear,
            self._note,
            self._redacted,
            self._forgotten,
            self._limit,
        ]
        verb = self._choice.choice(verbs)
        self.done.append(verb.__name__)
        await verb(session)

    def _text(self) -> str:
        self._count += 1
        return f"question {self._count}"

    async def _send(self, session: Session) -> None:
        answer = await session.send_message(self._text())
        messages = await session.get_messages()
        assert messages[-1].message_id == answer.message_id
        if "fallback" not in answer.provider_metadata and SECRET not in str(self.done[-1:]):
            self._check(session, messages)

    def _check(self, session: Session, messages: list[SessionMessage]) -> None:
        """The items over there are the newest part of what is shown here."""
        said = [m.content for m in messages if m.finish_reason != "failed" and m.role != "system"]
        items = self._vendor.state.conversations.by_id[session.provider_session_id or ""].items
        held = [item["content"][0]["text"] for item in items if item["type"] == "message"]
        assert held
        assert held == said[-len(held) :], f"{held} is not the end of {said} after {self.done}"
        assert len(held) - 1 <= self._most, f"{held} has more than {self._most} after {self.done}"

    async def _only(self, name: str | None) -> None:
        """All conversations but this one are deleted, with their items."""
        state = self._vendor.state.conversations
        await self._vendor.until(lambda: set(state.by_id) == {name})
        assert state.orphans == [], f"items were left after {self.done}"

    async def _fail(self, session: Session) -> None:
        wrong = faults.status(400, body={"error": {"message": "planted", "type": "x"}})
        self._vendor.script(wrong, path="/v1/responses")
        with pytest.raises(ProviderError):
            await session.send_message(self._text())

    async def _fall_back(self, session: Session) -> None:
        self._vendor.script(*faults.storm(503, 2), path="/v1/responses")
        answer = await session.send_message(self._text())
        assert answer.provider_metadata["fallback"]["provider"] == "other"

    async def _lose(self, session: Session) -> None:
        """The answer is made and lost on the way: it is read back, not asked for twice."""
        self._vendor.script(faults.lost(), path="/v1/responses")
        answer = await session.send_message(self._text())
        assert answer.content == f"answer to: question {self._count}"
        self._check(session, await session.get_messages())

    async def _stop(self, session: Session) -> None:
        gate = self._vendor.hold("/v1/responses", events=4)
        ticket = session.submit(self._text())
        await gate.reached()
        await session.stop()
        gate.release()
        with pytest.raises(ProviderError):
            await ticket

    async def _again(self, session: Session) -> None:
        try:
            await session.regenerate()
        except TurnNotFoundError:
            return
        self._check(session, await session.get_messages())

    async def _rewind(self, session: Session) -> None:
        messages = await session.get_messages()
        if messages:
            await session.rewind(self._choice.choice(messages))

    async def _clear(self, session: Session) -> None:
        await session.clear_messages()

    async def _note(self, session: Session) -> None:
        await session.send_system_message(f"note {self._count}")

    async def _limit(self, session: Session) -> None:
        self._most = self._choice.choice([2, 5, 100])
        await session.update_config({"max_messages": self._most})

    async def _redacted(self, session: Session) -> None:
        self._vendor.answer = f"a {SECRET}"
        try:
            await session.send_message(self._text())
        finally:
            self._vendor.answer = _echo

    async def _forgotten(self, session: Session) -> None:
        """The vendor lost the conversation: the next turn begins another one by itself."""
        self._vendor.state.conversations.by_id.clear()
        await self._send(session)


def _echo(asked: Any) -> str:
    return f"answer to: {asked.text}"


@pytest.mark.parametrize("seed", range(12))
async def test_g4_a_stale_conversation_is_never_gone_on_with(
    vendor: VendorServer, connect: Connect, seed: int
) -> None:
    """G4, G9: failures, stops, branches, fallbacks and restarts, with good turns in between."""
    vendor.answer = _echo
    program = Program(seed, vendor, connect)
    try:
        await program.run()
    except TurnStateError as error:  # pragma: no cover - a step that this state does not allow
        pytest.fail(f"{error} after {program.done}")
