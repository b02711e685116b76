"""G3, G4, G5: a storage that fails, lies or forgets never makes an acknowledged write vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.errors import ProviderError, SessionError

from .faults import LOST, STORED, Faulty, raises_after, raises_before, unknown_lost, unknown_stored
from .helpers import (
    Echo,
    Store,
    answer_to,
    assert_turns,
    contents,
    new_session,
    on_a_virtual_clock,
    outcome,
    outcomes,
    supervisor_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session import Session
    from langswarm.core.session.actors.model import SessionWrite, StoredSession
    from langswarm.core.session.actors.ports import WriteOutcome

    from .faults import Commit, Fault


def named(fault: Fault) -> str:
    return getattr(fault, "__name__", "fault")


@pytest.mark.parametrize("fault", LOST, ids=named)
async def test_g3_a_failed_opening_commit_stores_nothing_and_asks_nobody(
    store: Store, fault: Fault
) -> None:
    """G3: the caller gets a StorageError, the provider is not paid, the next send works."""
    storage, provider = Faulty(store.storage()), Echo()
    async with create_session_manager(storage, providers={"openai": provider}) as manager:
        session = await new_session(manager)
        storage.faults = [fault]
        error = await outcome(session.submit("lost"))
        assert isinstance(error, StorageError)
        assert error.outcome == "failed"
        assert await session.get_messages() == []
        await session.send_message("fine")
        assert_turns(await session.get_messages(), ["fine"])
    assert provider.prompts() == [["fine"]]


@pytest.mark.parametrize("fault", STORED, ids=named)
async def test_g3_a_commit_of_unknown_outcome_is_read_back_and_goes_on(
    store: Store, fault: Fault
) -> None:
    """G3: what was stored after all is found behind the writer, and the turn goes on with it."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        for place in range(2):
            storage.faults = [None] * place + [fault]
            answer = await session.send_message(f"{place}")
            assert answer.content == answer_to(f"{place}")
        storage.faults = [fault]
        await session.update_context(a=1)
        storage.faults = [fault]
        other = await new_session(manager)
        await other.send_message("one")
        assert_turns(await session.get_messages(), ["0", "1"])
        assert (await session.get_context()).version == 1
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.storage.resolved_unknown >= 4
        assert statistics.supervisor.restarts == 0


@pytest.mark.parametrize("fault", LOST, ids=named)
async def test_g5_a_failed_closing_commit_leaves_an_interrupted_turn_and_a_usable_session(
    store: Store, fault: Fault
) -> None:
    """G5: never acknowledged; the open turn is closed before the next message runs.

    The fault outlasts the two further tries that an answer is worth.
    """
    storage, provider = Faulty(store.storage()), Echo()
    async with create_session_manager(storage, providers={"openai": provider}) as manager:
        session = await new_session(manager)
        storage.faults = [None, fault, fault, fault]
        first, second = session.submit("one"), session.submit("two")
        assert isinstance(await outcome(first), StorageError)
        assert (await outcome(second)).content == "answer to two"
        assert await contents(session) == ["one", "two", "answer to two"]
        metrics = await session.get_metrics()
        assert (metrics.interrupted_turns, metrics.completed_turns) == (1, 1)
        assert [m.seq for m in await session.get_messages()] == [1, 2, 3]


@pytest.mark.parametrize("fault", LOST, ids=named)
async def test_g3_an_answer_survives_a_passing_fault_of_its_commit(
    store: Store, fault: Fault
) -> None:
    """G3: the answer is there and paid for; a clean, retryable failure is tried again."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        storage.faults = [None, fault]
        assert (await session.send_message("one")).content == "answer to one"
        assert_turns(await session.get_messages(), ["one"])


async def test_g3_what_cannot_be_known_is_said_to_be_unknown(store: Store) -> None:
    """G3: where reading back fails too, outcome is `unknown`, and the session loads again."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        for fault, text in ((unknown_stored, "stored"), (unknown_lost, "lost")):
            storage.faults, storage.read_back_error = [fault], ValueError("planted")
            error = await outcome(session.submit(text))
            assert isinstance(error, StorageError)
            assert error.outcome == "unknown"
            storage.read_back_error = None
            await session.send_message(f"after {text}")
        assert await contents(session) == [
            "stored",
            "after stored",
            answer_to("after stored"),
            "after lost",
            answer_to("after lost"),
        ]


async def test_g3_one_bad_write_of_a_batch_fails_alone(store: Store) -> None:
    """G3: the outcome of each write is its own: neighbours in the batch are acknowledged."""

    async def one_fails(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        victims = [w for w in writes if w.after.record.session_id == "victim"]
        good = [w for w in writes if w not in victims]
        outcomes = iter(await commit(good))
        failure = StorageError("planted", code="io")
        return [failure if w in victims else next(outcomes) for w in writes]

    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        victim = await new_session(manager, session_id="victim")
        others = [await new_session(manager) for _ in range(9)]
        storage.faults = [one_fails] * 50
        results: dict[str, Any] = {}

        async def send(name: str, ticket: Any) -> None:
            results[name] = await outcome(ticket)

        async with anyio.create_task_group() as group:
            for number, session in enumerate([victim, *others]):
                group.start_soon(send, f"{number}", session.submit("one"))
        assert isinstance(results.pop("0"), StorageError)
        assert {result.content for result in results.values()} == {"answer to one"}
        storage.faults = []
        assert await victim.get_messages() == []
        await victim.send_message("two")
        assert_turns(await victim.get_messages(), ["two"])


async def test_g3_damage_in_one_session_leaves_no_other_of_its_batch_in_doubt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G3: each is read back alone then; only for the damaged one the outcome is unknown."""
    storage = Faulty(store.storage())

    async def read_back(ids: Sequence[str]) -> Sequence[StoredSession | None]:
        if "victim" in ids:
            raise StorageError("planted: damaged", code="corrupt")
        return await storage.inner.read_back(ids)

    monkeypatch.setattr(storage, "read_back", read_back)
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        names = ["victim", *(f"s{number}" for number in range(5))]
        sessions = [await new_session(manager, session_id=name) for name in names]
        storage.faults = [raises_after] * 3
        results: dict[str, Any] = {}

        async def update(session: Session) -> None:
            try:
                await session.update_context(a=1)
                results[session.session_id] = "stored"
            except StorageError as error:
                results[session.session_id] = error.outcome

        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(update, session)
        assert storage.faults, "they came in one batch or two"
        assert results == dict.fromkeys(names, "stored") | {"victim": "unknown"}


async def test_g3_whatever_fails_at_random_nothing_acknowledged_is_lost(store: Store) -> None:
    """G3, G4: every commit in turn meets another fault; what was answered is there, once."""
    storage = Faulty(store.storage())
    faults = [None, *LOST, None, *STORED, None]
    async with create_session_manager(
        storage, providers={"openai": Echo()}, max_restarts=1000
    ) as manager:
        sessions = [await new_session(manager, session_id=f"s{n}") for n in range(5)]
        storage.faults = faults * 8
        acknowledged: dict[str, list[str]] = {session.session_id: [] for session in sessions}

        async def talk(number: int) -> None:
            session = sessions[number]
            for turn in range(12):
                answer = await outcome(session.submit(f"{number} {turn}"))
                if not isinstance(answer, SessionError):
                    acknowledged[session.session_id].append(f"{number} {turn}")

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(talk, number)
    storage.faults = []
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        for session_id, texts in acknowledged.items():
            session = await manager.get_session(session_id)
            messages = await session.get_messages()
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
            answered = [m.content for m in messages if m.role == "assistant"]
            assert [text for text in answered if text in map(answer_to, texts)] == [
                answer_to(text) for text in texts
            ]
            assert len(answered) == len(set(answered))
            metrics = await session.get_metrics()
            assert metrics.total_messages == len(messages)
            await session.send_message("still alive")


@on_a_virtual_clock
async def test_g15_a_storage_that_is_slow_is_not_taken_for_a_guest_that_hangs() -> None:
    """G15: only guests are abandoned; a commit that takes an hour is waited for."""

    async def slow(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        await anyio.sleep(3600)
        return await commit(writes)

    storage = Faulty(InMemorySessionStorage())
    async with create_session_manager(
        storage,
        providers={"openai": Echo()},
        turn_timeout_seconds=60,
        cancel_grace_seconds=5,
    ) as manager:
        session = await new_session(manager)
        storage.faults = [slow]
        first, second = session.submit("one"), session.submit("two")
        with pytest.raises(ProviderError):  # the time was used up by the storage
            await first
        assert (await second).content == "answer to two"
        storage.faults = [None, slow]
        assert (await session.send_message("three")).content == "answer to three"
        assert anyio.current_time() == pytest.approx(7200)
        statistics = supervisor_of(manager).statistics()
        assert (statistics.abandoned_turns, statistics.quarantines) == (0, 0)
        assert [(m.seq, m.content, m.finish_reason) for m in await session.get_messages()] == [
            (1, "one", "failed"),
            (2, "two", None),
            (3, "answer to two", "stop"),
            (4, "three", None),
            (5, "answer to three", "stop"),
        ]


async def test_loading_that_fails_is_a_typed_error_and_may_be_tried_again(store: Store) -> None:
    """G3: a session that cannot be loaded now is neither lost nor taken for new."""
    storage = Faulty(store.storage())
    async with create_session_manager(
        storage, providers={"openai": Echo()}, idle_seconds=0.0
    ) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        for load_error in (StorageError("planted", code="busy"), ValueError("planted")):
            storage.load_error = load_error
            results = await outcomes([session.submit("no"), session.submit("no")])
            assert all(isinstance(result, StorageError) for result in results)
            assert isinstance(await outcome(session.update_context(no=1)), StorageError)
            storage.load_error = None
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])


async def test_a_history_that_cannot_be_read_fails_the_turn_and_not_the_session(
    store: Store,
) -> None:
    """G15: reading the window fails in mid-turn: the turn is closed as failed."""
    storage = Faulty(store.storage())
    async with create_session_manager(
        storage, providers={"openai": Echo()}, idle_seconds=0.0
    ) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        for read_error in (StorageError("planted", code="io"), ValueError("planted")):
            storage.read_error = read_error
            assert isinstance(await outcome(session.submit("no")), SessionError)
            assert isinstance(await outcome(_read(session)), StorageError)
            storage.read_error = None
        await session.send_message("two")
        assert (await contents(session))[-2:] == ["two", "answer to two"]


async def _read(session: Any) -> Any:
    return await session.get_messages()


async def test_g3_a_creation_that_failed_left_its_id_free(store: Store) -> None:
    """G3: an unacknowledged creation is no session, and what is queued behind it is told."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        storage.faults = [raises_before]
        with pytest.raises(StorageError):
            await new_session(manager, session_id="mine")
        with pytest.raises(LookupError):
            await manager.get_session("mine")
        session = await new_session(manager, session_id="mine")
        await session.send_message("one")
        assert_turns(await session.get_messages(), ["one"])
        statistics = supervisor_of(manager).statistics()
        assert statistics.live == 1


async def test_g3_an_archive_that_failed_did_not_happen(store: Store) -> None:
    """G8: the status that a handle shows is the stored one."""
    storage = Faulty(store.storage())
    async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
        session = await new_session(manager)
        storage.faults = [raises_before]
        with pytest.raises(StorageError):
            await session.archive()
        assert session.status == "active"
        await session.send_message("one")
        await session.archive()
        assert session.status == "archived"
