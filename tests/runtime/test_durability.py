"""G3, G4, G5: acknowledged is durable, nothing is lost or doubled, turns are atomic."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from .helpers import (
    Echo,
    Store,
    assert_turns,
    new_session,
    outcome,
    outcomes,
    supervisor_of,
)

if TYPE_CHECKING:
    from langswarm.core.session import Session


async def test_g4_two_hundred_users_on_twenty_live_places_lose_nothing(store: Store) -> None:
    """G4: 200 concurrent users, 20 live sessions, 10 ms of idle time: every history complete."""
    turns = 3
    users = [f"user {number}" for number in range(200)]
    provider = Echo()
    async with store.manager(provider, max_live_sessions=20, idle_seconds=0.01) as manager:

        async def talk(user: str) -> None:
            session = await new_session(manager, user, session_id=user)
            for turn in range(turns):
                answer = await session.send_message(f"{user} {turn}")
                assert answer.content == f"answer to {user} {turn}"

        async with anyio.create_task_group() as group:
            for user in users:
                group.start_soon(talk, user)
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.supervisor.live <= 20
        assert statistics.supervisor.evictions > 0
    assert provider.most_per_session == 1
    async with store.manager(provider) as manager:
        for user in users:
            [session] = await manager.get_user_sessions(user)
            assert_turns(await session.get_messages(), [f"{user} {turn}" for turn in range(turns)])
            metrics = await session.get_metrics()
            assert (metrics.total_messages, metrics.completed_turns) == (2 * turns, turns)


async def program(store: Store, seed: int | None, idle_seconds: float) -> list[object]:
    """A fixed program, evicted at random where there is a seed; returns all that it saw."""
    chance = random.Random(seed)
    seen: list[object] = []
    echo = Echo()
    async with store.manager(echo, idle_seconds=idle_seconds) as manager:
        session = await new_session(manager, session_id="s", session_config={"max_messages": 6})
        for step in range(24):
            if seed is not None and chance.random() < 0.5:
                supervisor_of(manager).evict("s")
            if step % 5 == 4:
                seen.append((await session.update_context(step=step)).version)
            elif step == 13:
                await session.clear_messages()
            else:
                answer = await session.send_message(f"message {step}")
                seen.append((answer.seq, answer.turn_id, answer.content))
            seen.append((session.message_count, session.status))
            seen.append(dict(await session.get_context()))
        seen.append([(m.seq, m.role, m.content, m.turn_id) for m in await session.get_messages()])
        metrics = await session.get_metrics()
        seen.append((metrics.total_messages, metrics.completed_turns))
    seen.append(echo.prompts())
    return seen


@pytest.mark.parametrize("seed", [None, 1, 2])
async def test_g4_eviction_is_invisible(memory: Store, seed: int | None) -> None:
    """G4: the same program gives the same answers, prompts and history, evicted or not."""
    kept = await program(memory, None, 3600.0)
    other = Store("memory", memory.path.parent)
    assert await program(other, seed, 0.0 if seed is None else 3600.0) == kept


async def prompts_with_failures(store: Store, idle_seconds: float) -> list[list[str]]:
    echo = Echo()
    echo.failing = {"bad 1", "bad 2", "bad 3"}
    async with store.manager(echo, idle_seconds=idle_seconds) as manager:
        session = await new_session(manager, session_config={"max_messages": 3})
        for text in ("1", "2", "bad 1", "bad 2", "bad 3", "3", "4"):
            await outcome(session.submit(text))
    return echo.prompts()


async def test_g4_eviction_is_invisible_to_the_provider_after_failed_turns(memory: Store) -> None:
    """G4: a rehydrated session sends the same prompt as one that stayed in memory."""
    kept = await prompts_with_failures(memory, 3600.0)
    assert kept[-2:] == [["2", "answer to 2", "3"], ["3", "answer to 3", "4"]]
    assert await prompts_with_failures(Store("memory", memory.path.parent), 0.0) == kept


async def prompts_with_rules(store: Store, idle_seconds: float) -> list[list[str]]:
    echo = Echo()
    async with store.manager(echo, idle_seconds=idle_seconds) as manager:
        session = await new_session(manager, session_config={"max_messages": 3})
        await session.send_message("1")
        for number in range(5):
            await session.send_system_message(f"rule {number}")
        await session.send_message("2")
        await session.send_message("3")
    return echo.prompts()


async def test_g4_eviction_is_invisible_to_the_provider_with_many_system_messages(
    memory: Store,
) -> None:
    """G4: the same system messages and the same history, evicted or not."""
    kept = await prompts_with_rules(memory, 3600.0)
    assert await prompts_with_rules(Store("memory", memory.path.parent), 0.0) == kept


async def test_g4_eviction_is_invisible_when_max_messages_grows(memory: Store) -> None:
    """G4: a larger window is filled from the storage, not only with what comes."""

    async def last_prompt(store: Store, idle_seconds: float) -> list[str]:
        echo = Echo()
        async with store.manager(echo, idle_seconds=idle_seconds) as manager:
            session = await new_session(manager, session_config={"max_messages": 2})
            for text in ("1", "2", "3"):
                await session.send_message(text)
            await session.update_config({"max_messages": 10})
            await session.send_message("4")
        return echo.prompts()[-1]

    evicted = await last_prompt(Store("memory", memory.path.parent), 0.0)
    assert evicted == ["1", "answer to 1", "2", "answer to 2", "3", "answer to 3", "4"]
    assert await last_prompt(memory, 3600.0) == evicted


async def test_g3_what_returned_is_there_after_a_restart(store: Store) -> None:
    """G3: every acknowledged write of every kind is in the next runtime."""
    async with store.manager(Echo()) as manager:
        session = await new_session(
            manager,
            session_config={"name": "first", "tags": ["a", "b"]},
            provider_config={"temperature": 0.5},
        )
        await session.send_message("one", metadata={"deep": {"list": [1, 2.5, None, "x"]}})
        await session.send_system_message("rule", metadata={"by": "me"})
        await session.update_context({"style": "short"}, level=3)
        await session.update_config({"name": "second"})
        before = await session.get_messages()
        metrics = await session.get_metrics()
        facts = (session.created_at, session.last_activity, session.message_count)
        session_id = session.session_id
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await manager.get_session(session_id, user_id="user")
        assert await session.get_messages() == before
        assert before[0].metadata == {"deep": {"list": [1, 2.5, None, "x"]}}
        assert dict(await session.get_context()) == {"style": "short", "level": 3}
        assert await session.get_config() == {"name": "second", "tags": ["a", "b"]}
        assert await session.get_metrics() == metrics
        assert (session.created_at, session.last_activity, session.message_count) == facts
        await session.send_message("two")
        assert provider.prompts() == [["rule", "one", "answer to one", "two"]]
        assert provider.requests[0].config == {"temperature": 0.5}


async def test_g5_counters_and_messages_move_together(store: Store) -> None:
    """G5: every snapshot that a reader gets is whole: no half pair, no counter alone."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        tickets = [session.submit(f"{number}") for number in range(20)]
        while len(provider.finished) < 20:
            messages = await session.get_messages()
            assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
            assert [m.role for m in messages[1::2]] == ["assistant"] * (len(messages) // 2)
            metrics = await session.get_metrics()
            assert metrics.user_messages - metrics.assistant_messages in {0, 1}
            assert metrics.completed_turns == metrics.assistant_messages
            await anyio.lowlevel.checkpoint()
        await outcomes(tickets)
        assert (await session.get_metrics()).total_messages == 40
        assert session.message_count == len(await session.get_messages()) == 40


async def test_read_your_writes(store: Store) -> None:
    """G3: what a call has returned, the next read shows, evicted or not."""
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session: Session = await new_session(manager)
        for number in range(5):
            answer = await session.send_message(f"{number}")
            assert (await session.get_messages(limit=1))[0] == answer
            assert await session.get_message(answer.message_id) == answer
            version = (await session.update_context(number=number)).version
            context = await session.get_context()
            assert (context.version, context["number"]) == (version, number)
            assert session.message_count == 2 * (number + 1)
            assert (await session.get_metrics()).completed_turns == number + 1
