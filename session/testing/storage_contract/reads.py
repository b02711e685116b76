"""What is found, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.model import (
    MessageQuery,
    Role,
    SessionQuery,
    SessionStatus,
    StoredSession,
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
    load_one,
    message,
    new,
    open_turn,
    purge,
)
from langswarm.core.session.testing.storage_contract.case import Part, expect, expect_equal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.ports import ISessionStorage
    from langswarm.core.session.testing.storage_contract.case import Make

part = Part()

_SECOND = 1_000_000


@part.opened(promises.LOAD)
async def loading_answers_in_the_order_of_the_ids_and_none_for_unknown_ones(
    storage: ISessionStorage,
) -> None:
    a, b = await create(storage, "a"), await create(storage, "b")
    found = list(await storage.load(["b", "nobody", "a", "b", "\ud800"]))
    expect_equal("what is loaded", found, [b, None, a, b, None])


@part.opened(promises.LOAD)
async def loading_takes_many_ids_at_once(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(700)]
    await storage.commit([new(name) for name in names])
    asked = [*names, *(f"nobody{number}" for number in range(10_000))]
    loaded = list(await storage.load(asked))
    found = [None if stored is None else stored.record.session_id for stored in loaded]
    expect_equal("what is loaded", found, [*names, *[None] * 10_000])


@part.opened(promises.LOAD)
async def loading_nothing_finds_nothing(storage: ISessionStorage) -> None:
    expect_equal("what is loaded", list(await storage.load([])), [])


@part.opened(promises.LOAD)
async def loading_finds_the_last_of_many_commits(storage: ISessionStorage) -> None:
    stored = await create(storage)
    for seq in range(1, 21):
        stored = await commit(storage, change(stored, message(seq)))
        expect_equal("the revision", stored.record.revision, seq + 1)
        expect_equal("last_seq", stored.record.last_seq, seq)


@part.opened(promises.UNFINISHED)
async def unfinished_sessions_are_those_with_an_open_turn(storage: ISessionStorage) -> None:
    await create(storage, "idle")
    opened = await commit(storage, open_turn(await create(storage, "open")))
    for state in (TurnState.COMPLETED, TurnState.FAILED, TurnState.INTERRUPTED):
        stored = await commit(storage, open_turn(await create(storage, state.value)))
        await commit(storage, close_turn(stored, state=state))
    expect_equal("the unfinished ones", list(await storage.load_unfinished(10)), [opened])


@part.opened(promises.UNFINISHED)
async def an_open_turn_is_unfinished_whatever_else_is_written(storage: ISessionStorage) -> None:
    opened = await commit(storage, open_turn(await create(storage)))
    later = await commit(storage, change(opened, message(2), open_turn=opened.open_turn))
    expect_equal("the open turn", later.open_turn, opened.open_turn)
    expect_equal("the unfinished ones", list(await storage.load_unfinished(10)), [later])


@part.opened(promises.UNFINISHED)
async def an_open_turn_is_unfinished_whatever_the_status(storage: ISessionStorage) -> None:
    opened: list[StoredSession] = []
    for status in SessionStatus:
        stored = await commit(storage, open_turn(await create(storage, status.value)))
        later = change(stored, open_turn=stored.open_turn, record={"status": status})
        opened.append(await commit(storage, later))
    found = sorted(await storage.load_unfinished(10), key=lambda stored: stored.record.key)
    expect_equal("the unfinished ones", found, opened)


@part.opened(promises.UNFINISHED)
async def unfinished_sessions_come_in_pages_until_all_are_closed(storage: ISessionStorage) -> None:
    for number in range(5):
        await commit(storage, open_turn(await create(storage, f"s{number}")))
    found: list[str] = []
    for _ in range(5):
        page = await storage.load_unfinished(2)
        expect("at most 2 sessions for limit=2", len(page) <= 2, page)
        await storage.commit([close_turn(stored) for stored in page])
        found += [stored.record.session_id for stored in page]
    expect_equal("the unfinished ones", sorted(found), [f"s{number}" for number in range(5)])


# ---------------------------------------------------------------- turns


@part.opened(promises.READ_TURN)
async def reading_a_turn_finds_it_open_and_closed_with_every_field(
    storage: ISessionStorage,
) -> None:
    first = open_turn(await create(storage), idempotency_key="k", payload_hash=b"\0\xff")
    opened = await commit(storage, first)
    key = opened.record.key
    expect_equal("the open turn", await storage.read_turn(key, 1), first.turn)
    close = close_turn(
        opened,
        state=TurnState.FAILED,
        partial_text="so far",
        error_code="internal",
        error_text="why",
        input_tokens=3,
        output_tokens=4,
    )
    closed = await commit(storage, close)
    expect_equal("the closed turn", await storage.read_turn(key, 1), close.turn)
    second = open_turn(closed, turn_no=2, replaces=1)
    await commit(storage, second)
    expect_equal("the turn before", await storage.read_turn(key, 1), close.turn)
    expect_equal("the turn behind", await storage.read_turn(key, 2), second.turn)


@part.opened(promises.READ_TURN)
async def reading_a_turn_finds_none_where_none_is(storage: ISessionStorage) -> None:
    keys: list[int] = []
    for name in ("a", "b", "c"):
        stored = await commit(storage, open_turn(await create(storage, name)))
        keys.append(stored.record.key)
    for key in (*keys, 12345):
        for turn_no in (-1, 0, 2, 2**32, 2**32 + 1, 2**33 + 1):
            found = await storage.read_turn(key, turn_no)
            expect_equal(f"turn {turn_no} of session {key}", found, None)
    expect_equal("turn 1 of no session", await storage.read_turn(12345, 1), None)


# ---------------------------------------------------------------- messages


async def _history(storage: ISessionStorage) -> int:
    """Ten messages; 3 is hidden, 4 has an id, 5 failed, 6 is of the system; two neighbours."""
    await commit(storage, change(await create(storage, "before"), message(1), message(99)))
    stored = await create(storage, "s")
    await commit(storage, change(await create(storage, "behind"), message(1), message(99)))
    messages = [
        message(seq, str(seq), role=Role.USER if seq % 2 else Role.ASSISTANT)
        for seq in range(1, 11)
    ]
    messages[2] = attrs.evolve(messages[2], hidden_by=2)
    messages[3] = attrs.evolve(messages[3], message_id="four")
    messages[4] = attrs.evolve(messages[4], finish_reason="failed")
    messages[5] = attrs.evolve(messages[5], role=Role.SYSTEM)
    stored = await commit(storage, change(stored, *messages))
    return stored.record.key


_QUERIES = {
    "all_that_is_not_hidden": [(MessageQuery(), "1 2 4 5 6 7 8 9 10")],
    "hidden_ones_when_asked_for": [
        (MessageQuery(include_hidden=True), "1 2 3 4 5 6 7 8 9 10"),
        (MessageQuery(include_hidden=True, limit=8), "3 4 5 6 7 8 9 10"),
    ],
    "the_newest_within_a_limit": [
        (MessageQuery(limit=3), "8 9 10"),
        (MessageQuery(limit=8), "2 4 5 6 7 8 9 10"),
        (MessageQuery(limit=100), "1 2 4 5 6 7 8 9 10"),
        (MessageQuery(limit=1), "10"),
        (MessageQuery(limit=0), ""),
    ],
    "those_behind_a_seq": [
        (MessageQuery(after_seq=8), "9 10"),
        (MessageQuery(after_seq=10), ""),
        (MessageQuery(after_seq=2**40), ""),
    ],
    "those_before_a_seq": [
        (MessageQuery(before_seq=5), "1 2 4"),
        (MessageQuery(before_seq=2**40), "1 2 4 5 6 7 8 9 10"),
        (MessageQuery(before_seq=1), ""),
        (MessageQuery(before_seq=0), ""),
        (MessageQuery(before_seq=8, limit=2), "6 7"),
    ],
    "those_between_two_seqs": [
        (MessageQuery(after_seq=1, before_seq=9, limit=3), "6 7 8"),
        (MessageQuery(after_seq=5, before_seq=5), ""),
    ],
    "those_of_a_role": [
        (MessageQuery(role=Role.ASSISTANT), "2 4 8 10"),
        (MessageQuery(role=Role.SYSTEM), "6"),
        (MessageQuery(role=Role.USER, limit=2), "7 9"),
        (MessageQuery(role=Role.USER, include_hidden=True, before_seq=6), "1 3 5"),
    ],
    "those_of_a_time": [
        (MessageQuery(since_us=START_US + 9 * _SECOND), "9 10"),
        (MessageQuery(until_us=START_US + 3 * _SECOND), "1 2"),
        (
            MessageQuery(since_us=START_US + 4 * _SECOND, until_us=START_US + 8 * _SECOND),
            "4 5 6 7",
        ),
    ],
    "the_one_of_an_id": [
        (MessageQuery(message_id="four"), "4"),
        (MessageQuery(message_id="five"), ""),
        (MessageQuery(message_id="FOUR"), ""),
        (MessageQuery(message_id="four", role=Role.USER), ""),
    ],
}


def _add_query_case(what: str, queries: list[tuple[MessageQuery, str]]) -> None:
    async def check(make: Make) -> None:
        storage = make()
        await storage.open()
        key = await _history(storage)
        for query, expected in queries:
            found = " ".join(await contents(storage, key, query))
            expect_equal(f"the messages for {query}", found, expected)

    part.add(f"reading_messages_finds_{what}", promises.READ_MESSAGES, check)


for _what, _queries in _QUERIES.items():
    _add_query_case(_what, _queries)


@part.opened(promises.FOR_PROMPT)
async def reading_messages_finds_those_that_a_prompt_may_hold(storage: ISessionStorage) -> None:
    key = await _history(storage)
    for query, expected in (
        (MessageQuery(for_prompt=True), "1 2 4 7 8 9 10"),
        (MessageQuery(for_prompt=True, limit=5), "4 7 8 9 10"),
        (MessageQuery(for_prompt=True, before_seq=8), "1 2 4 7"),
        (MessageQuery(for_prompt=True, before_seq=8, limit=2), "4 7"),
        (MessageQuery(for_prompt=True, after_seq=2), "4 7 8 9 10"),
        (MessageQuery(for_prompt=True, after_seq=2, before_seq=10, limit=3), "7 8 9"),
    ):
        found = " ".join(await contents(storage, key, query))
        expect_equal(f"the messages for {query}", found, expected)


@part.opened(promises.OF_TURN)
async def reading_messages_finds_those_of_a_turn(storage: ISessionStorage) -> None:
    messages = [message(seq, str(seq), turn_no=seq // 3) for seq in range(1, 9)]
    messages[4] = attrs.evolve(messages[4], hidden_by=2)
    stored = await commit(storage, change(await create(storage), *messages))
    for query, expected in (
        (MessageQuery(turn_no=1, after_seq=0, before_seq=9), "3 4"),
        (MessageQuery(turn_no=1, after_seq=3, before_seq=9, include_hidden=True), "4 5"),
        (MessageQuery(turn_no=0, after_seq=0, before_seq=9), "1 2"),
        (MessageQuery(turn_no=2, after_seq=0, before_seq=9, limit=1), "8"),
        (MessageQuery(turn_no=3, after_seq=0, before_seq=9), ""),
    ):
        found = " ".join(await contents(storage, stored.record.key, query))
        expect_equal(f"the messages for {query}", found, expected)


@part.opened(promises.READ_MESSAGES)
async def reading_messages_orders_by_seq_whatever_the_clock_said(storage: ISessionStorage) -> None:
    back = [message(seq, str(seq), created_us=START_US - seq) for seq in (1, 2, 3)]
    stored = await commit(storage, change(await create(storage), *back))
    newest = await contents(storage, stored.record.key, MessageQuery(limit=2))
    expect_equal("the newest two", newest, ["2", "3"])


@part.opened(promises.READ_MESSAGES)
async def reading_messages_of_an_unknown_session_finds_none(storage: ISessionStorage) -> None:
    await commit(storage, change(await create(storage), message(1)))
    expect_equal("the messages", list(await storage.read_messages(12345, ALL)), [])


@part.opened(promises.READ_MESSAGES)
async def reading_messages_takes_a_long_history(storage: ISessionStorage) -> None:
    stored = await create(storage)
    many = [message(seq) for seq in range(1, 2001)]
    await commit(storage, change(stored, *many))
    key = stored.record.key
    expect_equal("all", await contents(storage, key), [f"text {seq}" for seq in range(1, 2001)])
    page = await contents(storage, key, MessageQuery(before_seq=1001, limit=2))
    expect_equal("a page in the middle", page, ["text 999", "text 1000"])


@part.opened(promises.READS_AT_ONCE)
async def what_was_read_does_not_change_any_more(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1), claim=claim("a")))
    key = stored.record.key
    before: list[Sequence[object]] = [
        await storage.load(["s"]),
        await storage.read_messages(key, MessageQuery()),
        await storage.read_messages(key, ALL),
        (await storage.list_sessions(SessionQuery(user_id="ann", limit=9))).records,
        await storage.load_unfinished(9),
        await storage.load_purges(START_US, 9),
    ]
    copies = [list(page) for page in before]
    await commit(storage, attrs.evolve(open_turn(stored), purges=(purge(),)))
    await create(storage, "t")
    expect_equal("what was read before", [list(page) for page in before], copies)


@part.opened(promises.READ_MESSAGES)
async def the_key_of_a_session_stays_its_own(storage: ISessionStorage) -> None:
    keys: set[int] = set()
    for number in range(5):
        stored = await create(storage, f"s{number}")
        keys.add(stored.record.key)
        changed = await commit(storage, change(stored, message(1, f"of s{number}")))
        expect_equal("the key after a commit", changed.record.key, stored.record.key)
    expect("five sessions have five keys", len(keys) == 5, keys)
    for number in range(5):
        stored = await load_one(storage, f"s{number}")
        found = await contents(storage, stored.record.key)
        expect_equal("the messages", found, [f"of s{number}"])
