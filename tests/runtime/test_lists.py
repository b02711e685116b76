"""Lists of sessions: whole, in order, once each, page by page, and bounded in what they look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    InvalidMessageError,
    SessionNotFoundError,
    create_session_manager,
)
from langswarm.core.session.interfaces import SessionList
from langswarm.core.session.runtime.session_list import MAX_PAGES

from .helpers import Echo, Store, new_session

if TYPE_CHECKING:
    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import SessionPage, SessionQuery


def ids(sessions: SessionList) -> list[str]:
    return [session.session_id for session in sessions]


async def pages(manager: SessionManager, limit: int, **filters: object) -> list[list[str]]:
    """Every page of a user's list, from the first to the last."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await manager.get_user_sessions("ada", limit=limit, cursor=cursor, **filters)  # type: ignore[arg-type]
        found.append(ids(page))
        cursor = page.next_cursor
        if cursor is None:
            return found


async def create(manager: SessionManager, count: int, user_id: str = "ada") -> list[str]:
    """Newest first, as they are listed."""
    made = [await new_session(manager, user_id, session_id=f"{user_id}{n}") for n in range(count)]
    return [session.session_id for session in reversed(made)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_pages_together_are_the_list_each_session_once(store: Store, limit: int) -> None:
    async with store.manager(Echo()) as manager:
        mine = await create(manager, 7)
        await create(manager, 3, "bob")
        found = await pages(manager, limit)
        assert [session_id for page in found for session_id in page] == mine
        assert all(len(page) == limit for page in found[:-1])


async def test_a_cursor_holds_after_a_restart_and_beside_changes(store: Store) -> None:
    """What is created meanwhile is not in what follows, what is deleted is gone, none is twice."""
    async with store.manager(Echo()) as manager:
        mine = await create(manager, 6)
        first = await manager.get_user_sessions("ada", limit=2)
        assert isinstance(first, SessionList)
        assert ids(first) == mine[:2]
    async with store.manager(Echo()) as manager:
        await new_session(manager, "ada", session_id="newer")
        await (await manager.get_session(mine[1])).delete()
        await (await manager.get_session(mine[3])).delete()
        rest = await manager.get_user_sessions("ada", cursor=first.next_cursor)
        assert ids(rest) == [mine[2], mine[4], mine[5]]
        assert rest.next_cursor is None


async def test_page_size_bounds_a_list_that_asks_for_all(store: Store) -> None:
    async with store.manager(Echo(), page_size=2) as manager:
        mine = await create(manager, 5)
        for limit in (None, 100):
            first = await manager.get_user_sessions("ada", limit=limit)
            assert ids(first) == mine[:2]
            assert first.next_cursor is not None


async def test_no_limit_at_all_lists_nothing_and_stays_where_it_was(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        await create(manager, 2)
        first = await manager.get_user_sessions("ada", limit=1)
        nothing = await manager.get_user_sessions("ada", limit=0, cursor=first.next_cursor)
        assert nothing == []
        assert nothing.next_cursor == first.next_cursor


async def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    """Another user's, other filters, made up: ConfigurationError, before anything is read."""
    async with store.manager(Echo()) as manager:
        await create(manager, 3)
        cursor = (await manager.get_user_sessions("ada", limit=1)).next_cursor
        assert cursor is not None
        with pytest.raises(ConfigurationError, match="other filters"):
            await manager.get_user_sessions("bob", cursor=cursor)
        with pytest.raises(ConfigurationError, match="other filters"):
            await manager.get_user_sessions("ada", status="active", cursor=cursor)
        with pytest.raises(ConfigurationError, match="other filters"):
            await manager.search_sessions(cursor=cursor)
        version, key, filters = cursor.split("-")
        for wrong in (
            "",
            "x",
            key,
            f"s2-{key}-{filters}",
            f"{version}-0-{filters}",
            f"{version}-0{key}-{filters}",
            f"{version}--1-{filters}",
            f"{version}-{2**63}-{filters}",
            f"{version}-{'9' * 5000}-{filters}",
            f"{version}-²-{filters}",
            cursor + " ",
            cursor.upper(),
        ):
            with pytest.raises(ConfigurationError, match="no next_cursor"):
                await manager.get_user_sessions("ada", cursor=wrong)
        with pytest.raises(ConfigurationError):
            await manager.get_user_sessions("ada", cursor=3)  # type: ignore[arg-type]
        assert ids(await manager.search_sessions(user_id="ada", cursor=cursor))  # the same list


async def test_since_may_move_on_from_page_to_page(store: Store) -> None:
    """ "The last seven days" is another moment with each call, and the same list."""
    async with store.manager(Echo()) as manager:
        mine = await create(manager, 3)
        since = datetime.now(UTC) - timedelta(days=7)
        first = await manager.get_user_sessions("ada", since=since, limit=1)
        later = since + timedelta(milliseconds=1)
        rest = await manager.get_user_sessions("ada", since=later, cursor=first.next_cursor)
        assert [*ids(first), *ids(rest)] == mine


EAST = timezone(timedelta(hours=1))


@pytest.mark.parametrize("since", ["today", 1, datetime(1, 1, 1, tzinfo=EAST)])
async def test_since_must_be_a_moment(since: object) -> None:
    """And one that UTC has: there was no year before the first."""
    async with create_session_manager() as manager:
        with pytest.raises(InvalidMessageError, match="since"):
            await manager.get_user_sessions("ada", since=since)  # type: ignore[arg-type]


async def test_deleted_sessions_are_listed_only_when_asked_for(store: Store) -> None:
    """Their properties can be read, and nothing else."""
    async with store.manager(Echo()) as manager:
        mine = await create(manager, 2)
        await (await manager.get_session(mine[0])).delete()
        assert ids(await manager.get_user_sessions("ada")) == [mine[1]]
        [deleted] = await manager.get_user_sessions("ada", status="deleted")
        assert (deleted.session_id, deleted.status) == (mine[0], "deleted")
        assert deleted.message_count == 0
        with pytest.raises(SessionNotFoundError):
            await deleted.get_messages()
        with pytest.raises(SessionNotFoundError):
            await deleted.send_message("Hello?")


class Counting(InMemorySessionStorage):
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[SessionQuery] = []

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        self.queries.append(query)
        return await super().list_sessions(query)


async def test_a_full_list_is_one_page_of_its_own_size() -> None:
    """O(page): however many sessions there are, no more are asked for."""
    storage = Counting()
    async with create_session_manager(storage) as manager:
        for _ in range(50):
            await manager.create_session("ada", "mock", "m")
        assert len(await manager.get_user_sessions("ada", limit=20)) == 20
        assert [query.limit for query in storage.queries] == [20]


async def test_a_rare_match_is_looked_for_in_a_bounded_number_of_pages() -> None:
    """The list is then short, or empty, and goes on until it ends."""
    storage = Counting()
    async with create_session_manager(storage, page_size=2) as manager:
        rare = await manager.create_session("ada", "mock", "rare")
        for _ in range(2 * 10 * MAX_PAGES):
            await manager.create_session("ada", "mock", "m")
        first = await manager.search_sessions(model="rare")
        assert first == []
        assert len(storage.queries) == MAX_PAGES
        assert first.next_cursor is not None
        second = await manager.search_sessions(model="rare", cursor=first.next_cursor)
        assert ids(second) == [rare.session_id]
        assert second.next_cursor is None


async def test_a_page_goes_on_in_the_middle_of_a_storage_page() -> None:
    """A page that was asked for with more than was missing loses nothing of the rest."""
    storage = Counting()
    async with create_session_manager(storage) as manager:
        wanted: list[str] = []
        for n in range(60):
            model = "rare" if n < 30 and n % 3 == 0 else "m"
            session = await manager.create_session("ada", "mock", model)
            if model == "rare":
                wanted.insert(0, session.session_id)
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await manager.search_sessions(model="rare", limit=2, cursor=cursor)
            assert len(page) <= 2
            found += ids(page)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == wanted
        assert max(query.limit for query in storage.queries) > 2
