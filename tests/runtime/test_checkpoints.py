"""What the user has seen of an answer survives a kill: it is stored while it comes (G5, G9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    ISessionMiddleware,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.interfaces import TurnInterrupted, TurnText
from langswarm.core.session.testing import (
    Fault,
    FaultyStorage,
    ScriptedProvider,
    ScriptedTurn,
    SimulatedDisk,
    SimulatedStorage,
)

from .helpers import on_a_virtual_clock

if TYPE_CHECKING:
    from langswarm.core.session import (
        ISessionStorage,
        SessionContext,
        SessionManager,
        SessionMessage,
    )

LETTERS = "abcdefghijklmnopqrst"


def typing_manager(storage: ISessionStorage, **keywords: object) -> SessionManager:
    """Its provider says a letter every 0.3 s, then hangs."""
    turn = ScriptedTurn(
        text=LETTERS, chunks=len(LETTERS), chunk_seconds=0.3, end="hang", output_tokens=9
    )
    provider = ScriptedProvider(
        lambda request: turn if request.messages[-1].content == "long" else "short answer"
    )
    return create_session_manager(storage, providers={"openai": provider}, **keywords)  # type: ignore[arg-type]


async def killed_after(seconds: float, **keywords: object) -> tuple[str, list[tuple[str, str]]]:
    """What the user had seen, and the history after the restart."""
    disk = SimulatedDisk()
    storage = SimulatedStorage(disk)
    seen: list[str] = []
    manager = typing_manager(storage, **keywords)
    session = await manager.create_session("u", "openai", "m", session_id="s")
    with anyio.move_on_after(seconds):
        async for event in session.stream_message("long"):
            if isinstance(event, TurnText):
                seen.append(event.text)  # noqa: PERF401 - it is cut off in the middle
    storage.die()
    async with typing_manager(SimulatedStorage(disk)) as successor:
        session = await successor.get_session("s")
        history = [(m.content, str(m.finish_reason)) for m in await session.get_messages()]
        last = [event async for event in session.follow()][-1]
        assert isinstance(last, TurnInterrupted)
        assert (await session.send_message("next")).content == "short answer"
    await manager.aclose(drain_seconds=0)
    return "".join(seen), history


@on_a_virtual_clock
async def test_a_killed_turn_is_there_as_interrupted_with_the_text_that_the_user_saw() -> None:
    """All of it but what came within the last second."""
    seen, history = await killed_after(4.05)
    assert seen == LETTERS[:14]
    question, (answer, reason) = history
    assert question[0] == "long"
    assert reason == "interrupted"
    assert LETTERS[:10] <= answer <= seen
    assert seen.startswith(answer)


@on_a_virtual_clock
async def test_a_provider_that_falls_silent_has_all_of_its_text_stored() -> None:
    """The last letters have no successor that could bring them along."""
    seen, history = await killed_after(60.0)
    assert seen == LETTERS
    assert history == [("long", "None"), (LETTERS, "interrupted")]


@on_a_virtual_clock
async def test_a_checkpoint_is_written_once_a_second_at_most_and_not_for_short_turns() -> None:
    """Twenty letters in six seconds: six writes beside the two of the turn."""
    storage = FaultyStorage(InMemorySessionStorage())
    async with typing_manager(storage) as manager:
        session = await manager.create_session("u", "openai", "m")
        before = storage.calls("commit")
        await session.send_message("short")
        assert storage.calls("commit") == before + 2
        _ = session.submit("long")
        await anyio.sleep(100)
        assert 5 <= storage.calls("commit") - before - 3 <= 7
        await session.stop()


@on_a_virtual_clock
async def test_checkpoints_can_be_turned_off() -> None:
    """checkpoint_seconds=0."""
    _, history = await killed_after(60.0, checkpoint_seconds=0)
    assert history == [("long", "None")]


@on_a_virtual_clock
async def test_text_that_middleware_holds_back_is_in_no_checkpoint() -> None:
    """G15: after a kill the user finds what the user saw."""
    _, history = await killed_after(60.0, middleware=[ISessionMiddleware()])
    assert history == [("long", "None")]


@on_a_virtual_clock
async def test_a_slow_checkpoint_is_waited_for_by_the_end_of_its_turn() -> None:
    """One write at a time: the answer's commit comes behind it."""
    storage = FaultyStorage(InMemorySessionStorage(), slow_seconds=30.0)
    turn = ScriptedTurn(text="ab", chunks=2, chunk_seconds=2.0)
    provider = ScriptedProvider(lambda _: turn)
    async with create_session_manager(storage, providers={"openai": provider}) as manager:
        session = await manager.create_session("u", "openai", "m")
        storage.fail("commit", Fault.SLOW, call=2)
        assert (await session.send_message("x")).content == "ab"
        assert anyio.current_time() == pytest.approx(31.0)
        assert [m.content for m in await session.get_messages()] == ["x", "ab"]


@on_a_virtual_clock
async def test_a_checkpoint_that_failed_harms_nothing() -> None:
    """The text is still in memory; whether it was stored is found out by reading back."""
    for fault in (Fault.FAILS, Fault.FULL, Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.RAISES_AFTER):
        storage = FaultyStorage(InMemorySessionStorage())
        turn = ScriptedTurn(text="ab", chunks=2, chunk_seconds=2.0)
        provider = ScriptedProvider(lambda _, turn=turn: turn)  # type: ignore[misc]
        async with create_session_manager(storage, providers={"openai": provider}) as manager:
            session = await manager.create_session("u", "openai", "m")
            storage.fail("commit", fault, call=2)
            assert (await session.send_message("x")).content == "ab"
            assert storage.planned == 0
            assert [m.content for m in await session.get_messages()] == ["x", "ab"]


@on_a_virtual_clock
async def test_a_checkpoint_whose_outcome_stays_unknown_ends_the_turn_as_interrupted() -> None:
    """What is stored cannot be built upon before it is read; the caller is told (G3)."""
    storage = FaultyStorage(InMemorySessionStorage())
    turn = ScriptedTurn(text="ab", chunks=2, chunk_seconds=2.0)
    provider = ScriptedProvider(lambda _: turn)
    async with create_session_manager(storage, providers={"openai": provider}) as manager:
        session = await manager.create_session("u", "openai", "m")
        storage.fail("commit", Fault.LOST_AFTER, call=2)
        storage.fail("read_back", Fault.FAILS, call=1)
        with pytest.raises(StorageError) as caught:
            await session.send_message("x")
        assert caught.value.outcome == "unknown"
        await session.update_context(a=1)
        assert [m.content for m in await session.get_messages()] == ["x", "a"]
        assert (await session.send_message("y")).content == "ab"


@on_a_virtual_clock
async def test_text_that_was_shown_is_stored_while_middleware_works_on_the_answer() -> None:
    """Also when the provider has ended: middleware that does not hold answers back may be slow."""

    class Slow(ISessionMiddleware):
        holds_back_answers = False

        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if message.role == "assistant":
                await anyio.sleep(20)
            return message

    disk = SimulatedDisk()
    storage = SimulatedStorage(disk)
    provider = ScriptedProvider(lambda _: "shown")
    manager = create_session_manager(storage, providers={"openai": provider}, middleware=[Slow()])
    session = await manager.create_session("u", "openai", "m", session_id="s")
    _ = session.submit("x")
    await anyio.sleep(5)
    storage.die()
    async with create_session_manager(SimulatedStorage(disk)) as successor:
        session = await successor.get_session("s")
        assert [m.content for m in await session.get_messages()] == ["x", "shown"]
    await manager.aclose(drain_seconds=0)
