"""One operation on many sessions: one result each, in order; one that fails harms no other."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    InvalidMessageError,
    ISessionMiddleware,
    RuntimeClosedError,
    SessionArchivedError,
    SessionContext,
    SessionManager,
    SessionMessage,
    SessionNotFoundError,
    create_session_manager,
)
from langswarm.core.session.errors import MailboxFullError, ReentrantCallError, StorageError

from .helpers import PATIENCE_SECONDS, Echo, Store, new_session, outcome, settle, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.interfaces import BatchResult


def told(results: list[BatchResult]) -> list[tuple[str, str]]:
    return [
        (result.session_id, "done" if result.ok else type(result.error).__name__)
        for result in results
    ]


async def test_one_result_each_in_the_order_of_the_ids(store: Store) -> None:
    """Unknown and deleted ids fail alone; an id given twice is done once and told twice."""
    async with store.manager(Echo()) as manager:
        for name in "abcd":
            await new_session(manager, session_id=name)
        await (await manager.get_session("c")).delete()
        results = await manager.archive_sessions(["d", "nope", "a", "c", "d"])
        assert told(results) == [
            ("d", "done"),
            ("nope", "SessionNotFoundError"),
            ("a", "done"),
            ("c", "SessionNotFoundError"),
            ("d", "done"),
        ]
        assert [session.session_id for session in await manager.search_sessions(status="archived")]
        assert told(await manager.archive_sessions(["a"])) == [("a", "done")]  # it is archived
        assert await manager.archive_sessions([]) == []
        assert told(await manager.archive_sessions(name for name in "b")) == [("b", "done")]


async def test_what_was_done_is_stored(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        for name in "abc":
            await new_session(manager, session_id=name, session_config={"name": name})
        changes = {"tags": ["batch"], "name": None}
        assert told(await manager.update_sessions(["a", "b"], changes)) == [
            ("a", "done"),
            ("b", "done"),
        ]
        assert told(await manager.delete_sessions(["c", "b"])) == [("c", "done"), ("b", "done")]
        assert told(await manager.delete_sessions(["c"])) == [("c", "SessionNotFoundError")]
    async with store.manager(Echo()) as manager:
        [left] = await manager.search_sessions(tags=["batch"])
        assert left.session_id == "a"
        assert await left.get_config() == {"tags": ["batch"]}


async def test_handles_show_what_a_batch_did(store: Store) -> None:
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager, session_id="s")
        await manager.archive_sessions(["s"])
        assert session.status == "archived"
        [result] = await manager.update_sessions(["s"], {"name": "x"})
        assert isinstance(result.error, SessionArchivedError)
        assert result.error.__traceback__ is None
        await manager.delete_sessions(["s"])
        with pytest.raises(SessionNotFoundError):
            await session.get_messages()


async def test_with_an_owner_sessions_of_others_are_not_found_nor_touched(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        await new_session(manager, "ada", session_id="a")
        foreign = await new_session(manager, "bob", session_id="b")
        await foreign.update_context({"k": 1})
        revision = foreign._record.revision
        for results in (
            await manager.update_sessions(["b", "a", "?"], {"name": "x"}, user_id="ada"),
            await manager.archive_sessions(["b", "a", "?"], user_id="ada"),
            await manager.delete_sessions(["b", "a", "?"], user_id="ada"),
        ):
            assert [result.ok for result in results] == [False, True, False]
            theirs, unknown = str(results[0].error), str(results[2].error)
            assert theirs.replace("'b'", "ID") == unknown.replace("'?'", "ID")
        await foreign.refresh()
        assert (foreign.status, foreign._record.revision) == ("active", revision)


async def test_all_are_committed_together() -> None:
    """Many sessions share few commits: they are not done one after the other."""
    storage = InMemorySessionStorage()
    async with create_session_manager(storage) as manager:
        names = [(await manager.create_session("u", "mock", "m")).session_id for _ in range(200)]
        for name in names:
            supervisor_of(manager).evict(name)
        before = storage.statistics()
        assert all(result.ok for result in await manager.archive_sessions(names))
        after = storage.statistics()
        assert after.writes - before.writes == 200
        assert after.batches - before.batches <= 20


@pytest.mark.parametrize("ids", ["abc", b"abc", 5, None, [5], [""], ["x" * 501], ["a\ud800"]])
async def test_ids_that_are_none_are_refused_and_nothing_is_done(ids: object) -> None:
    async with create_session_manager(page_size=3) as manager:
        session = await manager.create_session("u", "mock", "m", session_id="a")
        good: object = ["a", *cast("list[object]", ids)] if isinstance(ids, list) else ids
        with pytest.raises(InvalidMessageError):
            await manager.archive_sessions(good)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessageError, match="page_size"):
            await manager.archive_sessions(["a"] * 4)
        with pytest.raises(InvalidMessageError, match="page_size"):
            await manager.archive_sessions(repeat("a"))  # it has no end
        with pytest.raises(InvalidMessageError):
            await manager.archive_sessions(["a"], user_id="")
        with pytest.raises(ConfigurationError, match="did you mean 'tags'"):
            await manager.update_sessions(["a"], {"tag": []})
        with pytest.raises(ConfigurationError):
            await manager.update_sessions(["a"], "name")  # type: ignore[arg-type]
        assert session.status == "active"
        assert session._record.revision == 1


async def test_a_running_turn_is_waited_for_and_holds_up_only_its_result(store: Store) -> None:
    provider = Echo()
    gate = provider.hold("slow")
    async with store.manager(provider) as manager:
        for name in ("s", "other"):
            await new_session(manager, session_id=name)
        session = await manager.get_session("s")
        ticket = session.submit("slow")
        await gate.reached()
        results: list[BatchResult] = []

        async def archive() -> None:
            results.extend(await manager.archive_sessions(["s", "other"]))

        async with anyio.create_task_group() as group:
            group.start_soon(archive)
            other = await manager.get_session("other")
            with anyio.fail_after(PATIENCE_SECONDS):
                while other.status == "active":
                    await settle()
            assert session.status == "active"
            assert not results
            gate.open()
        assert told(results) == [("s", "done"), ("other", "done")]
        assert (await outcome(ticket)).content == "answer to slow"


async def test_a_cancelled_caller_takes_along_what_has_not_begun(store: Store) -> None:
    """Each session is done or not at all, and none of them later (G9)."""
    provider = Echo()
    gates = [provider.hold(text) for text in ("one", "two")]
    async with store.manager(provider) as manager:
        sessions = [await new_session(manager, session_id=name) for name in ("a", "b", "free")]
        tickets = [sessions[0].submit("one"), sessions[1].submit("two")]
        for gate in gates:
            await gate.reached()
        async with anyio.create_task_group() as group:
            group.start_soon(manager.archive_sessions, ["a", "b", "free"])
            with anyio.fail_after(PATIENCE_SECONDS):
                while sessions[2].status == "active":
                    await settle()
            group.cancel_scope.cancel()
        for gate in gates:
            gate.open()
        for ticket in tickets:
            await outcome(ticket)
        await settle()
        assert [session.status for session in sessions] == ["active", "active", "archived"]
        await sessions[0].send_message("goes on")


async def test_overload_of_one_session_is_its_own(store: Store) -> None:
    provider = Echo()
    gate = provider.hold("slow")
    async with store.manager(provider, mailbox_size=1) as manager:
        for name in ("full", "free"):
            await new_session(manager, session_id=name)
        session = await manager.get_session("full")
        _ = session.submit("slow")
        await gate.reached()
        behind = session.submit("behind")
        results = await manager.archive_sessions(["full", "free"])
        assert isinstance(results[0].error, MailboxFullError)
        assert results[1].ok
        gate.open()
        await outcome(behind)


class Broken(InMemorySessionStorage):
    """Cannot store what concerns one session."""

    broken = ""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        bad = [write.after.record.session_id == self.broken for write in writes]
        good = iter(await super().commit([w for w, b in zip(writes, bad, strict=True) if not b]))
        error = StorageError("planted", code="full")
        return [error if is_bad else next(good) for is_bad in bad]


async def test_a_write_that_fails_fails_alone() -> None:
    storage = Broken()
    async with create_session_manager(storage) as manager:
        for name in "abc":
            await manager.create_session("u", "mock", "m", session_id=name)
        storage.broken = "b"
        results = await manager.archive_sessions(["b", "a", "c"])
        assert told(results) == [("b", "StorageError"), ("a", "done"), ("c", "done")]
        storage.broken = ""
        assert [result.ok for result in await manager.archive_sessions(["b"])] == [True]


async def test_after_the_end_nothing_is_done() -> None:
    manager = create_session_manager()
    async with manager:
        await manager.create_session("u", "mock", "m", session_id="a")
    with pytest.raises(RuntimeClosedError):
        await manager.archive_sessions(["a"])


class Archiving(ISessionMiddleware):
    """Archives the session whose turn it is in, and waits for it."""

    manager: SessionManager
    results: list[BatchResult]

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role == "user":
            self.results = await self.manager.archive_sessions([session_id, "other"])
        return message


async def test_a_guest_that_names_its_own_session_is_told_and_does_not_hang(store: Store) -> None:
    middleware = Archiving()
    async with store.manager(Echo(), middleware=[middleware]) as manager:
        middleware.manager = manager
        await new_session(manager, session_id="other")
        session = await new_session(manager, session_id="s")
        with anyio.fail_after(PATIENCE_SECONDS):
            await session.send_message("Hello")
        assert isinstance(middleware.results[0].error, ReentrantCallError)
        assert middleware.results[1].ok
        assert session.status == "active"
