"""What a write adds to the figures of its day, and percentiles of what was counted."""

from __future__ import annotations

from operator import add
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langswarm.core.session.actors.model import (
    LATENCY_BOUNDS_MS,
    Role,
    SessionRecord,
    TurnRecord,
    TurnState,
    UsageQuery,
    UsageRecord,
)
from langswarm.core.session.actors.usage import (
    day_of,
    percentile_ms,
    read_latencies,
    usage_of_creation,
    usage_of_message,
    usage_of_turn,
    with_latency,
)
from langswarm.core.session.adapters.storage.usage_table import UsageTable

DAY_US = 24 * 3600 * 1_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2
NONE = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
RECORD = SessionRecord(
    session_id="s",
    user_id="ann",
    provider="mock",
    model="m",
    created_us=5 * DAY_US,
    updated_us=NOON_US,
)
PLAIN = UsageRecord(day=20_000, user_id="ann", provider="mock", model="m")


def turn(state: TurnState, seconds: float = 1.0) -> TurnRecord:
    closed_us = NOON_US + int(seconds * 1_000_000)
    return TurnRecord(
        turn_no=1,
        state=state,
        user_seq=1,
        opened_us=NOON_US,
        closed_us=closed_us,
        input_tokens=3,
        output_tokens=4,
    )


@pytest.mark.parametrize(
    ("moment_us", "day"),
    [(0, 0), (DAY_US - 1, 0), (DAY_US, 1), (-1, -1), (NOON_US, 20_000)],
)
def test_a_day_is_one_of_utc(moment_us: int, day: int) -> None:
    assert day_of(moment_us) == day


def test_a_creation_counts_a_session_and_no_message() -> None:
    """On the day of its commit, whenever it says that it was created: an import is of today."""
    assert usage_of_creation(RECORD) == attrs.evolve(PLAIN, sessions=1)


@pytest.mark.parametrize("role", Role)
def test_a_message_outside_of_turns_counts_by_its_role(role: Role) -> None:
    counted: dict[str, Any] = {f"{role.value}_messages": 1}
    expected = attrs.evolve(PLAIN, **counted)
    assert usage_of_message(RECORD, role, NOON_US) == expected


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.INTERRUPTED])
@pytest.mark.parametrize("answered", [True, False])
def test_a_turn_without_an_end_counts_its_tokens_and_no_time(
    state: TurnState, answered: bool
) -> None:
    counted: dict[str, Any] = {f"{state.value}_turns": 1}
    expected = attrs.evolve(
        PLAIN,
        user_messages=1,
        assistant_messages=int(answered),
        input_tokens=3,
        output_tokens=4,
        **counted,
    )
    assert usage_of_turn(RECORD, turn(state), answered=answered) == expected


@given(st.floats(0, 300))
@example(0.05)
@example(0.050001)
@example(120.0)
@example(120.000001)
def test_a_completed_turn_counts_in_the_class_of_its_time(seconds: float) -> None:
    """A bound belongs to the class below it; one class is above all bounds."""
    found = usage_of_turn(RECORD, turn(TurnState.COMPLETED, seconds), answered=True)
    assert (found.completed_turns, found.response_us) == (1, int(seconds * 1_000_000))
    [place] = [place for place, count in enumerate(found.latencies) if count]
    below = LATENCY_BOUNDS_MS[place - 1] if place else -1
    above = LATENCY_BOUNDS_MS[place] if place < len(LATENCY_BOUNDS_MS) else float("inf")
    assert below < found.response_us / 1000 <= above


def test_a_turn_belongs_to_the_day_on_which_it_ended() -> None:
    found = usage_of_turn(RECORD, turn(TurnState.COMPLETED, 86_400), answered=True)
    assert found.day == 20_001


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    found = usage_of_turn(RECORD, turn(TurnState.COMPLETED, -5), answered=True)
    assert found.response_us == 0
    assert found.latencies[0] == 1


@given(st.lists(st.integers(0, 300_000_000), max_size=30))
def test_a_session_counts_its_times_as_the_days_do(times_us: list[int]) -> None:
    counted = ""
    total = NONE
    for time_us in times_us:
        counted = with_latency(counted, time_us)
        one = usage_of_turn(RECORD, turn(TurnState.COMPLETED, time_us / 1_000_000), answered=True)
        total = tuple(map(add, total, one.latencies))
    assert sum(read_latencies(counted)) == len(times_us)
    assert read_latencies(counted) == total


@given(st.lists(st.integers(0, 120_000_000), min_size=1, max_size=40), st.floats(0.01, 1.0))
@example([1_000_000] * 19 + [100_000_000], 0.95)
def test_a_percentile_is_the_bound_of_the_class_that_holds_it(
    times_us: list[int], share: float
) -> None:
    """So it is never too low, and above the first class at most twice too high."""
    counted = ""
    for time_us in times_us:
        counted = with_latency(counted, time_us)
    found = percentile_ms(read_latencies(counted), share)
    ordered = sorted(times_us)
    exact_ms = next(
        one / 1000 for place, one in enumerate(ordered, 1) if place >= share * len(ordered)
    )
    assert exact_ms <= found
    assert found in LATENCY_BOUNDS_MS
    assert found <= max(50, 2 * exact_ms)


def test_a_percentile_of_nothing_is_zero_and_of_endless_turns_the_last_bound() -> None:
    assert percentile_ms(NONE, 0.95) == 0.0
    assert percentile_ms((*NONE[1:], 7), 0.5) == LATENCY_BOUNDS_MS[-1]


# ---------------------------------------------------------------- the table in memory

_NAMES = st.sampled_from(["ann", "bob", "eve"])
_USED = st.builds(
    UsageRecord,
    day=st.integers(0, 5),
    user_id=_NAMES,
    provider=_NAMES,
    model=_NAMES,
    sessions=st.integers(0, 9),
    input_tokens=st.integers(0, 2**40),
    latencies=st.tuples(*(st.integers(0, 3) for _ in NONE)),
)


@given(st.lists(_USED, max_size=30), st.integers(0, 5), st.integers(0, 5), _NAMES)
def test_sums_in_memory_are_those_of_all_that_was_added_and_not_erased(
    used: list[UsageRecord], first: int, last: int, erased: str
) -> None:
    table = UsageTable()
    for one in used:
        table.add(one)
    table.erase_user(erased)
    report = table.report(UsageQuery(first_day=first, last_day=last))
    left = [one for one in used if one.user_id != erased and first <= one.day <= last]
    names = {(one.day, one.provider, one.model) for one in left}
    assert [(one.day, one.provider, one.model) for one in report.days] == sorted(names)
    assert sum(one.sessions for one in report.days) == sum(one.sessions for one in left)
    assert sum(one.input_tokens for one in report.days) == sum(one.input_tokens for one in left)
    for place in range(len(NONE)):
        counts = [sum(one.latencies[place] for one in each) for each in (report.days, left)]
        assert counts[0] == counts[1]
    assert report.active_users == len({one.user_id for one in left})
