"""G1: ticket order = execution order = seq order; G2: one turn at a time per session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    Session,
    SessionNotFoundError,
    StorageError,
    Ticket,
    create_session_manager,
)
from langswarm.core.session.errors import RuntimeBugError

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
    from langswarm.core.session.interfaces import SessionMessage

SENDS = 50


async def overlapping(session: Session) -> list[str]:
    """50 tasks that send at once; returns their texts in the order of their tickets."""
    texts: list[str] = []
    answers: dict[str, str] = {}

    async def send(number: int) -> None:
        text = f"message {number}"
        texts.append(text)  # the ticket is taken before the first await of the next line
        answers[text] = (await session.send_message(text)).content

    async with anyio.create_task_group() as group:
        for number in range(SENDS):
            group.start_soon(send, number)
    assert answers == {text: f"answer to {text}" for text in texts}
    return texts


async def test_g1_fifty_overlapping_sends_leave_all_pairs_adjacent_in_ticket_order(
    store: Store,
) -> None:
    """G1: 100 of 100 messages, 50 of 50 pairs adjacent, no error, and so after a restart."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        texts = await overlapping(session)
        assert len(texts) == SENDS
        assert_turns(await session.get_messages(), texts)
        session_id = session.session_id
    assert provider.most_per_session == 1
    assert [prompt[-1] for prompt in provider.prompts()] == texts
    async with store.manager(provider) as manager:
        session = await manager.get_session(session_id)
        assert_turns(await session.get_messages(), texts)
        texts += await overlapping(session)
        assert_turns(await session.get_messages(), texts)


async def test_g1_submit_takes_the_place_at_once(store: Store) -> None:
    """G1: `submit` is a plain call, so the order of calls is the order of turns."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        texts = [f"message {number}" for number in range(20)]
        tickets = [session.submit(text) for text in texts]
        answers = [await ticket for ticket in reversed(tickets)]
        assert [answer.content for answer in reversed(answers)] == [f"answer to {t}" for t in texts]
        assert_turns(await session.get_messages(), texts)


async def test_g1_several_handles_share_one_queue(store: Store) -> None:
    """G1: the order holds over all handles of a session."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        handles = [session, *[await manager.get_session(session.session_id) for _ in range(3)]]
        texts = [f"message {number}" for number in range(16)]
        tickets = [handles[number % 4].submit(text) for number, text in enumerate(texts)]
        await outcomes(tickets)
        assert_turns(await handles[2].get_messages(), texts)


async def test_g1_system_messages_keep_their_place_among_the_sends(store: Store) -> None:
    """G1: whatever is written to the history takes its ticket in the same queue."""
    async with store.manager(Echo()) as manager, anyio.create_task_group() as group:
        session = await new_session(manager)
        first = session.submit("one")
        group.start_soon(session.send_system_message, "rule")
        await anyio.wait_all_tasks_blocked()
        await first
        await session.send_message("two")
        assert await contents(session) == ["one", "answer to one", "rule", "two", "answer to two"]


async def test_g1_seq_goes_on_after_a_clear_and_is_never_used_twice(store: Store) -> None:
    """G1: `seq` is allocated without gaps and never reused."""
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        await session.clear_messages()
        assert await session.get_messages() == []
        await session.send_message("two")
        assert [message.seq for message in await session.get_messages()] == [3, 4]
        session_id = session.session_id
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session_id)
        answer = await session.send_message("three")
        assert answer.seq == 6
        assert session.message_count == 4


async def test_g1_history_is_ordered_by_seq_though_the_clock_goes_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: order comes from `seq`, never from time."""
    manager = store.manager(Echo())
    ticks = iter(range(10**15, 0, -(10**12)))
    monkeypatch.setattr(manager._anchor.host, "wall_clock_us", lambda: next(ticks))
    async with manager:
        session = await new_session(manager)
        texts = ["one", "two", "three"]
        for text in texts:
            await session.send_message(text)
        messages = await session.get_messages()
        assert_turns(messages, texts)
        assert messages[0].timestamp > messages[-1].timestamp
        assert [message.seq for message in await session.get_messages(limit=2)] == [5, 6]


def test_g1_without_an_event_loop_a_send_says_what_is_missing() -> None:
    """G1: `submit` needs a running loop; the error says so."""
    manager = create_session_manager()
    with pytest.raises(RuntimeError, match="running event loop"):
        supervisor_of(manager)


async def test_g2_one_turn_at_a_time_across_eviction_restart_and_handles(store: Store) -> None:
    """G2: whatever happens to the actor, a session has one turn in flight at most."""
    provider = Echo()
    async with store.manager(
        provider, idle_seconds=0.0, max_live_sessions=2, max_restarts=1000
    ) as manager:
        sessions = [await new_session(manager, session_id=f"s{n}") for n in range(4)]
        sent: dict[str, list[str]] = {session.session_id: [] for session in sessions}

        async def send(number: int) -> None:
            session = await manager.get_session(f"s{number % 4}")
            text = f"message {number}"
            ticket = session.submit(text)
            sent[session.session_id].append(text)
            answer = await outcome(ticket)
            if isinstance(answer, RuntimeBugError):  # refused by a crash before it was stored
                sent[session.session_id].remove(text)
            supervisor_of(manager).crash(session.session_id, ValueError("planted"))

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(send, number)
        for session in sessions:
            messages = await session.get_messages()
            questions = [m.content for m in messages if m.role == "user"]
            assert questions == sent[session.session_id]
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
    assert provider.most_per_session == 1
    assert provider.most <= 2


async def test_g2_concurrent_first_access_activates_once(store: Store) -> None:
    """G2: many first calls at once load a session once."""
    async with store.manager(Echo()) as manager:
        session_id = (await new_session(manager)).session_id
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session_id)
        await outcomes([session.submit(f"{number}") for number in range(30)])
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.supervisor.activations == 1
        assert statistics.storage.loads == 1


async def test_g2_one_manager_per_file(sqlite: Store) -> None:
    """G2: a second runtime on the same file is refused, and the first goes on."""
    async with sqlite.manager(Echo()) as manager:
        session = await new_session(manager)
        second = sqlite.manager(Echo())
        with pytest.raises(StorageError) as caught:
            await new_session(second)
        assert caught.value.code == "busy"
        await second.aclose()
        assert (await session.send_message("one")).content == "answer to one"


async def test_a_ticket_may_be_awaited_often_and_by_many(store: Store) -> None:
    """G1: a ticket is a result, not a stream: every waiter gets it, each a copy of its own."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        ticket: Ticket[SessionMessage] = session.submit("one")
        answers: list[SessionMessage] = []

        async def wait() -> None:
            answers.append(await ticket)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(wait)
        answers.append(await ticket)
        assert {answer.content for answer in answers} == {"answer to one"}
        answers[0].content = "spoiled"
        assert (await ticket).content == "answer to one"


async def test_a_send_to_a_deleted_session_finds_nothing(store: Store) -> None:
    """G8: deleted means not found, for writes and reads, also through an old handle."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        await session.delete()
        with pytest.raises(SessionNotFoundError):
            await session.send_message("two")
        with pytest.raises(LookupError):
            await session.get_messages()
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(session.session_id)
