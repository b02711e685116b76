"""A user's sessions, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.actors.model import SessionQuery, SessionStatus
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    commit,
    create,
    ids_of,
    listed,
    message,
    new,
    walk,
)
from langswarm.core.session.testing.storage_contract.case import Part, expect_equal

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


@part.opened(promises.LIST)
async def a_list_is_newest_first_and_comes_in_pages(storage: ISessionStorage) -> None:
    for number in range(7):
        await create(storage, f"s{number}")
        await create(storage, f"other{number}", user_id="bob")
    found = await listed(storage, 3, user_id="ann")
    expect_equal("the list", found, [f"s{number}" for number in reversed(range(7))])


@part.opened(promises.LIST)
async def a_list_is_ordered_by_creation_whatever_the_clock_said(storage: ISessionStorage) -> None:
    first = await create(storage, "first", created_us=START_US + 9)
    await create(storage, "second", created_us=START_US)
    await commit(storage, change(first, message(1), record={"updated_us": START_US + 99}))
    found = await listed(storage, user_id="ann")
    expect_equal("the list", found, ["second", "first"])


@part.opened(promises.BEFORE_KEY)
async def a_list_goes_on_where_the_page_before_ended_while_others_are_made(
    storage: ISessionStorage,
) -> None:
    for number in range(5):
        await create(storage, f"s{number}")
    query = SessionQuery(user_id="ann", limit=2)
    pages = await walk(storage, query, lambda number: create(storage, f"meanwhile{number}"))
    found = [name for page in pages for name in ids_of(page)]
    expect_equal("the list", found, [f"s{number}" for number in reversed(range(5))])


@part.opened(promises.LIST)
async def a_list_shows_nobody_elses_sessions(storage: ISessionStorage) -> None:
    await create(storage, "s", user_id="ann")
    await create(storage, "t", user_id="bob")
    for stranger in ("an", "", "Ann", "ann ", "%", "ann\0", "a_n", "*", "s"):
        found = await listed(storage, user_id=stranger)
        expect_equal(f"the list of the user {stranger!r}", found, [])


@part.opened(promises.NOT_DELETED)
async def a_list_leaves_deleted_sessions_out_unless_asked_for(storage: ISessionStorage) -> None:
    for status in SessionStatus:
        await create(storage, status.value, status=status)
    for wanted, expected in (
        (None, ["error", "archived", "active"]),
        (SessionStatus.DELETED, ["deleted"]),
        (SessionStatus.ARCHIVED, ["archived"]),
    ):
        found = await listed(storage, user_id="ann", status=wanted)
        expect_equal(f"the list for status={wanted}", found, expected)


@part.opened(promises.LIST)
async def a_list_goes_on_behind_sessions_that_do_not_match(storage: ISessionStorage) -> None:
    for number in range(6):
        status = SessionStatus.DELETED if number % 2 else SessionStatus.ACTIVE
        await create(storage, f"s{number}", status=status)
    found = await listed(storage, 2, user_id="ann")
    expect_equal("the list", found, ["s4", "s2", "s0"])


@part.opened(promises.LIST)
async def a_list_knows_the_last_status_of_a_session(storage: ISessionStorage) -> None:
    stored = await create(storage)
    await commit(storage, change(stored, record={"status": SessionStatus.DELETED}))
    found = await listed(storage, 2, user_id="ann")
    expect_equal("the list", found, [])


@part.opened(promises.ACTIVE_SINCE)
async def a_list_finds_the_sessions_active_since(storage: ISessionStorage) -> None:
    await create(storage, "old")
    recent = await create(storage, "recent")
    await commit(storage, change(recent, record={"updated_us": START_US + 10}))
    found = await listed(storage, user_id="ann", active_since_us=START_US + 10)
    expect_equal("the list", found, ["recent"])


@part.opened(promises.BEFORE_KEY)
async def a_list_keeps_its_filters_on_every_page(storage: ISessionStorage) -> None:
    for number in range(12):
        archived = {"status": SessionStatus.ARCHIVED} if number % 3 else {}
        await create(storage, f"s{number}", updated_us=START_US + number % 2, **archived)
    found = await listed(
        storage, 2, user_id="ann", status=SessionStatus.ARCHIVED, active_since_us=START_US + 1
    )
    expect_equal("the list", found, ["s11", "s7", "s5", "s1"])


@part.opened(promises.LIST)
async def a_list_may_be_asked_for_in_large_pages(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(1200)]
    await storage.commit([new(name) for name in names])
    for limit in (1000, 2000):
        found = await listed(storage, limit, user_id="ann")
        expect_equal(f"the list in pages of {limit}", found, names[::-1])


@part.opened(promises.LIST)
async def a_list_returns_records_as_loading_does(storage: ISessionStorage) -> None:
    stored = await create(storage, "s", dirty=True, provider_session_id="conv_1")
    [found, *_] = await walk(storage, SessionQuery(user_id="ann", limit=1))
    expect_equal("the list", found, [stored.record])


@part.opened(promises.LIST)
async def a_list_of_no_entries_is_empty(storage: ISessionStorage) -> None:
    await create(storage)
    page = await storage.list_sessions(SessionQuery(user_id="ann", limit=0))
    expect_equal("the list for limit=0", page.records, ())
