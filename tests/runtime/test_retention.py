"""Retention: sessions are archived, deleted and removed by age, through their mailboxes."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langswarm.core.session import (
    ISessionLifecycleHook,
    SessionArchivedError,
    SessionError,
    SessionNotFoundError,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.actors.erasure import SLICE_MESSAGES, RetentionRule, RetireSession
from langswarm.core.session.actors.model import SessionDocuments as Documents
from langswarm.core.session.actors.model import SessionRecord, SessionStatus, StoredSession
from langswarm.core.session.errors import ConfigurationError, SessionQuarantinedError
from langswarm.core.session.providers import NativeMockProvider
from langswarm.core.session.runtime.retention import AT_ONCE
from langswarm.core.session.runtime.views import RisingClock
from langswarm.core.session.testing import (
    Backend,
    Fault,
    FaultyStorage,
    SimulatedDisk,
    SimulatedStorage,
    simulate,
)

from .helpers import Echo, Store, contents, new_session, outcome, supervisor_of, until

if TYPE_CHECKING:
    from langswarm.core.session import ISessionStorage, SessionManager
    from langswarm.core.session.actors.model import SessionPage, SessionQuery

DAY_US = 86_400 * 1_000_000
START_US = 1_800_000_000_000_000


class Clock:
    """The wall clock of a manager, moved on by the test."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us

    def pass_days(self, days: float) -> None:
        self.now_us += round(days * DAY_US)

    def of(self, manager: SessionManager) -> SessionManager:
        manager._anchor.host.wall_clock_us = RisingClock(self)
        return manager


async def statuses(manager: SessionManager, *session_ids: str) -> list[str]:
    """As stored; "gone" where nothing is."""
    storage = manager._anchor.host.runtime().storage
    found = [await storage.load_now(session_id) for session_id in session_ids]
    return ["gone" if state is None else state.record.status.value for state in found]


# ---------------------------------------------------------------- by hand


async def test_what_was_idle_for_so_long_is_archived_and_counted(store: Store) -> None:
    """And nothing else; a dry run tells the number and changes nothing."""
    clock = Clock()
    async with clock.of(store.manager(Echo())) as manager:
        old = [await new_session(manager, session_id=f"old{n}") for n in range(3)]
        clock.pass_days(20)
        young = await new_session(manager, session_id="young")
        await old[0].send_message("used again")
        clock.pass_days(15)
        assert await manager.cleanup_inactive_sessions(days=30, dry_run=True) == 2
        assert [session.status for session in old] == ["active"] * 3
        assert await manager.cleanup_inactive_sessions(days=30) == 2
        assert [session.status for session in old] == ["active", "archived", "archived"]
        assert young.status == "active"
        assert await manager.cleanup_inactive_sessions(days=30) == 0
        with pytest.raises(SessionArchivedError):
            await old[1].send_message("no")
        assert await manager.cleanup_inactive_sessions(timedelta(days=15, seconds=-1)) == 2
    async with store.manager(Echo()) as manager:
        assert await statuses(manager, "old0", "old1", "young") == ["archived"] * 3


async def test_archived_deleted_and_removed_each_counts_from_the_step_before(store: Store) -> None:
    """Archiving is the last thing that happened to an archived session, deleting to a deleted."""
    clock = Clock()
    async with clock.of(store.manager(Echo())) as manager:
        session = await new_session(manager, session_id="s")
        await session.send_message("one")
        clock.pass_days(31)
        assert await manager.cleanup_inactive_sessions() == 1
        assert await manager.cleanup_archived_sessions() == 0
        clock.pass_days(91)
        assert await manager.cleanup_archived_sessions() == 1
        assert session.status == "deleted"
        assert await manager.cleanup_deleted_sessions() == 0
        assert await statuses(manager, "s") == ["deleted"]
        clock.pass_days(366)
        assert await manager.cleanup_deleted_sessions(dry_run=True) == 1
        assert await manager.cleanup_deleted_sessions() == 1
        assert await statuses(manager, "s") == ["gone"]
        with pytest.raises(SessionNotFoundError):
            await manager.get_session("s")
        assert await manager.cleanup_deleted_sessions(0) == 0


async def test_a_session_that_is_busy_is_left_alone(memory: Store) -> None:
    """However long its turn takes: it is not archived behind the turn either."""
    provider, clock = Echo(), Clock()
    gate = provider.hold("long")
    async with clock.of(memory.manager(provider)) as manager:
        session = await new_session(manager, session_id="s")
        ticket = session.submit("long")
        await gate.reached()
        clock.pass_days(100)
        assert await manager.cleanup_inactive_sessions(days=0, dry_run=True) == 0
        assert await manager.cleanup_inactive_sessions(days=0) == 0
        gate.open()
        await ticket
        assert session.status == "active"


class Gated(SimulatedStorage):
    """Lists sessions, and answers once the test is ready."""

    def __init__(self) -> None:
        super().__init__(SimulatedDisk())
        self.listed = anyio.Event()
        self.answer = anyio.Event()

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        self.listed.set()
        await self.answer.wait()
        return page


@pytest.mark.parametrize("how", ["sent", "reopened", "running"])
async def test_one_that_is_used_after_it_was_listed_is_not_archived(how: str) -> None:
    """It looks again when its turn comes."""
    provider, clock, storage = Echo(), Clock(), Gated()
    manager = create_session_manager(storage, providers={"openai": provider})
    async with clock.of(manager), anyio.create_task_group() as group:
        session = await new_session(manager, session_id="s")
        clock.pass_days(100)
        counts: list[int] = []

        async def clean_up() -> None:
            counts.append(await manager.cleanup_inactive_sessions(30))

        group.start_soon(clean_up)
        await storage.listed.wait()
        if how == "sent":
            await session.send_message("used")
        elif how == "reopened":
            await session.archive()
            await session.reopen()
        else:
            gate = provider.hold("running")
            group.start_soon(session.send_message, "running")
            await gate.reached()
        storage.answer.set()
        await until(lambda: bool(counts))
        assert counts == [0]
        assert session.status == "active"
        for gate in provider.gates.values():
            gate.open()


async def test_hooks_and_events_tell_as_if_its_user_had_done_it(store: Store) -> None:
    """Archived and deleted; removing is told to nobody."""
    told: list[tuple[str, str]] = []

    class Hook(ISessionLifecycleHook):
        async def on_session_archived(self, session_id: str) -> None:
            told.append(("archived", session_id))

        async def on_session_deleted(self, session_id: str) -> None:
            told.append(("deleted", session_id))

    clock = Clock()
    async with clock.of(store.manager(Echo(), hooks=[Hook()])) as manager:
        await new_session(manager, session_id="s")
        events = manager.session_events(session_id="s", types=["session_archived"])
        clock.pass_days(1)
        await manager.cleanup_inactive_sessions(0)
        assert (await anext(events)).session_id == "s"
        clock.pass_days(1)
        await manager.cleanup_archived_sessions(0)
        clock.pass_days(1)
        await manager.cleanup_deleted_sessions(0)
        await until(lambda: len(told) == 2)
    assert told == [("archived", "s"), ("deleted", "s")]


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), True, "30", None, 10**9, 10**400])
async def test_an_age_that_is_none_is_refused(memory: Store, days: Any) -> None:
    """Nothing is cleaned up by a mistake."""
    async with memory.manager(Echo()) as manager:
        with pytest.raises(ConfigurationError, match="days"):
            await manager.cleanup_inactive_sessions(days)


# ---------------------------------------------------------------- many, and in trouble


async def test_a_clean_up_leaves_memory_as_it_was(memory: Store) -> None:
    """Sessions that were not live leave again; those that were stay; places are shared fairly."""
    clock, most = Clock(), 0
    async with clock.of(memory.manager(Echo())) as manager:
        for number in range(5 * AT_ONCE):
            await new_session(manager, session_id=f"s{number}")
        supervisor = supervisor_of(manager)
        live = supervisor.statistics().live
        for number in range(1, 5 * AT_ONCE):
            assert supervisor.evict(f"s{number}")
        clock.pass_days(1)
        loading = supervisor.activate

        def counted(actor: Any) -> None:
            nonlocal most
            loading(actor)
            most = max(most, supervisor.statistics().live)

        supervisor.activate = counted  # type: ignore[method-assign]
        assert await manager.cleanup_inactive_sessions(0) == live == 5 * AT_ONCE
        assert supervisor.statistics().live == 1
        assert 1 < most <= AT_ONCE + 1
        assert supervisor.live_state("s0") is not None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_slow_hooks_slow_a_clean_up_down(backend: Backend) -> None:
    """What waits for them is bounded, however many sessions there are (G11)."""
    running = most = calls = 0

    class Slow(ISessionLifecycleHook):
        async def on_session_archived(self, session_id: str) -> None:
            nonlocal running, most, calls
            running, calls = running + 1, calls + 1
            most = max(most, running)
            await anyio.sleep(1)
            running -= 1

    async def program() -> None:
        manager = create_session_manager(hooks=[Slow()])
        async with manager:
            await create_many(manager, 1000)
            assert await manager.cleanup_inactive_sessions(0) == 1000

    simulate(program, backend=backend, seed=None)
    assert calls == 1000
    assert 256 <= most <= 256 + AT_ONCE


async def test_one_session_in_trouble_does_not_keep_the_others_waiting(
    memory: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A quarantined one is passed over and logged; the next call comes back to it."""
    clock = Clock()
    async with clock.of(memory.manager(Echo(), max_restarts=0, quarantine_seconds=3600)) as manager:
        for number in range(3):
            await new_session(manager, session_id=f"s{number}")
        session = await manager.get_session("s1")
        await session.send_message("one")
        supervisor_of(manager).crash("s1", ValueError("planted"))
        with pytest.raises(SessionQuarantinedError):
            _ = session.submit("no")
        clock.pass_days(1)
        assert await manager.cleanup_inactive_sessions(0) == 2
        assert await statuses(manager, "s0", "s1", "s2") == ["archived", "active", "archived"]
    assert "1 sessions were passed over" in caplog.text


async def test_a_storage_that_fails_ends_the_clean_up_with_its_error(memory: Store) -> None:
    """What was done stays done, and the next call does the rest."""
    clock = Clock()
    storage = FaultyStorage(memory.storage())
    manager = create_session_manager(storage, providers={"openai": Echo()})
    async with clock.of(manager):
        for number in range(3):
            await new_session(manager, session_id=f"s{number}")
        clock.pass_days(1)
        storage.fail("commit", Fault.FULL)
        with pytest.raises(StorageError, match="full"):
            await manager.cleanup_inactive_sessions(0)
        assert await manager.cleanup_inactive_sessions(0) == 3


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_session_is_archived_that_was_used_since_the_cut(backend: Backend, seed: int) -> None:
    """Clean-ups race with sends and evictions in any order: the commit before each is old enough.

    And whoever sent was answered, or told that the session is archived.
    """
    disk = SimulatedDisk()
    cuts: list[tuple[int, int]] = []  # at this time, before that time
    chosen = random.Random(seed)

    async def program() -> None:
        def clock() -> int:
            return START_US + round(anyio.current_time() * 1e6)

        manager = create_session_manager(
            SimulatedStorage(disk), providers={"openai": Echo()}, idle_seconds=0.01
        )
        wall = manager._anchor.host.wall_clock_us = RisingClock(clock)
        async with manager:
            sessions = [await new_session(manager, session_id=f"s{n}") for n in range(6)]

            async def use(number: int) -> None:
                for _ in range(6):
                    await anyio.sleep(chosen.random() * 0.4)
                    told = await outcome(sessions[number].send_message("used"))
                    if isinstance(told, SessionArchivedError):
                        await sessions[number].reopen()
                    else:
                        assert not isinstance(told, SessionError)

            async def clean_up() -> None:
                for _ in range(12):
                    await anyio.sleep(chosen.random() * 0.2)
                    age = chosen.choice([0.0, 0.05, 0.1, 0.2])
                    cuts.append((wall(), wall() - round(age * 1e6)))
                    await manager.cleanup_inactive_sessions(timedelta(seconds=age))

            async with anyio.create_task_group() as group:
                for number in range(len(sessions)):
                    group.start_soon(use, number)
                group.start_soon(clean_up)

    simulate(program, backend=backend, seed=seed)
    assert archived_in_time(disk, cuts)
    assert not disk.violations


def archived_in_time(disk: SimulatedDisk, cuts: list[tuple[int, int]]) -> int:
    """Check each archiving against the commit before it; how many there are."""
    before: dict[str, SessionRecord] = {}
    archived = 0
    for write in disk.writes:
        record = write.after.record
        if record.status is SessionStatus.ARCHIVED:
            archived += 1
            # The clean-up that did it is the last one that had begun.
            cut = max(before_us for at_us, before_us in cuts if at_us < record.updated_us)
            # A few ticks of the rising clock lie between the test's look and the manager's.
            assert before[record.session_id].updated_us < cut + 10
            assert not before[record.session_id].open_turn_no
        before[record.session_id] = record
    return archived


# ---------------------------------------------------------------- what is removed for good


async def test_a_removed_session_is_gone_and_its_id_is_free(store: Store) -> None:
    """Old handles find nothing, whoever has the id now; the new session starts from nothing."""
    clock = Clock()
    async with clock.of(store.manager(Echo())) as manager:
        old = await new_session(manager, "ada", session_id="s")
        await old.send_message("secret", idempotency_key="k")
        await old.update_context(secret=1)
        await old.delete()
        clock.pass_days(1)
        assert await manager.cleanup_deleted_sessions(0) == 1
        assert old.status == "deleted"
        new = await new_session(manager, "eve", session_id="s")
        for call in (
            lambda: old.send_message("whose?"),
            old.get_messages,
            old.get_context,
            old.archive,
            old.delete,
            old.stop,
            old.refresh,
        ):
            with pytest.raises(SessionNotFoundError):
                await call()
        with pytest.raises(SessionNotFoundError):
            _ = old.submit("whose?")
        assert (old.user_id, new.user_id) == ("ada", "eve")
        assert await contents(new) == []
        assert (await new.send_message("secret", idempotency_key="k")).seq == 2
        assert dict(await new.get_context()) == {}
        assert new.status == "active"
        assert old.status == "deleted"
        assert await manager.get_user_sessions("ada") == []
    async with store.manager(Echo()) as manager:
        assert await contents(await manager.get_session("s")) == ["secret", "answer to secret"]


async def test_a_long_history_goes_in_slices() -> None:
    """No commit deletes more than a slice; the time since when it is deleted stays."""
    disk, clock = SimulatedDisk(), Clock()
    manager = create_session_manager(SimulatedStorage(disk), providers={"openai": Echo()})
    async with clock.of(manager):
        session = await new_session(manager, session_id="s")
        for number in range(SLICE_MESSAGES):
            await session.send_system_message(str(number))
            await session.send_system_message(str(number))
        await session.send_system_message("last")
        await session.delete()
        deleted_us = disk.writes[-1].after.record.updated_us
        clock.pass_days(1)
        count = len(disk.writes)
        assert await manager.cleanup_deleted_sessions(0) == 1
        writes = disk.writes[count:]
        assert [write.clear_through_seq for write in writes] == [
            SLICE_MESSAGES,
            2 * SLICE_MESSAGES,
            2 * SLICE_MESSAGES + 1,
        ]
        assert [write.erases for write in writes] == [False, False, True]
        assert {write.after.record.updated_us for write in writes} == {deleted_us}


@pytest.mark.parametrize("keeps", [True, False])
async def test_the_conversation_at_the_provider_is_deleted_too(store: Store, keeps: bool) -> None:
    """Queued in the commit that removes the session; a provider that is gone may come back."""
    provider, clock = NativeMockProvider(), Clock()
    providers: dict[str, Any] = {"native": provider}
    async with clock.of(store.manager(providers=providers)) as manager:
        session = await manager.create_session("ada", "native", "m", session_id="s")
        await session.send_message("1")
        assert provider.conversations
        await session.delete()
        clock.pass_days(1)
    if not keeps:  # this manager knows nothing of the provider: it removes the session all the same
        async with clock.of(store.manager()) as manager:
            clock.pass_days(1)
            assert await manager.cleanup_deleted_sessions(0) == 1
        clock.pass_days(1)
    async with clock.of(store.manager(providers=providers)) as manager:
        if keeps:
            assert await manager.cleanup_deleted_sessions(0) == 1
        await until(lambda: not provider.conversations)


# ---------------------------------------------------------------- on schedule


def scheduled(storage: ISessionStorage, **config: Any) -> SessionManager:
    """A manager whose wall clock goes with the virtual one."""
    manager = create_session_manager(storage, cleanup_config=config)
    manager._anchor.host.wall_clock_us = RisingClock(
        lambda: START_US + round(anyio.current_time() * 1e6)
    )
    return manager


async def create_many(manager: SessionManager, count: int) -> None:
    """All at once."""
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(manager.create_session, "ada", "mock", "m")


HOUR = 3600.0


def on_both(program: Any, backend: Backend) -> None:
    """In virtual time."""
    simulate(program, backend=backend, seed=None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_runs_shortly_after_the_start_and_then_once_an_interval(backend: Backend) -> None:
    """Archives by age and by length, deletes what was archived long ago; downtime is made up."""

    async def program() -> None:
        disk = SimulatedDisk()
        async with scheduled(SimulatedStorage(disk)) as manager:
            for name in ("idle", "long", "short"):
                await manager.create_session("ada", "mock", "m", session_id=name)
        await anyio.sleep(10 * 24 * HOUR)
        async with scheduled(
            SimulatedStorage(disk),
            archive_after_days=3,
            delete_after_days=2,
            max_messages_per_session=4,
            cleanup_interval_hours=6,
        ) as manager:
            long, short = await manager.get_session("long"), await manager.get_session("short")
            for _ in range(3):
                await long.send_message("x")
            await short.send_message("x")
            await anyio.sleep(10)
            assert await statuses(manager, "idle", "long", "short") == [
                "archived",
                "archived",
                "active",
            ]
            await anyio.sleep(2 * 24 * HOUR)
            assert await statuses(manager, "idle", "long", "short") == [
                "archived",
                "archived",
                "active",
            ]
            await anyio.sleep(6 * HOUR)
            assert await statuses(manager, "idle", "short") == ["deleted", "active"]
            await anyio.sleep(24 * HOUR)
            assert await statuses(manager, "short") == ["archived"]
            assert manager._anchor.host.runtime().cleanup.runs == 14  # type: ignore[union-attr]

    on_both(program, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_session_is_archived_after_its_own_time(backend: Backend) -> None:
    """Whether or not the manager has rules; whichever comes first; reopening begins it anew."""

    async def program() -> None:
        manager = create_session_manager(SimulatedStorage(SimulatedDisk()))
        manager._anchor.host.wall_clock_us = RisingClock(
            lambda: START_US + round(anyio.current_time() * 1e6)
        )
        async with manager:
            plain = await manager.create_session("ada", "mock", "m")
            await anyio.sleep(100 * HOUR)
            assert manager._anchor.host.runtime().cleanup is None
            config = {"auto_archive_after": timedelta(days=7)}
            own = await manager.create_session("ada", "mock", "m", session_config=config)
            assert await own.get_config() == config
            await anyio.sleep(7 * 24 * HOUR - 60)
            assert own.status == "active"
            await anyio.sleep(24 * HOUR + 60)
            assert (own.status, plain.status) == ("archived", "active")
            await own.reopen()
            changed = await own.update_config({"auto_archive_after": None})
            assert changed == {}
            await anyio.sleep(20 * 24 * HOUR)
            assert own.status == "active"

    on_both(program, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_fails_is_told_and_tried_again(backend: Backend) -> None:
    """`health()` is degraded until a run has come to its end."""

    async def program() -> None:
        storage = FaultyStorage(SimulatedStorage(SimulatedDisk()))
        async with scheduled(storage, archive_after_days=0) as manager:
            session = await manager.create_session("ada", "mock", "m")
            storage.fail("list_sessions", Fault.RAISES_BEFORE)
            await anyio.sleep(60)
            health = await manager.health()
            assert health.status == "degraded"
            assert isinstance(health.cleanup_error, StorageError)
            assert session.status == "active"
            await anyio.sleep(600)
            assert session.status == "archived"
            health = await manager.health()
            assert (health.status, health.cleanup_error) == ("ok", None)

    on_both(program, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closing_ends_a_run_between_two_sessions(backend: Backend) -> None:
    """A slow clean-up holds nobody up: what is left is done after the next start."""

    async def program() -> None:
        disk = SimulatedDisk(latency_seconds=0.5)
        async with scheduled(SimulatedStorage(disk)) as manager:
            await create_many(manager, 10 * AT_ONCE)
        async with scheduled(SimulatedStorage(disk), archive_after_days=0) as manager:
            await anyio.sleep(6)
            began = anyio.current_time()
        assert anyio.current_time() - began < 10
        archived = sum(w.after.record.status is SessionStatus.ARCHIVED for w in disk.writes)
        assert 0 < archived < 10 * AT_ONCE
        async with scheduled(SimulatedStorage(disk), archive_after_days=0) as manager:
            await anyio.sleep(300)
            assert await manager.cleanup_inactive_sessions(0) == 0

    on_both(program, backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closing_waits_for_no_storage_that_a_run_waits_for(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """A run is cancelled where it is, and leaves nothing behind."""

    async def program() -> None:
        storage = FaultyStorage(SimulatedStorage(SimulatedDisk()), slow_seconds=10_000)
        async with scheduled(storage, archive_after_days=0):
            storage.fail("list_sessions", Fault.SLOW)
            await anyio.sleep(2)
            assert not storage.planned
        assert anyio.current_time() < 100

    simulate(program, backend=backend, seed=None)
    assert not caplog.records


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_goes_along_to_another_event_loop(backend: Backend) -> None:
    """Each loop has a first run of its own, and a forgotten `aclose()` keeps none from ending."""
    manager = create_session_manager(cleanup_config={})
    runs: list[int] = []

    async def use() -> None:
        await manager.create_session("ada", "mock", "m")
        schedule = manager._anchor.host.runtime().cleanup
        assert schedule is not None
        schedule._date = 0.0  # it would be in a second
        await manager.create_session("ada", "mock", "m")
        manager._anchor.host.runtime()._wake_at(0.0)
        await until(lambda: schedule.runs > 0)
        runs.append(schedule.runs)

    anyio.run(use, backend=backend)
    anyio.run(use, backend=backend)
    assert runs == [1, 1]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"archive_after_day": 1}, "did you mean 'archive_after_days'"),
        ({"archive_after_days": -1}, "archive_after_days"),
        ({"delete_after_days": "90"}, "delete_after_days"),
        ({"delete_after_days": True}, "delete_after_days"),
        ({"max_messages_per_session": 0}, "max_messages_per_session"),
        ({"max_messages_per_session": 1.5}, "max_messages_per_session"),
        ({"cleanup_interval_hours": 0}, "cleanup_interval_hours"),
        ({"cleanup_interval_hours": float("nan")}, "cleanup_interval_hours"),
        ({"cleanup_interval_hours": 10**400}, "cleanup_interval_hours"),
        ([("archive_after_days", 1)], "mapping"),
    ],
)
def test_a_cleanup_config_that_is_wrong_is_refused_at_once(config: Any, text: str) -> None:
    """With the key, and the nearest one that there is."""
    with pytest.raises(ConfigurationError, match=text):
        create_session_manager(cleanup_config=config)


@pytest.mark.parametrize("after", [0, -1, timedelta(0), "7", True, float("nan"), 10**12, []])
async def test_an_auto_archive_after_that_is_wrong_is_refused(memory: Store, after: Any) -> None:
    """It must be a time."""
    async with memory.manager(Echo()) as manager:
        with pytest.raises(ConfigurationError, match="auto_archive_after"):
            await new_session(manager, session_config={"auto_archive_after": after})


@pytest.mark.parametrize("after", [90, 1.5, timedelta(minutes=5)])
async def test_an_auto_archive_after_comes_back_as_a_timedelta(store: Store, after: Any) -> None:
    """However it was given; the clean-up counts a part of a second as a whole one."""
    async with store.manager(Echo()) as manager:
        await new_session(manager, session_id="s", session_config={"auto_archive_after": after})
    async with store.manager(Echo()) as manager:
        session = await manager.get_session("s")
        config = await session.get_config()
        wanted = after if isinstance(after, timedelta) else timedelta(seconds=after)
        assert config == {"auto_archive_after": wanted}
        assert session._record.auto_archive_seconds >= wanted.total_seconds()


# ---------------------------------------------------------------- the rule


def record_of(status: SessionStatus, updated_us: int, own: int, visible: int) -> SessionRecord:
    return SessionRecord(
        session_id="s",
        user_id="ada",
        provider="mock",
        model="m",
        created_us=0,
        updated_us=updated_us,
        key=1,
        revision=7,
        status=status,
        auto_archive_seconds=own,
        visible_messages=visible,
    )


rules = st.builds(
    RetentionRule,
    of=st.just(SessionStatus.ACTIVE),
    becomes=st.just(SessionStatus.ARCHIVED),
    idle_before_us=st.none() | st.integers(0, 20_000_000),
    now_us=st.none() | st.integers(0, 40_000_000),
    most_messages=st.none() | st.integers(0, 20),
)
records = st.builds(
    record_of,
    st.sampled_from(list(SessionStatus)),
    st.integers(0, 20_000_000),
    st.integers(0, 20),
    st.integers(0, 20),
)


@settings(max_examples=300, deadline=None)
@given(record=records, rule=rules, key=st.sampled_from([1, 2]))
def test_the_decision_is_what_the_rule_says(
    record: SessionRecord, rule: RetentionRule, key: int
) -> None:
    """It writes exactly where the session is the one that was listed, active, and due."""
    state = StoredSession(record=record, documents=Documents())
    write = RetireSession(key=key, rule=rule).decide(state, 50_000_000)
    idle, own, most = rule.idle_before_us, record.auto_archive_seconds, rule.most_messages
    due = (
        (idle is not None and record.updated_us < idle)
        or (rule.now_us is not None and 0 < own * 1_000_000 < rule.now_us - record.updated_us)
        or (most is not None and record.visible_messages > most)
    )
    meant = record.status is SessionStatus.ACTIVE and key == 1
    assert (write is not None) == (due and meant)
    if write is not None:
        after = write.after.record
        assert (after.status, after.updated_us) == (SessionStatus.ARCHIVED, 50_000_000)
        assert (write.expected_revision, after.revision) == (7, 8)
