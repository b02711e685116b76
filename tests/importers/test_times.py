"""Naive local times become the moments they were meant to be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.importers.times import Timeline, moment_of, zone_of
from langswarm.core.session.errors import ConfigurationError

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def moment(value: object, after: datetime | None = None) -> datetime | None:
    found = moment_of(value, NEW_YORK, after)
    return found.at if found is not None else None


def test_a_time_that_clocks_showed_twice_is_the_first_unless_that_goes_back() -> None:
    first, second = at("2025-11-02T05:30"), at("2025-11-02T06:30")
    assert moment("2025-11-02T01:30") == first
    assert moment("2025-11-02T01:30", after=at("2025-11-02T05:10")) == first
    assert moment("2025-11-02T01:30", after=at("2025-11-02T05:45")) == second
    assert moment("2025-11-02T01:30", after=at("2025-11-03T00:00")) == first


def test_a_time_that_no_clock_showed_is_moved_on() -> None:
    assert moment("2025-03-09T02:30") == at("2025-03-09T07:30")
    notes: list[str] = []
    Timeline(NEW_YORK, notes.append).next("2025-03-09T02:30", start=at("2025-01-01"))
    assert "no clock showed" in notes[0]


def test_an_offset_in_the_text_counts_more_than_the_zone() -> None:
    assert moment("2025-07-01T12:00:00+02:00") == at("2025-07-01T10:00")
    assert moment("2025-07-01T12:00:00Z") == at("2025-07-01T12:00")
    assert moment("2025-07-01 12:00:00") == at("2025-07-01T16:00")


def test_numbers_are_seconds_or_milliseconds() -> None:
    assert moment(1_750_000_000) == moment(1_750_000_000_000) == at("2025-06-15T15:06:40")


@pytest.mark.parametrize(
    "value", [None, True, "", "today", "9999-12-31T23:59:59", 1e300, float("nan"), {}, "2025-13-01"]
)
def test_what_is_no_moment_is_none(value: object) -> None:
    assert moment(value) is None


@given(
    start_minutes=st.integers(0, 240),
    steps=st.lists(st.integers(0, 50), max_size=20),
)
def test_a_conversation_through_the_change_of_clocks_never_runs_backwards(
    start_minutes: int, steps: list[int]
) -> None:
    start = at("2025-11-02T04:00") + timedelta(minutes=start_minutes)
    timeline = Timeline(NEW_YORK, lambda _: None)
    moments = [start]
    for step in steps:
        moments.append(moments[-1] + timedelta(minutes=step))
    shown = [one.astimezone(NEW_YORK).replace(tzinfo=None).isoformat() for one in moments]
    found = [timeline.next(text, start=start) for text in shown]
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "\0"])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="source_timezone"):
        zone_of(name)


def test_no_zone_is_that_of_this_machine() -> None:
    naive = datetime(2025, 7, 1, 12)  # noqa: DTZ001
    found = moment_of(naive.isoformat(), None)
    assert found is not None
    assert found.at == naive.astimezone(UTC)
