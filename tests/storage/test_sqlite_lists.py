"""Lists and figures in SQLite: what they cost, and what damage does to them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from langswarm.core.session.actors.model import (
    LATENCY_BOUNDS_MS,
    Committed,
    MessageQuery,
    SessionDocuments,
    SessionQuery,
    TurnRecord,
    TurnState,
    UsageQuery,
)
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    commit,
    contents,
    create,
    days_of,
    ids_of,
    message,
    new,
    usage,
    use,
)

from .inside import on_reader, on_writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage

LATENCIES = tuple(range(len(LATENCY_BOUNDS_MS) + 1))


async def fill(storage: SQLiteSessionStorage, count: int, **changes: Any) -> None:
    """Sessions in one batch."""
    outcomes = await storage.commit([new(f"s{number}", **changes) for number in range(count)])
    assert {type(outcome) for outcome in outcomes} == {Committed}


async def steps_of(storage: SQLiteSessionStorage, query: SessionQuery) -> int:
    """How many hundreds of steps SQLite makes for a page."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await on_reader(storage, lambda connection: connection.set_progress_handler(count, 100))
    await storage.list_sessions(query)
    await on_reader(storage, lambda connection: connection.set_progress_handler(None, 0))
    return steps


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"user_id": "ann"},
        {"user_id": "ann", "provider": "none"},
        {"tags": ("common",)},
        {"tags": ("common",), "user_id": "ann", "model": "none"},
        {"tags": ("common", "rare"), "user_id": "ann"},
        {"idle_since_us": 1},
        {"metadata": (("k", "1"),)},
    ],
    ids=str,
)
async def test_a_page_costs_the_same_of_few_sessions_and_of_many(
    storage: SQLiteSessionStorage, conditions: dict[str, Any]
) -> None:
    query = SessionQuery(limit=3, **conditions)
    first = attrs.evolve(new("first"), tags=("common", "rare"))
    await storage.commit([first])
    costs: list[int] = []
    for part in range(2):
        count = 100 if part == 0 else 3000
        writes = [attrs.evolve(new(f"{part}.{n}"), tags=("common",)) for n in range(count)]
        await storage.commit(writes)
        costs.append(await steps_of(storage, query))
    assert costs[1] <= 2 * costs[0] + 2


async def test_a_rare_match_is_found_page_by_page(storage: SQLiteSessionStorage) -> None:
    await create(storage, "wanted", provider="other")
    await fill(storage, 95)
    query = SessionQuery(limit=2, provider="other")
    pages = 0
    while True:
        page = await storage.list_sessions(query)
        pages += 1
        if page.next_key is None:
            break
        assert page.records == ()
        query = attrs.evolve(query, before_key=page.next_key)
    assert ids_of(page.records) == ["wanted"]
    assert pages == 5  # of 20 sessions that are looked at


async def test_the_rarest_of_several_conditions_decides(storage: SQLiteSessionStorage) -> None:
    """One page, although the tag is common and the user has few of the sessions."""
    outcomes = await storage.commit(
        [
            attrs.evolve(new(f"s{n}", user_id="ann" if n % 100 == 0 else "bob"), tags=("common",))
            for n in range(1000)
        ]
    )
    assert len(outcomes) == 1000
    page = await storage.list_sessions(SessionQuery(limit=10, user_id="ann", tags=("common",)))
    assert ids_of(page.records) == [f"s{n}" for n in range(900, -1, -100)]
    assert page.next_key is None


async def test_more_tags_than_a_page_may_look_at_come_to_an_end(
    storage: SQLiteSessionStorage,
) -> None:
    tags = tuple(f"t{n}" for n in range(40))
    for name in "ab":
        await commit(storage, attrs.evolve(new(name), tags=tags))
    first = await storage.list_sessions(SessionQuery(limit=1, tags=tags))
    assert ids_of(first.records) == ["b"]
    rest = SessionQuery(limit=1, tags=tags, before_key=first.next_key)
    assert ids_of((await storage.list_sessions(rest)).records) == ["a"]


async def test_keys_and_values_of_metadata_are_no_part_of_a_statement(
    storage: SQLiteSessionStorage,
) -> None:
    key = "k') OR 1=1 --"
    documents = SessionDocuments(config='{"metadata": {"k\') OR 1=1 --": [1, {"a": true}]}}')
    stored = await create(storage, "has")
    await commit(storage, change(stored, documents=documents, documents_changed=True))
    await create(storage, "has not")
    for value, names in {'[1,{"a":true}]': ["has"], '[1,{"a":1}]': [], "1": []}.items():
        page = await storage.list_sessions(SessionQuery(limit=9, metadata=((key, value),)))
        assert ids_of(page.records) == names


async def test_messages_by_metadata_keep_the_limit(storage: SQLiteSessionStorage) -> None:
    stored = await create(storage)
    messages = [message(seq, metadata='{"odd": %s}' % (seq % 2)) for seq in range(1, 21)]
    stored = await commit(storage, change(stored, *messages))
    query = MessageQuery(limit=3, metadata=(("odd", "1"),))
    key = stored.record.key
    assert await contents(storage, key, query) == ["text 15", "text 17", "text 19"]
    assert await contents(storage, key, attrs.evolve(query, limit=0)) == []
    assert len(await contents(storage, key, attrs.evolve(query, limit=None))) == 10
    assert await contents(storage, key, attrs.evolve(query, metadata=(("odd", "true"),))) == []


async def test_a_damaged_config_is_left_out_where_metadata_is_asked_for(
    storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        config = SessionDocuments(config='{"metadata": {"k": 1}}')
        stored = await create(storage, name)
        await commit(storage, change(stored, documents=config, documents_changed=True))
    spoil = "UPDATE session_documents SET config = '{' WHERE session_key = 1"
    await on_writer(storage, lambda connection: connection.execute(spoil))
    page = await storage.list_sessions(SessionQuery(limit=9, metadata=(("k", "1"),)))
    assert ids_of(page.records) == ["b"]
    assert "session 1 is damaged and left out of a list" in caplog.text


async def test_a_list_of_all_goes_on_behind_what_cannot_be_read(
    storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(storage, 5)
    await on_writer(storage, lambda c: c.execute("UPDATE sessions SET status = '?' WHERE key = 3"))
    page = await storage.list_sessions(SessionQuery(limit=9))
    assert ids_of(page.records) == ["s4", "s3", "s1", "s0"]
    assert "session 3 is damaged and left out of a list" in caplog.text


class TestFigures:
    async def test_of_a_batch_are_added_up_before_they_are_written(
        self, storage: SQLiteSessionStorage
    ) -> None:
        one = usage(user_messages=1, latencies=LATENCIES, response_us=2**40)
        other = attrs.evolve(one, user_id="bob", output_tokens=7)
        writes = [attrs.evolve(new(f"s{n}"), usage=one) for n in range(3)]
        await storage.commit([*writes, attrs.evolve(new("t", user_id="bob"), usage=other)])
        total = attrs.evolve(
            one,
            user_id="",
            user_messages=4,
            latencies=tuple(4 * count for count in LATENCIES),
            response_us=4 * 2**40,
            output_tokens=7,
        )
        assert await days_of(storage) == [total]
        assert [day.user_messages for day in await days_of(storage, user_id="ann")] == [3]
        assert (await storage.verify()).ok

    async def test_of_a_write_that_failed_alone_are_not_added(
        self, storage: SQLiteSessionStorage
    ) -> None:
        bad = attrs.evolve(new("bad"), expected_revision=3, usage=usage(sessions=1))
        good = attrs.evolve(new("good"), usage=usage(sessions=1))
        await storage.commit([bad, good])
        assert [day.sessions for day in await days_of(storage)] == [1]

    async def test_of_an_erased_user_are_taken_out_slice_by_slice(
        self, storage: SQLiteSessionStorage
    ) -> None:
        """More rows than a slice has; what is left are the others' days."""
        ann = [usage(day=day, user_messages=1) for day in range(300)]
        bob = [
            attrs.evolve(usage(day=day, user_messages=2), user_id="bob") for day in range(0, 300, 3)
        ]
        await use(storage, "s", *ann, *bob)
        stored = await create(storage, "c")
        for number in range(40):
            stored = await commit(
                storage, change(stored, claim=claim(f"k{number}", scope="user:ann"))
            )
        await storage.erase_user("ann")
        report = await storage.read_usage(UsageQuery(first_day=0, last_day=999))
        assert [day.user_messages for day in report.days] == [2] * 100
        assert report.active_users == 1
        assert report.active_users_by_day == tuple((day, 1) for day in range(0, 300, 3))
        assert await storage.find_claim("user:ann", "send_message", "k39") is None
        assert (await storage.verify()).ok
        await storage.erase_user("ann")
        await storage.erase_user("\ud800")


async def test_past_turns_are_there_with_the_session(storage: SQLiteSessionStorage) -> None:
    turns = tuple(
        TurnRecord(turn_no=n, state=TurnState.COMPLETED, user_seq=n, opened_us=n) for n in (1, 2)
    )
    write = attrs.evolve(new("s"), past_turns=turns)
    stored = await commit(storage, write)
    found = [await storage.read_turn(stored.record.key, number) for number in (1, 2, 3)]
    assert found == [*turns, None]


DAMAGES = {
    "DELETE FROM session_tags WHERE tag = 'b'": (
        "session_documents: row 1 has other tags in session_tags"
    ),
    "INSERT INTO session_tags (tag, session_key) VALUES ('c', 1)": (
        "session_documents: row 1 has other tags in session_tags"
    ),
    "INSERT INTO session_tags (tag, session_key) VALUES ('c', 9)": (
        "session_tags: row 9 belongs to no session"
    ),
    "INSERT INTO search_pending (session_key, from_seq) VALUES (9, 1)": (
        "search_pending: row 9 belongs to no session"
    ),
    "UPDATE usage_days SET latency_3 = latency_3 + 1": (
        "usage_days: row (100, 'mock', 'mock-model') is not the sum of usage_users"
    ),
    "DELETE FROM usage_users": (
        "usage_days: row (100, 'mock', 'mock-model') is not the sum of usage_users"
    ),
    "DELETE FROM usage_days": (
        "usage_users: row (100, 'ann', 'mock', 'mock-model') is in no row of usage_days"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_verify_finds_what_contradicts_itself(
    storage: SQLiteSessionStorage, damage: str
) -> None:
    documents = SessionDocuments(config='{"tags": ["b", "a"]}')
    write = change(await create(storage), documents=documents, documents_changed=True)
    await commit(storage, attrs.evolve(write, tags=("b", "a"), usage=usage(sessions=1)))
    assert (await storage.verify()).problems == ()
    await on_writer(storage, partial(_run, damage))
    assert DAMAGES[damage] in (await storage.verify()).problems


def _run(text: str, connection: sqlite3.Connection) -> Iterable[object]:
    return connection.execute(text).fetchall()
