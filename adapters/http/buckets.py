"""Token buckets: how many requests and tokens a minute, by one's own limits and by the service's.

A bucket holds at most a minute's worth and fills evenly. What the service says of its limits is
kept per model, because there each model has limits of its own: `limit` is the bucket's size,
`remaining` its level, less what is on its way there, and `reset`, the time until it is full, gives
the speed. A service can hold requests back for a minute at most; then one is sent to hear news.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

from .retries import hinted_seconds, service_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_HOLD_SECONDS: Final = 60.0
_ALMOST: Final = 1e-6
_SHORTEST_SECONDS: Final = 0.001
_LONGEST_SECONDS: Final = 366 * 86_400.0
_MINUTE: Final = 60.0
_REFUSALS: Final = frozenset({429, 503, 529})
_KINDS: Final = ("requests", "tokens", "input-tokens", "output-tokens")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_UNITS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


class Bucket:
    """So much at most, filling at an even speed; `now` is seconds of any clock."""

    __slots__ = ("_at", "_level", "_speed", "size")

    def __init__(self, size: float, speed: float, level: float, now: float) -> None:
        self.size = size
        self._speed = speed
        self._level = level
        self._at = now

    def delay(self, cost: float, now: float) -> float:
        """Seconds until so much is there, or all that fits."""
        missing = min(cost, self.size) - self._fill(now)
        return max(missing / self._speed, _SHORTEST_SECONDS) if missing > _ALMOST else 0.0

    def take(self, cost: float, now: float) -> None:
        """Take it out, even if it is not there; less than empty is empty."""
        self._level = max(0.0, self._fill(now) - cost)

    def put_back(self, cost: float) -> None:
        """It was not used."""
        self._level = min(self.size, self._level + cost)

    def _fill(self, now: float) -> float:
        passed = max(0.0, now - self._at)
        self._at = now
        self._level = min(self.size, self._level + passed * self._speed)
        return self._level


class Meter:
    """Buckets that a request goes through together: itself, and its tokens by an estimate."""

    def __init__(self, *, requests: int | None = None, tokens: int | None = None) -> None:
        self._own = {"requests": requests, "tokens": tokens}
        self._buckets: dict[str, Bucket] = {}
        self._flying = 0
        self._flying_tokens = 0
        self._held_until = -math.inf
        self._news_at = math.inf  # of the service's word; never: these limits are our own

    def delay(self, tokens: int, now: float) -> float:
        """Seconds to wait; 0.0: go."""
        for kind, limit in self._own.items():
            if limit is not None and kind not in self._buckets:
                self._buckets[kind] = Bucket(limit, limit / _MINUTE, limit, now)
        delay = max(0.0, self._held_until - now)
        # A copy, since another thread may learn of a kind at this moment.
        for kind, bucket in tuple(self._buckets.items()):
            delay = max(delay, bucket.delay(self._cost(kind, tokens), now))
        return min(delay, max(0.0, self._news_at + MAX_HOLD_SECONDS - now))

    def take(self, tokens: int, now: float) -> None:
        """The request may go now."""
        for kind, bucket in tuple(self._buckets.items()):
            bucket.take(self._cost(kind, tokens), now)
        self._news_at = max(self._news_at, now)

    def put_back(self, tokens: int) -> None:
        """It did not go after all."""
        for kind, bucket in tuple(self._buckets.items()):
            bucket.put_back(self._cost(kind, tokens))

    def depart(self, tokens: int) -> None:
        """It is on its way: what the service tells next may not count it."""
        self._flying += 1
        self._flying_tokens += tokens

    def landed(self, tokens: int) -> None:
        """The service has counted it, or it will never come there."""
        self._flying -= 1
        self._flying_tokens -= tokens

    def learn(self, status: int, headers: Mapping[str, str], now: float, wall_now: float) -> None:
        """Take over what an answer says of the limits."""
        for kind, limit, remaining, reset in told_limits(headers, wall_now):
            speed = limit / _MINUTE
            if limit > remaining:
                speed = (limit - remaining) / max(reset, _SHORTEST_SECONDS)
            flying = self._flying if kind == "requests" else self._flying_tokens
            if kind == "output-tokens":
                flying = 0
            self._buckets[kind] = Bucket(limit, speed, max(0.0, remaining - flying), now)
            self._news_at = now
        if status in _REFUSALS:
            seconds = hinted_seconds(headers, wall_now)
            if seconds is not None:
                self._held_until = now + min(seconds, MAX_HOLD_SECONDS)
                self._news_at = now

    @staticmethod
    def _cost(kind: str, tokens: int) -> float:
        # What an answer will cost nobody knows before: it is enough that something is left.
        return tokens if kind in {"tokens", "input-tokens"} else 1


def told_limits(
    headers: Mapping[str, str], wall_now: float
) -> Iterator[tuple[str, float, float, float]]:
    """Kind, limit, remaining and seconds until it is reset, for each that is there as a whole."""
    for prefix in ("x-ratelimit", "anthropic-ratelimit"):
        for kind in _KINDS:
            names = (
                [f"{prefix}-{part}-{kind}" for part in ("limit", "remaining", "reset")]
                if prefix == "x-ratelimit"
                else [f"{prefix}-{kind}-{part}" for part in ("limit", "remaining", "reset")]
            )
            if names[1] not in headers:
                continue
            limit = _count(headers.get(names[0]))
            remaining = _count(headers[names[1]])
            reset = _reset(headers.get(names[2], ""), headers, wall_now)
            if limit and remaining is not None and reset is not None:
                yield kind, limit, min(limit, remaining), reset


def _count(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 10**15 else None


def _reset(text: str, headers: Mapping[str, str], wall_now: float) -> float | None:
    seconds = duration_seconds(text)
    if seconds is not None:
        return min(seconds, _LONGEST_SECONDS)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return min(max(0.0, moment.timestamp() - service_time(headers, wall_now)), _LONGEST_SECONDS)


def duration_seconds(text: str) -> float | None:
    """Seconds of a text such as "1s", "6m0s", "250ms", "1h2m3.5s" or "12"; None: it is none."""
    text = text.strip()
    try:
        if text.replace(".", "", 1).isdecimal():
            return float(text)
        match = _DURATION.fullmatch(text)
        if match is None or not text:
            return None
        return sum(
            float(part) * unit
            for part, unit in zip(match.groups(), _UNITS, strict=True)
            if part is not None
        )
    except ValueError:
        return None


def limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that tell of limits, as they came, without what vendors prefix them with."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        prefix, hit, rest = name.partition("ratelimit-")
        if hit and prefix in {"x-", "anthropic-"}:
            found[rest] = value[:100]
    return found
