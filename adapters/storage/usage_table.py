"""The figures of days, in memory: by user as they are added, summed up when they are asked for."""

from __future__ import annotations

from operator import add, attrgetter
from typing import TYPE_CHECKING

import attrs

from ...actors.model import UsageRecord, UsageReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...actors.model import UsageQuery

_NAME = ("day", "user_id", "provider", "model")
_COUNTS = tuple(
    field.name for field in attrs.fields(UsageRecord) if field.name not in {*_NAME, "latencies"}
)
_counts_of = attrgetter(*_COUNTS)


class UsageTable:
    """The counts of each day, user, provider and model that has any."""

    def __init__(self) -> None:
        # Invariant: the values are the counts of _COUNTS, then the latencies.
        self._counts: dict[tuple[int, str, str, str], list[int]] = {}

    def add(self, usage: UsageRecord) -> None:
        """Add to what is there."""
        name = (usage.day, usage.user_id, usage.provider, usage.model)
        known = self._counts.get(name)
        if known is None:
            self._counts[name] = [*_counts_of(usage), *usage.latencies]
            return
        for place, count in enumerate((*_counts_of(usage), *usage.latencies)):
            if count:
                known[place] += count

    def erase_user(self, user_id: str) -> None:
        """Forget the counts of a user."""
        for name in [name for name in self._counts if name[1] == user_id]:
            del self._counts[name]

    def report(self, query: UsageQuery) -> UsageReport:
        """The sums over the users."""
        sums: dict[tuple[int, str, str], Sequence[int]] = {}
        users: dict[int, set[str]] = {}
        for (day, user_id, provider, model), counts in self._counts.items():
            if not query.first_day <= day <= query.last_day:
                continue
            if query.user_id is not None and user_id != query.user_id:
                continue
            group = (day, provider, model)
            known = sums.get(group)
            sums[group] = counts if known is None else tuple(map(add, known, counts))
            users.setdefault(day, set()).add(user_id)
        return UsageReport(
            days=tuple(_record(group, sums[group]) for group in sorted(sums)),
            active_users=len(set[str]().union(*users.values())),
            active_users_by_day=tuple((day, len(users[day])) for day in sorted(users)),
        )


def _record(group: tuple[int, str, str], counts: Sequence[int]) -> UsageRecord:
    day, provider, model = group
    return UsageRecord(
        day=day,
        user_id="",
        provider=provider,
        model=model,
        latencies=tuple(counts[len(_COUNTS) :]),
        **dict(zip(_COUNTS, counts, strict=False)),
    )
