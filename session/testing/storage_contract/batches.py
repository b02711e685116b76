"""Writes that are committed together, and callers that go away meanwhile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs
from langswarm.core.session.actors.model import (
    Committed,
    Conflict,
    MessageQuery,
    SessionQuery,
    SessionWrite,
    StoredSession,
    UsageQuery,
)
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    change,
    commit,
    contents,
    create,
    load_one,
    message,
    new,
    open_turn,
)
from langswarm.core.session.testing.storage_contract.cancelling import ways_to_cancel
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_committed,
    expect_equal,
    expect_failed,
    present,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

_READS_BESIDE = 10
"""Rounds of reads that each reader makes beside one commit."""


@part.opened(promises.OUTCOMES)
async def a_batch_has_its_outcomes_in_the_order_of_its_writes(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(300)]
    outcomes = list(await storage.commit([new(name) for name in names]))
    loaded = [stored for stored in await storage.load(names) if stored is not None]
    keys = [stored.record.key for stored in loaded]
    expect_equal("the outcomes", outcomes, [Committed(key) for key in keys])
    expect("300 sessions have 300 keys", len(set(keys)) == 300, len(set(keys)))


@part.opened(promises.COMMIT)
async def a_batch_of_several_hundred_appends_stores_each_where_it_belongs(
    storage: ISessionStorage,
) -> None:
    names = [f"s{number}" for number in range(300)]
    await storage.commit([new(name) for name in names])
    loaded = [stored for stored in await storage.load(names) if stored is not None]
    writes = [change(stored, message(1, stored.record.session_id)) for stored in loaded]
    outcomes = list(await storage.commit(writes))
    expect_equal("the outcomes", outcomes, [Committed(stored.record.key) for stored in loaded])
    for stored in loaded:
        found = await contents(storage, stored.record.key)
        expect_equal("the messages", found, [stored.record.session_id])


async def _loses_only_the_bad_write(storage: ISessionStorage, *, bad_first: bool) -> None:
    first = await commit(storage, change(await create(storage, "a"), message(1)))
    second = await create(storage, "b")
    bad = change(first, message(2), message(1, "seq 1 is taken"))
    good = change(second, message(1, "good"))
    batch = [bad, good, new("c")] if bad_first else [new("c"), good, bad]
    outcomes = list(await storage.commit(batch))
    expect("three writes have three outcomes", len(outcomes) == len(batch), outcomes)
    if not bad_first:
        outcomes.reverse()
    expect_failed("a message whose seq is taken", outcomes[0])
    expect_equal("the outcome of the good write", outcomes[1], Committed(second.record.key))
    created = expect_committed("the creation beside it", outcomes[2])
    expect_equal("the bad write's messages", await contents(storage, first.record.key), ["text 1"])
    expect_equal("the good write's", await contents(storage, second.record.key), ["good"])
    expect_equal("the bad write's session", await load_one(storage, "a"), first)
    expect_equal("the key of the new one", (await load_one(storage, "c")).record.key, created.key)


@part.opened(promises.FAILS_ALONE)
async def a_batch_loses_only_the_write_that_cannot_be_stored(storage: ISessionStorage) -> None:
    await _loses_only_the_bad_write(storage, bad_first=True)


@part.opened(promises.FAILS_ALONE)
async def a_batch_loses_only_its_last_write_if_that_cannot_be_stored(
    storage: ISessionStorage,
) -> None:
    await _loses_only_the_bad_write(storage, bad_first=False)


@part.opened(promises.FAILS_ALONE)
async def a_batch_reports_conflicts_beside_what_it_commits(storage: ISessionStorage) -> None:
    stored = await create(storage, "stale")
    stale = change(stored)
    await commit(storage, change(stored))
    await create(storage, "taken")
    broken = await create(storage, "broken")
    bad = change(broken, message(1), message(1))
    batch = [stale, new("new"), new("taken"), bad]
    outcomes = list(await storage.commit(batch))
    expect("each write has an outcome", len(outcomes) == len(batch), outcomes)
    expect_equal("the outcome of the stale write", outcomes[0], Conflict(2, 1))
    expect_committed("the creation", outcomes[1])
    expect_equal("the outcome of a creation of what is there", outcomes[2], Conflict(1, 1))
    expect_failed("the same message twice", outcomes[3])


@part.opened(promises.OUTCOMES)
async def a_batch_of_nothing_has_no_outcome(storage: ISessionStorage) -> None:
    expect_equal("the outcomes of no writes", list(await storage.commit([])), [])


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_leaves_nothing_of_itself(storage: ISessionStorage) -> None:
    """Neither messages, marks, turn nor cleared history; and it may be tried again."""
    stored = await commit(storage, change(await create(storage), message(1), message(2)))
    bad = attrs.evolve(
        open_turn(stored),
        messages=(message(3), message(3, "twice")),
        marks=((2, "failed"),),
        clear_through_seq=1,
        documents_changed=True,
    )
    [outcome] = await storage.commit([bad])
    expect_failed("a write with the same message twice", outcome)
    expect_equal("the session", await load_one(storage, "s"), stored)
    found = list(await storage.read_messages(stored.record.key, ALL))
    expect_equal("the messages", found, [message(1), message(2)])
    await commit(storage, open_turn(stored))


@part.opened(promises.CANCELLING)
async def a_cancelled_commit_is_never_half_there(storage: ISessionStorage) -> None:
    """Whenever its caller goes away: revision, messages and turn agree, and the next write fits."""
    for number in range(20):
        write = await _turn_of_a_new_session(storage, f"s{number}")
        with anyio.move_on_after(0.0002 * (number % 5)):
            await storage.commit([write])
        await _is_whole_or_not_there(storage, write)


@part.opened(promises.CANCELLING)
async def a_commit_cancelled_at_any_step_is_never_half_there(storage: ISessionStorage) -> None:
    for number, cancelled in enumerate(ways_to_cancel()):
        for steps in range(20):
            write = await _turn_of_a_new_session(storage, f"s{number}.{steps}")
            await cancelled(steps, partial(storage.commit, [write]))
            await _is_whole_or_not_there(storage, write)


async def _turn_of_a_new_session(storage: ISessionStorage, session_id: str) -> SessionWrite:
    stored = await create(storage, session_id)
    return attrs.evolve(open_turn(stored), messages=(message(1), message(2)))


async def _is_whole_or_not_there(storage: ISessionStorage, write: SessionWrite) -> None:
    [found] = await storage.read_back([write.after.record.session_id])
    after = present("the session that was committed before", found)
    there = after.record.revision == write.after.record.revision
    count = len(await storage.read_messages(after.record.key, MessageQuery()))
    expected = (2, write.turn) if there else (0, None)
    expect_equal("messages and open turn", (count, after.open_turn), expected)
    await commit(storage, change(after, message(9), open_turn=after.open_turn))


@part.opened(promises.CANCELLING)
async def a_cancelled_read_leaves_a_storage_that_works(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    key = stored.record.key
    for cancelled in ways_to_cancel():
        for steps in range(3):
            for read in (
                lambda: storage.load(["s"]),
                lambda: storage.read_back(["s"]),
                lambda: storage.load_unfinished(1),
                lambda: storage.read_messages(key, ALL),
                lambda: storage.list_sessions(SessionQuery(user_id="ann", limit=1)),
                lambda: storage.list_sessions(SessionQuery(tags=("a",), limit=1)),
                lambda: storage.read_usage(UsageQuery(first_day=1, last_day=2)),
                lambda: storage.read_turn(key, 1),
                lambda: storage.find_claim("s", "send_message", "k"),
                lambda: storage.load_purges(1, 1),
            ):
                await cancelled(steps, read)
    stored = await commit(storage, change(stored, message(2)))
    found = await contents(storage, stored.record.key)
    expect_equal("the messages", found, ["text 1", "text 2"])


@part.opened(promises.RESOLVED)
async def reading_back_settles_a_cancelled_commit_for_good(storage: ISessionStorage) -> None:
    """Either all of it is there or nothing is, and that does not change any more."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await storage.commit([new("s")])
    first = list(await storage.read_back(["s"]))
    expect_equal("reading back again", list(await storage.read_back(["s"])), first)
    expect_equal("loading", list(await storage.load(["s"])), first)


@part.opened(promises.READ_BACK)
async def reading_back_waits_for_the_commit_that_is_running(storage: ISessionStorage) -> None:
    seen: list[StoredSession | None] = []

    async def write() -> None:
        await storage.commit([new(f"s{number}") for number in range(500)])

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        seen.extend(await storage.read_back(["s0", "s499"]))
    expect("both sessions are there", len(seen) == 2 and None not in seen, seen)


@part.opened(promises.READ_BACK)
async def reading_back_answers_as_loading_does(storage: ISessionStorage) -> None:
    await create(storage, "a")
    await commit(storage, open_turn(await create(storage, "b")))
    names = ["b", "nobody", "a", "b"]
    loaded = list(await storage.load(names))
    expect_equal("what is read back", list(await storage.read_back(names)), loaded)
    expect_equal("nothing, read back", list(await storage.read_back([])), [])


@part.opened(promises.LOAD)
async def a_read_sees_every_write_that_was_acknowledged(storage: ISessionStorage) -> None:
    """While others write: from the commit's return on, in every read."""
    one_at_a_time = anyio.Lock()

    async def chat(name: str) -> None:
        async with one_at_a_time:
            stored = await create(storage, name)
        for seq in range(1, 21):
            async with one_at_a_time:
                await storage.commit([change(stored, message(seq))])
            newest = await contents(storage, stored.record.key, MessageQuery(limit=1))
            expect_equal("the newest message", newest, [f"text {seq}"])
            found = await load_one(storage, name)
            expect_equal("the revision", found.record.revision, seq + 1)
            stored = found

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(chat, f"s{number}")


@part.opened(promises.READS_AT_ONCE)
async def reads_during_commits_see_whole_writes_only(storage: ISessionStorage) -> None:
    """A write of two messages raises the revision by one: no read ever finds half of it."""
    stored = await create(storage)
    key = stored.record.key

    async def read() -> None:
        # Not until the commit returns: readers that spin would starve a storage's thread.
        for _ in range(_READS_BESIDE):
            before = len(await storage.read_messages(key, ALL))
            revision = (await load_one(storage, "s")).record.revision
            after = len(await storage.read_messages(key, ALL))
            expect("an even number of messages", before % 2 == 0 == after % 2, (before, after))
            expect(
                "as many messages as the revision between the two reads says",
                before <= 2 * (revision - 1) <= after,
                (before, revision, after),
            )
            await anyio.lowlevel.checkpoint()

    for seq in range(1, 41, 2):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(read)
            stored = await commit(storage, change(stored, message(seq), message(seq + 1)))
