"""The index of words: it follows behind the commits, and no search notices."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from langswarm.core.session.actors.model import Committed, SessionQuery
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage, indexing, search
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    create,
    ids_of,
    message,
    new,
    say,
)

from .inside import on_writer

if TYPE_CHECKING:
    from pathlib import Path

PENDING = "SELECT session_key, from_seq FROM search_pending ORDER BY session_key"


async def saying(storage: SQLiteSessionStorage, text: str, **conditions: Any) -> list[str]:
    """The sessions that say so, all pages of the list."""
    found: list[str] = []
    query = attrs.evolve(SessionQuery(limit=3, text=text), **conditions)
    while True:
        page = await storage.list_sessions(query)
        found += ids_of(page.records)
        if page.next_key is None:
            return found
        query = attrs.evolve(query, before_key=page.next_key)


async def asked(storage: SQLiteSessionStorage, text: str) -> list[tuple[object, ...]]:
    return await on_writer(storage, lambda connection: connection.execute(text).fetchall())


async def words_in(storage: SQLiteSessionStorage) -> set[str]:
    """All words that the index has, those of users left out."""

    def read(connection: sqlite3.Connection) -> set[str]:
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, search, row)")
        rows = connection.execute("SELECT term FROM temp.words WHERE term < 'z'").fetchall()
        connection.execute("DROP TABLE temp.words")
        return {term for (term,) in rows}

    return await on_writer(storage, read)


async def test_a_session_is_noted_once_however_many_messages_follow(
    storage: SQLiteSessionStorage,
) -> None:
    stored = await say(storage, "a", "one")
    for number in (2, 3):
        stored = await commit(storage, change(stored, message(number, f"word{number}")))
    assert await asked(storage, PENDING) == [(1, 1)]
    assert await saying(storage, "word3") == ["a"]
    assert await asked(storage, PENDING) == []
    await commit(storage, change(stored, message(4, "four")))
    assert await asked(storage, PENDING) == [(1, 4)]
    assert await saying(storage, "four") == ["a"]


async def test_what_was_pending_at_a_restart_is_found(path: Path) -> None:
    storage = SQLiteSessionStorage(path)
    await storage.open()
    stored = await say(storage, "a", "before")
    await storage.close()
    await storage.open()
    assert await asked(storage, PENDING) == [(1, 1)]
    await commit(storage, change(stored, message(2, "behind")))
    assert await saying(storage, "before") == ["a"]
    assert await saying(storage, "behind") == ["a"]
    await storage.close()


async def test_a_long_history_is_indexed_in_slices_with_commits_in_between(
    storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SLICE_SECONDS", 0.0)  # a message each
    await say(storage, "long", *(f"word{number} common" for number in range(60)))
    found: list[str] = []
    order: list[str] = []

    async def ask() -> None:
        found.extend(await saying(storage, "word0 common"))
        order.append("found")

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        for number in range(3):
            [outcome] = await storage.commit([new(f"n{number}")])
            assert isinstance(outcome, Committed)
            order.append("committed")
    assert found == ["long"]
    assert order.index("found") > 0
    assert await saying(storage, "word59") == ["long"]


async def test_much_that_is_pending_is_indexed_without_being_asked_for(
    storage: SQLiteSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_MESSAGES", 5)
    monkeypatch.setattr(indexing, "PAUSE_SECONDS", 0.0)
    stored = await say(storage, "a", "one")
    stored = await commit(storage, change(stored, *(message(seq) for seq in range(2, 6))))
    assert await asked(storage, PENDING) == [(1, 1)]
    await commit(storage, change(stored, message(6)))
    with anyio.fail_after(30):
        while await asked(storage, PENDING):
            pass
    assert "one" in await words_in(storage)


async def test_closing_does_not_wait_for_all_that_is_pending(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_SESSIONS", 1)
    monkeypatch.setattr(indexing, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(indexing, "PAUSE_SECONDS", 3600.0)
    storage = SQLiteSessionStorage(path)
    await storage.open()
    for name in "abc":
        await say(storage, name, "one", "two")
    with anyio.fail_after(30):
        await storage.close()
    await storage.open()
    assert await saying(storage, "one two") == []
    assert await saying(storage, "two") == ["c", "b", "a"]
    await storage.close()


async def test_words_of_what_was_cleared_are_gone_after_the_next_tidying(
    storage: SQLiteSessionStorage,
) -> None:
    stored = await say(storage, "a", "apple", "banana", "cherry")
    assert await saying(storage, "apple") == ["a"]
    stored = await commit(storage, change(stored, message(4, "damson"), clear_through_seq=2))
    for word, names in {"apple": [], "banana": [], "cherry": ["a"], "damson": ["a"]}.items():
        assert await saying(storage, word) == names
    await storage.optimize()
    assert await words_in(storage) == {"cherry", "damson"}
    assert (await storage.verify()).ok


async def test_what_is_cleared_before_it_was_indexed_was_never_in_it(
    storage: SQLiteSessionStorage,
) -> None:
    stored = await say(storage, "a", "apple")
    assert await saying(storage, "apple") == ["a"]
    stored = await commit(storage, change(stored, message(2, "banana"), message(3, "cherry")))
    await commit(storage, change(stored, clear_through_seq=2))
    assert await saying(storage, "cherry") == ["a"]
    await storage.optimize()
    assert await words_in(storage) == {"cherry"}
    assert (await storage.verify()).ok


@pytest.mark.parametrize("is_indexed", [True, False])
async def test_an_erased_session_leaves_nothing(
    storage: SQLiteSessionStorage, *, is_indexed: bool
) -> None:
    await say(storage, "kept", "apple", user_id="ann")
    stored = await say(storage, "gone", "apple", "banana", user_id="ann")
    if is_indexed:
        assert await saying(storage, "apple") == ["gone", "kept"]
    write = attrs.evolve(change(stored, message(3, "cherry"), tags=("t",)), erases=True)
    outcomes = await storage.commit([write, write])  # the second one conflicts: in savepoints
    assert isinstance(outcomes[0], Committed)
    assert await saying(storage, "apple") == ["kept"]
    await storage.optimize()
    assert await words_in(storage) == {"apple"}
    for text in (
        "SELECT * FROM messages WHERE id >> 32 = 2",
        "SELECT * FROM session_documents WHERE session_key = 2",
        "SELECT * FROM session_tags",
        "SELECT * FROM search_pending",
        "SELECT * FROM sessions WHERE key = 2",
    ):
        assert await asked(storage, text) == []
    assert (await storage.verify()).ok
    again = await create(storage, "gone")
    assert again.record.key == 3


async def test_a_write_that_was_refused_leaves_nothing_pending(
    storage: SQLiteSessionStorage,
) -> None:
    stored = await create(storage, "a")
    stale = attrs.evolve(change(stored, message(1, "stale")), expected_revision=7)
    good = attrs.evolve(new("b"), messages=(message(1, "good"),))
    await storage.commit([stale, good])
    assert await asked(storage, PENDING) == [(2, 1)]
    await commit(storage, change(stored, message(1, "later")))
    assert await asked(storage, PENDING) == [(1, 1), (2, 1)]
    assert await saying(storage, "stale") == []
    assert await saying(storage, "good") == ["b"]


async def test_a_session_with_many_messages_that_match_hides_none_behind_it(
    storage: SQLiteSessionStorage,
) -> None:
    for name in "abcde":
        await say(storage, name, *["the same word"] * 200)
    assert await saying(storage, "same") == ["e", "d", "c", "b", "a"]


async def test_pages_are_short_where_few_of_many_match(storage: SQLiteSessionStorage) -> None:
    """Of 10 times the limit that say it, none has the tag: the page is empty and not the last."""
    rare = attrs.evolve(new("rare"), messages=(message(1, "word"),), tags=("t",))
    await storage.commit([rare])
    await storage.commit(
        [attrs.evolve(new(f"s{n}"), messages=(message(1, "word"),)) for n in range(40)]
    )
    query = SessionQuery(limit=1, text="word", tags=("t",))
    first = await storage.list_sessions(query)
    assert (first.records, first.next_key) == ((), 41 - 10 + 1)
    assert await saying(storage, "word", tags=("t",), limit=1) == ["rare"]


async def test_words_that_are_longer_than_the_index_takes_are_told_apart(
    storage: SQLiteSessionStorage,
) -> None:
    long = "x" * 40_000
    await say(storage, "a", f"{long}a tail")
    await say(storage, "b", f"{long}b tail")
    assert await saying(storage, f"{long}a") == ["a"]
    assert await saying(storage, f"tail {long}b") == ["b"]


async def test_the_word_that_stands_for_a_user_is_none_of_a_text(
    storage: SQLiteSessionStorage,
) -> None:
    await say(storage, "a", f"{search.hashed('ann')} is what I say", user_id="bob")
    assert await saying(storage, "say", user_id="ann") == []
    assert await saying(storage, "say", user_id="bob") == ["a"]
    assert await saying(storage, search.hashed("ann").removeprefix("\N{SECTION SIGN}")) == ["a"]


class TestADamagedIndex:
    async def spoil(self, storage: SQLiteSessionStorage) -> None:
        await on_writer(
            storage, lambda c: c.execute("UPDATE search_data SET block = x'00' WHERE id > 10")
        )

    async def test_is_made_anew_by_the_next_search(
        self, storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await say(storage, "a", "apple")
        assert await saying(storage, "apple") == ["a"]
        await self.spoil(storage)
        problems = (await storage.verify()).problems
        assert any("search" in problem for problem in problems)
        assert await saying(storage, "apple") == ["a"]
        assert "the index of words is damaged: it is made anew" in caplog.text
        assert (await storage.verify()).ok

    async def test_fails_no_write(self, storage: SQLiteSessionStorage) -> None:
        stored = await say(storage, "a", "apple")
        await saying(storage, "apple")
        head = "UPDATE search_data SET block = x'00' WHERE id = 10"
        await on_writer(storage, lambda connection: connection.execute(head))
        await storage.close()
        await storage.open()
        write = change(stored, clear_through_seq=1)
        outcomes = await storage.commit([write, new("other")])
        assert {type(outcome) for outcome in outcomes} == {Committed}
        assert await saying(storage, "apple") == []


async def test_messages_that_cannot_be_read_keep_no_others_from_being_found(
    storage: SQLiteSessionStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        await say(storage, name, "apple")
    collect = search.SearchIndex._collect

    def broken(index: search.SearchIndex, key: int, *args: Any) -> int | None:
        if key == 2:
            index.reading = key
            error = sqlite3.DatabaseError("planted: malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        return collect(index, key, *args)

    monkeypatch.setattr(search.SearchIndex, "_collect", broken)
    assert await saying(storage, "apple") == ["c", "a"]
    assert "the messages of session 2 are damaged and not indexed" in caplog.text
    assert await asked(storage, PENDING) == [(2, 1)]
