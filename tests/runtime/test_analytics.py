"""Figures of sessions and of days: what they count, by whom, when; what a range of days is."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    InvalidMessageError,
    ProviderError,
    create_session_manager,
)
from langswarm.core.session.providers import Completed, TextDelta

from .helpers import Echo, Play, Store, new_session, outcome

if TYPE_CHECKING:
    from langswarm.core.session import SessionManager
    from langswarm.core.session.interfaces import SessionAnalytics

DAY_US = 86_400_000_000
FIRST = date(2030, 1, 1)


class Clock:
    """A manager's wall clock: set by hand, and later by `step_us` with each look."""

    def __init__(self, manager: SessionManager) -> None:
        self.now_us = 0
        self.step_us = 1
        self.set(FIRST)
        manager._anchor.host.wall_clock_us = self._read

    def _read(self) -> int:
        self.now_us += self.step_us
        return self.now_us

    def set(self, day: date, hour: int = 12) -> None:
        moment = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        self.now_us = max(self.now_us, round(moment.timestamp() * 1_000_000))


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def by_day(analytics: SessionAnalytics, name: str) -> list[Any]:
    return [getattr(each, name) for each in analytics.daily]


async def test_figures_of_a_session_have_the_95th_percentile(store: Store) -> None:
    """Of completed turns, rounded up to a class; it survives eviction and restart."""
    manager = store.manager(Echo(), idle_seconds=0.0)
    clock = Clock(manager)
    async with manager:
        session = await new_session(manager, session_id="s")
        assert (await session.get_metrics()).p95_response_time_ms == 0.0
        for number in range(100):
            clock.step_us = 1 if number % 20 else 1_200_000
            await session.send_message("x")
        metrics = await session.get_metrics()
        assert metrics.p95_response_time_ms == 50.0
        clock.step_us = 1_200_000
        for _ in range(2):
            await session.send_message("x")
        assert (await session.get_metrics()).p95_response_time_ms == 1_500.0
    async with store.manager(Echo()) as manager:
        metrics = await (await manager.get_session("s")).get_metrics()
        assert metrics.p95_response_time_ms == 1_500.0
        assert metrics.total_messages == 204


async def test_days_count_what_happened_on_them(store: Store) -> None:
    provider = Echo()
    provider.failing = {"bad"}
    manager = store.manager(provider)
    clock = Clock(manager)
    async with manager:
        ada = await manager.create_session("ada", "openai", "gpt-4", session_id="a")
        await ada.send_message("one")
        clock.set(day(1))
        bob = await manager.create_session("bob", "openai", "other", session_id="b")
        await bob.send_message("one")
        await bob.send_message("two")
        await outcome(bob.submit("bad"))
        await ada.send_system_message("rule")
        clock.set(day(3))
        await ada.send_message("two")
        clock.set(day(4))
        analytics = await manager.get_analytics(day(0), day(4))
        assert (analytics.start_day, analytics.end_day) == (day(0), day(4))
        assert by_day(analytics, "day") == [day(n) for n in range(5)]
        assert by_day(analytics, "total_sessions") == [1, 1, 0, 0, 0]
        assert by_day(analytics, "active_users") == [1, 2, 0, 1, 0]
        assert by_day(analytics, "total_messages") == [2, 6, 0, 2, 0]
        assert by_day(analytics, "completed_turns") == [1, 2, 0, 1, 0]
        assert by_day(analytics, "failed_turns") == [0, 1, 0, 0, 0]
        assert by_day(analytics, "avg_messages_per_session") == [2.0, 6.0, 0.0, 0.0, 0.0]
        assert (analytics.total_sessions, analytics.active_users) == (2, 2)
        assert (analytics.total_messages, analytics.avg_messages_per_session) == (10, 5.0)
        assert (analytics.user_messages, analytics.assistant_messages) == (5, 4)
        assert (analytics.system_messages, analytics.total_turns) == (1, 5)
        assert list(analytics.model_usage.items()) == [("other", 3), ("gpt-4", 2)]
        assert analytics.provider_usage == {"openai": 5}
        assert analytics.p95_response_time_ms == 50.0
        assert 0 < analytics.avg_response_time_ms < 1
        part = await manager.get_analytics(day(1), day(2))
        assert (part.total_sessions, part.total_messages) == (1, 6)
    async with store.manager(provider) as manager:
        assert await manager.get_analytics(day(0), day(4)) == analytics


async def test_the_totals_are_the_sum_of_the_days(store: Store) -> None:
    manager = store.manager(Echo())
    clock = Clock(manager)
    async with manager:
        for number in range(6):
            clock.set(day(number))
            session = await new_session(manager, f"user {number % 2}")
            for _ in range(number):
                await session.send_message("x")
        analytics = await manager.get_analytics(day(0), day(5))
        for name in ("total_sessions", "user_messages", "assistant_messages", "completed_turns"):
            assert sum(by_day(analytics, name)) == getattr(analytics, name) > 0
        assert analytics.active_users == 2


async def test_tokens_are_counted_however_a_turn_ends(store: Store) -> None:
    down = ProviderError("planted", code="overloaded")
    play = Play(
        [TextDelta("x"), Completed(input_tokens=10, output_tokens=3)],
        [down],
    )
    async with store.manager(play) as manager:
        session = await new_session(manager)
        await session.send_message("x")
        await outcome(session.submit("x"))
        analytics = await manager.get_analytics()
        assert (analytics.input_tokens, analytics.output_tokens) == (10, 3)
        assert (analytics.total_tokens, analytics.failed_turns) == (13, 1)


async def test_figures_of_one_user_are_his_alone(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        for user, turns in (("ada", 1), ("bob", 3)):
            session = await new_session(manager, user)
            for _ in range(turns):
                await session.send_message("x")
        analytics = await manager.get_analytics(user_id="ada")
        assert (analytics.total_sessions, analytics.active_users) == (1, 1)
        assert analytics.total_turns == 1
        nobody = await manager.get_analytics(user_id="nobody")
        assert (nobody.total_sessions, nobody.active_users, nobody.model_usage) == (0, 0, {})
        assert await manager.for_user("bob").get_analytics() == await manager.get_analytics(
            user_id="bob"
        )


async def test_deleting_does_not_lower_them(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_message("x")
        before = await manager.get_analytics()
        await session.clear_messages()
        await session.delete()
        assert await manager.get_analytics() == before


async def test_the_default_is_the_last_30_days(store: Store) -> None:
    manager = store.manager(Echo())
    clock = Clock(manager)
    async with manager:
        await new_session(manager)
        clock.set(day(1))
        await new_session(manager)
        clock.set(day(30), hour=23)
        analytics = await manager.get_analytics()
        assert (analytics.start_day, analytics.end_day) == (day(1), day(30))
        assert len(analytics.daily) == 30
        assert analytics.total_sessions == 1
        analytics = await manager.get_analytics(end_date=day(10))
        assert analytics.start_day == day(10) - timedelta(days=29)
        assert (await manager.get_analytics(day(0))).end_day == day(30)


async def test_a_moment_stands_for_its_whole_day_in_utc(store: Store) -> None:
    """Aware, naive (local time) or a date: the days that they are in count as wholes."""
    manager = store.manager(Echo())
    clock = Clock(manager)
    async with manager:
        clock.set(day(0), hour=1)
        await new_session(manager)
        noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
        late = timezone(timedelta(hours=-5))
        for start, end in (
            (noon, noon),
            (day(0), day(0)),
            (noon.astimezone().replace(tzinfo=None), noon.astimezone().replace(tzinfo=None)),
            (datetime(2029, 12, 31, 20, tzinfo=late), noon),
        ):
            analytics = await manager.get_analytics(start, end)
            assert (analytics.start_day, analytics.end_day) == (day(0), day(0))
            assert analytics.total_sessions == 1


async def test_a_range_is_checked_and_bounded() -> None:
    async with create_session_manager() as manager:
        with pytest.raises(ConfigurationError, match="after"):
            await manager.get_analytics(day(1), day(0))
        with pytest.raises(ConfigurationError, match="3660 are allowed"):
            await manager.get_analytics(day(0), day(3660))
        assert len((await manager.get_analytics(day(0), day(3659))).daily) == 3660
        assert (await manager.get_analytics(date.min, date.min)).total_sessions == 0
        assert (await manager.get_analytics(date.max, date.max)).end_day == date.max
        assert (await manager.get_analytics(None, date(1, 1, 5))).start_day == date.min
        for wrong in ("2030-01-01", 5, timedelta(days=1)):
            with pytest.raises(ConfigurationError, match="start_date"):
                await manager.get_analytics(wrong)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="end_date"):
                await manager.get_analytics(None, wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessageError):
            await manager.get_analytics(user_id="")


async def test_they_cannot_be_changed(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        analytics = await manager.get_analytics()
        with pytest.raises(AttributeError):
            analytics.total_sessions = 5  # type: ignore[misc]


async def test_30_days_cost_the_same_whatever_else_there_is() -> None:
    """It asks for the sums of its days, and for no session."""
    storage = InMemorySessionStorage()
    async with create_session_manager(storage) as manager:
        for number in range(200):
            await manager.create_session(f"user {number}", "mock", f"model {number % 3}")
        started = time.perf_counter()
        analytics = await manager.get_analytics()
        assert time.perf_counter() - started < 5
        assert analytics.total_sessions == analytics.active_users == 200
