"""The three ways in, and the ways out: lazily, `async with`, a task group; `aclose`, forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    StorageError,
)
from langswarm.core.session.errors import (
    ProviderError,
    RuntimeClosedError,
)
from langswarm.core.session.interfaces import ISessionMiddleware

from ..runtime.helpers import (
    PATIENCE_SECONDS,
    Echo,
    Gate,
    Store,
    assert_turns,
    contents,
    new_session,
    outcome,
)
from .watched import Odd, user, watched_manager

if TYPE_CHECKING:
    from langswarm.core.session import Session, Ticket
    from langswarm.core.session.interfaces import SessionContext, SessionMessage


async def test_a_lazy_start_inherits_nothing_from_its_first_caller() -> None:
    """Hosting: the runtime's own tasks run in an empty context, each turn in its caller's."""
    seen: list[str] = []

    class Witness(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            seen.append(user.get())
            return message

    storage, manager = watched_manager()
    manager.add_middleware(Witness())
    user.set("alice")
    session = await new_session(manager)
    await session.send_message("one")
    user.set("bob")
    await session.send_message("two")
    await manager.aclose()
    assert storage.users == {"nobody"}
    assert seen == ["alice", "alice", "bob", "bob"]


async def test_the_first_caller_cancelled_while_starting_takes_nothing_along() -> None:
    """Hosting: starting is idempotent and belongs to nobody; the storage is opened once."""
    storage, manager = watched_manager()
    storage.gate = Gate()
    async with anyio.create_task_group() as group:
        group.start_soon(new_session, manager)
        await storage.gate.reached()
        group.cancel_scope.cancel()
    sessions: list[Session] = []

    async def second() -> None:
        sessions.append(await new_session(manager, "second"))

    async with anyio.create_task_group() as group:
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        storage.gate.open()
    await sessions[0].send_message("one")
    assert_turns(await sessions[0].get_messages(), ["one"])
    assert storage.opened == 1
    await manager.aclose()
    assert storage.closed == 1


async def test_a_deadline_around_the_first_call_does_not_end_the_runtime(store: Store) -> None:
    """Hosting: the caller's scope is the caller's: what it started lives on."""
    manager = store.manager(Echo())
    with anyio.fail_after(PATIENCE_SECONDS) as scope:
        session = await new_session(manager)
    assert not scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(session.send_message, "one")
    await session.send_message("two")
    assert_turns(await session.get_messages(), ["one", "two"])
    await manager.aclose()


async def test_a_storage_that_does_not_open_is_an_error_that_may_be_tried_again() -> None:
    """Hosting: the error is typed; the next call opens anew."""
    storage, manager = watched_manager()
    for error in (StorageError("planted", code="busy"), ValueError("planted"), Odd("planted")):
        storage.open_error = error
        with pytest.raises(StorageError, match="planted"):
            await new_session(manager)
        with pytest.raises(StorageError, match="planted"):
            await manager.get_user_sessions("user")
        storage.open_error = None
    session = await new_session(manager)
    await session.send_message("one")
    assert_turns(await session.get_messages(), ["one"])
    await manager.aclose()


async def test_async_with_opens_at_once_and_closes_at_the_end() -> None:
    """Hosting: entering raises what opening raises; leaving closes, after an exception too."""
    storage, manager = watched_manager()
    storage.open_error = StorageError("planted", code="foreign")
    with pytest.raises(StorageError, match="planted"):
        await manager.__aenter__()
    await manager.aclose()
    storage, manager = watched_manager()

    async def program() -> None:
        async with manager:
            assert storage.opened == 1
            await (await new_session(manager)).send_message("one")
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        await program()
    assert storage.closed == 1
    with pytest.raises(RuntimeClosedError):
        await manager.__aenter__()


async def test_async_with_takes_a_lazily_started_manager_over() -> None:
    """Hosting: what was begun before goes on inside and is closed at the end."""
    provider = Echo()
    gate = provider.hold("long")
    storage, manager = watched_manager(provider)
    session = await new_session(manager)
    ticket = session.submit("long")
    await gate.reached()
    async with manager:
        gate.open()
    assert (await outcome(ticket)).content == "answer to long"
    assert (storage.opened, storage.closed, provider.closed) == (1, 1, 1)


async def test_entered_in_one_task_and_left_in_another(store: Store) -> None:
    """Hosting: frameworks do that; nothing here belongs to a task."""
    manager = store.manager(Echo())
    async with anyio.create_task_group() as group:
        group.start_soon(manager.__aenter__)
    session = await new_session(manager)
    await session.send_message("one")
    async with anyio.create_task_group() as group:
        group.start_soon(manager.__aexit__, None, None, None)
    with pytest.raises(RuntimeClosedError):
        await session.send_message("two")


async def test_in_a_task_group_of_the_callers(store: Store) -> None:
    """Hosting: the owner runs in that group, which waits for aclose()."""
    session_id = ""
    async with anyio.create_task_group() as group:
        manager = store.manager(Echo(), task_group=group)
        session = await new_session(manager)
        session_id = session.session_id
        await session.send_message("one")
        await manager.aclose()
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session_id)
        assert_turns(await session.get_messages(), ["one"])


async def test_a_task_group_that_is_cancelled_closes_in_order(store: Store) -> None:
    """Hosting, G13: the running turn is interrupted with its closing commit."""
    provider = Echo()
    gate = provider.hold("long")

    async def program() -> tuple[Session, Ticket[SessionMessage]]:
        made: list[tuple[Session, Ticket[SessionMessage]]] = []
        async with anyio.create_task_group() as group:
            session = await new_session(store.manager(provider, task_group=group))
            made.append((session, session.submit("long")))
            await gate.reached()
            group.cancel_scope.cancel()
        return made[0]

    with pytest.warns(ResourceWarning, match="1 busy"):
        session, ticket = await program()
    assert isinstance(await outcome(ticket), ProviderError)
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        assert await contents(session) == ["long", "answer "]
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.storage.recovered_turns == 0
