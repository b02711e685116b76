"""G15 and the guide: middleware sees every message, in order, and can spoil only its own."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    MessageRefused,
    MiddlewareError,
    SessionError,
    create_session_manager,
)
from langswarm.core.session.errors import SessionQuarantinedError
from langswarm.core.session.interfaces import (
    ISessionMiddleware,
    SessionContext,
    SessionMessage,
)

from .helpers import (
    Echo,
    Store,
    assert_turns,
    contents,
    new_session,
    on_a_virtual_clock,
    outcome,
    supervisor_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Step(ISessionMiddleware):
    """Does what a function says, in one direction."""

    def __init__(
        self, role: str, act: Callable[[SessionMessage], Awaitable[SessionMessage | None]]
    ) -> None:
        self.role = role
        self.act = act

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role != self.role:
            return message
        return await self.act(message)  # type: ignore[return-value]  # None is one of the faults


class Stamp(ISessionMiddleware):
    """Adds a letter to everything."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        message.content += self.letter
        message.metadata[self.letter] = len(message.metadata)
        return message


async def test_middleware_runs_in_the_order_added_in_both_directions(store: Store) -> None:
    """G15: what they return is what the provider gets, what is stored, and what is answered."""
    provider = Echo()
    async with store.manager(provider, middleware=[Stamp("A")]) as manager:
        manager.add_middleware(Stamp("B"))
        session = await new_session(manager)
        answer = await session.send_message("hi ", metadata={"given": True})
        assert provider.prompts() == [["hi AB"]]
        assert answer.content == "answer to hi ABAB"
        question, stored = await session.get_messages()
        assert question.content == "hi AB"
        assert question.metadata == {"given": True, "A": 1, "B": 2}
        assert stored == answer
        assert answer.metadata == {"A": 0, "B": 1}


async def test_middleware_cannot_change_what_the_runtime_knows(store: Store) -> None:
    """G15: role, id and seq of the copy are its own; only content and metadata are taken back."""

    async def lie(message: SessionMessage) -> SessionMessage:
        message.seq, message.message_id, message.session_id = 99, "mine", "other"
        return SessionMessage("system", message.content + "!", message_id="mine", seq=7)

    async with store.manager(Echo(), middleware=[Step("user", lie)]) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert_turns(await session.get_messages(), ["one!"])


async def test_g15_a_refused_message_uses_no_seq_and_asks_nobody(store: Store) -> None:
    """G15: MessageRefused reaches the caller as it is; the next message takes the seq."""

    async def refuse(message: SessionMessage) -> SessionMessage:
        if message.content == "bad":
            raise MessageRefused("not here")
        return message

    provider = Echo()
    async with store.manager(provider, middleware=[Step("user", refuse)]) as manager:
        session = await new_session(manager)
        with pytest.raises(MessageRefused, match="not here"):
            await session.send_message("bad")
        assert session.message_count == 0
        await session.send_message("good")
        assert_turns(await session.get_messages(), ["good"])
        assert (await session.get_metrics()).failed_turns == 0
    assert provider.prompts() == [["good"]]


async def raises(message: SessionMessage) -> SessionMessage:
    raise ValueError("planted")


class Odd(BaseException):
    """No Exception."""


async def raises_base(message: SessionMessage) -> SessionMessage:
    raise Odd("planted")


async def exits(message: SessionMessage) -> SessionMessage:
    raise SystemExit(3)


async def returns_nothing(message: SessionMessage) -> SessionMessage | None:
    return None


async def empties(message: SessionMessage) -> SessionMessage:
    message.content = "\ud800"
    return message


async def spoils_metadata(message: SessionMessage) -> SessionMessage:
    message.metadata = {"nan": float("nan")}
    return message


async def hangs(message: SessionMessage) -> SessionMessage:
    await anyio.sleep_forever()
    raise AssertionError


FAULTS = [raises, raises_base, exits, returns_nothing, empties, spoils_metadata, hangs]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_g15_a_middleware_that_fails_on_the_message_spoils_that_message_only(
    store: Store, fault: Callable[[SessionMessage], Awaitable[SessionMessage | None]]
) -> None:
    """G15: a typed error, nothing stored, no actor crashed, the next message runs."""
    broken = True

    async def act(message: SessionMessage) -> SessionMessage | None:
        return await fault(message) if broken else message

    provider = Echo()
    async with store.manager(
        provider, middleware=[Step("user", act)], middleware_timeout_seconds=0.05
    ) as manager:
        session = await new_session(manager)
        error = await outcome(session.submit("spoiled"))
        assert isinstance(error, (MiddlewareError, ValueError))
        broken = False
        await session.send_message("fine")
        assert_turns(await session.get_messages(), ["fine"])
        statistics = supervisor_of(manager).statistics()
        assert (statistics.restarts, statistics.quarantines) == (0, 0)
    assert provider.prompts() == [["fine"]]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_g15_an_answer_that_could_not_be_filtered_is_never_shown(
    store: Store, fault: Callable[[SessionMessage], Awaitable[SessionMessage | None]]
) -> None:
    """G15: the turn fails, no trace of the unfiltered answer is readable, the session goes on."""
    broken = True

    async def act(message: SessionMessage) -> SessionMessage | None:
        return await fault(message) if broken else message

    async with store.manager(
        Echo(), middleware=[Step("assistant", act)], middleware_timeout_seconds=0.05
    ) as manager:
        events = manager.session_events()
        session = await new_session(manager)
        error = await outcome(session.submit("secret"))
        assert isinstance(error, (MiddlewareError, ValueError))
        assert "answer to secret" not in str(error)
        [question] = await session.get_messages()
        assert (question.content, question.finish_reason) == ("secret", "failed")
        broken = False
        await session.send_message("fine")
        assert await contents(session) == ["secret", "fine", "answer to fine"]
        statistics = supervisor_of(manager).statistics()
        assert (statistics.restarts, statistics.quarantines) == (0, 0)
    kinds = [event.type async for event in events if event.type != "session_evicted"]
    assert kinds == [
        "session_created",
        "message_sent",
        "session_error",
        "message_sent",
        "message_received",
    ]


request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


async def test_a_turn_runs_in_a_copy_of_its_callers_context(store: Store) -> None:
    """G15: request ids survive the mailbox, and what a guest sets stays in its own turn."""
    seen: list[str] = []

    async def note(message: SessionMessage) -> SessionMessage:
        seen.append(request_id.get())
        request_id.set("leaked")
        return message

    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider, middleware=[Step("user", note)]) as manager:
        session = await new_session(manager)
        request_id.set("first")
        first = session.submit("long")
        request_id.set("second")
        second = session.submit("behind")
        request_id.set("later")
        await gate.reached()
        gate.open()
        await outcome(first)
        await outcome(second)
        assert seen == ["first", "second"]
        assert request_id.get() == "later"


class Stubborn(ISessionMiddleware):
    """Ignores its cancellation in one direction, until it is let go."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.let_go = anyio.Event()

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role == self.role and "stuck" in message.content:
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
            message.content = f"late {message.content}"
        return message


async def abandoned(role: str, expected: list[str]) -> None:
    stubborn = Stubborn(role)
    async with create_session_manager(
        middleware=[stubborn],
        providers={"openai": Echo()},
        turn_timeout_seconds=60,
        middleware_timeout_seconds=10,
        cancel_grace_seconds=5,
        quarantine_seconds=3600,
    ) as manager:
        session, neighbour = await new_session(manager), await new_session(manager)
        stuck, queued = session.submit("stuck"), session.submit("queued")
        await neighbour.send_message("fine")
        with pytest.raises(SessionError):
            await stuck
        assert anyio.current_time() <= 66
        with pytest.raises(SessionQuarantinedError):
            await queued
        with pytest.raises(SessionQuarantinedError):
            _ = session.submit("no")
        before = await contents(session)
        assert before == expected
        stubborn.let_go.set()
        await anyio.sleep(3600)
        assert await contents(session) == before
        assert_turns(await neighbour.get_messages(), ["fine"])


@on_a_virtual_clock
async def test_g15_a_middleware_that_ignores_its_cancellation_is_abandoned() -> None:
    """G15: abandoned: nothing stored, the session rests, the late word is lost."""
    await abandoned("user", [])


@on_a_virtual_clock
async def test_g15_a_middleware_that_ignores_its_cancellation_on_the_answer_is_abandoned() -> None:
    """G15: abandoned: the turn is closed as failed, and nothing unfiltered is shown."""
    await abandoned("assistant", ["stuck"])
