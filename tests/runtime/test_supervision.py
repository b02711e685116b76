"""G14: a session that crashes restarts from storage; one that keeps crashing rests, alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.actors import decisions
from langswarm.core.session.errors import (
    RuntimeBugError,
    SessionQuarantinedError,
    TurnInterruptedError,
)
from langswarm.core.session.testing import simulate

from .helpers import (
    Echo,
    Store,
    assert_turns,
    contents,
    new_session,
    outcome,
    outcomes,
    supervisor_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langswarm.core.session.testing import Backend


async def test_g14_an_idle_actor_that_crashes_restarts_from_storage(store: Store) -> None:
    """G4, G14: history, context and settings are as committed."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        await session.update_context(a=1)
        await session.send_message("one")
        assert supervisor_of(manager).crash(session.session_id, ValueError("planted"))
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])
        assert dict(await session.get_context()) == {"a": 1}
        assert provider.prompts()[-1] == ["one", "answer to one", "two"]
        assert supervisor_of(manager).statistics().restarts == 1


async def test_g14_a_crash_in_mid_turn_keeps_the_partial_text_and_the_queue(store: Store) -> None:
    """G4, G9: the turn is closed as interrupted, what is queued runs after the restart."""
    provider = Echo()
    gate = provider.hold("running")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        running, queued = session.submit("running"), session.submit("queued")
        await gate.reached()
        supervisor_of(manager).crash(session.session_id, ValueError("planted"))
        assert isinstance(await outcome(running), TurnInterruptedError)
        assert (await outcome(queued)).content == "answer to queued"
        assert await contents(session) == ["running", "answer ", "queued", "answer to queued"]
        assert [m.finish_reason for m in await session.get_messages()] == [
            None,
            "interrupted",
            None,
            "stop",
        ]
        assert (await session.get_metrics()).total_messages == 4


async def test_g14_a_session_that_keeps_crashing_is_quarantined_alone(store: Store) -> None:
    """G14: after max_restarts it rests with retry_after; readable; neighbours never notice."""
    provider = Echo()
    async with store.manager(provider, max_restarts=2, quarantine_seconds=3600) as manager:
        session, neighbour = await new_session(manager), await new_session(manager)
        await session.send_message("one")
        for _ in range(2):
            supervisor_of(manager).crash(session.session_id, ValueError("planted"))
            await session.send_message("fine")
        gate = provider.hold("last")
        last, behind = session.submit("last"), session.submit("behind")
        await gate.reached()
        supervisor_of(manager).crash(session.session_id, ValueError("planted"))
        assert isinstance(await outcome(last), TurnInterruptedError)
        assert isinstance(await outcome(behind), SessionQuarantinedError)
        with pytest.raises(SessionQuarantinedError) as caught:
            _ = session.submit("no")
        assert caught.value.retryable
        assert 0 < (caught.value.retry_after_seconds or 0) <= 3600
        assert (await contents(session))[-2:] == ["last", "answer "]
        assert (await session.get_metrics()).completed_turns == 3
        await neighbour.send_message("one")
        assert_turns(await neighbour.get_messages(), ["one"])
        statistics = supervisor_of(manager).statistics()
        assert (statistics.quarantined, statistics.quarantines) == (1, 1)
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        await session.send_message("after")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_g14_a_quarantine_ends_and_old_crashes_are_forgotten(backend: Backend) -> None:
    """G14: restarts are counted in a window, rest ends by itself; on a virtual clock."""

    async def program() -> None:
        from langswarm.core.session import create_session_manager  # noqa: PLC0415 - as the users do

        async with create_session_manager(
            max_restarts=1, restart_window_seconds=60, quarantine_seconds=600
        ) as manager:
            session = await manager.create_session("user", "mock", "mock")
            for _ in range(5):  # one a window is never too many
                supervisor_of(manager).crash(session.session_id, ValueError("planted"))
                await session.send_message("fine")
                await anyio.sleep(61)
            for _ in range(2):
                await session.send_message("fine")
                supervisor_of(manager).crash(session.session_id, ValueError("planted"))
            with pytest.raises(SessionQuarantinedError):
                _ = session.submit("no")
            await anyio.sleep(599)
            with pytest.raises(SessionQuarantinedError) as caught:
                _ = session.submit("no")
            assert (caught.value.retry_after_seconds or 0) <= 1
            await anyio.sleep(2)
            await session.send_message("rested")
            assert len(await session.get_messages()) == 16
            assert supervisor_of(manager).statistics().quarantined == 0

    simulate(program, backend=backend, seed=None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_idle_clock_starts_at_the_end_of_a_turn(backend: Backend) -> None:
    """A session leaves `idle_seconds` after its last step ended, not after it began."""

    async def program() -> None:
        from langswarm.core.session import create_session_manager  # noqa: PLC0415 - as the users do

        async with create_session_manager(idle_seconds=100) as manager:
            session = await manager.create_session("user", "mock", "mock")
            session.provider_session.set_response_delay(90_000)
            await session.send_message("slow")
            await anyio.sleep(99)
            assert supervisor_of(manager).statistics().live == 1
            await session.update_context(a=1)
            await anyio.sleep(99)
            assert supervisor_of(manager).statistics().live == 1
            await anyio.sleep(2)
            assert supervisor_of(manager).statistics().live == 0
            await session.send_message("back")
            assert supervisor_of(manager).statistics().activations == 2

    simulate(program, backend=backend, seed=None)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """A loop that never rests hands the interpreter to the storage's thread all the same."""
    seconds = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(seconds)


@pytest.mark.usefixtures("quick_switches")
async def test_g14_crashes_at_every_moment_lose_and_double_nothing(store: Store) -> None:
    """G4, G14: ten sessions, crashed again and again under load: seq whole, answers once."""
    async with store.manager(Echo(), max_restarts=10_000, max_live_sessions=5) as manager:
        sessions = [await new_session(manager, session_id=f"s{n}") for n in range(10)]
        acknowledged: dict[str, list[str]] = {session.session_id: [] for session in sessions}
        done = False

        async def talk(number: int) -> None:
            for turn in range(10):
                answer = await outcome(sessions[number].submit(f"{number} {turn}"))
                if not isinstance(answer, Exception):
                    acknowledged[f"s{number}"].append(answer.content)
                else:
                    assert isinstance(answer, (TurnInterruptedError, RuntimeBugError))

        async def crash() -> None:
            count = 0
            while not done:
                count += 1
                supervisor_of(manager).crash(f"s{count % 10}", ValueError("planted"))
                for _ in range(7):
                    await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as crashes:
            crashes.start_soon(crash)
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(talk, number)
            done = True
        for session in sessions:
            messages = await session.get_messages()
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
            answers = [m.content for m in messages if m.finish_reason == "stop"]
            assert answers == acknowledged[session.session_id]
            assert (await session.get_metrics()).total_messages == len(messages)
            assert session.message_count == len(messages)


async def test_g14_a_bug_in_a_command_is_answered_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G14: a bug of ours ends one command with RuntimeBugError; the queue goes on."""
    decide = decisions.decide

    def broken(session_id: str, state: object, command: object, now_us: int) -> object:
        if type(command).__name__ == "UpdateContext":
            raise KeyError("planted")
        return decide(session_id, state, command, now_us)  # type: ignore[arg-type]

    monkeypatch.setattr("langswarm.core.session.actors.session_actor.decide", broken)
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        tickets = [session.submit("one"), session.submit("two")]
        with pytest.raises(RuntimeBugError):
            await session.update_context(a=1)
        await outcomes(tickets)
        await session.send_message("three")
        assert_turns(await session.get_messages(), ["one", "two", "three"])
        assert supervisor_of(manager).statistics().restarts == 1
