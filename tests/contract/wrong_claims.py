"""Storages that break the contract of what is beside the history: claims, purges, turns, hiding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session import StorageError
from langswarm.core.session.actors.model import Committed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        SessionWrite,
        TurnRecord,
    )
    from langswarm.core.session.actors.ports import WriteOutcome


class _Writes(Good):
    """Takes every write for another one."""

    def taken(self, write: SessionWrite) -> SessionWrite:
        raise NotImplementedError

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([self.taken(write) for write in writes])


class _Afterwards(Good):
    """Does something more for each write."""

    def after(self, write: SessionWrite, outcome: WriteOutcome) -> None:
        raise NotImplementedError

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            self.after(write, outcome)
        return outcomes


# ---------------------------------------------------------------- hiding


class HidesNoLastMessage(_Writes):
    def taken(self, write: SessionWrite) -> SessionWrite:
        hides = tuple((first, last - 1, by) for first, last, by in write.hides)
        return attrs.evolve(write, hides=hides)


class HidesAnew(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for write in writes:
            entry = self._by_id.get(write.after.record.session_id)
            for first, last, _ in write.hides:
                if entry is None:
                    continue
                entry.messages[:] = [
                    attrs.evolve(one, hidden_by=0) if first <= one.seq <= last else one
                    for one in entry.messages
                ]
        return await super().commit(writes)


class HidesInOtherSessions(_Afterwards):
    """As row numbers do that run on from one session to the next."""

    def after(self, write: SessionWrite, outcome: WriteOutcome) -> None:
        far = [by for _, last, by in write.hides if last >= 2**32]
        for entry in self._entries.values() if far else ():
            entry.messages[:] = [attrs.evolve(one, hidden_by=far[0]) for one in entry.messages]


class HidesWhatItInserts(_Afterwards):
    def after(self, write: SessionWrite, outcome: WriteOutcome) -> None:
        entry = self._by_id.get(write.after.record.session_id)
        for first, last, by in write.hides:
            if entry is None:
                continue
            entry.messages[:] = [
                attrs.evolve(one, hidden_by=one.hidden_by or by)
                if first <= one.seq <= last
                else one
                for one in entry.messages
            ]


class ClearsOnlyWhatIsVisible(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        hidden = {
            key: [one for one in entry.messages if one.hidden_by]
            for key, entry in self._entries.items()
        }
        outcomes = await super().commit(writes)
        for write in writes:
            entry = self._by_id.get(write.after.record.session_id)
            if entry is not None and write.clear_through_seq:
                entry.messages[:0] = hidden[entry.key]
        return outcomes


class DoesTheRestOfABadWrite(_Afterwards):
    """The messages of a bad write are refused; what else it asks for is done."""

    def after(self, write: SessionWrite, outcome: WriteOutcome) -> None:
        if isinstance(outcome, Committed):
            return
        if write.claim is not None:
            claim = write.claim
            self._claims[claim.scope, claim.method, claim.key] = claim
        for purge in write.purges:
            self._purges[purge.provider, purge.provider_session_id] = purge
        entry = self._by_id.get(write.after.record.session_id)
        if entry is not None and write.hides:
            entry.messages[:] = [attrs.evolve(one, hidden_by=1) for one in entry.messages]


# ---------------------------------------------------------------- turns


class FindsOnlyOpenTurns(Good):
    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        found = await super().read_turn(key, turn_no)
        return found if found is not None and not found.closed_us else None


class FindsTurnsOfOtherSessions(Good):
    """As row numbers do that run on from one session to the next."""

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return await super().read_turn(key | turn_no >> 32, turn_no & (2**32 - 1))


class IgnoresTheTurnOfMessages(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await super().read_messages(key, attrs.evolve(query, turn_no=query.turn_no or None))


# ---------------------------------------------------------------- claims


class KeepsTheFirstClaim(_Writes):
    def taken(self, write: SessionWrite) -> SessionWrite:
        claim = write.claim
        if claim is not None and (claim.scope, claim.method, claim.key) in self._claims:
            return attrs.evolve(write, claim=None)
        return write


class ForgetsTheResult(Good):
    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        found = await super().find_claim(scope, method, key)
        return found and attrs.evolve(found, result=0)


class FindsClaimsByKeyAlone(Good):
    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        same = (claim for claim in self._claims.values() if claim.key == key)
        return await super().find_claim(scope, method, key) or next(same, None)


class CutsKeysAtNul(Good):
    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        found = await super().find_claim(scope, method, key)
        return found and attrs.evolve(found, key=found.key.partition("\0")[0])


class SweepsTheBound(Good):
    async def sweep_claims(self, before_us: int, limit: int) -> int:
        return await super().sweep_claims(before_us + 1, limit)


class SweepsEverythingAtOnce(Good):
    async def sweep_claims(self, before_us: int, limit: int) -> int:
        return min(await super().sweep_claims(before_us, 10_000), limit)


class SweepsByTheFirstTime(_Afterwards):
    """A claim that was made anew goes when the first one would have gone."""

    def after(self, write: SessionWrite, outcome: WriteOutcome) -> None:
        claim = write.claim
        if claim is not None:
            name = (claim.scope, claim.method, claim.key)
            first = self._first.setdefault(name, claim.created_us)
            self._claims[name] = attrs.evolve(claim, created_us=first)

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[str, str, str], int] = {}


class RefusesCommitsDuringASweep(Good):
    _sweeping = False

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        self._sweeping = True
        await anyio.sleep(0.01)
        self._sweeping = False
        return await super().sweep_claims(before_us, limit)

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        if self._sweeping:
            raise StorageError("refused, wrongly", code="busy")
        await anyio.lowlevel.checkpoint()
        return await super().commit(writes)


# ---------------------------------------------------------------- purges


class QueuesAPurgeAnew(_Writes):
    def taken(self, write: SessionWrite) -> SessionWrite:
        for purge in write.purges:
            self._purges.pop((purge.provider, purge.provider_session_id), None)
        return write


class ForgetsTheLastError(Good):
    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        found = await super().load_purges(now_us, limit)
        return [attrs.evolve(purge, last_error=None) for purge in found]


class KnowsPurgesByConversationAlone(_Writes):
    def taken(self, write: SessionWrite) -> SessionWrite:
        known = {name for _, name in self._purges}
        kept: list[Purge] = []
        for purge in write.purges:
            if purge.provider_session_id not in known:
                known.add(purge.provider_session_id)
                kept.append(purge)
        return attrs.evolve(write, purges=tuple(kept))


class LoadsPurgesAsQueued(Good):
    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        due = [purge for purge in self._purges.values() if purge.due_us <= now_us]
        return due[:limit]


class SettlesNothing(Good):
    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        self._check_open()


class RetriesAtOnce(Good):
    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        at_once = None if retry_us is None else purge.due_us
        await super().settle_purge(purge, retry_us=at_once, error=error)


class CountsNoAttempts(Good):
    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        await super().settle_purge(purge, retry_us=retry_us, error=error)
        name = (purge.provider, purge.provider_session_id)
        if name in self._purges:
            self._purges[name] = attrs.evolve(self._purges[name], attempts=purge.attempts + 1)


class QueuesWhatItSettles(Good):
    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        self._purges.setdefault((purge.provider, purge.provider_session_id), purge)
        await super().settle_purge(purge, retry_us=retry_us, error=error)
