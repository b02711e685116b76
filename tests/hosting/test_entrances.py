"""The three ways in, and the ways out: lazily, `async with`, a task group; `aclose`, forgetting."""

from __future__ import annotations

import contextvars
import gc
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.errors import (
    MiddlewareError,
    ProviderError,
    RuntimeClosedError,
)
from langswarm.core.session.interfaces import ISessionLifecycleHook, ISessionMiddleware

from ..runtime.helpers import Echo, Gate, Store, assert_turns, contents, new_session, outcome, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langswarm.core.session import Session, SessionManager, Ticket
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.interfaces import SessionContext, SessionMessage
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Odd(BaseException):
    """No Exception."""


class Watched(InMemorySessionStorage):
    """Says when it is opened and closed, by whom, and can be held or fail while it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.closed = 0
        self.users: set[str] = set()
        self.gate: Gate | None = None
        self.open_error: BaseException | None = None

    async def open(self) -> None:
        self.users.add(user.get())
        self.opened += 1
        if self.gate is not None:
            await self.gate.passed()
        if self.open_error is not None:
            raise self.open_error
        await super().open()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self.users.add(user.get())
        return await super().commit(writes)

    async def close(self) -> None:
        self.closed += 1
        await super().close()


def watched_manager(provider: Echo | None = None) -> tuple[Watched, SessionManager]:
    storage = Watched()
    provider = provider or Echo()
    return storage, create_session_manager(storage, providers={"openai": provider})


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
    with anyio.fail_after(5) as scope:
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


async def test_aclose_is_idempotent_concurrent_and_from_any_task() -> None:
    """Hosting: many closers, one close; all of them return when it is done."""
    provider = Echo()
    gate = provider.hold("long")
    storage, manager = watched_manager(provider)
    session = await new_session(manager)
    ticket = session.submit("long")
    await gate.reached()
    done: list[int] = []

    async def close() -> None:
        await manager.aclose()
        done.append(storage.closed)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(close)
        await anyio.wait_all_tasks_blocked()
        assert done == []
        gate.open()
    assert done == [1] * 5
    await manager.aclose()
    assert (await outcome(ticket)).content == "answer to long"
    assert (storage.closed, provider.closed) == (1, 1)


async def test_a_cancelled_aclose_goes_on_by_itself() -> None:
    """Hosting: the close belongs to the owner; a second call waits for its end."""
    provider = Echo()
    gate = provider.hold("long")
    storage, manager = watched_manager(provider)
    session = await new_session(manager)
    ticket = session.submit("long")
    await gate.reached()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.aclose)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    with pytest.raises(RuntimeClosedError):
        _ = session.submit("late")
    gate.open()
    assert (await outcome(ticket)).content == "answer to long"
    await manager.aclose()
    assert storage.closed == 1


@pytest.mark.parametrize("place", ["middleware", "provider", "hook"])
async def test_aclose_from_inside_a_guest_is_refused(store: Store, place: str) -> None:
    """Hosting: it would wait for itself: RuntimeError, and the manager stays usable."""
    caught: list[BaseException] = []

    async def close() -> None:
        if not caught:
            try:
                await manager.aclose()
            except RuntimeError as error:
                caught.append(error)

    class Middleware(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            await close()
            return message

    class Hook(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            await close()

    class Provider(Echo):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            await close()
            async for event in super().stream(request):
                yield event

    manager = store.manager(
        Provider() if place == "provider" else Echo(),
        middleware=[Middleware()] if place == "middleware" else [],
        hooks=[Hook()] if place == "hook" else [],
    )
    session = await new_session(manager)
    with anyio.fail_after(5):
        await session.send_message("one")
        await until(lambda: bool(caught))
        await session.send_message("two")
    assert "inside" in str(caught[0])
    assert not isinstance(caught[0], MiddlewareError)
    assert_turns(await session.get_messages(), ["one", "two"])
    await manager.aclose()


async def test_after_aclose_everything_says_that_it_is_closed(store: Store) -> None:
    """Hosting: one clear error for writes and reads; properties go on."""
    manager = store.manager(Echo())
    session = await new_session(manager)
    await session.send_message("one")
    await manager.aclose()
    for call in (
        lambda: session.send_message("two"),
        lambda: session.update_context(a=1),
        session.get_messages,
        session.get_context,
        session.archive,
        lambda: new_session(manager),
        lambda: manager.get_session("other"),
        lambda: manager.get_user_sessions("user"),
    ):
        with pytest.raises(RuntimeClosedError):
            await call()
    assert (session.message_count, session.status) == (2, "active")
    assert [event async for event in manager.session_events()] == []


async def test_a_session_handle_keeps_the_runtime_alive() -> None:
    """Hosting: the manager may be dropped while a handle is held."""
    storage, manager = watched_manager()
    session = await new_session(manager)
    del manager
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    await session.send_message("one")
    assert_turns(await session.get_messages(), ["one"])
    assert storage.closed == 0
    del session
    gc.collect()
    await until(lambda: storage.closed == 1)


async def test_a_forgotten_manager_is_closed_by_the_collector() -> None:
    """Hosting: a finalizer stops what nobody can reach any more."""
    storage, manager = watched_manager()
    await (await new_session(manager)).send_message("one")
    del manager
    gc.collect()
    await until(lambda: storage.closed == 1)


async def test_a_ticket_that_is_held_keeps_the_runtime_alive() -> None:
    """Hosting: forgetting manager and session does not take the running turn away."""
    provider = Echo()
    gate = provider.hold("long")
    storage, manager = watched_manager(provider)
    ticket = (await new_session(manager)).submit("long")
    await gate.reached()
    del manager
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    assert storage.closed == 0
    gate.open()
    assert (await outcome(ticket)).content == "answer to long"
    del ticket
    gc.collect()
    await until(lambda: storage.closed == 1)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), Odd("x"), None], ids=repr)
async def test_a_provider_that_cannot_close_does_not_keep_the_storage_open(
    error: BaseException | None,
) -> None:
    """G13, G15: whether it raises or hangs, the storage is closed last and in time."""

    class Broken(Echo):
        async def aclose(self) -> None:
            if error is None:
                await anyio.sleep_forever()
            raise error or AssertionError

    storage = Watched()
    manager = create_session_manager(
        storage, providers={"openai": Broken()}, cancel_grace_seconds=0.05
    )
    await (await new_session(manager)).send_message("one")
    with anyio.fail_after(5):
        await manager.aclose()
    assert storage.closed == 1


async def test_a_storage_that_cannot_close_does_not_hang_the_end() -> None:
    """G13: the end is logged and comes."""

    class Broken(Watched):
        async def close(self) -> None:
            await super().close()
            raise ValueError("planted")

    storage = Broken()
    manager = create_session_manager(storage, providers={"openai": Echo()})
    await (await new_session(manager)).send_message("one")
    with anyio.fail_after(5):
        await manager.aclose()
    assert storage.closed == 1
