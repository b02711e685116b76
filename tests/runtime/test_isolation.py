"""One user's view of a manager: nothing of others is seen, changed or found out.

Foreign, deleted and unknown ids are refused with the same words after the same work; ids cannot be
guessed.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    InvalidMessageError,
    Session,
    SessionNotFoundError,
    create_session_manager,
)
from langswarm.core.session.interfaces import BatchResult, UserSessions
from langswarm.core.session.runtime.manager import Manager

from .helpers import PATIENCE_SECONDS, Echo, Store, contents, new_session, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import StoredSession

SECRET = "bob's secret"


async def _create(view: UserSessions, _: str) -> Session:
    return await view.create_session("mock", "m", session_config={"tags": ["secret"]})


async def _import(view: UserSessions, _: str) -> Session:
    session = await view.create_session("mock", "m")
    return await view.import_conversation(await session.export_conversation())


async def _next_event(view: UserSessions, session_id: str) -> object:
    events = view.session_events(session_id=session_id)
    with anyio.move_on_after(0):
        return await anext(events)
    return None


CALLS: dict[str, Callable[[UserSessions, str], Awaitable[Any]]] = {
    "archive_sessions": lambda view, name: view.archive_sessions([name]),
    "create_session": _create,
    "delete_sessions": lambda view, name: view.delete_sessions([name]),
    "erase_user": lambda view, _: view.erase_user(),
    "get_analytics": lambda view, _: view.get_analytics(),
    "get_session": lambda view, name: view.get_session(name),
    "get_user_sessions": lambda view, _: view.get_user_sessions(),
    "import_conversation": _import,
    "search_sessions": lambda view, _: view.search_sessions(text="secret"),
    "session_events": _next_event,
    "update_sessions": lambda view, name: view.update_sessions([name], {"name": "mine"}),
}
"""Every method of the view, called with the id of a session."""

MAKES_SESSIONS = {"create_session": 1, "import_conversation": 2}
TAKES_IDS = ("archive_sessions", "delete_sessions", "get_session", "update_sessions")


def test_every_method_of_the_view_is_tried() -> None:
    """A new one is missed here; and each has the manager's name and its other parameters."""
    methods = {
        name
        for name in dir(UserSessions)
        if not name.startswith("_") and inspect.isfunction(getattr(UserSessions, name))
    }
    assert methods == set(CALLS)
    for name in methods:
        mine = list(inspect.signature(getattr(UserSessions, name)).parameters)
        theirs = list(inspect.signature(getattr(Manager, name)).parameters)
        not_taken = {"user_id", "session_id"} if name in MAKES_SESSIONS else {"user_id"}
        assert mine == [parameter for parameter in theirs if parameter not in not_taken], name


async def bobs(manager: SessionManager) -> Session:
    session = await new_session(
        manager, "bob", session_config={"tags": ["secret"], "metadata": {"k": 1}}
    )
    await session.send_message(SECRET)
    return session


async def facts(session: Session) -> list[Any]:
    await session.refresh()
    return [session._record, await session.get_config(), await contents(session)]


def told(outcome: object, session_id: str) -> str:
    """What a caller learns of a refusal, whichever id it was of."""
    if isinstance(outcome, list):
        [result] = cast("list[BatchResult]", outcome)
        assert isinstance(result, BatchResult)
        assert result.session_id == session_id
        outcome = result.error
    assert isinstance(outcome, SessionNotFoundError)
    seen = [type(outcome), str(outcome), outcome.args, sorted(vars(outcome).items())]
    return repr([*seen, outcome.retryable]).replace(session_id, "ID")


async def refusal(call: Awaitable[Any]) -> object:
    try:
        return await call
    except SessionNotFoundError as error:
        return error


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_a_foreign_session_is_neither_seen_nor_changed(store: Store, name: str) -> None:
    async with store.manager(Echo()) as manager:
        foreign = await bobs(manager)
        before = await facts(foreign)
        outcome = await refusal(CALLS[name](manager.for_user("ada"), foreign.session_id))
        assert SECRET not in repr(outcome)
        if name in TAKES_IDS:
            told(outcome, foreign.session_id)
        elif isinstance(outcome, list):
            assert outcome == []
        assert await facts(foreign) == before
        analytics = await manager.for_user("ada").get_analytics()
        assert analytics.total_sessions == MAKES_SESSIONS.get(name, 0)


@pytest.mark.parametrize("name", TAKES_IDS)
async def test_foreign_deleted_and_unknown_ids_are_told_apart_by_nothing(
    store: Store, name: str
) -> None:
    """The same error, attribute by attribute: no id tells whether it is in use (no oracle)."""
    async with store.manager(Echo()) as manager:
        view = manager.for_user("ada")
        foreign, archived = await bobs(manager), await bobs(manager)
        await archived.archive()
        deleted, erased = await bobs(manager), await view.create_session("mock", "m")
        await deleted.delete()
        await erased.delete()
        ids = [each.session_id for each in (foreign, archived, deleted, erased)]
        ids += ["0" * 32, "x", "%", "a" * 500]
        learned = {told(await refusal(CALLS[name](view, each)), each) for each in ids}
        assert len(learned) == 1


class Counting(InMemorySessionStorage):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[list[str]] = []
        self.writes = 0

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        self.loads.append(list(session_ids))
        return await super().load(session_ids)

    async def commit(self, writes: Any) -> Any:
        self.writes += len(writes)
        return await super().commit(writes)


@attrs.define
class Work:
    """What a refusal cost."""

    loads: list[list[str]]
    writes: int
    activations: int


@pytest.mark.parametrize("name", TAKES_IDS)
async def test_a_refusal_costs_the_same_work_whatever_the_id_is_of(name: str) -> None:
    """One look into the storage each, whether the session is in memory, has handles, or is none."""
    storage = Counting()
    async with create_session_manager(storage) as manager:
        view = manager.for_user("ada")
        live = await manager.create_session("bob", "mock", "m", session_id="live")
        evicted = await manager.create_session("bob", "mock", "m", session_id="evicted")
        await manager.create_session("bob", "mock", "m", session_id="no handle")
        await manager.create_session("bob", "mock", "m", session_id="neither")
        deleted = await view.create_session("mock", "m")
        await deleted.delete()
        for each in ("evicted", "neither"):
            supervisor_of(manager).evict(each)
        for each in ("live", "evicted", "no handle", "neither", deleted.session_id, "unknown"):
            storage.loads.clear()
            before = storage.writes, supervisor_of(manager).statistics().activations
            await refusal(CALLS[name](view, each))
            after = storage.writes, supervisor_of(manager).statistics().activations
            assert storage.loads == [[each]]
            assert before == after
        del live, evicted


async def test_a_view_shows_all_that_is_its_users_own(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        await bobs(manager)
        view = manager.for_user("ada")
        session = await view.create_session(
            "openai",
            "gpt-4",
            session_config={"tags": ["ml"], "metadata": {"k": 1}},
            provider_config={"temperature": 1},
            idempotency_key="once",
        )
        again = await view.create_session(
            "openai",
            "gpt-4",
            session_config={"tags": ["ml"], "metadata": {"k": 1}},
            provider_config={"temperature": 1},
            idempotency_key="once",
        )
        assert again.session_id == session.session_id
        assert session.user_id == view.user_id == "ada"
        events = view.session_events()
        await session.send_message("my secret")
        with anyio.fail_after(PATIENCE_SECONDS):
            assert (await anext(events)).session_id == session.session_id
        mine = [session.session_id]

        def ids(sessions: list[Session]) -> list[str]:
            return [each.session_id for each in sessions]

        assert (await view.get_session(mine[0])).message_count == 2
        assert ids(await view.get_user_sessions(status="active", limit=5)) == mine
        assert ids(await view.search_sessions(text="secret")) == mine
        assert ids(await view.search_sessions(tags=["ml"], metadata={"k": 1})) == mine
        assert (await view.get_analytics()).total_turns == 1
        assert [result.ok for result in await view.update_sessions(mine, {"name": "x"})] == [True]
        assert [result.ok for result in await view.archive_sessions(mine)] == [True]
        assert [result.ok for result in await view.delete_sessions(mine)] == [True]
        assert await view.get_user_sessions() == []
        assert repr(view) == "<UserSessions 'ada'>"


async def test_a_view_makes_what_it_imports_its_users_own(store: Store) -> None:
    """And erases its user alone."""
    async with store.manager(Echo()) as manager:
        foreign = await bobs(manager)
        data = await foreign.export_conversation()
        view = manager.for_user("ada")
        mine = await view.import_conversation(data)
        assert (mine.user_id, mine.session_id == foreign.session_id) == ("ada", False)
        assert await view.erase_user() == 1
        assert await view.get_user_sessions() == []
        assert SECRET in await contents(foreign)


async def test_a_view_takes_no_cursor_of_another_user(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        for user in ("ada", "bob"):
            for _ in range(3):
                await new_session(manager, user)
        cursor = (await manager.for_user("bob").get_user_sessions(limit=1)).next_cursor
        with pytest.raises(ValueError, match="other filters"):
            await manager.for_user("ada").get_user_sessions(cursor=cursor)


@pytest.mark.parametrize("user_id", ["", " ", None, 5, "x" * 501, "a\ud800"])
async def test_a_view_needs_a_user(user_id: Any) -> None:
    async with create_session_manager() as manager:
        with pytest.raises(InvalidMessageError, match="user_id"):
            manager.for_user(user_id)


async def test_users_whose_names_are_alike_are_others(store: Store) -> None:
    """No pattern, no case, no normal form, no blank, no end of text makes two of them one."""
    names = ["ada", "Ada", "ada ", " ada", "ada\0", "ada\0x", "a%", "%", "_da", "ad*", "ａda"]
    names += ["é", "e\u0301", "user:ada", "ada'--", "ada/1"]
    async with store.manager(Echo()) as manager:
        for name in names:
            await manager.for_user(name).create_session("mock", "m", idempotency_key="k")
        for name in names:
            [session] = await manager.for_user(name).get_user_sessions()
            assert session.user_id == name
            assert (await manager.get_analytics(user_id=name)).total_sessions == 1


async def test_ids_are_128_bits_of_the_systems_randomness(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every id that the runtime makes: all of its bits come from os.urandom."""
    asked: list[int] = []
    urandom = os.urandom

    def counted(size: int) -> bytes:
        asked.append(size)
        return urandom(size)

    async with store.manager(Echo()) as manager:
        monkeypatch.setattr(os, "urandom", counted)
        session = await new_session(manager, "ada")
        mine = await manager.for_user("ada").create_session("mock", "m")
        await session.send_message("x")
        fork = await session.fork()
        made = [each.session_id for each in (session, mine, fork)]
        assert [size for size in asked if size >= 16] == [16, 16, 16]
        assert all(len(bytes.fromhex(each)) == 16 for each in made)

        def constant(size: int) -> bytes:
            return b"\xab" * size

        monkeypatch.setattr(os, "urandom", constant)
        assert (await new_session(manager)).session_id == "ab" * 16


async def test_the_id_of_a_creation_under_a_key_is_its_users_alone(store: Store) -> None:
    """The same key of another user is another session."""
    async with store.manager(Echo()) as manager:
        made = {
            (
                await manager.for_user(user).create_session("mock", "m", idempotency_key=key)
            ).session_id
            for user, key in (("ada", "k"), ("bob", "k"), ("ada", "kb"), ("adak", "b"))
        }
        assert len(made) == 4
        assert all(len(bytes.fromhex(each)) == 16 for each in made)
