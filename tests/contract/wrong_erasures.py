"""Storages that erase sessions wrongly, or lose the past turns of a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session.actors.model import Committed, SessionPage, SessionStatus

from .wrong_storages import on_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        MessageQuery,
        MessageRecord,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
        TurnRecord,
    )
    from langswarm.core.session.actors.ports import WriteOutcome


class _Erases(Good):
    """Remembers what it erased."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[StoredSession] = []

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        before = await self.load([write.after.record.session_id for write in writes])
        outcomes = await super().commit(writes)
        for write, stored, outcome in zip(writes, before, outcomes, strict=True):
            if write.erases and stored is not None and isinstance(outcome, Committed):
                self.gone.append(stored)
        return outcomes


class ErasesNothing(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, erases=False) for one in writes])


class MarksAsDeleted(Good):
    """Erased is what it calls a session whose row stays."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([_deleted(one) if one.erases else one for one in writes])


def _deleted(write: SessionWrite) -> SessionWrite:
    record = attrs.evolve(write.after.record, status=SessionStatus.DELETED)
    return attrs.evolve(write, after=attrs.evolve(write.after, record=record), erases=False)


class ListsErasedSessions(_Erases):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        lost: list[SessionRecord] = [
            one.record
            for one in self.gone
            if query.tags and (query.before_key is None or one.record.key < query.before_key)
        ]
        return on_page(page, [*page.records, *lost][: query.limit])


class KeepsErasedMessages(_Erases):
    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, list[MessageRecord]] = {}

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._kept |= {key: list(one.messages) for key, one in self._entries.items()}
        return await super().commit(writes)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        if key in self._entries:
            return await super().read_messages(key, query)
        return self._kept.get(key, [])


class KeepsErasedTurns(_Erases):
    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        found = [one.open_turn for one in self.gone if one.record.key == key]
        return found[0] if found else await super().read_turn(key, turn_no)


class KeepsErasedTurnsOpen(_Erases):
    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        lost = [one for one in self.gone if one.open_turn is not None]
        return [*lost, *await super().load_unfinished(limit)][:limit]


class KeepsClaimsOfErasedSessions(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        kept = dict(self._claims)
        outcomes = await super().commit(writes)
        if any(write.erases for write in writes):
            self._claims = kept
        return outcomes


class ErasesAllClaimsOfASession(Good):
    """Those of creations too, under which it was made."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        gone = {one.after.record.session_id for one in writes if one.erases}
        for name, claim in list(self._claims.items()):
            if claim.session_id in gone:
                del self._claims[name]
        return outcomes


class ErasesTheClaimBeforeItIsPut(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write in writes:
            if write.erases and write.claim is not None:
                name = (write.claim.scope, write.claim.method, write.claim.key)
                self._claims[name] = write.claim
        return outcomes


class ErasesAndQueuesNoPurge(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        taken = [attrs.evolve(one, purges=()) if one.erases else one for one in writes]
        return await super().commit(taken)


class GivesTheLastKeyAgain(Good):
    """As `max(key) + 1` does when the newest session is gone."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._last_key = max(self._entries, default=0)
        return await super().commit(writes)


class KeepsTagsForTheNextOfTheId(_Erases):
    def __init__(self) -> None:
        super().__init__()
        self._tags: dict[str, frozenset[str]] = {}

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._tags |= {name: entry.tags for name, entry in self._by_id.items()}
        outcomes = await super().commit(writes)
        for write in writes:
            entry = self._by_id.get(write.after.record.session_id)
            if entry is not None and not write.expected_revision:
                entry.tags |= self._tags.get(entry.stored.record.session_id, frozenset())
        return outcomes


class ErasesThoughConflict(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write in writes:
            entry = self._by_id.get(write.after.record.session_id)
            if write.erases and entry is not None:
                self._erase(entry)
        return outcomes


class WritesToErasedSessions(_Erases):
    """It takes a write to what is gone for a creation."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        keys = {one.record.key for one in self.gone}
        return await super().commit(
            [
                attrs.evolve(one, expected_revision=0)
                if one.after.record.key in keys
                and one.after.record.session_id not in self._by_id
                and not one.erases
                else one
                for one in writes
            ]
        )


class ErasesTheNeighbour(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write in writes:
            near = self._entries.get(write.after.record.key + 1)
            if write.erases and near is not None:
                self._erase(near)
        return outcomes


class ErasesOneSessionOfABatch(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        first = next((one for one in writes if one.erases), None)
        return await super().commit(
            [one if one is first else attrs.evolve(one, erases=False) for one in writes]
        )


# ---------------------------------------------------------------- past turns


class _PastTurns(Good):
    def taken(self, turns: tuple[TurnRecord, ...]) -> tuple[TurnRecord, ...]:
        raise NotImplementedError

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit(
            [attrs.evolve(one, past_turns=self.taken(one.past_turns)) for one in writes]
        )


class ForgetsPastTurns(_PastTurns):
    def taken(self, turns: tuple[TurnRecord, ...]) -> tuple[TurnRecord, ...]:
        return ()


class KeepsAHundredPastTurns(_PastTurns):
    def taken(self, turns: tuple[TurnRecord, ...]) -> tuple[TurnRecord, ...]:
        return turns[:100]


class ForgetsThePartialTextOfPastTurns(_PastTurns):
    def taken(self, turns: tuple[TurnRecord, ...]) -> tuple[TurnRecord, ...]:
        return tuple(attrs.evolve(one, partial_text="") for one in turns)


class TakesPastTurnsTwice(_PastTurns):
    def taken(self, turns: tuple[TurnRecord, ...]) -> tuple[TurnRecord, ...]:
        return tuple({one.turn_no: one for one in turns}.values())
