"""The conditions of a list, one by one and together, and lists of which little matches."""

from __future__ import annotations

import json
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.model import SessionDocuments, SessionQuery, SessionStatus
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    commit,
    create,
    ids_of,
    listed,
    load_one,
    message,
    new,
    walk,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_committed,
    expect_equal,
    expect_failed,
)
from langswarm.core.session.testing.storage_contract.values import TEXTS

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

_MANY = 230


def _tagged(session_id: str, *tags: str, **changes: Any) -> SessionWrite:
    return attrs.evolve(new(session_id, **changes), tags=tags)


# ---------------------------------------------------------------- one condition


@part.opened(promises.ALL_USERS)
async def a_list_of_all_users_has_the_sessions_of_each(storage: ISessionStorage) -> None:
    for number in range(7):
        await create(storage, f"s{number}", user_id=f"user{number % 3}")
    await create(storage, "gone", user_id="user9", status=SessionStatus.DELETED)
    found = await listed(storage, 2)
    expect_equal("the list", found, [f"s{number}" for number in reversed(range(7))])
    found = await listed(storage, 2, status=SessionStatus.DELETED)
    expect_equal("the deleted ones", found, ["gone"])
    expect_equal("the list of one user", await listed(storage, user_id="user1"), ["s4", "s1"])


@part.opened(promises.EVERY_CONDITION)
async def a_list_finds_the_sessions_of_a_provider_and_of_a_model(storage: ISessionStorage) -> None:
    for name, provider, model in (
        ("a", "mock", "m"),
        ("b", "Mock", "m"),
        ("c", "mock", "M"),
        ("d", "mock", "m "),
        ("e", "mock%", "m%"),
        ("f", "mock\0", "m\0"),
    ):
        await create(storage, name, provider=provider, model=model)
    queries: list[tuple[dict[str, Any], list[str]]] = [
        ({"provider": "mock"}, ["d", "c", "a"]),
        ({"provider": "Mock"}, ["b"]),
        ({"provider": "mock%"}, ["e"]),
        ({"provider": "moc"}, []),
        ({"provider": ""}, []),
        ({"model": "m"}, ["b", "a"]),
        ({"model": "M"}, ["c"]),
        ({"model": "m%"}, ["e"]),
        ({"model": ""}, []),
        ({"provider": "mock", "model": "m"}, ["a"]),
    ]
    for conditions, expected in queries:
        expect_equal(f"the list for {conditions}", await listed(storage, **conditions), expected)


@part.opened(promises.IDLE_SINCE)
async def a_list_finds_the_sessions_idle_since(storage: ISessionStorage) -> None:
    for number in range(4):
        await create(storage, f"s{number}", updated_us=START_US + number)
    for conditions, expected in (
        ({"idle_since_us": START_US + 2}, ["s1", "s0"]),
        ({"idle_since_us": START_US}, []),
        ({"idle_since_us": START_US + 3, "active_since_us": START_US + 1}, ["s2", "s1"]),
        ({"idle_since_us": START_US + 2, "active_since_us": START_US + 2}, []),
    ):
        expect_equal(f"the list for {conditions}", await listed(storage, **conditions), expected)
    busy = await load_one(storage, "s0")
    await commit(storage, change(busy, record={"updated_us": START_US + 9}))
    found = await listed(storage, idle_since_us=START_US + 2)
    expect_equal("the list after one of them was written to", found, ["s1"])


# ---------------------------------------------------------------- tags


@part.opened(promises.ALL_TAGS)
async def a_list_finds_the_sessions_that_have_all_of_some_tags(storage: ISessionStorage) -> None:
    writes = [
        _tagged("one", "a"),
        _tagged("two", "a", "b"),
        _tagged("three", "c", "b", "a"),
        _tagged("other", "A", "ab", "a ", "%"),
        _tagged("none"),
        new("silent"),
    ]
    await storage.commit(writes)
    for tags, expected in (
        (("a",), ["three", "two", "one"]),
        (("a", "b"), ["three", "two"]),
        (("b", "a"), ["three", "two"]),
        (("a", "a"), ["three", "two", "one"]),
        (("a", "b", "c"), ["three"]),
        (("a", "d"), []),
        (("A",), ["other"]),
        (("%",), ["other"]),
        (("_",), []),
        (("",), []),
        (("a,b",), []),
        ((), ["silent", "none", "other", "three", "two", "one"]),
    ):
        found = await listed(storage, tags=tags)
        expect_equal(f"the list for the tags {tags}", found, expected)


@part.opened(promises.TAGS)
async def tags_are_replaced_by_a_later_write_and_stay_without_one(
    storage: ISessionStorage,
) -> None:
    stored = await commit(storage, _tagged("s", "a", "b"))
    await commit(storage, _tagged("neighbour", "a"))
    for tags, expected in ((None, "a b"), (("b", "c"), "b c"), (None, "b c"), ((), ""), (None, "")):
        stored = await commit(storage, change(stored, tags=tags))
        found = [tag for tag in "abc" if "s" in await listed(storage, tags=(tag,))]
        expect_equal(f"the tags after a write of {tags}", " ".join(found), expected)
    expect_equal("the neighbour", await listed(storage, tags=("a",)), ["neighbour"])


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_leaves_the_tags_as_they_were(storage: ISessionStorage) -> None:
    stored = await commit(storage, _tagged("s", "a"))
    stored = await commit(storage, change(stored, message(1)))
    bad = change(stored, message(1, "seq 1 is taken"), tags=("bad",))
    [first, second] = await storage.commit([bad, _tagged("good", "b")])
    expect_failed("a message whose seq is taken", first)
    expect_committed("the good write beside it", second)
    stale = change(stored, tags=("stale",), record={"epoch": 9})
    await storage.commit([stale])
    for tag, expected in (("a", ["s"]), ("b", ["good"]), ("bad", []), ("stale", [])):
        expect_equal(f"the list for {tag!r}", await listed(storage, tags=(tag,)), expected)


@part.opened(promises.AS_GIVEN)
async def sessions_are_found_by_every_text_as_a_tag(storage: ISessionStorage) -> None:
    await commit(storage, _tagged("all", *TEXTS))
    for number, text in enumerate(TEXTS):
        await commit(storage, _tagged(f"s{number}", text))
    for number, text in enumerate(TEXTS):
        found = await listed(storage, tags=(text,))
        expect_equal(f"the list for the tag {text!r}", found, [f"s{number}", "all"])
    expect_equal("the list for all tags", await listed(storage, tags=TEXTS), ["all"])


# ---------------------------------------------------------------- conditions together

_CONDITIONS: dict[str, tuple[Any, Any]] = {
    "user_id": ("ann", "bob"),
    "status": (SessionStatus.ACTIVE, SessionStatus.ARCHIVED),
    "provider": ("mock", "other"),
    "model": ("small", "large"),
    "active_since_us": (START_US + 5, START_US + 4),
    "tags": (("a",), ("b",)),
    "metadata": ((("k", "1"),), (("k", "true"),)),
    "text": ("yes", "no"),
}
"""Of each condition a value that is asked for, and one that is not."""


def _session_of(index: int, has: dict[str, Any]) -> SessionWrite:
    fields = {name: has[name] for name in ("user_id", "status", "provider", "model")}
    write = new(f"s{index}", updated_us=has["active_since_us"], last_seq=1, **fields)
    config = json.dumps({"metadata": {key: json.loads(text) for key, text in has["metadata"]}})
    after = attrs.evolve(write.after, documents=SessionDocuments(config=config))
    said = (message(1, has["text"]),)
    return attrs.evolve(write, after=after, messages=said, tags=has["tags"])


@part.opened(promises.EVERY_CONDITION)
async def conditions_hold_together_whichever_are_given(storage: ISessionStorage) -> None:
    """Of 256 sessions, one of each combination; each two conditions, and all of them."""
    names = [name for name in _CONDITIONS if name != "text" or storage.searches_text]
    choices = list(product((0, 1), repeat=len(_CONDITIONS)))
    sessions = [
        {name: _CONDITIONS[name][choice] for name, choice in zip(_CONDITIONS, one, strict=True)}
        for one in choices
    ]
    await storage.commit([_session_of(index, has) for index, has in enumerate(sessions)])
    for given in (*combinations(names, 2), tuple(names)):
        conditions = {name: _CONDITIONS[name][0] for name in given}
        matching = [
            f"s{index}"
            for index, has in enumerate(sessions)
            if all(has[name] == value for name, value in conditions.items())
        ]
        found = await listed(storage, 50, **conditions)
        expect_equal(f"the list for {conditions}", found, matching[::-1])


# ---------------------------------------------------------------- little of much


async def _many(storage: ISessionStorage, *rare: int) -> list[str]:
    """Many sessions; the names of those that are rare, as a list has them."""
    writes = [new(f"s{number}") for number in range(_MANY)]
    for number in rare:
        has = {name: values[0] for name, values in _CONDITIONS.items()}
        writes[number] = _session_of(number, has)
    await storage.commit(writes)
    return [f"s{number}" for number in sorted(rare, reverse=True)]


def _rare_conditions(storage: ISessionStorage) -> list[dict[str, Any]]:
    names = [
        name
        for name in ("model", "active_since_us", "tags", "metadata", "text")
        if name != "text" or storage.searches_text
    ]
    found = [{name: _CONDITIONS[name][0]} for name in names]
    return [*found, *({**one, "user_id": "ann"} for one in found)]


@part.opened(promises.SHORT_PAGE)
async def a_walk_through_many_sessions_finds_the_few_that_match(storage: ISessionStorage) -> None:
    """Whether its pages are full, short or empty: each is found once, newest first."""
    expected = await _many(storage, 0, 1, 17, 118, 119, _MANY - 2)
    for conditions in _rare_conditions(storage):
        for limit in (1, 2, 5):
            found = await listed(storage, limit, **conditions)
            expect_equal(f"the list for {conditions} in pages of {limit}", found, expected)


@part.opened(promises.NEXT_KEY)
async def a_walk_that_finds_nothing_comes_to_its_end(storage: ISessionStorage) -> None:
    await _many(storage)
    for conditions in _rare_conditions(storage):
        expect_equal(f"the list for {conditions}", await listed(storage, 1, **conditions), [])
    expect_equal("the list of nobody", await listed(storage, 1, user_id="nobody"), [])


@part.opened(promises.NEXT_KEY)
async def a_walk_goes_on_though_what_it_has_shown_is_erased(storage: ISessionStorage) -> None:
    await storage.commit([new(f"s{number}") for number in range(9)])
    found: list[str] = []
    query: SessionQuery | None = SessionQuery(limit=2)
    while query is not None:
        page = await storage.list_sessions(query)
        expect("a walk that comes to its end", len(found) < 10, found)
        found += ids_of(page.records)
        shown = await storage.load(ids_of(page.records))
        await storage.commit([change(one, erases=True) for one in shown if one is not None])
        after = page.next_key
        query = None if after is None else attrs.evolve(query, before_key=after)
    expect_equal("the list", found, [f"s{number}" for number in reversed(range(9))])


@part.opened(promises.O_LIMIT)
async def a_walk_goes_on_while_sessions_are_made_and_erased(storage: ISessionStorage) -> None:
    """Those that are there from its beginning to its end are found once; new ones are not."""
    rare = range(0, _MANY, 4)
    names = await _many(storage, *rare)
    erased: list[str] = []

    async def meanwhile(number: int) -> None:
        has = {name: values[0] for name, values in _CONDITIONS.items()}
        await storage.commit([_session_of(_MANY + number, has)])
        # One that was found, or looked at; one that comes next, or soon.
        for name in (f"s{_MANY - 7 * number}", names[-1 - number]):
            [stored] = await storage.load([name])
            if stored is not None:
                await storage.commit([change(stored, erases=True)])
                erased.append(name)

    query = SessionQuery(limit=3, tags=("a",))
    found = [name for page in await walk(storage, query, meanwhile) for name in ids_of(page)]
    expect("no session is found twice", len(found) == len(set(found)), found)
    expect_equal("the order", found, [name for name in names if name in found])
    missing = [name for name in names if name not in found and name not in erased]
    expect_equal("those that were there all the time, and were not found", missing, [])
    expect("some are erased before they are reached", bool(set(names) - set(found)), found)
