"""Which failures are worth another attempt, and the pause before it."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import anyio

from .trouble import OVERLOADED, REQUEST_TIMEOUT, SERVER_ERROR, HttpStatusError, HttpTroubleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from ...actors.errors import ProviderError

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_REPEATED: Final = frozenset({REQUEST_TIMEOUT, _CONFLICT, _TOO_MANY, OVERLOADED})
_MAX_HINT_SECONDS: Final = 366 * 86_400.0
_MANY: Final = 60  # doublings, far beyond the longest pause


def pause_seconds(retry: int, rng: Random) -> float:
    """A pause before the retry of that number, from 0: anything up to a bound that doubles."""
    bound = min(FIRST_PAUSE_SECONDS * 2.0 ** min(retry, _MANY), LONGEST_PAUSE_SECONDS)
    return rng.uniform(0.0, bound)


def hinted_seconds(headers: Mapping[str, str], wall_now: float) -> float | None:
    """How long the service asks to wait; None: it does not say, or nothing sensible.

    `retry-after-ms` first, then `retry-after` in seconds or as a date, which is compared with the
    service's own `date` where it sends one. `wall_now`: seconds since 1970.
    """
    milliseconds = _sensible(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    if given is None:
        return None
    seconds = _sensible(given)
    if seconds is not None:
        return seconds
    moment = http_date(given)
    if moment is None:
        return None
    return min(max(0.0, moment - service_time(headers, wall_now)), _MAX_HINT_SECONDS)


def service_time(headers: Mapping[str, str], wall_now: float) -> float:
    """Seconds since 1970 by the clock of the service, or by our own."""
    moment = http_date(headers.get("date", ""))
    return wall_now if moment is None else moment


def http_date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date; None: it is none. One without a zone is meant as UTC."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def _sensible(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= _MAX_HINT_SECONDS * 1000 else None


def is_repeated(error: ProviderError) -> bool:
    """Whether another attempt is worth it, by what the service said: its own word goes first."""
    if isinstance(error, HttpTroubleError):
        return error.worth_repeating
    cause = error.__cause__
    if isinstance(cause, HttpStatusError):
        if cause.should_retry is not None:
            return cause.should_retry
        if error.code != "locked" and cause.status < SERVER_ERROR and cause.status not in _REPEATED:
            return False
    return error.retryable


class Attempts:
    """The attempts of one call; the first one needs no leave."""

    def __init__(self, *, max_retries: int, max_wait: float, rng: Random) -> None:
        self._left = max_retries
        self._max_wait = max_wait
        self._rng = rng
        self._retry = 0

    async def again(self, error: ProviderError) -> bool:
        """Whether to try once more after this failure; if so, the pause is over.

        False where it would not help, where the attempts are used up, and where the service asks
        for a longer pause than `max_retry_wait`: that is `error.retry_after_seconds` then. Whether
        the failure is ambiguous is the caller's to look at.
        """
        if self._left <= 0 or not is_repeated(error):
            return False
        pause = error.retry_after_seconds
        if pause is None:
            pause = pause_seconds(self._retry, self._rng)
        elif pause > self._max_wait:
            return False
        self._left -= 1
        self._retry += 1
        await anyio.sleep(pause)
        return True
