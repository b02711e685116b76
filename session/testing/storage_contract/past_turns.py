"""Sessions that are created with a history: turns that ended before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.model import SessionWrite, TurnRecord, TurnState
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
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
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect_committed,
    expect_equal,
    expect_failed,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


def _turn(turn_no: int, state: TurnState = TurnState.COMPLETED) -> TurnRecord:
    return TurnRecord(
        turn_no=turn_no,
        state=state,
        user_seq=turn_no,
        opened_us=START_US,
        closed_us=START_US + turn_no,
        replaces=turn_no - 1,
        partial_text="so far",
        error_code="internal",
        error_text="why",
        input_tokens=3,
        output_tokens=4,
        idempotency_key="k",
        payload_hash=b"\0\xff",
    )


def _imported(session_id: str, *turns: TurnRecord) -> SessionWrite:
    last = max(turn.turn_no for turn in turns)
    write = new(session_id, last_seq=last, last_turn_no=last)
    messages = tuple(message(seq) for seq in range(1, last + 1))
    return attrs.evolve(write, messages=messages, past_turns=turns)


@part.opened(promises.PAST_TURNS)
async def past_turns_are_read_with_every_field(storage: ISessionStorage) -> None:
    states = (TurnState.COMPLETED, TurnState.FAILED, TurnState.INTERRUPTED)
    turns = [_turn(number, state) for number, state in enumerate(states, 1)]
    for name in ("s", "t"):
        stored = await commit(storage, _imported(name, *turns))
        key = stored.record.key
        found = [await storage.read_turn(key, number) for number in (1, 2, 3, 4)]
        expect_equal("the turns", found, [*turns, None])
        expect_equal("the open turn", stored.open_turn, None)
    expect_equal("the unfinished ones", list(await storage.load_unfinished(9)), [])


@part.opened(promises.PAST_TURNS)
async def a_session_with_past_turns_goes_on_behind_them(storage: ISessionStorage) -> None:
    stored = await commit(storage, _imported("s", _turn(1), _turn(2)))
    opened = await commit(storage, open_turn(stored, turn_no=3))
    expect_equal("the unfinished ones", list(await storage.load_unfinished(9)), [opened])
    closed = await commit(storage, close_turn(opened))
    found = await contents(storage, closed.record.key)
    expect_equal("the messages", found, [f"text {seq}" for seq in range(1, 5)])
    expect_equal("a past turn", await storage.read_turn(closed.record.key, 2), _turn(2))


@part.opened(promises.FAILS_ALONE)
async def a_past_turn_of_a_number_that_is_taken_fails_alone(storage: ISessionStorage) -> None:
    stored = await commit(storage, _imported("s", _turn(1)))
    twice = _imported("twice", _turn(1), _turn(1))
    again = change(stored, past_turns=(_turn(2), _turn(1, TurnState.FAILED)))
    [first, second, third] = await storage.commit([twice, again, _imported("good", _turn(1))])
    expect_failed("a past turn that is there twice", first)
    expect_failed("a past turn that is stored already", second)
    expect_committed("the good write beside them", third)
    expect_equal("the sessions", list(await storage.load(["twice", "s"])), [None, stored])
    found = [await storage.read_turn(stored.record.key, number) for number in (1, 2)]
    expect_equal("the turns", found, [_turn(1), None])
    taken = change(await create(storage, "t"), past_turns=(_turn(1),))
    taken = attrs.evolve(taken, turn=_turn(1), opens_turn=True)
    [outcome] = await storage.commit([taken])
    expect_failed("a turn beside a past one of its number", outcome)


@part.opened(promises.PAST_TURNS)
async def a_long_history_of_past_turns_is_stored(storage: ISessionStorage) -> None:
    turns = [_turn(number) for number in range(1, 1001)]
    stored = await commit(storage, _imported("s", *turns))
    for number in (1, 500, 1000):
        found = await storage.read_turn(stored.record.key, number)
        expect_equal(f"turn {number}", found, _turn(number))
