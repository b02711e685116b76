"""Each planned fault does what its name says, and stays within the port."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.actors.model import Committed, MessageQuery, SessionQuery, UsageQuery
from langswarm.core.session.testing import Backend, Fault, FaultyStorage, simulate
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    claim,
    commit,
    contents,
    create,
    days_of,
    message,
    new,
    purge,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STORED = {Fault.LOST_AFTER, Fault.RAISES_AFTER, Fault.SHORT, Fault.SLOW}
NOT_STORED = {Fault.FAILS, Fault.FULL, Fault.LOST_BEFORE, Fault.RAISES_BEFORE}


@pytest.fixture
async def storage() -> FaultyStorage:
    storage = FaultyStorage(InMemorySessionStorage(), slow_seconds=0.001)
    await storage.open()
    return storage


async def attempt(storage: FaultyStorage, *names: str) -> list[object]:
    """What a commit of new sessions says: outcomes, or what it raised."""
    try:
        return list(await storage.commit([new(name) for name in names]))
    except Exception as error:  # noqa: BLE001 - any kind is wanted
        return [error]


async def there(storage: FaultyStorage, *names: str) -> list[bool]:
    return [stored is not None for stored in await storage.read_back(names)]


class TestACommit:
    @pytest.mark.parametrize("fault", NOT_STORED, ids=str)
    async def test_that_failed_leaves_nothing_and_can_be_repeated(
        self, storage: FaultyStorage, fault: Fault
    ) -> None:
        storage.fail("commit", fault)
        [said] = await attempt(storage, "a", "b")
        assert isinstance(said, Exception)
        assert await there(storage, "a", "b") == [False, False]
        assert await attempt(storage, "a", "b") == [Committed(1), Committed(2)]

    @pytest.mark.parametrize("fault", STORED, ids=str)
    async def test_whose_answer_is_lost_is_found_by_reading_back(
        self, storage: FaultyStorage, fault: Fault
    ) -> None:
        storage.fail("commit", fault)
        await attempt(storage, "a", "b")
        assert await there(storage, "a", "b") == [True, True]

    @pytest.mark.parametrize(
        ("fault", "code", "outcome"),
        [
            (Fault.FAILS, "io", "failed"),
            (Fault.FULL, "full", "failed"),
            (Fault.LOST_BEFORE, "unknown", "unknown"),
            (Fault.LOST_AFTER, "unknown", "unknown"),
        ],
    )
    async def test_says_what_is_known(
        self, storage: FaultyStorage, fault: Fault, code: str, outcome: str
    ) -> None:
        storage.fail("commit", fault)
        [said] = await attempt(storage, "a")
        assert isinstance(said, StorageError)
        assert (said.code, said.outcome) == (code, outcome)

    @pytest.mark.parametrize("fault", [Fault.RAISES_BEFORE, Fault.RAISES_AFTER])
    async def test_can_raise_what_is_no_storage_error(
        self, storage: FaultyStorage, fault: Fault
    ) -> None:
        storage.fail("commit", fault)
        [said] = await attempt(storage, "a")
        assert type(said) is RuntimeError

    async def test_can_lose_one_write_alone(self, storage: FaultyStorage) -> None:
        storage.fail("commit", Fault.ONE_FAILS)
        first, second, third = await attempt(storage, "a", "b", "c")
        assert isinstance(first, StorageError)
        assert first.outcome == "failed"
        assert [second, third] == [Committed(1), Committed(2)]
        assert await there(storage, "a", "b", "c") == [False, True, True]

    async def test_can_answer_with_one_outcome_too_few(self, storage: FaultyStorage) -> None:
        storage.fail("commit", Fault.SHORT)
        assert await attempt(storage, "a", "b") == [Committed(1)]


class TestASweepASettlingOrAnErasure:
    @pytest.mark.parametrize(
        "fault", [Fault.FULL, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.RAISES_AFTER], ids=str
    )
    async def test_is_done_or_not_as_the_fault_says(
        self, storage: FaultyStorage, fault: Fault
    ) -> None:
        write = change(await create(storage), claim=claim(), purges=(purge(),), usage=usage())
        await commit(storage, write)
        for method in ("sweep_claims", "settle_purge", "erase_user"):
            storage.fail(method, fault)
        with pytest.raises((StorageError, RuntimeError), match="planned"):
            await storage.sweep_claims(START_US + 1, 9)
        with pytest.raises((StorageError, RuntimeError), match="planned"):
            await storage.settle_purge(purge(), retry_us=None, error=None)
        with pytest.raises((StorageError, RuntimeError), match="planned"):
            await storage.erase_user("ann")
        is_there = (
            await storage.find_claim("s", "send_message", "k") is not None,
            len(await storage.load_purges(START_US, 9)) == 1,
            len(await days_of(storage)) == 1,
        )
        assert is_there == (fault in NOT_STORED,) * 3


READS: dict[str, Callable[[FaultyStorage], Awaitable[object]]] = {
    "open": lambda storage: storage.open(),
    "load": lambda storage: storage.load(["s"]),
    "read_back": lambda storage: storage.read_back(["s"]),
    "load_unfinished": lambda storage: storage.load_unfinished(1),
    "read_messages": lambda storage: storage.read_messages(1, MessageQuery()),
    "list_sessions": lambda storage: storage.list_sessions(SessionQuery(user_id="ann", limit=1)),
    "read_usage": lambda storage: storage.read_usage(UsageQuery(first_day=1, last_day=2)),
    "erase_user": lambda storage: storage.erase_user("ann"),
    "read_turn": lambda storage: storage.read_turn(1, 1),
    "find_claim": lambda storage: storage.find_claim("s", "send_message", "k"),
    "sweep_claims": lambda storage: storage.sweep_claims(START_US, 1),
    "load_purges": lambda storage: storage.load_purges(START_US, 1),
    "settle_purge": lambda storage: storage.settle_purge(purge(), retry_us=None, error=None),
    "optimize": lambda storage: storage.optimize(),
    "verify": lambda storage: storage.verify(),
    "close": lambda storage: storage.close(),
}


class TestEveryOtherCall:
    @pytest.mark.parametrize("method", READS)
    async def test_fails_once_and_then_works(self, storage: FaultyStorage, method: str) -> None:
        await create(storage)
        storage.fail(method, Fault.FAILS)
        storage.fail(method, Fault.RAISES_BEFORE, call=2)
        with pytest.raises(StorageError) as caught:
            await READS[method](storage)
        assert (caught.value.code, caught.value.outcome) == ("io", "failed")
        with pytest.raises(RuntimeError):
            await READS[method](storage)
        await READS[method](storage)
        assert storage.planned == 0

    async def test_can_answer_with_one_session_too_few(self, storage: FaultyStorage) -> None:
        stored = await create(storage, "a")
        for method in (storage.load, storage.read_back):
            storage.fail(method.__name__, Fault.SHORT)
            assert await method(["a", "b"]) == [stored]
            assert await method(["a", "b"]) == [stored, None]


class TestThePlan:
    async def test_counts_calls_from_now(self, storage: FaultyStorage) -> None:
        await attempt(storage, "before")
        storage.fail("commit", Fault.FULL, call=2)
        assert await attempt(storage, "first") == [Committed(2)]
        assert storage.planned == 1
        [said] = await attempt(storage, "second")
        assert isinstance(said, StorageError)
        assert (storage.planned, storage.calls("commit")) == (0, 3)

    @pytest.mark.parametrize(
        ("method", "fault", "call"),
        [
            ("comit", Fault.FAILS, 1),
            ("load", Fault.LOST_AFTER, 1),
            ("commit", Fault.FAILS, 0),
            ("commit", Fault.FAILS, 7),
        ],
    )
    async def test_that_cannot_be_is_refused(
        self, storage: FaultyStorage, method: str, fault: Fault, call: int
    ) -> None:
        storage.fail("commit", Fault.FULL, call=7)
        with pytest.raises(ValueError, match=r"no faults for|cannot have|is over"):
            storage.fail(method, fault, call=call)

    async def test_takes_a_fault_by_its_value(self, storage: FaultyStorage) -> None:
        storage.fail("commit", cast("Fault", "full"))
        [said] = await attempt(storage, "a")
        assert isinstance(said, StorageError)
        assert said.code == "full"
        with pytest.raises(ValueError, match="ful"):
            storage.fail("commit", cast("Fault", "ful"))


@pytest.mark.parametrize("fault", [Fault.FAILS, Fault.RAISES_BEFORE], ids=str)
async def test_a_close_that_fails_has_closed(storage: FaultyStorage, fault: Fault) -> None:
    """Nobody closes twice, so what it holds would be held for ever."""
    storage.fail("close", fault)
    with pytest.raises((StorageError, RuntimeError), match="planned"):
        await storage.close()
    assert not storage.inner.health().is_open


class TestASlowCommit:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_takes_virtual_time_and_reading_back_and_closing_wait(self, backend: Backend) -> None:
        storage = FaultyStorage(InMemorySessionStorage(), slow_seconds=3600)
        order: list[str] = []

        async def note(name: str, call: Awaitable[object]) -> None:
            await call
            order.append(name)

        async def main() -> list[bool]:
            await storage.open()
            storage.fail("commit", Fault.SLOW)
            async with anyio.create_task_group() as group:
                group.start_soon(note, "commit", attempt(storage, "a"))
                await anyio.sleep(1)
                group.start_soon(note, "read_back", storage.read_back(["a"]))
                await anyio.sleep(1)
                group.start_soon(note, "close", storage.close())
            await storage.open()
            return await there(storage, "a")

        result = simulate(main, backend=backend, seed=None)
        assert result.value == [True]
        assert result.virtual_seconds == 3600
        assert order == ["commit", "read_back", "close"]

    async def test_that_is_cancelled_is_not_stored(self, storage: FaultyStorage) -> None:
        storage.slow_seconds = 3600
        storage.fail("commit", Fault.SLOW)
        with anyio.move_on_after(0.001):
            await attempt(storage, "a")
        assert await there(storage, "a") == [False]


@pytest.mark.parametrize("fault", Fault, ids=str)
async def test_a_session_lives_through_every_fault_of_its_commits(fault: Fault) -> None:
    """The runtime's answer tells the truth, and the session goes on."""
    storage = FaultyStorage(InMemorySessionStorage(), slow_seconds=0.001)
    async with create_session_manager(storage) as manager:
        session = await manager.create_session("ada", "mock", "mock-model")
        storage.fail("commit", fault)
        outcome = "committed"
        try:
            await session.send_message("first")
        except StorageError as error:
            outcome = error.outcome
        assert outcome == ("committed" if fault in STORED else "failed")
        await session.send_message("second")
        found = [one.content for one in await session.get_messages() if one.role == "user"]
        assert found == (["first", "second"] if fault in STORED else ["second"])
        assert storage.planned == 0


async def test_everything_else_is_passed_on(storage: FaultyStorage) -> None:
    stored = await create(storage)
    await storage.commit([change(stored, message(1))])
    assert await contents(storage, stored.record.key) == ["text 1"]
    assert storage.health() == storage.inner.health()
