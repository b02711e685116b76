"""`max_inflight_turns` and what operators see: who runs, who waits, for how long (G11, G12)."""

from __future__ import annotations

import anyio
import pytest
from langswarm.core.session import CapacityError, ProviderError, create_session_manager
from langswarm.core.session.errors import DeadlineExceededError, TurnInterruptedError
from langswarm.core.session.testing import ScriptedProvider, ScriptedTurn

from .helpers import Echo, Store, answer_to, new_session, on_a_virtual_clock, outcome


def slow(seconds: float = 10.0) -> ScriptedProvider:
    turn = ScriptedTurn(text="done", latency_seconds=seconds)
    return ScriptedProvider(lambda _: turn)


async def test_no_more_turns_than_the_limit_are_with_a_provider(store: Store) -> None:
    """And all of them are answered."""
    provider = Echo()
    async with store.manager(provider, max_inflight_turns=3) as manager:
        sessions = [await new_session(manager) for _ in range(20)]
        tickets = [session.submit("x") for session in sessions for _ in range(2)]
        for ticket in tickets:
            assert (await outcome(ticket)).content == answer_to("x")
        assert provider.most <= 3
        assert provider.most_per_session == 1


@on_a_virtual_clock
async def test_turns_begin_in_the_order_of_the_line() -> None:
    """First come, first served over all sessions; a session that sends much waits again (G12)."""
    provider = slow()
    async with create_session_manager(
        providers={"openai": provider}, max_inflight_turns=1, queue_timeout_seconds=1000
    ) as manager:
        sessions = [await new_session(manager, session_id=f"s{n}") for n in range(4)]
        tickets = [sessions[0].submit("a"), sessions[0].submit("b")]
        tickets += [session.submit("c") for session in sessions[1:]]
        for ticket in tickets:
            await ticket
        asked = [request.session_id for request in provider.requests]
        assert asked == ["s0", "s1", "s2", "s3", "s0"]


@on_a_virtual_clock
async def test_a_turn_that_waits_too_long_hands_its_message_back() -> None:
    """CapacityError; nothing is stored, nobody is asked (G11)."""
    provider = slow(100.0)
    async with create_session_manager(
        providers={"openai": provider}, max_inflight_turns=1, queue_timeout_seconds=30
    ) as manager:
        first, second = await new_session(manager), await new_session(manager)
        ticket = first.submit("x")
        with pytest.raises(CapacityError, match="max_inflight_turns") as caught:
            await second.send_message("y")
        assert anyio.current_time() == pytest.approx(30.0)
        assert caught.value.content == "y"
        assert await second.get_messages() == []
        await ticket
        assert (await second.send_message("z")).content == "done"
        assert len(provider.requests) == 2


@on_a_virtual_clock
async def test_a_turn_in_the_line_can_be_stopped_time_out_or_be_cut_off() -> None:
    """At once: it does not wait for its place to be refused (G9, G13)."""
    provider = slow(100.0)
    manager = create_session_manager(
        providers={"openai": provider}, max_inflight_turns=1, queue_timeout_seconds=1000
    )
    one, two, three, four = [await new_session(manager) for _ in range(4)]
    running = one.submit("x")
    stopped, timed, cut = two.submit("a"), three.submit("b", timeout=5.0), four.submit("c")
    await anyio.sleep(1)
    assert await two.stop()
    with pytest.raises(TurnInterruptedError):
        await stopped
    with pytest.raises(DeadlineExceededError) as caught:
        await timed
    assert caught.value.content == "b"
    assert anyio.current_time() == pytest.approx(5.0)
    await manager.aclose(drain_seconds=1)
    with pytest.raises(ProviderError):
        await running
    error = await outcome(cut)
    assert error.content == "c"
    assert len(provider.requests) == 1


@on_a_virtual_clock
async def test_inspection_shows_who_runs_who_waits_and_what_failed() -> None:
    """Oldest turn first; plain calls."""
    answers = {"fail": ScriptedTurn(end=ProviderError("planted", code="overloaded"))}
    provider = ScriptedProvider(
        lambda request: answers.get(
            request.messages[-1].content,
            ScriptedTurn(text="abcd", chunks=2, chunk_seconds=10.0),
        )
    )
    async with create_session_manager(
        providers={"openai": provider}, max_inflight_turns=1, queue_timeout_seconds=1000
    ) as manager:
        one = await new_session(manager, session_id="one")
        two = await new_session(manager, session_id="two")
        with pytest.raises(ProviderError):
            await one.send_message("fail")
        assert one.inspect().turn is None
        assert manager.inspect() == []
        tickets = [one.submit("x"), one.submit("y"), two.submit("z")]
        await anyio.sleep(4)
        first, second = manager.inspect()
        assert first == one.inspect()
        assert (first.session_id, first.queued, first.phase) == ("one", 1, "live")
        assert first.last_error is not None
        assert "planted" in first.last_error
        turn = one.current_turn
        assert turn == first.turn
        assert turn is not None
        assert (turn.turn_id, turn.stage, turn.characters) == ("one/2", "running", 2)
        assert turn.age_seconds == pytest.approx(4.0)
        assert second.turn is not None
        assert (second.turn.turn_id, second.turn.stage) == (None, "waiting")
        assert manager.inspect(limit=1) == [first]
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.supervisor.waiting_turns == 1
        for ticket in tickets:
            await ticket
        assert one.inspect().is_live
        assert manager._anchor.host.runtime().supervisor.evict("one")
        assert not one.inspect().is_live


@on_a_virtual_clock
async def test_old_keys_are_forgotten_and_young_ones_kept() -> None:
    """`idempotency_hours`: 24 by default; swept within the hour after (G7)."""
    provider = ScriptedProvider(lambda _: ScriptedTurn(text="done"))
    hour = 3600 * 1_000_000
    clock = [1_800_000_000_000_000]
    manager = create_session_manager(providers={"openai": provider})
    manager._anchor.host.wall_clock_us = lambda: clock[0]
    async with manager:
        session = await new_session(manager)
        first = await session.send_message("x", idempotency_key="k")
        clock[0] += 23 * hour
        await anyio.sleep(3700)
        assert await session.send_message("x", idempotency_key="k") == first
        clock[0] += 2 * hour
        await anyio.sleep(3700)
        assert (await session.send_message("x", idempotency_key="k")).seq == 4
