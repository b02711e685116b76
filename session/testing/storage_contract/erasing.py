"""Sessions that are erased: nothing of them is found any more, and nobody else loses anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.model import (
    Committed,
    Conflict,
    SessionDocuments,
    SessionStatus,
)
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    START_US,
    change,
    claim,
    close_turn,
    commit,
    contents,
    create,
    listed,
    load_one,
    message,
    new,
    open_turn,
    purge,
    say,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_committed,
    expect_equal,
    expect_failed,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import StoredSession
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


async def _full(storage: ISessionStorage, session_id: str) -> StoredSession:
    """A session with something of everything: its turn 1 is closed, its turn 2 is open."""
    stored = await commit(storage, open_turn(await create(storage, session_id)))
    stored = await commit(storage, close_turn(stored))
    put = claim(scope=session_id, session_id=session_id)
    documents = SessionDocuments(config='{"metadata": {"k": 1}}')
    write = change(stored, tags=("tag",), claim=put, documents=documents, documents_changed=True)
    return await commit(storage, open_turn(await commit(storage, write), turn_no=2))


async def _erase(storage: ISessionStorage, stored: StoredSession) -> None:
    [outcome] = await storage.commit([change(stored, erases=True)])
    expect_equal("the outcome of an erasure", outcome, Committed(stored.record.key))


async def _found(storage: ISessionStorage, name: str, key: int) -> dict[str, object]:
    """Where something of the session is found."""
    places: dict[str, object] = {
        "load": list(await storage.load([name])) != [None],
        "read_back": list(await storage.read_back([name])) != [None],
        "load_unfinished": name
        in [one.record.session_id for one in await storage.load_unfinished(99)],
        "read_messages": bool(list(await storage.read_messages(key, ALL))),
        "read_turn": [no for no in (1, 2) if await storage.read_turn(key, no) is not None],
        "find_claim": await storage.find_claim(name, "send_message", "k") is not None,
        "list_sessions": name in await listed(storage),
        "list_sessions of a user": name in await listed(storage, user_id="ann"),
        "list_sessions of deleted ones": name
        in await listed(storage, status=SessionStatus.DELETED),
        "list_sessions by tag": name in await listed(storage, tags=("tag",)),
        "list_sessions by metadata": name in await listed(storage, metadata=(("k", "1"),)),
    }
    if storage.searches_text:
        places["list_sessions by text"] = name in await listed(storage, text="text 1")
    return {place: found for place, found in places.items() if found}


@part.opened(promises.ERASES)
async def an_erased_session_is_found_nowhere(storage: ISessionStorage) -> None:
    before, stored, behind = [await _full(storage, name) for name in ("before", "s", "behind")]
    there = await _found(storage, "s", stored.record.key)
    await _erase(storage, stored)
    expect_equal("where it is found", await _found(storage, "s", stored.record.key), {})
    for one in (before, behind):
        name = one.record.session_id
        expect_equal(f"the session {name!r}", await load_one(storage, name), one)
        expect_equal(f"where {name!r} is", await _found(storage, name, one.record.key), there)
    await storage.close()
    await storage.open()
    expect_equal("where it is found later", await _found(storage, "s", stored.record.key), {})


@part.opened(promises.ERASES)
async def an_erasure_takes_away_what_it_writes_and_no_claim_of_another_scope(
    storage: ISessionStorage,
) -> None:
    stored = await create(storage)
    for scope in ("user:ann", "t", "S", "s "):
        stored = await commit(storage, change(stored, claim=claim(scope=scope)))
    write = change(
        stored,
        message(1),
        tags=("tag",),
        claim=claim("last"),
        purges=(purge(),),
        erases=True,
    )
    [outcome] = await storage.commit([write])
    expect_committed("an erasure that writes", outcome)
    expect_equal("where it is found", await _found(storage, "s", stored.record.key), {})
    found = await storage.find_claim("s", "send_message", "last")
    expect_equal("the claim of its scope", found, None)
    for scope in ("user:ann", "t", "S", "s "):
        found = await storage.find_claim(scope, "send_message", "k")
        expect_equal(f"the claim of {scope!r}", found, claim(scope=scope))
    expect_equal("the purges", list(await storage.load_purges(START_US, 9)), [purge()])


@part.opened(promises.LIST)
async def the_key_of_an_erased_session_is_never_given_again(storage: ISessionStorage) -> None:
    keys: list[int] = []
    for number in range(4):
        stored = await create(storage, f"s{number}")
        keys.append(stored.record.key)
        await _erase(storage, stored)
        if number % 2:
            await storage.close()
            await storage.open()
    expect("each later session has a larger key", keys == sorted(set(keys)), keys)


@part.opened(promises.ERASES)
async def a_session_of_an_erased_id_begins_anew(storage: ISessionStorage) -> None:
    old = await _full(storage, "s")
    await _erase(storage, old)
    fresh = await create(storage, "s", user_id="bob")
    expect("another key", fresh.record.key > old.record.key, fresh.record.key)
    expect_equal("its documents", fresh.documents, SessionDocuments(config='{"a": 1}'))
    found = await _found(storage, "s", fresh.record.key)
    expected = ["load", "read_back", "list_sessions"]
    expect_equal("where it is found", list(found), expected)
    opened = await commit(storage, open_turn(fresh, turn_no=1))
    expect_equal("the messages", await contents(storage, opened.record.key), ["text 1"])
    expect_equal("the old ones", await contents(storage, old.record.key), [])


@part.opened(promises.CONFLICT)
async def a_stale_erasure_is_a_conflict_and_erases_nothing(storage: ISessionStorage) -> None:
    first = await _full(storage, "s")
    stored = await commit(storage, change(first, open_turn=first.open_turn))
    there = await _found(storage, "s", stored.record.key)
    stale = change(first, erases=True)
    other = change(stored, record={"epoch": 9}, erases=True)
    for write in (stale, other):
        outcomes = list(await storage.commit([write]))
        expected = [Conflict(stored.record.revision, 1)]
        expect_equal("the outcome of a stale erasure", outcomes, expected)
    expect_equal("the session", await load_one(storage, "s"), stored)
    expect_equal("where it is found", await _found(storage, "s", stored.record.key), there)


@part.opened(promises.CONFLICT)
async def a_write_to_an_erased_session_is_a_conflict(storage: ISessionStorage) -> None:
    stored = await create(storage)
    await _erase(storage, stored)
    for write in (change(stored, message(1)), change(stored, erases=True)):
        outcomes = list(await storage.commit([write]))
        expect_equal("the outcome", outcomes, [Conflict(0, 0)])
    fresh = await create(storage)
    outcomes = list(await storage.commit([change(stored, message(1))]))
    expect_equal("the outcome once the id is taken again", outcomes, [Conflict(1, 1)])
    expect_equal("the session", await load_one(storage, "s"), fresh)


@part.opened(promises.FAILS_ALONE)
async def a_batch_erases_beside_other_writes(storage: ISessionStorage) -> None:
    gone, kept, bad = [await say(storage, name, "words") for name in ("gone", "kept", "bad")]
    batch = [
        new("first"),
        change(gone, erases=True),
        change(bad, message(1, "seq 1 is taken"), erases=True),
        change(kept, message(2)),
        new("last"),
    ]
    outcomes = list(await storage.commit(batch))
    expect("each write has an outcome", len(outcomes) == len(batch), outcomes)
    expect_equal("the outcome of the erasure", outcomes[1], Committed(gone.record.key))
    expect_failed("a message whose seq is taken", outcomes[2])
    for outcome in (outcomes[0], outcomes[3], outcomes[4]):
        expect_committed("a good write beside it", outcome)
    expect_equal("the list", await listed(storage), ["last", "first", "bad", "kept"])
    expect_equal("the bad one", await load_one(storage, "bad"), bad)
    expect_equal("its messages", await contents(storage, bad.record.key), ["words"])
    expect_equal("the kept one's", await contents(storage, kept.record.key), ["words", "text 2"])


@part.opened(promises.ERASES)
async def many_sessions_are_erased_and_the_others_stay(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(200)]
    creations = [
        attrs.evolve(new(name, last_seq=1), messages=(message(1, name),), tags=("a",))
        for name in names
    ]
    await storage.commit(creations)
    loaded = [one for one in await storage.load(names) if one is not None]
    await storage.commit([change(one, erases=True) for one in loaded[::2]])
    expect_equal("the list", await listed(storage), names[-1::-2])
    expect_equal("the list by tag", await listed(storage, tags=("a",)), names[-1::-2])
    found = [await contents(storage, one.record.key) for one in loaded[:4]]
    expect_equal("the messages of the first", found, [[], ["s1"], [], ["s3"]])
