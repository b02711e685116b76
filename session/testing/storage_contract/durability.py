"""What outlives the storage object: a second one on the same place finds all that was committed."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from langswarm.core.session.actors.model import (
    Conflict,
    SessionDocuments,
    StoredSession,
    TurnRecord,
    TurnState,
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
    days_of,
    listed,
    load_one,
    message,
    open_turn,
    purge,
    say,
    usage,
    use,
)
from langswarm.core.session.testing.storage_contract.cancelling import ways_to_cancel
from langswarm.core.session.testing.storage_contract.case import (
    Make,
    Part,
    expect,
    expect_equal,
    expect_failed,
    present,
)
from langswarm.core.session.testing.storage_contract.values import TEXTS

part = Part()


@part.unopened(promises.COMMIT)
async def a_second_storage_finds_every_session_and_message(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    messages = [message(seq, text) for seq, text in enumerate(TEXTS, 1)]
    stored = [
        await commit(first, change(await create(first, f"s{number}"), *messages))
        for number in range(3)
    ]
    await first.close()
    await second.open()
    names = ["s0", "s1", "s2", "nobody"]
    expect_equal("the sessions", list(await second.load(names)), [*stored, None])
    for one in stored:
        found = list(await second.read_messages(one.record.key, ALL))
        expect_equal("the messages", found, messages)
    found_ids = await listed(second, user_id="ann")
    expect_equal("the list", found_ids, ["s2", "s1", "s0"])


@part.unopened(promises.UNFINISHED)
async def a_second_storage_finds_the_turns_left_open_and_can_close_them(make: Make) -> None:
    first, second, third = make(), make(), make()
    await first.open()
    write = open_turn(await create(first), partial_text="so f", payload_hash=b"\0\xff")
    opened = await commit(first, write)
    await first.close()
    await second.open()
    expect_equal("the unfinished ones", list(await second.load_unfinished(9)), [opened])
    closed = await commit(second, close_turn(opened))
    await second.close()
    await third.open()
    expect_equal("the unfinished ones", list(await third.load_unfinished(9)), [])
    expect_equal("the session", list(await third.load(["s"])), [closed])
    [outcome] = await third.commit([open_turn(closed, turn_no=1)])
    expect_failed("a second turn 1", outcome)


@part.unopened(promises.LIST)
async def keys_go_on_in_a_second_storage(make: Make) -> None:
    keys: list[int] = []
    for number in range(3):
        storage = make()
        await storage.open()
        keys.append((await create(storage, f"s{number}")).record.key)
        await storage.close()
    expect("each later session has a larger key", keys == sorted(set(keys)), keys)


@part.unopened(promises.CONFLICT)
async def a_second_storage_fences_as_the_first(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    stored = await create(first, epoch=4)
    after = await commit(first, change(stored, message(1)))
    await first.close()
    await second.open()
    outcomes = list(await second.commit([change(stored, message(1, "stale"))]))
    expect_equal("the outcome of a stale write", outcomes, [Conflict(2, 4)])
    [outcome] = await second.commit([change(after, message(1, "taken"))])
    expect_failed("a message whose seq is taken", outcome)
    await commit(second, change(after, message(2)))
    found = await contents(second, stored.record.key)
    expect_equal("the messages", found, ["text 1", "text 2"])


@part.unopened(promises.WRITE_ORDER)
async def what_was_cleared_marked_and_refused_stays_so(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    stored = await commit(first, change(await create(first), *map(message, (1, 2, 3))))
    await first.commit([change(stored, message(3, "refused"))])
    marked = await commit(first, change(stored, clear_through_seq=1, marks=((2, "failed"),)))
    last = await commit(first, change(marked, record={"updated_us": START_US + 7}))
    await first.close()
    await second.open()
    expect_equal("the session", await load_one(second, "s"), last)
    found = await second.read_messages(stored.record.key, ALL)
    expect_equal(
        "content and finish reason",
        [(one.content, one.finish_reason) for one in found],
        [("text 2", "failed"), ("text 3", None)],
    )


@part.unopened(promises.RESOLVED)
async def a_second_storage_finds_what_was_read_back_after_a_cancelled_commit(make: Make) -> None:
    """And what was acknowledged behind it, as the first one showed it."""
    first, second = make(), make()
    await first.open()
    stored: list[StoredSession] = []
    for number, cancelled in enumerate(ways_to_cancel()):
        for steps in range(20):
            name = f"s{number}.{steps}"
            cut = change(await create(first, name), message(1, "cut"))
            await cancelled(steps, partial(first.commit, [cut]))
            [found] = await first.read_back([name])
            after = present("the session that was committed before", found)
            seq = after.record.last_seq + 1
            stored.append(await commit(first, change(after, message(seq, "acknowledged"))))
    shown = [await contents(first, one.record.key) for one in stored]
    await first.close()
    await second.open()
    names = [one.record.session_id for one in stored]
    expect_equal("the sessions", list(await second.load(names)), stored)
    found_texts = [await contents(second, one.record.key) for one in stored]
    expect_equal("the messages", found_texts, shown)


@part.unopened(promises.COMMIT)
async def a_second_storage_finds_claims_purges_and_what_is_hidden(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    stored = await commit(first, change(await create(first), *map(message, (1, 2, 3))))
    done, asked = claim(payload_hash=b"\0\xff"), purge(last_error="why", attempts=2)
    await commit(first, change(stored, hides=((2, 3, 4),), claim=done, purges=(asked,)))
    await first.close()
    await second.open()
    expect_equal("the claim", await second.find_claim("s", "send_message", "k"), done)
    expect_equal("the purges", list(await second.load_purges(START_US, 9)), [asked])
    found = await second.read_messages(stored.record.key, ALL)
    expect_equal("hidden_by", [one.hidden_by for one in found], [0, 4, 4])


@part.unopened(promises.SWEPT_FOR_GOOD)
async def claims_that_were_swept_stay_so(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    stored = await commit(first, change(await create(first), claim=claim("old")))
    young = claim("young", created_us=START_US + 1)
    await commit(first, change(stored, claim=young))
    swept = await first.sweep_claims(START_US + 1, 9)
    expect_equal("the number of claims swept", swept, 1)
    await first.close()
    await second.open()
    expect_equal("the old one", await second.find_claim("s", "send_message", "old"), None)
    expect_equal("the young one", await second.find_claim("s", "send_message", "young"), young)


@part.unopened(promises.SETTLED_FOR_GOOD)
async def purges_that_were_settled_stay_so(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    done, failed = purge("done"), purge("failed")
    await commit(first, change(await create(first), purges=(done, failed)))
    await first.settle_purge(done, retry_us=None, error=None)
    await first.settle_purge(failed, retry_us=START_US + 5, error="why")
    await first.close()
    await second.open()
    retried = purge("failed", due_us=START_US + 5, attempts=1, last_error="why")
    expect_equal("the purges", list(await second.load_purges(START_US + 5, 9)), [retried])


@part.unopened(promises.COMMIT)
async def a_second_storage_finds_tags_metadata_words_and_past_turns(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    turn = TurnRecord(turn_no=1, state=TurnState.FAILED, user_seq=1, opened_us=START_US)
    stored = await say(first, "s", "kept", "hidden")
    documents = SessionDocuments(config='{"metadata": {"a.b": [1]}}')
    write = change(stored, documents=documents, documents_changed=True, hides=((2, 2, 7),))
    await commit(first, attrs.evolve(write, tags=("a", "\0"), past_turns=(turn,)))
    await first.close()
    await second.open()
    queries: list[tuple[dict[str, Any], list[str]]] = [
        ({"tags": ("a", "\0")}, ["s"]),
        ({"tags": ("b",)}, []),
        ({"metadata": (("a.b", "[1]"),)}, ["s"]),
        ({"text": "kept"}, ["s"]),
        ({"text": "hidden"}, []),
    ]
    for conditions, expected in queries:
        if "text" not in conditions or second.searches_text:
            found = await listed(second, **conditions)
            expect_equal(f"the list for {conditions}", found, expected)
    expect_equal("the turn", await second.read_turn(stored.record.key, 1), turn)


@part.unopened(promises.USAGE_SUMS)
async def a_second_storage_sums_up_what_both_have_added(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    await use(first, "s", usage(sessions=1), usage(sessions=10, user_id="bob"))
    await first.close()
    await second.open()
    await use(second, "t", usage(sessions=100))
    expected = [usage(user_id="", sessions=111)]
    expect_equal("the days", await days_of(second), expected)
    expected = [usage(user_id="", sessions=101)]
    expect_equal("the days of Ann", await days_of(second, user_id="ann"), expected)


@part.unopened(promises.ERASED_FOR_GOOD)
async def a_user_who_was_erased_stays_so(make: Make) -> None:
    first, second = make(), make()
    await first.open()
    stored = await use(first, "s", usage(sessions=1), usage(sessions=10, user_id="bob"))
    await commit(first, change(stored, claim=claim(scope="user:ann")))
    await first.erase_user("ann")
    await first.close()
    await second.open()
    expect_equal("the days", await days_of(second), [usage(user_id="", sessions=10)])
    found = await second.find_claim("user:ann", "send_message", "k")
    expect_equal("the claim", found, None)


@part.unopened(promises.ERASES)
async def sessions_that_were_erased_stay_so_and_their_keys_are_not_given_again(
    make: Make,
) -> None:
    keys: list[int] = []
    for _ in range(3):
        storage = make()
        await storage.open()
        expect_equal("the session", list(await storage.load(["s"])), [None])
        stored = await say(storage, "s", "words")
        keys.append(stored.record.key)
        await storage.commit([change(stored, erases=True)])
        await storage.close()
    expect("each later session has a larger key", keys == sorted(set(keys)), keys)
    last = make()
    await last.open()
    expect_equal("the list", await listed(last), [])
    for key in keys:
        expect_equal("the messages", await contents(last, key), [])
