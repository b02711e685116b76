"""`manager.health()`: the truth about the storage, at no cost, whatever has happened."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import CapacityError, StorageError, create_session_manager
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage

from .faults import Faulty, raises_before
from .helpers import Echo, Gate, Store, answer_to, new_session, outcome, settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import StorageHealth, WriteOutcome

    from .faults import Commit


async def test_before_the_first_use_and_after_the_end(store: Store) -> None:
    """It starts nothing, and a closed manager is not healthy."""
    manager = store.manager(Echo())
    assert (await manager.health()).status == "ok"
    assert manager.statistics() is None
    async with manager:
        session = await new_session(manager)
        await session.send_message("one")
        health = await manager.health()
        assert (health.status, health.storage.is_open) == ("ok", True)
        assert (health.last_error, health.writes_stopped) == (None, False)
        assert (health.waiting_writes, health.waiting_loads) == (0, 0)
    assert (await manager.health()).status == "failed"


async def test_tells_what_failed_and_recovers_with_the_next_commit(store: Store) -> None:
    """A commit that failed: degraded with its error; one that succeeds: ok again."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        storage.faults = [raises_before]
        error = await outcome(session.submit("lost"))
        assert isinstance(error, StorageError)
        health = await manager.health()
        assert health.status == "degraded"
        assert isinstance(health.last_error, StorageError)
        await session.send_message("fine")
        health = await manager.health()
        assert health.status == "ok"
        assert health.last_error is not None  # it stays to be read


async def test_a_storage_that_cannot_say_how_it_is_is_degraded(store: Store) -> None:
    """Never raises, whatever an author's storage does."""

    class Silent(Faulty):
        def health(self) -> StorageHealth:
            raise ZeroDivisionError

    async with create_session_manager(Silent(store.storage())) as manager:
        health = await manager.health()
        assert health.status == "degraded"
        assert "ZeroDivisionError" in str(health.storage.warning)


async def test_a_storage_that_does_not_open_is_failed_until_it_does(tmp_path: Path) -> None:
    """The next call tries again."""
    path = tmp_path / "folder" / "sessions.db"
    manager = create_session_manager(SQLiteSessionStorage(path))
    with pytest.raises(StorageError):
        await manager.create_session("ann", "mock", "m")
    health = await manager.health()
    assert health.status == "failed"
    assert isinstance(health.last_error, StorageError)
    path.parent.mkdir()
    await manager.create_session("ann", "mock", "m")
    assert (await manager.health()).status == "ok"
    await manager.aclose()


async def test_a_failed_sync_stops_writes_and_the_runtime_stays_alive(sqlite: Store) -> None:
    """G3: every later write is refused with `failed_sync`; reads and the manager go on."""
    storage = sqlite.storage()
    assert isinstance(storage, SQLiteSessionStorage)
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert storage._hosted is not None
        error = sqlite3.OperationalError("planted")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        storage._hosted[1].writer.note(error)
        for _ in range(2):
            refused = await outcome(session.submit("two"))
            assert isinstance(refused, StorageError)
            assert (refused.code, refused.retryable) == ("failed_sync", False)
        health = await manager.health()
        assert (health.status, health.writes_stopped) == ("failed", True)
        assert [m.content for m in await session.get_messages()] == ["one", answer_to("one")]


async def test_g11_the_queue_to_the_storage_is_bounded_and_says_so(store: Store) -> None:
    """G11: one write a session; beyond `storage_queue_size` a message is handed back, unqueued."""
    gate = Gate()

    async def slow(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        await gate.passed()
        return await commit(writes)

    storage = Faulty(store.storage())
    async with create_session_manager(
        storage, providers={"openai": Echo()}, storage_queue_size=3
    ) as manager:
        sessions = [await new_session(manager) for _ in range(6)]
        storage.faults = [slow]
        tickets: list[Any] = [sessions[0].submit("first")]
        await gate.reached()
        for session in sessions[1:3]:
            tickets.append(session.submit("waits"))
            tickets.append(session.submit("its second waits in its mailbox"))
        tickets.append(sessions[3].submit("waits"))
        await settle()
        health, statistics = await manager.health(), manager.statistics()
        assert statistics is not None
        assert health.waiting_writes == statistics.storage.waiting_writes == 3
        with pytest.raises(CapacityError, match="storage_queue_size") as caught:
            _ = sessions[4].submit("handed back")
        assert (caught.value.content, caught.value.retryable) == ("handed back", True)
        gate.open()
        answers = [await outcome(ticket) for ticket in tickets]
        assert [answer.content for answer in answers][:2] == [
            answer_to("first"),
            answer_to("waits"),
        ]
        await sessions[4].send_message("now")


async def test_g5_damage_in_one_session_does_not_keep_the_others_from_recovery(
    store: Store,
) -> None:
    """G5: a turn that cannot be closed for damage is told and left; the storage opens."""
    storage = Faulty(store.storage())
    provider = Echo()
    gates = [provider.hold(name) for name in ("bad", "good")]
    async with create_session_manager(
        storage, providers={"openai": provider}, drain_seconds=0
    ) as manager:
        for gate, name in zip(gates, ("bad", "good"), strict=True):
            session = await new_session(manager, session_id=name)
            _ = session.submit(name)
            await gate.reached()
        storage.faults = [raises_before] * 20  # neither end is stored, as after a kill
    storage.faults = []

    async def damaged(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        damage = StorageError("planted: damaged", code="corrupt")
        good = [write for write in writes if write.after.record.session_id != "bad"]
        outcomes = iter(await commit(good) if good else [])
        return [next(outcomes) if write in good else damage for write in writes]

    storage.faults = [damaged]
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.storage.recovered_turns == 1
        session = await manager.get_session("good")
        await session.send_message("after")
        other = await manager.get_session("bad")  # its own load closes the turn, now that it can
        await other.send_message("after")
        assert (await other.get_metrics()).interrupted_turns == 1
