"""Conversations that a provider tells of on the way: each is stored at once or deleted later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    ProviderError,
    SessionError,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.providers import (
    Completed,
    ConversationStarted,
    IProvider,
    NativeMockProvider,
    ProviderRequest,
    TextDelta,
)
from langswarm.core.session.testing import Fault, FaultyStorage, SimulatedDisk, SimulatedStorage

from .helpers import Play, Store, contents, new_session, on_a_virtual_clock, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session import ISessionStorage, SessionManager
    from langswarm.core.session.providers import ProviderEvent

ANSWERED = (TextDelta("yes"), Completed())


class Telling(Play):
    """Keeps conversations; a float in a play is a pause in seconds."""

    keeps_conversations = True

    def __init__(self, *plays: Any) -> None:
        super().__init__(*plays)
        self.deleted: list[str] = []

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.requests.append(request)
        for event in self.plays.pop(0) if self.plays else ANSWERED:
            if isinstance(event, float):
                await anyio.sleep(event)
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event  # type: ignore[misc]

    async def delete_conversation(self, provider_session_id: str) -> None:
        self.deleted.append(provider_session_id)


def named(name: str) -> Completed:
    return Completed(provider_session_id=name)


def manager_of(storage: ISessionStorage, provider: IProvider, **keywords: Any) -> SessionManager:
    return create_session_manager(storage, providers={"openai": provider}, **keywords)


async def test_a_turn_in_a_conversation_that_is_known_costs_two_commits(store: Store) -> None:
    """One more where it is made; its name in the last word is none."""
    storage = FaultyStorage(store.storage())
    commits: list[int] = []
    async with manager_of(storage, NativeMockProvider()) as manager:
        session = await new_session(manager)
        for _ in range(3):
            before = storage.calls("commit")
            await session.send_message("x")
            commits.append(storage.calls("commit") - before)
    assert commits == [3, 2, 2]


async def test_a_name_that_stands_for_nothing_kept_costs_no_commit(store: Store) -> None:
    storage = FaultyStorage(store.storage())
    async with manager_of(storage, Play([TextDelta("yes"), named("local")])) as manager:
        session = await new_session(manager)
        before = storage.calls("commit")
        await session.send_message("x")
        assert storage.calls("commit") - before == 2
        assert session.provider_session_id == "local"


async def test_a_conversation_that_another_one_took_the_place_of_is_deleted(store: Store) -> None:
    """Whether it was gone on with, or made in the same turn."""
    provider = Telling(
        [ConversationStarted("a"), TextDelta("1"), named("a")],
        [ConversationStarted("b"), ConversationStarted("c"), TextDelta("2"), named("d")],
        [TextDelta("3"), named("d")],
    )
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        for text in ("one", "two", "three"):
            await session.send_message(text)
        assert session.provider_session_id == "d"
        await until(lambda: sorted(provider.deleted) == ["a", "b", "c"])
    assert [request.provider_session_id for request in provider.requests] == [None, "a", "d"]


@on_a_virtual_clock
async def test_two_conversations_in_a_row_are_both_known_after_a_kill() -> None:
    """The second one is told while the first one is being stored."""
    for checkpoint_seconds in (0, 1):
        disk = SimulatedDisk()
        storage = SimulatedStorage(disk)
        provider = Telling([ConversationStarted("a"), ConversationStarted("b"), 1e6])
        manager = manager_of(storage, provider, checkpoint_seconds=checkpoint_seconds)
        session = await new_session(manager, session_id="s")
        ticket = session.submit("x")
        await anyio.sleep(0.5)
        storage.die()
        await manager.aclose(drain_seconds=0)
        with pytest.raises(SessionError):
            await ticket
        async with manager_of(SimulatedStorage(disk), provider) as manager:
            await (await manager.get_session("s")).send_message("y")
            await anyio.sleep(1)
            assert sorted(provider.deleted) == ["a", "b"]


@on_a_virtual_clock
async def test_a_conversation_whose_checkpoint_failed_is_stored_a_little_later() -> None:
    """Also where checkpoints of text are turned off."""
    for checkpoint_seconds in (0, 1, 1000):
        disk = SimulatedDisk()
        inner = SimulatedStorage(disk)
        storage = FaultyStorage(inner)
        provider = Telling([ConversationStarted("a"), 1e6])
        manager = manager_of(storage, provider, checkpoint_seconds=checkpoint_seconds)
        session = await new_session(manager, session_id="s")
        storage.fail("commit", Fault.FAILS, call=2)
        storage.fail("commit", Fault.FULL, call=3)
        ticket = session.submit("x")
        await anyio.sleep(5)
        assert storage.calls("commit") == 5, "created, opened, failed twice, stored"
        inner.die()
        await manager.aclose(drain_seconds=0)
        with pytest.raises(SessionError):
            await ticket
        async with manager_of(SimulatedStorage(disk), provider) as manager:
            await (await manager.get_session("s")).send_message("y")
            await anyio.sleep(1)
            assert provider.deleted == ["a"]


@on_a_virtual_clock
async def test_a_conversation_of_a_turn_that_could_not_be_stored_is_deleted() -> None:
    """No commit that names it took place, or nobody knows whether one did."""
    for fault in (Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.FAILS):
        storage = FaultyStorage(InMemorySessionStorage())
        provider = Telling([ConversationStarted("a"), TextDelta("1"), named("a")])
        async with manager_of(storage, provider, checkpoint_seconds=0) as manager:
            session = await new_session(manager)
            storage.fail("commit", fault, call=2)
            if fault is Fault.FAILS:
                for call in (3, 4, 5):
                    storage.fail("commit", fault, call=call)
            else:
                storage.fail("read_back", Fault.FAILS, call=1)
            with pytest.raises(StorageError):
                await session.send_message("x")
            await anyio.sleep(5)
            assert (await session.send_message("y")).content == "yes"
            await anyio.sleep(5)
            assert provider.deleted == ["a"], fault


@on_a_virtual_clock
async def test_a_turn_in_doubt_writes_nothing_more_and_its_session_does_not_crash() -> None:
    """Whatever arrives afterwards: the caller hears of the storage, and the next turn runs."""
    for fault in (Fault.LOST_BEFORE, Fault.LOST_AFTER):
        storage = FaultyStorage(InMemorySessionStorage())
        letters = [part for letter in "abcdef" for part in (TextDelta(letter), 1.5)]
        provider = Telling([*letters, ConversationStarted("c"), 1.0, named("c")])
        async with manager_of(storage, provider) as manager:
            session = await new_session(manager)
            storage.fail("commit", fault, call=2)
            storage.fail("read_back", Fault.FAILS, call=1)
            with pytest.raises(StorageError) as caught:
                await session.send_message("x")
            assert caught.value.outcome == "unknown"
            assert (await session.send_message("y")).content == "yes"
            await anyio.sleep(1)
            assert provider.deleted == ["c"]


async def test_a_flood_of_conversations_is_an_error(store: Store) -> None:
    """A provider that makes a hundred and more in one turn is broken; what it made is deleted."""
    names = [f"c{number}" for number in range(500)]
    provider = Telling([*map(ConversationStarted, names), *ANSWERED])
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError, match="at most 100 conversations"):
            await session.send_message("x")
        await session.send_message("y")
        await until(lambda: sorted(provider.deleted) == sorted(names[:102]))


class Forgetful(NativeMockProvider):
    """Serves under the same name after a restart, and keeps nothing."""

    keeps_conversations = False

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        yield TextDelta("from another")
        yield Completed()


async def test_a_conversation_is_given_up_where_another_provider_took_the_name(
    store: Store,
) -> None:
    """It missed what was said meanwhile: when its provider is back, a new one begins."""
    native = NativeMockProvider()
    async with store.manager(native) as manager:
        session = await new_session(manager, session_id="s")
        await session.send_message("one")
        old = session.provider_session_id
    async with store.manager(Forgetful()) as manager:
        await (await manager.get_session("s")).send_message("two")
    async with store.manager(native) as manager:
        session = await manager.get_session("s")
        await session.send_message("three")
        new = session.provider_session_id or ""
        assert new != old
        assert native.conversations[new] == await contents(session)
        await until(lambda: list(native.conversations) == [new])
