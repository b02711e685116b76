"""G6: updates of the context are atomic and linear with sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    InvalidMessageError,
    SessionArchivedError,
    SessionContext,
    SessionMessage,
)
from langswarm.core.session.interfaces import ISessionMiddleware

from .helpers import Echo, Store, new_session, outcome

if TYPE_CHECKING:
    from langswarm.core.session import Ticket


class Witness(ISessionMiddleware):
    """Records the context that each user message is processed with."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, dict[str, object]]] = {}

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role == "user":
            self.seen[message.content] = (context.version, dict(context))
        return message


async def test_g6_a_turn_sees_exactly_the_updates_with_earlier_tickets(store: Store) -> None:
    """G6: 40 sends and updates mixed, overlapping: each turn sees the updates before it."""
    witness, expected = Witness(), {}
    async with store.manager(Echo(), middleware=[witness]) as manager:
        session = await new_session(manager)
        values: dict[str, object] = {}
        version = 0

        async def step(number: int) -> None:
            nonlocal version
            if number % 3 == 1:
                version += 1
                values[f"key {number % 4}"] = number
                await session.update_context({f"key {number % 4}": number})
            else:
                expected[f"message {number}"] = (version, dict(values))
                await session.send_message(f"message {number}")

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(step, number)
        context = await session.get_context()
        assert (context.version, dict(context)) == (version, values)
    assert witness.seen == expected


async def test_g6_concurrent_updates_lose_nothing(store: Store) -> None:
    """G6: 30 overlapping merges of different keys: all are there, the version counts them."""
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager)
        versions: list[int] = []

        async def update(number: int) -> None:
            versions.append((await session.update_context({f"key {number}": number})).version)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(update, number)
        context = await session.get_context()
        assert dict(context) == {f"key {number}": number for number in range(30)}
        assert sorted(versions) == list(range(1, 31))


async def test_g6_an_update_behind_a_running_turn_waits_and_a_read_does_not(store: Store) -> None:
    """G6: the update takes its place in the queue; reads answer from what is committed."""
    provider = Echo()
    gate = provider.hold("long")
    session_id = ""
    async with store.manager(provider) as manager, anyio.create_task_group() as group:
        session = await new_session(manager)
        session_id = session.session_id
        await session.update_context(level=1)
        ticket = session.submit("long")
        await gate.reached()
        group.start_soon(lambda: session.update_context(level=2))
        await anyio.wait_all_tasks_blocked()
        assert dict(await session.get_context()) == {"level": 1}
        gate.open()
        await outcome(ticket)
    async with store.manager(provider) as manager:
        session = await manager.get_session(session_id)
        assert dict(await session.get_context()) == {"level": 2}


async def test_g6_merge_is_at_the_top_level_and_replace_is_whole(store: Store) -> None:
    """G6: nested values are replaced, not merged; keywords win over the mapping."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.update_context({"a": {"x": 1}, "b": 2})
        merged = await session.update_context({"a": {"y": 1}, "c": 1}, c=3)
        assert dict(merged) == {"a": {"y": 1}, "b": 2, "c": 3}
        replaced = await session.update_context({"z": 0}, replace=True)
        assert dict(replaced) == dict(await session.get_context()) == {"z": 0}
        assert replaced.version == 3


async def test_g6_the_context_handed_out_is_a_copy(store: Store) -> None:
    """G6: it is read-only, and changing nested values changes nothing that is stored."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        given = {"list": [1]}
        context = await session.update_context(given)
        given["list"].append(2)
        context["list"].append(3)
        with pytest.raises(TypeError):
            context["new"] = 1  # type: ignore[index]
        assert dict(await session.get_context()) == {"list": [1]}


async def test_g6_a_context_over_its_bound_is_refused_whole(store: Store) -> None:
    """G6, G11: the merged size counts; a refused update changes neither values nor version."""
    async with store.manager(Echo(), max_context_bytes=100) as manager:
        session = await new_session(manager)
        await session.update_context(a="x" * 60)
        with pytest.raises(InvalidMessageError, match="100"):
            await session.update_context(b="x" * 60)
        with pytest.raises(InvalidMessageError, match="100"):
            await session.update_context(b="x" * 200)
        context = await session.get_context()
        assert (context.version, dict(context)) == (1, {"a": "x" * 60})


async def test_g8_archive_completes_what_is_earlier_and_refuses_what_is_later(store: Store) -> None:
    """G8: archive takes its ticket; earlier sends complete, later calls of every kind fail."""
    provider = Echo()
    gate = provider.hold("first")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        other = await manager.get_session(session.session_id)
        earlier = [session.submit("first"), session.submit("second")]
        await gate.reached()
        archived = False
        later: list[Ticket[Any]] = []

        async def archive() -> None:
            nonlocal archived
            await session.archive()
            archived = True

        async with anyio.create_task_group() as group:
            group.start_soon(archive)
            await anyio.wait_all_tasks_blocked()
            later.append(other.submit("third"))
            gate.open()
        assert archived
        assert [(await outcome(ticket)).content for ticket in earlier] == [
            "answer to first",
            "answer to second",
        ]
        assert isinstance(await outcome(later[0]), SessionArchivedError)
        for handle in (session, other):
            with pytest.raises(SessionArchivedError):
                await handle.send_message("no")
            with pytest.raises(SessionArchivedError):
                await handle.send_system_message("no")
            with pytest.raises(SessionArchivedError):
                await handle.update_context(no=1)
            with pytest.raises(SessionArchivedError):
                await handle.update_config({"name": "no"})
            with pytest.raises(SessionArchivedError):
                await handle.clear_messages()
            assert handle.status == "archived"
        await session.archive()
        assert len(await session.get_messages()) == 4
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        with pytest.raises(SessionArchivedError):
            await session.send_message("no")
        await session.reopen()
        assert (await session.send_message("again")).seq == 6
    assert "third" not in provider.finished


async def test_g8_concurrent_sends_and_archive_split_at_one_ticket(store: Store) -> None:
    """G8: with 30 overlapping sends and an archive between, none before fails, none after runs."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        results: dict[int, bool] = {}
        order: list[int] = []

        async def send(number: int) -> None:
            order.append(number)
            try:
                await session.send_message(f"message {number}")
            except SessionArchivedError:
                results[number] = False
            else:
                results[number] = True

        async def archive() -> None:
            order.append(-1)
            await session.archive()

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(send, number)
                if number == 15:
                    group.start_soon(archive)
        cut = order.index(-1)
        assert [results[number] for number in order[:cut]] == [True] * cut
        assert [results[number] for number in order[cut + 1 :]] == [False] * (30 - cut)
        assert len(await session.get_messages()) == 2 * cut
