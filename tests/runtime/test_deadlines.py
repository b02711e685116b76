"""`timeout` and `on_busy`: what becomes of a message that the session cannot take up in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ISessionMiddleware,
    MockProvider,
    create_session_manager,
)
from langswarm.core.session.errors import (
    DeadlineExceededError,
    SessionBusyError,
    TurnInterruptedError,
)
from langswarm.core.session.testing import ScriptedProvider, ScriptedTurn

from .helpers import Echo, Store, answer_to, contents, new_session, on_a_virtual_clock, outcome

if TYPE_CHECKING:
    from langswarm.core.session import SessionContext, SessionManager, SessionMessage


def slow_manager(seconds: float = 60.0) -> SessionManager:
    """Its provider says "half" at once, and after so many seconds "full"."""
    turn = ScriptedTurn(text="halffull", chunks=2, chunk_seconds=seconds)
    return create_session_manager(providers={"openai": ScriptedProvider(lambda _: turn)})


@on_a_virtual_clock
async def test_a_timeout_in_the_queue_hands_the_message_back_in_time() -> None:
    """It never runs, though its caller waits, or nobody does (G11)."""
    async with slow_manager() as manager:
        session = await new_session(manager)
        first = session.submit("first")
        forgotten = session.submit("forgotten", timeout=5.0)
        with pytest.raises(DeadlineExceededError, match="never ran") as caught:
            await session.send_message("impatient", timeout=5.0)
        assert anyio.current_time() == pytest.approx(5.0)
        assert caught.value.content == "impatient"
        assert isinstance(caught.value, TimeoutError)
        await first
        assert isinstance(await outcome(forgotten), DeadlineExceededError)
        assert [m.content for m in await session.get_messages(role="user")] == ["first"]


@on_a_virtual_clock
async def test_a_timeout_of_a_running_turn_interrupts_it_and_keeps_what_had_arrived() -> None:
    """The question is stored, so it is not handed back; the session goes on (G9)."""
    async with slow_manager() as manager:
        session = await new_session(manager)
        with pytest.raises(DeadlineExceededError, match="interrupted") as caught:
            await session.send_message("first", timeout=5.0)
        assert anyio.current_time() == pytest.approx(5.0)
        assert caught.value.content is None
        last = (await session.get_messages())[-1]
        assert (last.content, last.finish_reason) == ("half", "interrupted")
        assert (await session.send_message("second")).content == "halffull"
        assert (await session.get_metrics()).interrupted_turns == 1


@on_a_virtual_clock
async def test_a_timeout_counts_from_the_call_not_from_the_turn() -> None:
    """Queued for 60 s of 90, it has 30 left."""
    async with slow_manager() as manager:
        session = await new_session(manager)
        _ = session.submit("first")
        with pytest.raises(DeadlineExceededError, match="interrupted"):
            await session.send_message("x", timeout=90.0)
        assert anyio.current_time() == pytest.approx(90.0)


@on_a_virtual_clock
async def test_a_timeout_that_is_long_enough_changes_nothing() -> None:
    """Nor does the date come up later."""
    async with slow_manager() as manager:
        session = await new_session(manager)
        answer = await session.send_message("x", timeout=61.0)
        assert answer.content == "halffull"
        await anyio.sleep(100)
        assert len(await contents(session)) == 2


@on_a_virtual_clock
async def test_a_timeout_in_a_middleware_refuses_the_message() -> None:
    """Nothing is stored yet, so it is handed back."""

    class Slow(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            await anyio.sleep(10)
            return message

    async with create_session_manager(
        providers={"openai": MockProvider()}, middleware=[Slow()]
    ) as manager:
        session = await new_session(manager)
        error = await outcome(session.submit("x", timeout=5.0))
        assert isinstance(error, DeadlineExceededError)
        assert error.content == "x"
        assert await contents(session) == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, "5"])
async def test_a_timeout_that_is_none_is_refused(seconds: object) -> None:
    """By name and value."""
    async with create_session_manager() as manager:
        session = await manager.create_session("u", "mock", "m")
        with pytest.raises(ConfigurationError, match="timeout="):
            _ = session.submit("x", timeout=seconds)  # type: ignore[arg-type]


class TestOnBusy:
    async def test_reject_hands_the_message_back_while_anything_runs_or_waits(
        self, store: Store
    ) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            assert (await session.send_message("x", on_busy="reject")).content == answer_to("x")
            _ = session.submit("long")
            for _ in range(2):
                with pytest.raises(SessionBusyError) as caught:
                    _ = session.submit("second", on_busy="reject")
                assert caught.value.content == "second"
                await gate.reached()
            gate.open()
            await session.update_context(behind=1)
            assert await contents(session) == ["x", answer_to("x"), "long", answer_to("long")]

    async def test_interrupt_stops_the_turn_and_keeps_its_own_place(self, store: Store) -> None:
        """Messages that were queued before run before."""
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            first, queued = session.submit("long"), session.submit("queued")
            await gate.reached()
            answer = await session.send_message("urgent", on_busy="interrupt")
            assert answer.content == answer_to("urgent")
            assert isinstance(await outcome(first), TurnInterruptedError)
            assert (await queued).content == answer_to("queued")
            sent = [m.content for m in await session.get_messages(role="user")]
            assert sent == ["long", "queued", "urgent"]

    async def test_is_a_setting_of_the_session_too(self, store: Store) -> None:
        """The call's own word comes first."""
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager, session_config={"on_busy": "reject"})
            _ = session.submit("long")
            await gate.reached()
            with pytest.raises(SessionBusyError):
                _ = session.submit("second")
            ticket = session.submit("third", on_busy="queue")
            gate.open()
            assert (await ticket).content == answer_to("third")
            await session.update_config({"on_busy": None})

    async def test_of_another_kind_is_refused(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            with pytest.raises(ConfigurationError, match="queue, reject, interrupt"):
                _ = session.submit("x", on_busy="later")  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="on_busy"):
                await session.update_config({"on_busy": "later"})
