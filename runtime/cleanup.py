"""The clean-up that a manager does by itself: its rules, as `cleanup_config` has them, and when.

A run comes shortly after the start, so that downtime is made up for, and then once an interval.
It is a chore of the runtime: it has a task only while it runs, waits as a date among the others,
and ends with them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import attrs

from ..actors.erasure import RetentionRule
from ..actors.errors import ConfigurationError, RuntimeClosedError, SessionError, again
from ..actors.model import SessionStatus
from ..actors.wait import Signal
from .config import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..actors.wait import Scope
    from .host import Runtime

logger = logging.getLogger("langswarm.core.session")

START_SECONDS = 1.0
"""From the start of the runtime to the first run."""
RETRY_SECONDS = 600.0
"""From a run that failed to the next one, if the interval is not shorter."""
DEFAULT_INTERVAL_HOURS = 24.0
_DAY_US = 86_400 * 1_000_000
_MOST_DAYS = 36_500.0
_LEAST_HOURS = 0.001


@attrs.frozen(kw_only=True)
class CleanupRules:
    """A `cleanup_config`, checked; None: nothing is done for this."""

    archive_after_days: float | None = None
    delete_after_days: float | None = None
    max_messages_per_session: int | None = None
    cleanup_interval_hours: float = DEFAULT_INTERVAL_HOURS


def cleanup_rules(given: object) -> CleanupRules:
    """The rules of a `cleanup_config`. Raises ConfigurationError, with the nearest valid key."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"cleanup_config must be a mapping, not {given!r}")
    config = cast("Mapping[str, object]", given)
    refuse_unknown(config, (field.name for field in attrs.fields(CleanupRules)), "cleanup_config")
    hours = config.get("cleanup_interval_hours")
    return CleanupRules(
        archive_after_days=_days_or_none(config, "archive_after_days"),
        delete_after_days=_days_or_none(config, "delete_after_days"),
        max_messages_per_session=_most_messages(config.get("max_messages_per_session")),
        cleanup_interval_hours=DEFAULT_INTERVAL_HOURS if hours is None else _hours(hours),
    )


def age_us(days: object, what: str) -> int:
    """An age as callers give it, in days or as a timedelta. Raises ConfigurationError."""
    number: Any = days / timedelta(days=1) if isinstance(days, timedelta) else days
    if not _is_number(number) or not 0 <= number <= _MOST_DAYS:
        raise ConfigurationError(
            f"{what} must be a number of days from 0 to {_MOST_DAYS:g}, or a timedelta, "
            f"not {days!r}"
        )
    return round(float(number) * _DAY_US)


def _days_or_none(config: Mapping[str, object], key: str) -> float | None:
    value = config.get(key)
    return None if value is None else age_us(value, f"cleanup_config[{key!r}]") / _DAY_US


def _most_messages(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"cleanup_config['max_messages_per_session'] must be an int >= 1, not {value!r}"
        )
    return value


def _hours(value: object) -> float:
    number: Any = value / timedelta(hours=1) if isinstance(value, timedelta) else value
    if not _is_number(number) or not _LEAST_HOURS <= number <= 24 * _MOST_DAYS:
        raise ConfigurationError(
            "cleanup_config['cleanup_interval_hours'] must be a number of hours from "
            f"{_LEAST_HOURS:g} to {24 * _MOST_DAYS:g}, not {value!r}"
        )
    return float(number)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


class CleanupSchedule:
    """When the next run is due, and the run."""

    def __init__(
        self,
        runtime: Runtime,
        rules: CleanupRules,
        *,
        wall_clock_us: Callable[[], int],
        wake_at: Callable[[float], None],
    ) -> None:
        self._runtime = runtime
        self._backend = runtime.backend
        self._rules = rules
        self._wall_clock_us = wall_clock_us
        self._wake_at = wake_at
        self._date = self._backend.now() + START_SECONDS
        self._works = False
        self._is_ending = False
        self._scope: Scope | None = None
        self._rested = Signal(self._backend)
        self.runs = 0
        # Of the last run, if it failed.
        self.last_error: Exception | None = None

    @property
    def due(self) -> float:
        """When the next run begins; inf: one is running, or none will."""
        return math.inf if self._works or self._is_ending else self._date

    def check(self, now: float) -> None:
        """Begin a run if it is time."""
        if self._works or self._is_ending or self._date > now:
            return
        self._works = True
        self._runtime.executor.start(Context(), self._run)

    async def end(self, seconds: float) -> None:
        """Begin nothing more, and stop a run between two sessions."""
        self._is_ending = True
        if self._scope is not None:
            self._scope.cancel()
        with self._backend.scope(self._backend.now() + seconds):
            while self._works:
                await self._rested.wait()

    async def _run(self) -> None:
        began = self._backend.now()
        interval = self._rules.cleanup_interval_hours * 3600.0
        pause = min(interval, RETRY_SECONDS)
        try:
            self._scope = scope = self._backend.scope()
            if self._is_ending:
                scope.cancel()
            with scope:
                await self._clean_up()
                self.last_error, pause = None, interval
        except RuntimeClosedError:
            pass  # not an error, because what is left is done after the next start
        except Exception as error:  # noqa: BLE001 - health() tells it, and the next run comes
            self.last_error = again(error) if isinstance(error, SessionError) else error
            logger.warning("the clean-up failed and is tried again in %g s: %s", pause, error)
        finally:
            self.runs += 1
            self._scope = None
            self._works = False
            self._date = max(began + pause, self._backend.now())
            self._rested.wake()
            if not self._is_ending:
                self._wake_at(self._date)

    async def _clean_up(self) -> None:
        from .retention import Retention  # noqa: PLC0415 - not before it is time

        rules, now_us = self._rules, self._wall_clock_us()
        retention = Retention(self._runtime)
        archived = await retention.retire(
            RetentionRule(
                of=SessionStatus.ACTIVE,
                becomes=SessionStatus.ARCHIVED,
                idle_before_us=_before(now_us, rules.archive_after_days),
                now_us=now_us,
                most_messages=rules.max_messages_per_session,
            )
        )
        deleted = 0
        if rules.delete_after_days is not None:
            deleted = await retention.retire(
                RetentionRule(
                    of=SessionStatus.ARCHIVED,
                    becomes=SessionStatus.DELETED,
                    idle_before_us=_before(now_us, rules.delete_after_days),
                )
            )
        if archived or deleted:
            logger.info("clean-up: %d sessions archived, %d deleted", archived, deleted)


def _before(now_us: int, days: float | None) -> int | None:
    return None if days is None else now_us - round(days * _DAY_US)
