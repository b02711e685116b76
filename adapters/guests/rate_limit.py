"""Token buckets by key, as many as fit; a bucket that is full again need not be remembered.

A bucket is kept as the time at which it will be full: that is all there is to know about it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs

from ...actors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALMOST: Final = 1e-9
_MINUTE: Final = 60.0


@attrs.frozen
class Rate:
    """So many a minute, evenly; `burst` of them at once."""

    per_minute: float
    burst: int

    def __attrs_post_init__(self) -> None:
        if not (math.isfinite(self.per_minute) and self.per_minute > 0):
            raise ConfigurationError(f"a rate must be above 0 a minute, not {self.per_minute!r}")
        if self.burst < 1:
            raise ConfigurationError(f"a burst is at least 1, not {self.burst!r}")

    @property
    def seconds(self) -> float:
        """How long one takes to come back."""
        return _MINUTE / self.per_minute


class Buckets:
    """One bucket per key, of one rate.

    At most `max_keys` are remembered. Beyond that the one that was used longest ago is forgotten,
    which is as if it were full.
    """

    def __init__(self, rate: Rate, max_keys: int) -> None:
        if max_keys < 1:
            raise ConfigurationError(f"at least 1 key must be remembered, not {max_keys!r}")
        self.rate = rate
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def delay(self, key: str, now: float) -> float:
        """Seconds until there is one for this key; 0.0: there is one."""
        waiting = self._full_at.get(key, now) - now
        missing = waiting - (self.rate.burst - 1) * self.rate.seconds
        return missing if missing > _ALMOST else 0.0

    def take(self, key: str, now: float) -> None:
        """Take one. Ask `delay` before."""
        full_at = max(self._full_at.pop(key, now), now) + self.rate.seconds
        self._full_at[key] = full_at
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Those that are full again, as far as they are the oldest; and what does not fit."""
        full_at = self._full_at
        while full_at:
            oldest = next(iter(full_at))
            if full_at[oldest] > now and len(full_at) <= self._max_keys:
                return
            del full_at[oldest]


def delay_or_take(asked: Mapping[Buckets, str], now: float) -> float:
    """Take one from each bucket, if all of them have one; else the seconds until they have."""
    delay = max((buckets.delay(key, now) for buckets, key in asked.items()), default=0.0)
    if not delay:
        for buckets, key in asked.items():
            buckets.take(key, now)
    return delay
