"""Erasure: everything of a user goes, whatever runs, fails or is killed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    ISessionLifecycleHook,
    SessionError,
    SessionNotFoundError,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.actors.erasure import (
    ClearSlice,
    EraseSession,
    HideSession,
    steps_of_erasure,
)
from langswarm.core.session.actors.model import (
    Committed,
    Conflict,
    SessionDocuments,
    SessionQuery,
    SessionRecord,
    SessionStatus,
    StoredSession,
    UsageQuery,
)
from langswarm.core.session.actors.outcomes import outcome_found
from langswarm.core.session.errors import SessionQuarantinedError, TurnInterruptedError
from langswarm.core.session.providers import (
    Completed,
    NativeMockProvider,
    ProviderEvent,
    ProviderRequest,
)
from langswarm.core.session.testing import (
    Backend,
    Crash,
    Fault,
    FaultyStorage,
    SimulatedDisk,
    SimulatedStorage,
    simulate,
)
from langswarm.core.session.testing.faulty_storage import POSSIBLE_FAULTS

from .helpers import Echo, Gate, Store, new_session, outcome, outcomes, settle, supervisor_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langswarm.core.session import ISessionStorage, Session, SessionManager
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome


async def left_of(manager: SessionManager, user_id: str) -> list[str]:
    """What the storage still has of a user."""
    storage = manager._anchor.host.runtime().storage
    left: list[str] = []
    for status in (None, SessionStatus.DELETED):
        query = SessionQuery(limit=100, user_id=user_id, status=status)
        page = await storage.list_sessions(query)
        left += [record.session_id for record in page.records]
    usage = await storage.read_usage(UsageQuery(first_day=0, last_day=100_000, user_id=user_id))
    return left + [f"usage of day {day.day}" for day in usage.days]


async def test_all_sessions_of_one_user_go_and_no_others(store: Store) -> None:
    """Of every status, with usage and idempotency keys; the same after a restart."""
    provider = Echo()
    async with store.manager(provider) as manager:
        for name in ("active", "archived", "deleted"):
            session = await new_session(manager, "ada", session_id=name)
            await session.send_message("secret word")
        await (await manager.get_session("archived")).archive()
        await (await manager.get_session("deleted")).delete()
        keyed = await new_session(manager, "ada", idempotency_key="k")
        other = await new_session(manager, "eve", session_id="other")
        await other.send_message("hello")
        assert await manager.erase_user("ada") == 4
        assert await left_of(manager, "ada") == []
        assert await left_of(manager, "eve") != []
        assert len(await other.get_messages()) == 2
        assert await manager.erase_user("ada") == 0
        assert await manager.erase_user("nobody") == 0
        again = await new_session(manager, "ada", idempotency_key="k")
        assert (again.session_id, again.status) == (keyed.session_id, "active")
        assert keyed.status == "deleted"
        await again.send_message("new")
    async with store.manager(provider) as manager:
        assert [s.session_id for s in await manager.get_user_sessions("ada")] == [again.session_id]
        assert len(await manager.get_user_sessions("eve")) == 1


async def test_nothing_of_an_erased_user_is_found_or_counted(store: Store) -> None:
    """By no word, tag or list; the totals over all users lose the user's part."""
    async with store.manager(Echo()) as manager:
        before = await manager.get_analytics()
        for user_id in ("ada", "eve"):
            session = await new_session(manager, user_id, session_config={"tags": ["t"]})
            await session.send_message("a zebra")
        assert len(await manager.search_sessions(text="zebra")) == 2
        await manager.erase_user("ada")
        for found in (
            await manager.search_sessions(text="zebra"),
            await manager.search_sessions(tags=["t"]),
            await manager.search_sessions(),
        ):
            assert [session.user_id for session in found] == ["eve"]
        await manager.erase_user("eve")
        assert await manager.search_sessions(text="zebra") == []
        assert await manager.get_analytics() == before


async def test_running_turns_are_interrupted_and_queued_messages_find_nothing(
    store: Store,
) -> None:
    """Whoever waits is told at once; the queue does not run first."""
    provider = Echo()
    gate = provider.hold("running")
    async with store.manager(provider) as manager:
        session = await new_session(manager, "ada", session_id="s")
        running = session.submit("running")
        await gate.reached()
        queued = [session.submit(str(number)) for number in range(20)]
        assert await manager.erase_user("ada") == 1
        assert isinstance(await outcome(running), TurnInterruptedError)
        told = await outcomes(queued)
        assert all(isinstance(error, SessionNotFoundError) for error in told)
        assert len(provider.requests) == 1
        assert await left_of(manager, "ada") == []
        assert supervisor_of(manager).statistics().live == 0


class Held(SimulatedStorage):
    """The commit that erases a session waits for the test."""

    def __init__(self) -> None:
        super().__init__(SimulatedDisk())
        self.gate = Gate()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        if any(write.erases for write in writes):
            await self.gate.passed()
        return await super().commit(writes)


async def test_a_creation_that_waits_behind_the_erasure_gets_the_id() -> None:
    """It is another session: it neither fails nor brings the old handles back."""
    storage = Held()
    manager = create_session_manager(storage, providers={"openai": Echo()})
    async with manager, anyio.create_task_group() as group:
        old = await new_session(manager, "ada", session_id="s")
        await old.send_message("x")
        group.start_soon(manager.erase_user, "ada")
        await storage.gate.reached()
        before = old.submit("whose?")
        made: list[Session] = []

        async def create() -> None:
            made.append(await new_session(manager, "eve", session_id="s"))

        group.start_soon(create)
        await settle()
        behind = old.submit("whose?")
        storage.gate.open()
        await until(lambda: bool(made))
        [new] = made
        for ticket in (before, behind):
            assert isinstance(await outcome(ticket), SessionNotFoundError)
        assert (new.user_id, new.status, new.message_count) == ("eve", "active", 0)
        with pytest.raises(SessionNotFoundError):
            _ = old.submit("whose?")
        await new.send_message("mine")
        assert (new.message_count, old.status) == (2, "deleted")


async def test_a_guest_that_ignores_its_cancellation_does_not_keep_a_session() -> None:
    """Its turn is abandoned, its session is quarantined, and erased all the same (G15)."""
    stubborn = anyio.Event()

    class Stubborn(Echo):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            self.requests.append(request)
            with anyio.CancelScope(shield=True):
                await stubborn.wait()
            yield Completed()

    provider = Stubborn()
    manager = create_session_manager(
        providers={"openai": provider}, cancel_grace_seconds=0.01, quarantine_seconds=3600
    )
    async with manager:
        session = await new_session(manager, "ada", session_id="s")
        ticket = session.submit("x")
        await until(lambda: bool(provider.requests))
        assert await manager.erase_user("ada") == 1
        assert isinstance(await outcome(ticket), SessionError)
        assert await left_of(manager, "ada") == []
        stubborn.set()


async def test_a_quarantined_session_is_erased(memory: Store) -> None:
    """Nothing that made it crash takes part in it."""
    async with memory.manager(Echo(), max_restarts=0, quarantine_seconds=3600) as manager:
        session = await new_session(manager, "ada", session_id="s")
        supervisor_of(manager).crash("s", ValueError("planted"))
        with pytest.raises(SessionQuarantinedError):
            _ = session.submit("no")
        assert await manager.erase_user("ada") == 1
        assert await left_of(manager, "ada") == []


async def test_hooks_are_told_of_each_session_that_was_not_deleted_yet(memory: Store) -> None:
    """As if the user had deleted it."""
    told: list[str] = []

    class Hook(ISessionLifecycleHook):
        async def on_session_deleted(self, session_id: str) -> None:
            told.append(session_id)

    async with memory.manager(Echo(), hooks=[Hook()]) as manager:
        for name in ("a", "b", "c"):
            await new_session(manager, "ada", session_id=name)
        await (await manager.get_session("b")).delete()
        await until(lambda: told == ["b"])
        assert await manager.erase_user("ada") == 3
        await until(lambda: len(told) == 3)
    assert sorted(told) == ["a", "b", "c"]


async def test_what_the_user_does_meanwhile_is_erased_too_or_was_never_there(
    store: Store,
) -> None:
    """Sends and creations race with it: after the last of them one more call finds little left."""
    async with store.manager(Echo()) as manager:
        sessions = [await new_session(manager, "ada") for _ in range(5)]
        told: list[object] = []

        async def use(number: int) -> None:
            for _ in range(5):
                told.append(await outcome(sessions[number].send_message("x")))
                await anyio.lowlevel.checkpoint()
            await new_session(manager, "ada")

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(use, number)
            await anyio.lowlevel.checkpoint()
            group.start_soon(manager.erase_user, "ada")
        allowed = (SessionNotFoundError, TurnInterruptedError)
        errors = [each for each in told if isinstance(each, Exception)]
        assert all(isinstance(error, allowed) for error in errors)
        assert all(session.status == "deleted" for session in sessions)
        assert await manager.erase_user("ada") <= 5
        assert await left_of(manager, "ada") == []


# ---------------------------------------------------------------- kills and faults


def world(storage: ISessionStorage, provider: NativeMockProvider) -> SessionManager:
    return create_session_manager(storage, providers={"native": provider})


async def fill(manager: SessionManager) -> None:
    """Three sessions of ada's, one of eve's; each has a conversation at the provider."""
    for name, user_id in (("a", "ada"), ("b", "ada"), ("c", "ada"), ("e", "eve")):
        session = await manager.create_session(user_id, "native", "m", session_id=name)
        await session.send_message("hello")
    for _ in range(101):
        await (await manager.get_session("b")).send_system_message("x")
    await (await manager.get_session("c")).delete()


_FILLED = 4 * 3 + 101 + 1


@pytest.mark.parametrize("when", ["before", "in", "after"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_g4_a_kill_at_any_write_leaves_what_the_next_call_erases(
    backend: Backend, when: Literal["before", "in", "after"]
) -> None:
    """G4: nothing of the others is touched, and no conversation at the provider is forgotten."""
    reached = 0

    async def program(commit: int) -> bool:
        disk, provider = SimulatedDisk(), NativeMockProvider()
        async with world(SimulatedStorage(disk), provider) as manager:
            await fill(manager)
        storage = SimulatedStorage(disk, crash=Crash(when, commit))
        manager = world(storage, provider)
        told = await outcome(manager.erase_user("ada"))
        await manager.aclose(drain_seconds=0)
        assert isinstance(told, SessionError) == disk.crashed
        async with world(SimulatedStorage(disk), provider) as manager:
            assert await manager.erase_user("ada") <= 3
            assert await left_of(manager, "ada") == []
            [mine] = await manager.get_user_sessions("eve")
            assert len(await mine.get_messages()) == 2
            await until(lambda: list(provider.conversations) == [mine.provider_session_id])
        assert not disk.violations
        return disk.crashed

    for commit in range(1, 30):
        crashed: list[bool] = []

        async def once(commit: int = commit, crashed: list[bool] = crashed) -> None:
            crashed.append(await program(commit))

        simulate(once, backend=backend, seed=commit)
        if not crashed[0]:
            break
        reached += 1
    assert reached >= 4


@pytest.mark.parametrize("method", ["commit", "load", "list_sessions", "erase_user"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_fault_of_the_storage_is_told_or_made_up_for(backend: Backend, method: str) -> None:
    """What is said to be erased is gone (G3); what is not said so goes with the next call."""

    async def program(fault: Fault, call: int) -> int:
        provider = NativeMockProvider()
        storage = FaultyStorage(SimulatedStorage(SimulatedDisk()))
        async with world(storage, provider) as manager:
            await fill(manager)
            supervisor = supervisor_of(manager)
            for name in "abc":
                assert supervisor.evict(name)
            storage.fail(method, fault, call=call)
            told = await outcome(manager.erase_user("ada"))
            if storage.planned:  # there are no more calls
                return storage.planned
            if isinstance(told, int):
                assert await left_of(manager, "ada") == []
            else:
                assert isinstance(told, StorageError)
            await manager.erase_user("ada")
            assert await left_of(manager, "ada") == []
            [mine] = await manager.get_user_sessions("eve")
            await until(lambda: list(provider.conversations) == [mine.provider_session_id])
            return 0

    call = 0
    for fault in sorted(POSSIBLE_FAULTS[method]):
        for call in range(1, 10):
            left: list[int] = []

            async def once(fault: Fault = fault, call: int = call, left: list[int] = left) -> None:
                left.append(await program(fault, call))

            simulate(once, backend=backend, seed=None)
            if left[0]:
                break
        assert call > 1


# ---------------------------------------------------------------- the decisions


def session(status: SessionStatus, *, last_seq: int = 5, key: int = 3) -> StoredSession:
    record = SessionRecord(
        session_id="s",
        user_id="ada",
        provider="native",
        model="m",
        created_us=1,
        updated_us=10,
        key=key,
        revision=7,
        status=status,
        last_seq=last_seq,
        visible_messages=last_seq,
        provider_session_id="conversation",
    )
    return StoredSession(record=record, documents=SessionDocuments())


@pytest.mark.parametrize("status", list(SessionStatus))
def test_only_a_deleted_session_is_cleared_or_erased(status: SessionStatus) -> None:
    """And only the one that was listed, whatever has its id now."""
    for command in (ClearSlice(key=3, through_seq=2), EraseSession(key=3, keeps=True)):
        write = command.decide(session(status), 99)
        assert (write is not None) == (status is SessionStatus.DELETED)
        if write is not None:
            assert write.after.record.updated_us == 10
            assert (write.expected_revision, write.after.record.revision) == (7, 8)
        assert command.decide(session(status, key=4), 99) is None
    assert HideSession(key=3).decide(session(status, key=4), 99) is None


@pytest.mark.parametrize("keeps", [True, False])
def test_the_conversation_is_queued_in_the_write_that_erases(keeps: bool) -> None:
    """Where the provider keeps any."""
    write = EraseSession(key=3, keeps=keeps).decide(session(SessionStatus.DELETED), 99)
    assert write is not None
    assert write.erases
    names = [(purge.provider, purge.provider_session_id) for purge in write.purges]
    assert names == ([("native", "conversation")] if keeps else [])


@pytest.mark.parametrize(("last_seq", "slices"), [(0, 0), (1, 0), (100, 0), (101, 1), (1000, 9)])
def test_a_history_is_cleared_from_its_beginning(last_seq: int, slices: int) -> None:
    """And erased with at most one slice left."""
    record = session(SessionStatus.DELETED, last_seq=last_seq).record
    *cleared, last = steps_of_erasure(record, keeps=True)
    assert [step.through_seq for step in cleared if isinstance(step, ClearSlice)] == [
        100 * (number + 1) for number in range(slices)
    ]
    assert isinstance(last, EraseSession)


def test_an_erasure_of_unknown_outcome_is_resolved_by_what_is_there() -> None:
    """Nothing there: it was done, for it was there when it was decided. Else it was not."""
    state = session(SessionStatus.DELETED)
    write = EraseSession(key=3, keeps=True).decide(state, 99)
    assert write is not None
    assert outcome_found(write, None, "planted") == Committed(3)
    found = outcome_found(write, state, "planted")
    assert isinstance(found, StorageError)
    assert (found.outcome, found.retryable) == ("failed", True)
    assert isinstance(outcome_found(write, write.after, "planted"), Conflict)
