"""The figures of days, in memory: by user as they are added, summed up when they are asked for."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

import attrs

from ...actors.model import UsageRecord, UsageReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...actors.model import UsageQuery

_NAME = ("day", "user_id", "provider", "model")
_COUNTS = tuple(
    field.name for field in attrs.fields(UsageRecord) if field.name not in {*_NAME, "latencies"}
)


def summed(records: Iterable[UsageRecord], user_id: str) -> UsageRecord:
    """The sum of figures of one day, provider and model, of which there is one at least."""
    first, *others = records
    total = attrs.evolve(first, user_id=user_id)
    for each in others:
        counts = {name: getattr(total, name) + getattr(each, name) for name in _COUNTS}
        latencies = tuple(map(add, total.latencies, each.latencies))
        total = attrs.evolve(total, latencies=latencies, **counts)
    return total


class UsageTable:
    """One record of each day, user, provider and model that has any."""

    def __init__(self) -> None:
        self._records: dict[tuple[int, str, str, str], UsageRecord] = {}

    def add(self, usage: UsageRecord) -> None:
        """Add to what is there."""
        name = (usage.day, usage.user_id, usage.provider, usage.model)
        known = self._records.get(name)
        self._records[name] = usage if known is None else summed((known, usage), usage.user_id)

    def erase_user(self, user_id: str) -> None:
        """Forget the records of a user."""
        for name in [name for name in self._records if name[1] == user_id]:
            del self._records[name]

    def report(self, query: UsageQuery) -> UsageReport:
        """The sums over the users."""
        groups: dict[tuple[int, str, str], list[UsageRecord]] = {}
        users: dict[int, set[str]] = {}
        for record in self._records.values():
            if not query.first_day <= record.day <= query.last_day:
                continue
            if query.user_id is not None and record.user_id != query.user_id:
                continue
            groups.setdefault((record.day, record.provider, record.model), []).append(record)
            users.setdefault(record.day, set()).add(record.user_id)
        return UsageReport(
            days=tuple(summed(groups[name], "") for name in sorted(groups)),
            active_users=len(set[str]().union(*users.values())),
            active_users_by_day=tuple((day, len(users[day])) for day in sorted(users)),
        )
