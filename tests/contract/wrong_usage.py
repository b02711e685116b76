"""Storages that sum up usage wrongly, or erase too much or too little of a user."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session import StorageError
from langswarm.core.session.actors.model import LATENCY_BOUNDS_MS, UsageReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        SessionWrite,
        UsageQuery,
        UsageRecord,
    )
    from langswarm.core.session.actors.ports import WriteOutcome


class _Adds(Good):
    """Adds something else than the usage of a write, or nothing."""

    @abstractmethod
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        """What it takes the usage for."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit(
            [
                one if one.usage is None else attrs.evolve(one, usage=self.added(one.usage))
                for one in writes
            ]
        )


class AddsNoUsage(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        return None


class AddsNoLatencies(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        return attrs.evolve(usage, latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1))


class AddsNoInterruptions(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        return attrs.evolve(usage, interrupted_turns=0)


class FoldsTheCaseOfUsers(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        return attrs.evolve(usage, user_id=usage.user_id.lower())


class CutsNamesAtNul(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        model, user_id = (text.partition("\0")[0] for text in (usage.model, usage.user_id))
        return attrs.evolve(usage, model=model, user_id=user_id)


class AddsUpToThirtyTwoBits(_Adds):
    def added(self, usage: UsageRecord) -> UsageRecord | None:
        return attrs.evolve(usage, input_tokens=usage.input_tokens & (2**32 - 1))


class ReplacesUsage(_Adds):
    """The last write of a day has the last word."""

    def added(self, usage: UsageRecord) -> UsageRecord | None:
        name = (usage.day, usage.user_id, usage.provider, usage.model)
        self._usage._counts.pop(name, None)  # pyright: ignore[reportPrivateUsage]
        return usage


class AddsTheFirstUsageOfABatch(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        names: set[object] = set()
        taken: list[SessionWrite] = []
        for write in writes:
            used = write.usage
            name = used and (used.day, used.user_id, used.provider, used.model)
            taken.append(attrs.evolve(write, usage=None) if name in names else write)
            names.add(name)
        return await super().commit(taken)


class AddsUsageOfRefusedWrites(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for write in writes:
            if write.usage is not None:
                self._usage.add(write.usage)
        return await super().commit([attrs.evolve(one, usage=None) for one in writes])


class ForgetsUsageWhenClosed(Good):
    async def close(self) -> None:
        self._usage = type(self._usage)()
        await super().close()


class ForgetsUsageOfErasedSessions(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        taken = [attrs.evolve(one, usage=None) if one.erases else one for one in writes]
        return await super().commit(taken)


class _Reports(Good):
    """Changes the query or the report."""

    def asked(self, query: UsageQuery) -> UsageQuery:
        return query

    def told(self, report: UsageReport) -> UsageReport:
        return report

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        return self.told(await super().read_usage(self.asked(query)))


class LeavesTheLastDayOut(_Reports):
    def asked(self, query: UsageQuery) -> UsageQuery:
        return attrs.evolve(query, last_day=query.last_day - 1)


class IgnoresTheUser(_Reports):
    def asked(self, query: UsageQuery) -> UsageQuery:
        return attrs.evolve(query, user_id=None)


class TakesPatternsForUsers(_Reports):
    def asked(self, query: UsageQuery) -> UsageQuery:
        return attrs.evolve(query, user_id=None) if query.user_id in {"%", "*"} else query


class ReportsNewestFirst(_Reports):
    def told(self, report: UsageReport) -> UsageReport:
        return attrs.evolve(report, days=report.days[::-1])


class NamesAUser(_Reports):
    def told(self, report: UsageReport) -> UsageReport:
        days = tuple(attrs.evolve(one, user_id="ann") for one in report.days)
        return attrs.evolve(report, days=days)


class CountsUsersOfEachDay(_Reports):
    def told(self, report: UsageReport) -> UsageReport:
        users = sum(count for _, count in report.active_users_by_day)
        return attrs.evolve(report, active_users=users)


class CountsUsersOfEachModel(Good):
    async def read_usage(self, query: UsageQuery) -> UsageReport:
        report = await super().read_usage(query)
        by_day = tuple(
            (day, count * sum(one.day == day for one in report.days))
            for day, count in report.active_users_by_day
        )
        return attrs.evolve(report, active_users_by_day=by_day)


class ReportsAnEmptyDay(Good):
    async def read_usage(self, query: UsageQuery) -> UsageReport:
        report = await super().read_usage(query)
        empty = ((query.first_day, 0),)
        return report if report.days else attrs.evolve(report, active_users_by_day=empty)


# ---------------------------------------------------------------- erasing a user


class ErasesNoUsage(Good):
    async def erase_user(self, user_id: str) -> None:
        kept = self._usage
        self._usage = type(kept)()
        await super().erase_user(user_id)
        self._usage = kept


class ErasesNoClaims(Good):
    async def erase_user(self, user_id: str) -> None:
        kept = dict(self._claims)
        await super().erase_user(user_id)
        self._claims = kept


class ErasesTheirOwnFiguresOnly(Good):
    """What was summed up over all users keeps what they added."""

    def __init__(self) -> None:
        super().__init__()
        self._totals = type(self._usage)()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for write in writes:
            if write.usage is not None:
                self._totals.add(write.usage)
        return await super().commit(writes)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        found = await super().read_usage(query)
        return found if query.user_id is not None else self._totals.report(query)


class ErasesUsersByPattern(Good):
    async def erase_user(self, user_id: str) -> None:
        await super().erase_user(user_id)
        names = {claim.scope.partition(":")[2] for claim in self._claims.values()}
        names |= {entry.stored.record.user_id for entry in self._entries.values()}
        names |= {"bob", "a_n"}
        for name in names:
            if name.startswith(user_id) or user_id in {"%", "*"}:
                await super().erase_user(name)


class ErasesTheFirstDaysOfAUser(Good):
    async def erase_user(self, user_id: str) -> None:
        records = self._usage._counts  # pyright: ignore[reportPrivateUsage]
        late = {name: one for name, one in records.items() if name[1] == user_id and name[0] >= 100}
        await super().erase_user(user_id)
        records.update(late)


class ErasesAUserForNow(Good):
    """What is stored of them is back once it is opened again."""

    def __init__(self) -> None:
        super().__init__()
        self._all_usage = type(self._usage)()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for write in writes:
            if write.usage is not None:
                self._all_usage.add(write.usage)
        return await super().commit(writes)

    async def close(self) -> None:
        self._usage = self._all_usage
        await super().close()


class RefusesToEraseStrangers(Good):
    async def erase_user(self, user_id: str) -> None:
        if user_id not in self._by_user:
            raise StorageError(f"no such user: {user_id}", code="invalid")
        await super().erase_user(user_id)


class ErasesTheirSessionsToo(Good):
    async def erase_user(self, user_id: str) -> None:
        await super().erase_user(user_id)
        for entry in list(self._by_user.get(user_id, [])):
            self._erase(entry)
