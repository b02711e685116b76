"""Turns as streams of events: followed live, from the middle, after their end (G9)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ISessionMiddleware,
    MessageRefused,
    SessionNotFoundError,
)
from langswarm.core.session.errors import ProviderError, ReentrantCallError, TurnNotFoundError
from langswarm.core.session.interfaces import (
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
    TurnStream,
    TurnText,
    TurnUsage,
)
from langswarm.core.session.providers import Completed, IProvider, ProviderRequest, TextDelta

from .helpers import (
    PATIENCE_SECONDS,
    Echo,
    Gate,
    Play,
    Store,
    answer_to,
    contents,
    new_session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session import Session, SessionContext, SessionMessage
    from langswarm.core.session.actors.ports import ProviderEvent

CHUNKS = 200


async def all_events(stream: TurnStream) -> list[TurnEvent]:
    with anyio.fail_after(PATIENCE_SECONDS):
        return [event async for event in stream]


def kinds(events: list[TurnEvent]) -> list[str]:
    return [event.type for event in events]


def text_of(events: list[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TurnText))


class Chunks(IProvider):
    """Says `0 1 2 ... ` in CHUNKS pieces; holds at the gate before piece `held`."""

    def __init__(self, held: int | None = None) -> None:
        self.gate = Gate()
        self.held = held
        self.text = "".join(f"{number} " for number in range(CHUNKS))

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        for number in range(CHUNKS):
            if number == self.held:
                await self.gate.passed()
            yield TextDelta(f"{number} ")
        yield Completed(input_tokens=3, output_tokens=CHUNKS)


class TestAStreamedMessage:
    async def test_tells_start_text_usage_and_end(self, store: Store) -> None:
        provider = Play([TextDelta("Good "), TextDelta("day"), Completed(input_tokens=4)])
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            async with session.stream_message("Hello", metadata={"a": 1}) as turn:
                events = [event async for event in turn]
                assert turn.text == "Good day"
                assert turn.turn_id == f"{session.session_id}/1"
                assert turn.message == (await session.get_messages())[1]
            started, *deltas, usage, completed = events
            assert isinstance(started, TurnStarted)
            assert (started.message.content, started.message.metadata) == ("Hello", {"a": 1})
            assert text_of(deltas) == "Good day"
            assert isinstance(usage, TurnUsage)
            assert (usage.input_tokens, usage.output_tokens) == (4, 0)
            assert isinstance(completed, TurnCompleted)
            assert completed.message == turn.message
            assert {event.turn_id for event in events} == {turn.turn_id}
            assert turn.message is not None
            assert turn.message.turn_id == turn.turn_id

    async def test_shows_text_while_it_comes(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("slow")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            async with session.stream_message("slow") as turn:
                assert isinstance(await anext(turn), TurnStarted)
                first = await anext(turn)
                assert isinstance(first, TurnText)
                assert first.text == "answer "
                assert turn.message is None
                gate.open()
                rest = await all_events(turn)
            assert text_of(rest) == "to slow"

    async def test_takes_its_place_when_it_is_called(self, store: Store) -> None:
        """G1: not when it is iterated."""
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            streams = [session.stream_message(f"{number}") for number in range(5)]
            for number in reversed(range(5)):
                assert text_of(await all_events(streams[number])) == answer_to(f"{number}")
            sent = [m.content for m in await session.get_messages(role="user")]
            assert sent == ["0", "1", "2", "3", "4"]

    async def test_goes_on_when_it_is_left(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            async with session.stream_message("long") as turn:
                await anext(turn)
            await gate.reached()
            gate.open()
            await session.update_context(behind=1)
            assert await contents(session) == ["long", answer_to("long")]
        assert provider.cancelled == []

    async def test_goes_on_when_its_caller_is_cancelled_while_it_runs(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            with anyio.CancelScope() as scope:
                async with session.stream_message("long") as turn:
                    async for event in turn:
                        if isinstance(event, TurnText):
                            scope.cancel()
            assert scope.cancelled_caught
            gate.open()
            assert text_of(await all_events(session.follow())) == answer_to("long")

    async def test_is_taken_along_by_a_caller_who_is_cancelled_in_the_queue(
        self, store: Store
    ) -> None:
        """G9: as send_message is."""
        provider = Echo()
        gate = provider.hold("first")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            first = session.submit("first")
            await gate.reached()
            with anyio.CancelScope() as scope:
                async with session.stream_message("never") as turn:
                    scope.cancel()
                    await anext(turn)
            gate.open()
            await first
            await session.send_message("last")
            assert [m.content for m in await session.get_messages(role="user")] == ["first", "last"]

    async def test_ends_with_the_error_that_send_message_would_raise(self, store: Store) -> None:
        provider = Echo()
        provider.failing = {"bad"}
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            events = await all_events(session.stream_message("bad"))
            assert kinds(events) == ["started", "text_delta", "failed"]
            assert isinstance(events[-1], TurnFailed)
            assert isinstance(events[-1].error, ProviderError)
            assert events[-1].error.code == "overloaded"
            again = await all_events(session.follow())
            assert kinds(again) == ["started", "failed"], "a failed answer is not kept"
            assert isinstance(again[-1], TurnFailed)
            assert isinstance(again[-1].error, ProviderError)

    async def test_that_is_refused_has_no_turn(self, store: Store) -> None:
        class Strict(ISessionMiddleware):
            async def process_message(
                self, session_id: str, message: SessionMessage, context: SessionContext
            ) -> SessionMessage:
                raise MessageRefused("no")

        async with store.manager(Echo(), middleware=[Strict()]) as manager:
            session = await new_session(manager)
            [event] = await all_events(session.stream_message("x"))
            assert isinstance(event, TurnFailed)
            assert isinstance(event.error, MessageRefused)
            assert event.turn_id is None


class TestAFollower:
    async def test_gets_what_it_missed_and_goes_on_live(self, store: Store) -> None:
        provider = Chunks(held=100)
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            ticket = session.submit("count")
            await provider.gate.reached()
            other = await manager.get_session(session.session_id)
            stream = other.follow()
            first = [await anext(stream), await anext(stream)]
            assert text_of(first) == "".join(f"{number} " for number in range(100))
            provider.gate.open()
            rest = await all_events(stream)
            assert text_of(first + rest) == provider.text == (await ticket).content

    async def test_that_reconnects_at_every_cursor_ends_with_the_same_text(
        self, store: Store
    ) -> None:
        """While the turn runs, after its end, and after a restart: nothing lost, nothing twice."""
        provider = Chunks(held=CHUNKS // 2)
        text = provider.text
        halfway = len("".join(f"{number} " for number in range(CHUNKS // 2)))
        ends: dict[str, str] = {}

        async def reconnect(session: Session, characters: int, when: str) -> None:
            stream = session.follow(after=f"1.{characters}")
            events = await all_events(stream)
            assert text[:characters] + text_of(events) == text
            assert stream.text == text
            assert kinds(events)[-2:] == ["usage", "completed"]
            ends[f"{when} {characters}"] = events[-1].cursor

        async with store.manager(provider) as manager:
            session = await new_session(manager, session_id="s")
            ticket = session.submit("count")
            await provider.gate.reached()
            async with anyio.create_task_group() as group:
                for characters in range(halfway + 1):
                    group.start_soon(reconnect, session, characters, "live")
                await anyio.wait_all_tasks_blocked()
                provider.gate.open()
            await ticket
            for characters in range(0, len(text) + 1, 7):
                await reconnect(session, characters, "after")
        async with store.manager(provider) as manager:
            session = await manager.get_session("s")
            for characters in range(0, len(text) + 1, 7):
                await reconnect(session, characters, "restarted")
            assert set(ends.values()) == {"1.end"}
            assert await all_events(session.follow(after="1.end")) == []

    async def test_is_one_of_any_number_and_none_is_waited_for(self, store: Store) -> None:
        """One of them never looks."""
        provider = Chunks(held=3)
        texts: list[str] = []

        async def follow(session: Session) -> None:
            texts.append(text_of(await all_events(session.follow())))

        async with store.manager(provider) as manager:
            session = await new_session(manager)
            ticket = session.submit("count")
            await provider.gate.reached()
            sleeper = session.follow()
            await anext(sleeper)
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(follow, session)
                await anyio.wait_all_tasks_blocked()
                provider.gate.open()
                await ticket
            assert texts == [provider.text] * 50
            late = await all_events(sleeper)
            # What it had fetched before it fell asleep, and all the rest in one piece.
            assert kinds(late) == ["text_delta", "text_delta", "usage", "completed"]
            assert text_of(late) == provider.text

    async def test_of_a_turn_by_its_id_gets_that_turn(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            answers = [await session.send_message(f"{number}") for number in range(3)]
            for answer in answers:
                stream = session.follow(answer.turn_id)
                assert text_of(await all_events(stream)) == answer.content
                assert stream.message == answer
            assert text_of(await all_events(session.follow())) == answers[-1].content

    async def test_is_told_what_there_is_not(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            with pytest.raises(TurnNotFoundError, match="no turn yet"):
                await anext(session.follow())
            await session.send_message("one")
            for turn_id in (f"{session.session_id}/7", "other/1", "", f"{session.session_id}/x"):
                with pytest.raises(TurnNotFoundError):
                    await anext(session.follow(turn_id))
            for cursor in ("", "1", "1.", ".1", "1.-1", "1.x", "end", "1.1.1", 7, "9" * 20 + ".1"):
                with pytest.raises(ConfigurationError, match="no cursor"):
                    session.follow(after=cursor)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="no cursor of turn"):
                session.follow(f"{session.session_id}/1", after="2.0")
            await session.clear_messages()
            with pytest.raises(TurnNotFoundError, match="cleared"):
                await anext(session.follow())
            await session.delete()
            with pytest.raises(SessionNotFoundError):
                await anext(session.follow())

    async def test_from_inside_the_turn_is_refused(self, store: Store) -> None:
        """It would wait for itself."""
        found: list[BaseException] = []

        class Curious(Echo):
            async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
                for call in (lambda: all_events(session.follow()), session.stop):
                    try:
                        await call()
                    except ReentrantCallError as error:
                        found.append(error)
                yield Completed()

        async with store.manager(Curious()) as manager:
            session = await new_session(manager)
            await session.send_message("x")
        assert len(found) == 2


class Watching(ISessionMiddleware):
    """Changes answers; may show them before."""

    def __init__(self, *, holds_back: bool) -> None:
        self.holds_back_answers = holds_back

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role == "assistant":
            message.content = message.content.upper()
        return message


class TestMiddleware:
    async def test_sees_an_answer_before_any_follower(self, store: Store) -> None:
        """G15: no unfiltered answer is shown, not even a piece of it."""
        provider = Echo()
        gate = provider.hold("x")
        async with store.manager(provider, middleware=[Watching(holds_back=True)]) as manager:
            session = await new_session(manager)
            async with session.stream_message("x") as turn:
                assert isinstance(await anext(turn), TurnStarted)
                await gate.reached()
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await anext(turn)
                assert turn.text == ""
                gate.open()
                events = await all_events(turn)
            assert kinds(events) == ["text_delta", "completed"]
            assert text_of(events) == "ANSWER TO X" == turn.text

    async def test_that_does_not_hold_answers_back_lets_them_stream(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("x")
        async with store.manager(provider, middleware=[Watching(holds_back=False)]) as manager:
            session = await new_session(manager)
            async with session.stream_message("x") as turn:
                await anext(turn)
                first = await anext(turn)
                assert isinstance(first, TurnText)
                assert first.text == "answer "
                gate.open()
                events = await all_events(turn)
            assert isinstance(events[-1], TurnCompleted)
            assert events[-1].message.content == "ANSWER TO X", "what is stored is what it wanted"


class TestStop:
    async def test_keeps_what_had_arrived_and_ends_the_provider(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            events: list[TurnEvent] = []

            async def follow() -> None:
                events.extend(await all_events(session.follow()))

            ticket = session.submit("long")
            await gate.reached()
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                assert await session.stop() is True
            assert provider.cancelled == ["long"]
            last = (await session.get_messages())[-1]
            assert (last.content, last.finish_reason) == ("answer ", "interrupted")
            assert isinstance(events[-1], TurnInterrupted)
            assert events[-1].message == last
            with pytest.raises(ProviderError) as caught:
                await ticket
            assert caught.value.code == "interrupted"
            again = await all_events(session.follow())
            assert kinds(again) == ["started", "text_delta", "interrupted"]
            assert (await session.send_message("next")).content == answer_to("next")

    async def test_overtakes_what_is_queued_and_stops_nothing_of_it(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            tickets = [session.submit(text) for text in ("long", "a", "b")]
            await gate.reached()
            assert await session.stop()
            assert (await tickets[2]).content == answer_to("b")
            assert [m.content for m in await session.get_messages(role="user")] == [
                "long",
                "a",
                "b",
            ]

    async def test_of_another_turn_or_of_none_does_nothing(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("second")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            assert await session.stop() is False
            first = await session.send_message("first")
            assert await session.stop() is False
            ticket = session.submit("second")
            await gate.reached()
            assert await session.stop(first.turn_id) is False
            assert await session.stop(f"{session.session_id}/2") is True
            with pytest.raises(ProviderError):
                await ticket
            with pytest.raises(TurnNotFoundError):
                await session.stop("other/1")

    async def test_by_many_at_once_is_one_stop(self, store: Store) -> None:
        provider = Echo()
        gate = provider.hold("long")
        results: list[Any] = []
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            _ = session.submit("long")
            await gate.reached()

            async def stop() -> None:
                results.append(await session.stop())

            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(partial(stop))
            assert results == [True] * 10
            assert (await session.get_metrics()).interrupted_turns == 1
