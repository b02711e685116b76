"""What every storage promises of reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
import pytest
from langswarm.core.session.actors.model import (
    MessageQuery,
    Role,
    SessionQuery,
    SessionStatus,
    StoredSession,
)

from .builders import (
    ALL,
    START_US,
    change,
    close_turn,
    commit,
    contents,
    create,
    message,
    new,
    open_turn,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

SECOND = 1_000_000


class TestLoading:
    async def test_answers_in_the_order_of_the_ids_and_none_for_unknown_ones(
        self, storage: ISessionStorage
    ) -> None:
        a, b = await create(storage, "a"), await create(storage, "b")
        assert await storage.load(["b", "nobody", "a", "b", "\ud800"]) == [b, None, a, b, None]

    async def test_takes_many_ids_at_once(self, storage: ISessionStorage) -> None:
        names = [f"s{number}" for number in range(700)]
        await storage.commit([new(name) for name in names])
        loaded = await storage.load(names)
        assert [stored and stored.record.session_id for stored in loaded] == names

    async def test_of_nothing_finds_nothing(self, storage: ISessionStorage) -> None:
        assert list(await storage.load([])) == []

    async def test_tells_ids_apart_by_every_character(self, storage: ISessionStorage) -> None:
        await create(storage, "Id")
        assert await storage.load(["id", "Id ", "Id\0"]) == [None, None, None]


class TestReadingBack:
    async def test_sees_a_commit_that_was_handed_over_and_cancelled(
        self, storage: ISessionStorage
    ) -> None:
        """Either all of it is there or nothing is, and that does not change any more."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            await storage.commit([new("s")])
        first = await storage.read_back(["s"])
        assert await storage.read_back(["s"]) == first
        assert await storage.load(["s"]) == first

    async def test_waits_for_the_commit_that_is_running(self, storage: ISessionStorage) -> None:
        seen: list[StoredSession | None] = []

        async def write() -> None:
            await storage.commit([new(f"s{number}") for number in range(500)])

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            seen.extend(await storage.read_back(["s0", "s499"]))
        assert None not in seen


class TestUnfinishedSessions:
    async def test_are_those_with_an_open_turn(self, storage: ISessionStorage) -> None:
        await create(storage, "idle")
        opened = await commit(storage, open_turn(await create(storage, "open")))
        closed = await commit(storage, open_turn(await create(storage, "closed")))
        await commit(storage, close_turn(closed))
        assert await storage.load_unfinished(10) == [opened]

    async def test_come_in_pages_until_all_are_closed(self, storage: ISessionStorage) -> None:
        for number in range(5):
            await commit(storage, open_turn(await create(storage, f"s{number}")))
        found: list[str] = []
        while page := await storage.load_unfinished(2):
            assert len(page) <= 2
            await storage.commit([close_turn(stored) for stored in page])
            found += [stored.record.session_id for stored in page]
        assert sorted(found) == [f"s{number}" for number in range(5)]


async def history(storage: ISessionStorage) -> int:
    """Ten messages, odd from the user; 3 is hidden; 4 has an id; a neighbour on either side."""
    await commit(storage, change(await create(storage, "before"), message(1), message(99)))
    stored = await create(storage, "s")
    await commit(storage, change(await create(storage, "after"), message(1), message(99)))
    messages = [
        message(seq, str(seq), role=Role.USER if seq % 2 else Role.ASSISTANT)
        for seq in range(1, 11)
    ]
    messages[2] = attrs.evolve(messages[2], hidden_by=2)
    messages[3] = attrs.evolve(messages[3], message_id="four")
    stored = await commit(storage, change(stored, *messages))
    return stored.record.key


class TestReadingMessages:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (MessageQuery(), "1 2 4 5 6 7 8 9 10"),
            (MessageQuery(include_hidden=True), "1 2 3 4 5 6 7 8 9 10"),
            (MessageQuery(limit=3), "8 9 10"),
            (MessageQuery(limit=8), "2 4 5 6 7 8 9 10"),
            (MessageQuery(limit=100), "1 2 4 5 6 7 8 9 10"),
            (MessageQuery(limit=0), ""),
            (MessageQuery(after_seq=8), "9 10"),
            (MessageQuery(after_seq=10), ""),
            (MessageQuery(after_seq=2**40), ""),
            (MessageQuery(before_seq=5), "1 2 4"),
            (MessageQuery(before_seq=2**40), "1 2 4 5 6 7 8 9 10"),
            (MessageQuery(before_seq=1), ""),
            (MessageQuery(before_seq=0), ""),
            (MessageQuery(before_seq=8, limit=2), "6 7"),
            (MessageQuery(after_seq=1, before_seq=9, limit=3), "6 7 8"),
            (MessageQuery(after_seq=5, before_seq=5), ""),
            (MessageQuery(role=Role.ASSISTANT), "2 4 6 8 10"),
            (MessageQuery(role=Role.SYSTEM), ""),
            (MessageQuery(role=Role.USER, limit=2), "7 9"),
            (MessageQuery(role=Role.USER, include_hidden=True, before_seq=6), "1 3 5"),
            (MessageQuery(since_us=START_US + 9 * SECOND), "9 10"),
            (MessageQuery(until_us=START_US + 3 * SECOND), "1 2"),
            (
                MessageQuery(since_us=START_US + 4 * SECOND, until_us=START_US + 8 * SECOND),
                "4 5 6 7",
            ),
            (MessageQuery(message_id="four"), "4"),
            (MessageQuery(message_id="five"), ""),
            (MessageQuery(message_id="four", role=Role.USER), ""),
        ],
        ids=lambda value: "" if isinstance(value, str) else None,
    )
    async def test_finds_the_newest_that_match_in_the_order_of_seq(
        self, storage: ISessionStorage, query: MessageQuery, expected: str
    ) -> None:
        key = await history(storage)
        assert " ".join(await contents(storage, key, query)) == expected

    async def test_orders_by_seq_whatever_the_clock_said(self, storage: ISessionStorage) -> None:
        back = [message(seq, str(seq), created_us=START_US - seq) for seq in (1, 2, 3)]
        stored = await commit(storage, change(await create(storage), *back))
        assert await contents(storage, stored.record.key, MessageQuery(limit=2)) == ["2", "3"]

    async def test_of_an_unknown_session_finds_none(self, storage: ISessionStorage) -> None:
        assert list(await storage.read_messages(12345, ALL)) == []


class TestListingSessions:
    async def test_is_newest_first_and_pages_by_key(self, storage: ISessionStorage) -> None:
        for number in range(7):
            await create(storage, f"s{number}")
            await create(storage, f"other{number}", user_id="bob")
        found: list[str] = []
        before: int | None = None
        while True:
            query = SessionQuery(user_id="ann", limit=3, before_key=before)
            page = await storage.list_sessions(query)
            if not page:
                break
            assert len(page) <= 3
            found += [record.session_id for record in page]
            before = page[-1].key
        assert found == [f"s{number}" for number in reversed(range(7))]

    async def test_shows_nobody_elses(self, storage: ISessionStorage) -> None:
        await create(storage, "s", user_id="ann")
        assert list(await storage.list_sessions(SessionQuery(user_id="an", limit=9))) == []
        assert list(await storage.list_sessions(SessionQuery(user_id="", limit=9))) == []

    async def test_leaves_deleted_ones_out_unless_asked_for(self, storage: ISessionStorage) -> None:
        for status in SessionStatus:
            await create(storage, status.value, status=status)
        for wanted, expected in (
            (None, ["error", "archived", "active"]),
            (SessionStatus.DELETED, ["deleted"]),
            (SessionStatus.ARCHIVED, ["archived"]),
        ):
            query = SessionQuery(user_id="ann", limit=9, status=wanted)
            found = await storage.list_sessions(query)
            assert [record.session_id for record in found] == expected

    async def test_finds_those_active_since(self, storage: ISessionStorage) -> None:
        await create(storage, "old")
        recent = await create(storage, "recent")
        await commit(storage, change(recent, record={"updated_us": START_US + 10}))
        query = SessionQuery(user_id="ann", limit=9, active_since_us=START_US + 10)
        assert [record.session_id for record in await storage.list_sessions(query)] == ["recent"]

    async def test_returns_records_as_loading_does(self, storage: ISessionStorage) -> None:
        stored = await create(storage, "s", dirty=True, provider_session_id="conv_1")
        query = SessionQuery(user_id="ann", limit=1)
        assert await storage.list_sessions(query) == [stored.record]

    async def test_of_no_entries_is_empty(self, storage: ISessionStorage) -> None:
        await create(storage)
        assert list(await storage.list_sessions(SessionQuery(user_id="ann", limit=0))) == []


async def test_a_read_sees_every_write_that_was_acknowledged(storage: ISessionStorage) -> None:
    """While others write: from the commit's return on, in every read."""
    one_at_a_time = anyio.Lock()

    async def chat(name: str) -> None:
        async with one_at_a_time:
            stored = await create(storage, name)
        for seq in range(1, 21):
            async with one_at_a_time:
                await storage.commit([change(stored, message(seq))])
            newest = await contents(storage, stored.record.key, MessageQuery(limit=1))
            assert newest == [f"text {seq}"]
            [found] = await storage.load([name])
            assert found is not None
            assert found.record.revision == seq + 1
            stored = found

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(chat, f"s{number}")
