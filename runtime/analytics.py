"""What happened over days: the figures that commits add up by day, user, provider and model."""

# A part of the manager, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs

from ..actors.errors import ConfigurationError
from ..actors.model import UsageQuery
from ..actors.usage import day_of, percentile_ms
from .listing import check_id
from .session_list import moment_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..actors.model import UsageRecord, UsageReport
    from .listing import Listing

MAX_DAYS = 3_660
DEFAULT_DAYS = 30
_EPOCH = date(1970, 1, 1)
_FIRST = (date.min - _EPOCH).days
_SHARE = 0.95


@attrs.frozen(kw_only=True)
class UsageFigures:
    """What is counted of one or more days. Deleting a session or its history does not lower it."""

    total_sessions: int = 0
    """Sessions that were created."""
    active_users: int = 0
    """Different users of whom anything was counted."""
    user_messages: int = 0
    assistant_messages: int = 0
    system_messages: int = 0
    completed_turns: int = 0
    failed_turns: int = 0
    interrupted_turns: int = 0
    input_tokens: int = 0
    """As the providers counted them."""
    output_tokens: int = 0
    avg_response_time_ms: float = 0.0
    """Mean over completed turns, from the commit of the question to the answer; 0.0 if none."""
    p95_response_time_ms: float = 0.0
    """95 % of the completed turns took no longer; rounded up to 50, 100, 200, 300, ... ms."""

    @property
    def total_messages(self) -> int:
        """Messages of all roles."""
        return self.user_messages + self.assistant_messages + self.system_messages

    @property
    def total_turns(self) -> int:
        """Turns, however they ended; each belongs to the day on which it did."""
        return self.completed_turns + self.failed_turns + self.interrupted_turns

    @property
    def total_tokens(self) -> int:
        """Tokens in and out."""
        return self.input_tokens + self.output_tokens

    @property
    def avg_messages_per_session(self) -> float:
        """Messages of these days by sessions created in them; 0.0 if none was.

        Sessions that are older have messages here and are not counted here.
        """
        return self.total_messages / self.total_sessions if self.total_sessions else 0.0


@attrs.frozen(kw_only=True)
class DailyUsage(UsageFigures):
    """The figures of one day."""

    day: date
    """In UTC."""


@attrs.frozen(kw_only=True)
class SessionAnalytics(UsageFigures):
    """The figures of a range of days, and those of each of its days."""

    start_day: date
    """The first day, in UTC; it is counted as a whole."""
    end_day: date
    """The last day, in UTC; it is counted as a whole, as far as it has come."""
    model_usage: Mapping[str, int]
    """Turns by the sessions' model, however they ended, most used first."""
    provider_usage: Mapping[str, int]
    """Turns by the sessions' provider, however they ended, most used first."""
    daily: tuple[DailyUsage, ...]
    """Every day of the range in its order, those on which nothing happened too."""


async def analytics_of(
    manager: Listing, start: object, end: object, user_id: str | None
) -> SessionAnalytics:
    """The figures of the range, read from the sums of its days."""
    host = manager._anchor.host
    last = day_of(host.wall_clock_us()) if end is None else _day(end, "end_date")
    first = _day(start, "start_date") if start is not None else max(last - DEFAULT_DAYS + 1, _FIRST)
    _check_range(first, last)
    if user_id is not None:
        check_id(user_id, "user_id")
    query = UsageQuery(first_day=first, last_day=last, user_id=user_id)
    return _analytics(await host.runtime().storage.read_usage(query), first, last)


def _day(moment: object, what: str) -> int:
    """The UTC day of a datetime, of which a naive one is local time; a date is a UTC day."""
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return (moment - _EPOCH).days
    if not isinstance(moment, datetime):
        raise ConfigurationError(f"{what} must be a datetime or a date, not {moment!r}")
    return day_of(moment_us(moment, what))


def _check_range(first: int, last: int) -> None:
    if first > last:
        raise ConfigurationError("start_date is after end_date")
    if last - first >= MAX_DAYS:
        raise ConfigurationError(
            f"{last - first + 1} days at once, {MAX_DAYS} are allowed; ask for a shorter range"
        )


def _analytics(report: UsageReport, first: int, last: int) -> SessionAnalytics:
    by_day: dict[int, list[UsageRecord]] = {}
    models, providers = Counter[str](), Counter[str]()
    for record in report.days:
        by_day.setdefault(record.day, []).append(record)
        turns = record.completed_turns + record.failed_turns + record.interrupted_turns
        models[record.model] += turns
        providers[record.provider] += turns
    users = dict(report.active_users_by_day)
    return SessionAnalytics(
        **_figures(report.days),
        active_users=report.active_users,
        start_day=_date(first),
        end_day=_date(last),
        model_usage=_most_first(models),
        provider_usage=_most_first(providers),
        daily=tuple(
            DailyUsage(
                **_figures(by_day.get(day, ())), active_users=users.get(day, 0), day=_date(day)
            )
            for day in range(first, last + 1)
        ),
    )


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _most_first(counter: Counter[str]) -> dict[str, int]:
    names = sorted(counter, key=lambda name: (-counter[name], name))
    return {name: counter[name] for name in names if counter[name]}


_SUMS = (
    "user_messages",
    "assistant_messages",
    "system_messages",
    "completed_turns",
    "failed_turns",
    "interrupted_turns",
    "input_tokens",
    "output_tokens",
)


def _figures(records: Sequence[UsageRecord]) -> dict[str, Any]:
    if not records:
        return {}
    figures: dict[str, Any] = {
        name: sum(getattr(record, name) for record in records) for name in _SUMS
    }
    completed = figures["completed_turns"]
    response_us = sum(record.response_us for record in records)
    return {
        **figures,
        "total_sessions": sum(record.sessions for record in records),
        "avg_response_time_ms": response_us / completed / 1000 if completed else 0.0,
        "p95_response_time_ms": percentile_ms(_added(records), _SHARE),
    }


def _added(records: Iterable[UsageRecord]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*(record.latencies for record in records), strict=True)))


for _public in (UsageFigures, DailyUsage, SessionAnalytics):
    _public.__module__ = "langswarm.core.session.interfaces"
