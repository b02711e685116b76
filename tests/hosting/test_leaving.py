"""The ways out: `aclose` from anywhere, being forgotten, guests and storages that cannot close."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    create_session_manager,
)
from langswarm.core.session.errors import (
    MiddlewareError,
    RuntimeClosedError,
)
from langswarm.core.session.interfaces import ISessionLifecycleHook, ISessionMiddleware

from ..runtime.helpers import (
    PATIENCE_SECONDS,
    Echo,
    Store,
    assert_turns,
    new_session,
    outcome,
    until,
)
from .watched import Odd, Watched, watched_manager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session.interfaces import SessionContext, SessionMessage
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest


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
    with anyio.fail_after(PATIENCE_SECONDS):
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
    with anyio.fail_after(PATIENCE_SECONDS):
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
    with anyio.fail_after(PATIENCE_SECONDS):
        await manager.aclose()
    assert storage.closed == 1
