"""G9: a caller that is cancelled while queued takes its message along; a running turn goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    IProvider,
    ProviderError,
    Session,
    SessionExistsError,
    SessionManager,
)
from langswarm.core.session.errors import ReentrantCallError, WithdrawnError
from langswarm.core.session.interfaces import (
    ISessionMiddleware,
    SessionContext,
    SessionMessage,
)
from langswarm.core.session.providers import (
    Completed,
    ProviderEvent,
    ProviderRequest,
    TextDelta,
)

from .helpers import PATIENCE_SECONDS, Echo, Store, assert_turns, contents, new_session, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def held(manager: SessionManager, provider: Echo) -> Session:
    """A session whose turn `long` is held by the provider."""
    session = await new_session(manager)
    _ = session.submit("long")
    await provider.gates["long"].reached()
    return session


async def test_g9_a_caller_cancelled_while_queued_never_runs(store: Store) -> None:
    """G9: the message is gone; what is before and behind it runs."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider) as manager:
        session = await held(manager, provider)
        async with anyio.create_task_group() as group:
            group.start_soon(session.send_message, "never")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        behind = session.submit("behind")
        gate.open()
        await outcome(behind)
        assert_turns(await session.get_messages(), ["long", "behind"])
    assert [prompt[-1] for prompt in provider.prompts()] == ["long", "behind"]


async def test_g9_a_caller_cancelled_while_running_leaves_a_turn_that_commits(
    store: Store,
) -> None:
    """G9: the turn goes on to its commit although nobody waits any more."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        async with anyio.create_task_group() as group:
            group.start_soon(session.send_message, "long")
            await gate.reached()
            group.cancel_scope.cancel()
        assert await contents(session) == ["long"]
        gate.open()
        assert (await session.send_message("next")).content == "answer to next"
        assert_turns(await session.get_messages(), ["long", "next"])
    assert provider.cancelled == []


async def test_g9_a_deadline_of_the_caller_is_the_callers_alone(store: Store) -> None:
    """G9: a scope's deadline around a send ends the wait, not the turn."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        scope = anyio.CancelScope()

        async def let_it_expire() -> None:
            await gate.reached()
            scope.deadline = anyio.current_time()

        async with anyio.create_task_group() as group:
            group.start_soon(let_it_expire)
            with scope:
                await session.send_message("long")
        assert scope.cancelled_caught
        gate.open()
        await session.send_message("next")
        assert_turns(await session.get_messages(), ["long", "next"])


async def test_g9_withdraw_takes_a_queued_message_back(store: Store) -> None:
    """G9: True if it never runs; False once it runs or ran; waiters are told."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        first, second, third = (session.submit(text) for text in ("long", "never", "behind"))
        await gate.reached()
        assert second.withdraw()
        assert second.withdraw()
        assert not first.withdraw()
        with pytest.raises(WithdrawnError):
            await second
        gate.open()
        await outcome(third)
        assert not third.withdraw()
        assert_turns(await session.get_messages(), ["long", "behind"])


async def test_g9_a_shared_ticket_is_withdrawn_only_with_its_last_waiter(store: Store) -> None:
    """G9: one of two waiters is cancelled: the message runs; the last one too: it does not."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider) as manager:
        session = await held(manager, provider)
        shared, alone = session.submit("shared"), session.submit("alone")

        async def wait_for_shared() -> None:
            await shared

        async def wait_for_alone() -> None:
            await alone

        async with anyio.create_task_group() as stays:
            stays.start_soon(wait_for_shared)
            async with anyio.create_task_group() as goes:
                for _ in range(2):
                    goes.start_soon(wait_for_alone)
                goes.start_soon(wait_for_shared)
                await anyio.wait_all_tasks_blocked()
                goes.cancel_scope.cancel()
            gate.open()
        assert (await outcome(shared)).content == "answer to shared"
        assert isinstance(await outcome(alone), WithdrawnError)


async def test_g9_a_ticket_that_nobody_awaits_runs_all_the_same(store: Store) -> None:
    """G9: submit and forget is a send."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        _ = session.submit("one")
        _ = session.submit("two")
        await session.send_message("three")
        assert_turns(await session.get_messages(), ["one", "two", "three"])


async def test_g9_many_withdrawals_cost_nothing_of_the_bound(store: Store) -> None:
    """G9, G11: withdrawn messages give their places back."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider, mailbox_size=10) as manager:
        session = await held(manager, provider)
        for _ in range(50):
            tickets = [session.submit("never") for _ in range(10)]
            assert all(ticket.withdraw() for ticket in tickets)
        behind = session.submit("behind")
        gate.open()
        await outcome(behind)
        assert_turns(await session.get_messages(), ["long", "behind"])


async def test_g9_a_cancelled_create_either_made_the_session_or_did_not(store: Store) -> None:
    """G9: a `create_session` cut off anywhere leaves an id that is usable or free."""
    async with store.manager(Echo()) as manager:
        for number in range(10):
            with anyio.move_on_after(0 if number % 2 else 0.0005):
                await new_session(manager, session_id=f"s{number}")
        for number in range(10):
            try:
                session = await new_session(manager, session_id=f"s{number}")
            except SessionExistsError:
                session = await manager.get_session(f"s{number}")
            await session.send_message("one")
            assert_turns(await session.get_messages(), ["one"])


class Inward(ISessionMiddleware):
    """Calls its own session from inside the turn, by the way it is told."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.session: Session | None = None
        self.error: Exception | None = None

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if self.session is not None and message.content == "outer":
            try:
                if self.way == "send":
                    await self.session.send_message("inner")
                elif self.way == "update":
                    await self.session.update_context(inner=1)
                elif self.way == "submit":
                    _ = self.session.submit("inner")
                else:
                    await self.session.get_messages()
            except ReentrantCallError as error:
                self.error = error
        return message


@pytest.mark.parametrize("way", ["send", "update"])
async def test_g15_a_call_that_waits_for_its_own_turn_is_refused(store: Store, way: str) -> None:
    """G15: ReentrantCallError at once, never a deadlock; the inner message never runs."""
    inward = Inward(way)
    async with store.manager(Echo(), middleware=[inward]) as manager:
        inward.session = session = await new_session(manager)
        with anyio.fail_after(PATIENCE_SECONDS):
            assert (await session.send_message("outer")).content == "answer to outer"
        assert isinstance(inward.error, ReentrantCallError)
        await session.send_message("next")
        assert_turns(await session.get_messages(), ["outer", "next"])
        assert dict(await session.get_context()) == {}


@pytest.mark.parametrize("way", ["submit", "read"])
async def test_g15_what_does_not_wait_is_allowed_inside_a_turn(store: Store, way: str) -> None:
    """G15: a submit that is not awaited, and every read."""
    inward = Inward(way)
    async with store.manager(Echo(), middleware=[inward]) as manager:
        inward.session = session = await new_session(manager)
        await session.send_message("outer")
        await session.send_message("next")
        expected = ["outer", "inner", "next"] if way == "submit" else ["outer", "next"]
        assert_turns(await session.get_messages(), expected)
        assert inward.error is None


async def test_g15_a_provider_that_sends_to_its_own_session_is_refused(store: Store) -> None:
    """G15: the same from inside the provider: the turn fails and says why."""
    sessions: list[Session] = []

    class Calling(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            if request.messages[-1].content == "outer":
                await sessions[0].send_message("inner")
            yield TextDelta("fine")
            yield Completed()

    async with store.manager(Calling()) as manager:
        sessions.append(await new_session(manager))
        with pytest.raises(ProviderError) as caught, anyio.fail_after(PATIENCE_SECONDS):
            await sessions[0].send_message("outer")
        assert isinstance(caught.value.__cause__, ReentrantCallError)
        assert (await sessions[0].send_message("next")).content == "fine"


async def test_g15_another_session_may_be_called_from_inside_a_turn(store: Store) -> None:
    """G15: only waiting for oneself is refused: agents may call other agents."""

    class Relay(ISessionMiddleware):
        def __init__(self) -> None:
            self.to: Session | None = None

        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if self.to is not None and message.content == "outer":
                message.metadata = {"other": (await self.to.send_message("inner")).content}
            return message

    relay = Relay()
    async with store.manager(Echo(), middleware=[relay]) as manager:
        session, relay.to = await new_session(manager), await new_session(manager)
        await session.send_message("outer")
        assert (await session.get_messages())[0].metadata == {"other": "answer to inner"}
