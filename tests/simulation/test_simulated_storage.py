"""The simulated disk: what survives a restart, a killed process and a power cut."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from langswarm.core.session import SessionError, StorageError, create_session_manager
from langswarm.core.session.actors.model import SessionPage, SessionQuery
from langswarm.core.session.testing import (
    Backend,
    Crash,
    SendRecorder,
    SimulatedDisk,
    SimulatedStorage,
    Told,
    ordering_violations,
    simulate,
)
from langswarm.core.session.testing.storage_contract import CONTRACT, DURABILITY, StorageCase
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    claim,
    commit,
    create,
    days_of,
    purge,
    usage,
    use,
)

if TYPE_CHECKING:
    from langswarm.core.session import SessionMessage

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)

TALK = ("one", "two", "three")
ALL_COMMITS = 1 + 2 * len(TALK)  # the creation; open and close each turn


async def talk(storage: SimulatedStorage, recorder: SendRecorder) -> None:
    """Create a session and send until it is over."""
    manager = create_session_manager(storage)
    try:
        session = await manager.create_session("ada", "mock", "m", session_id="s")
        for text in TALK:
            await recorder.send(session, text)
    except SessionError:
        await manager.aclose(drain_seconds=0)


async def history(disk: SimulatedDisk) -> list[SessionMessage]:
    """What the next process finds."""
    async with create_session_manager(SimulatedStorage(disk)) as manager:
        try:
            session = await manager.get_session("s")
        except SessionError:
            return []
        return await session.get_messages()


@both
@pytest.mark.parametrize("case", CONTRACT + DURABILITY, ids=str)
def test_it_keeps_the_contract_of_storages(case: StorageCase, backend: Backend) -> None:
    disk = SimulatedDisk()
    case.check(lambda: SimulatedStorage(disk), backend=backend)


@both
@pytest.mark.parametrize("when", ["before", "in", "after"])
@pytest.mark.parametrize("commit", range(1, ALL_COMMITS + 1))
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    backend: Backend, when: Literal["before", "in", "after"], commit: int
) -> None:
    disk, recorder = SimulatedDisk(), SendRecorder()

    async def main() -> None:
        storage = SimulatedStorage(disk, crash=Crash(when, commit))
        await talk(storage, recorder)
        assert storage.is_dead
        assert storage.calls["commit"] >= commit
        # The commit itself is there exactly if it was synced.
        assert len(disk.writes) == (commit if when == "after" else commit - 1)
        assert ordering_violations(recorder.sent, {"s": await history(disk)}) == []

    simulate(main, backend=backend, seed=1)


@both
def test_without_syncs_a_power_cut_takes_what_was_acknowledged(backend: Backend) -> None:
    """And the ordering checker says so."""
    disk, recorder = SimulatedDisk(), SendRecorder()

    async def main() -> None:
        await talk(SimulatedStorage(disk, synced=False), recorder)
        assert disk.unsynced == ALL_COMMITS
        disk.lose_power()
        assert await history(disk) == []

    simulate(main, backend=backend, seed=1)
    assert [call.told for call in recorder.sent] == [Told.ANSWERED] * len(TALK)
    found = ordering_violations(recorder.sent, {"s": []})
    assert [text[:2] for text in found] == ["G3"] * len(TALK)


@both
def test_a_killed_process_leaves_its_page_cache(backend: Backend) -> None:
    async def main() -> None:
        disk = SimulatedDisk()
        storage = SimulatedStorage(disk, synced=False)
        await talk(storage, SendRecorder())
        storage.die()
        assert len(await history(disk)) == 2 * len(TALK)
        with pytest.raises(StorageError, match="gone"):
            await storage.open()

    simulate(main, backend=backend, seed=1)


@both
@pytest.mark.parametrize("synced", [True, False])
def test_a_power_cut_takes_what_was_not_synced_of_claims_and_purges_too(
    backend: Backend, synced: bool
) -> None:
    """Claims and purges that were put, swept and settled: all of it or, unsynced, none."""

    async def main() -> None:
        disk = SimulatedDisk()
        first = SimulatedStorage(disk)
        await first.open()
        stored = await create(first)
        puts = change(stored, claim=claim("old"), purges=(purge("done"), purge("failed")))
        stored = await commit(first, puts)
        await first.close()

        second = SimulatedStorage(disk, synced=synced)
        await second.open()
        young = claim("young", created_us=START_US + 1)
        await commit(second, change(stored, claim=young))
        assert await second.sweep_claims(START_US + 1, 9) == 1
        await second.settle_purge(purge("done"), retry_us=None, error=None)
        await second.settle_purge(purge("failed"), retry_us=START_US + 5, error="why")
        assert disk.unsynced == (0 if synced else 4)
        disk.lose_power()

        third = SimulatedStorage(disk)
        await third.open()
        found = [await third.find_claim("s", "send_message", key) for key in ("old", "young")]
        purges = await third.load_purges(START_US + 5, 9)
        if synced:
            assert found == [None, young]
            assert [(one.provider_session_id, one.attempts) for one in purges] == [("failed", 1)]
        else:
            assert found == [claim("old"), None]
            assert list(purges) == [purge("done"), purge("failed")]

    simulate(main, backend=backend, seed=1)


@both
def test_closing_syncs(backend: Backend) -> None:
    async def main() -> None:
        disk = SimulatedDisk()
        storage = SimulatedStorage(disk, synced=False)
        async with create_session_manager(storage) as manager:
            await manager.create_session("ada", "mock", "m", session_id="s")
            assert disk.unsynced == 1
        assert disk.unsynced == 0
        disk.lose_power()
        assert len(disk.writes) == 1

    simulate(main, backend=backend, seed=1)


@both
def test_latency_is_virtual_time_there_and_back(backend: Backend) -> None:
    async def main() -> None:
        storage = SimulatedStorage(SimulatedDisk(latency_seconds=3600.0))
        await storage.open()
        begun = anyio.current_time()
        await storage.load(["s"])
        assert anyio.current_time() - begun == 7200.0

    simulate(main, backend=backend, seed=1)


@both
def test_what_a_runtime_must_not_do_is_noticed(backend: Backend) -> None:
    async def main() -> list[str]:
        disk = SimulatedDisk()
        await talk(SimulatedStorage(disk), SendRecorder())
        storage = SimulatedStorage(disk)
        await storage.open()
        async with anyio.create_task_group() as group:
            group.start_soon(storage.commit, disk.writes[-1:])
            group.start_soon(storage.commit, disk.writes[-2:])
        return disk.violations

    found = simulate(main, backend=backend, seed=1).value
    assert sorted(found) == ["a batch holds a session twice: ['s', 's']", "two commits at once"]


@both
def test_it_is_closed_until_it_is_opened(backend: Backend) -> None:
    async def main() -> None:
        storage = SimulatedStorage(SimulatedDisk())
        for _ in range(2):
            assert not storage.health().is_open
            with pytest.raises(StorageError) as caught:
                await storage.list_sessions(SessionQuery(user_id="ada", limit=1))
            assert caught.value.code == "closed"
            await storage.open()
            assert storage.health().is_open
            page = await storage.list_sessions(SessionQuery(user_id="ada", limit=1))
            assert page == SessionPage()
            await storage.close()

    simulate(main, backend=backend, seed=1)


@both
def test_what_was_done_is_done_once_however_often_it_is_opened(backend: Backend) -> None:
    """Also where nothing is left of it: the disk of erased sessions is no empty disk."""

    async def main() -> list[int]:
        disk = SimulatedDisk()
        counts: list[int] = []
        for end in (disk.lose_power, lambda: None, disk.lose_power, lambda: None):
            storage = SimulatedStorage(disk)
            await storage.open()
            if not counts:
                stored = await use(storage, "s", usage(sessions=1))
                await storage.commit([change(stored, erases=True)])
            counts += [one.sessions for one in await days_of(storage)]
            await storage.close()
            end()
        return counts

    assert simulate(main, backend=backend, seed=1).value == [1, 1, 1, 1]


@pytest.mark.parametrize(("when", "commit"), [("bfore", 1), ("in", 0), ("after", -1)])
def test_a_crash_at_no_moment_is_refused(when: Any, commit: int) -> None:
    with pytest.raises(ValueError, match=r"when='bfore'|commit=\S+: commits are counted from 1"):
        Crash(when, commit)


@both
def test_the_disk_tells_whether_a_crash_has_happened(backend: Backend) -> None:
    async def main(commit: int) -> bool:
        disk = SimulatedDisk()
        storage = SimulatedStorage(disk, crash=Crash("before", commit))
        await storage.open()
        with suppress(StorageError):
            await storage.commit([])
        return disk.crashed

    assert simulate(partial(main, 1), backend=backend, seed=1).value
    assert not simulate(partial(main, 2), backend=backend, seed=1).value
