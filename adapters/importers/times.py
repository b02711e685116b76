"""Old timestamps become UTC.

A naive local time names no moment by itself where clocks are put forward or back:

- A time that the clock showed twice is taken for the first of the two, unless that lies before the
  message before it and the second does not: then it is the second.
- A time that the clock never showed is read with the offset from before the change. So it lies
  after the change, as far as it lay beyond it on the clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from ...actors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11
"""Seconds that great lie beyond the year 5138: such numbers count milliseconds."""


@attrs.frozen(kw_only=True)
class Moment:
    """A moment in UTC, and what is to be said about how it was found."""

    at: datetime
    note: str | None = None


def zone_of(source_timezone: str | tzinfo | None) -> tzinfo | None:
    """The zone of that name; None is the zone of this machine. Raises ConfigurationError."""
    if source_timezone is None or isinstance(source_timezone, tzinfo):
        return source_timezone
    try:
        return ZoneInfo(source_timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ConfigurationError(
            f"source_timezone={source_timezone!r} is no time zone that this machine knows; use a "
            "name like 'Europe/Berlin' (on Windows and on small systems, install the package "
            "tzdata), or None if the file was written in this machine's own zone"
        ) from error


def moment_of(value: object, zone: tzinfo | None, after: datetime | None = None) -> Moment | None:
    """The moment that a text in ISO 8601, or a number of seconds or milliseconds, says.

    `after`: the message before; it decides between two moments of the same name. None: it says
    no moment.
    """
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return Moment(at=EPOCH + timedelta(seconds=seconds))
        if not isinstance(value, str):
            return None
        read = datetime.fromisoformat(value.strip())
        if read.tzinfo is not None:
            return Moment(at=read.astimezone(UTC))
        return _local(read, zone, after)
    except (ValueError, OverflowError, OSError):
        return None


def _local(read: datetime, zone: tzinfo | None, after: datetime | None) -> Moment:
    first = read.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = read.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return Moment(at=first)
    if first.astimezone(zone).replace(tzinfo=None) != read:
        return Moment(at=first, note="local times that no clock showed (put forward) were moved on")
    at = second if after is not None and first < after <= second else first
    return Moment(at=at, note="local times that clocks showed twice (put back) were decided upon")


class Timeline:
    """The times of one session, one after the other; what was found wrong is noted once each."""

    def __init__(self, zone: tzinfo | None, note: Callable[[str], None]) -> None:
        self._zone = zone
        self._note = note
        self.last: datetime | None = None

    def next(self, value: object, *, start: datetime) -> datetime:
        """Of the next message; without a readable one, that of the message before, or `start`."""
        moment = moment_of(value, self._zone, self.last)
        if moment is None:
            self._note("messages without a readable time have the time before them")
            moment = Moment(at=self.last or start)
        elif moment.note is not None:
            self._note(moment.note)
        self.last = moment.at
        return moment.at

    def apart(self, value: object) -> datetime | None:
        """Of something else than a message; None: it says none."""
        moment = moment_of(value, self._zone)
        if moment is not None and moment.note is not None:
            self._note(moment.note)
        return moment.at if moment is not None else None
