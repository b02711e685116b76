"""Storages that break the contract where two things meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session.actors.model import Conflict, MessageQuery, SessionStatus

from .wrong_storages import on_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        MessageRecord,
        SessionPage,
        SessionQuery,
        SessionWrite,
        StoredSession,
    )
    from langswarm.core.session.actors.ports import WriteOutcome


class MarksThoughConflict(Good):
    """A stale write is a Conflict, but what it marks and clears is marked and cleared."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            entry = self._by_id.get(write.after.record.session_id)
            if not isinstance(outcome, Conflict) or entry is None:
                continue
            marks = dict(write.marks)
            entry.messages[:] = [
                attrs.evolve(one, finish_reason=marks.get(one.seq, one.finish_reason))
                for one in entry.messages
                if one.seq > write.clear_through_seq
            ]
        return outcomes


class TakesIdsOfDeletedSessionsForFree(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for write in writes:
            session_id = write.after.record.session_id
            entry = self._by_id.get(session_id)
            if entry is None or write.expected_revision:
                continue
            if entry.stored.record.status is SessionStatus.DELETED:
                del self._by_id[session_id], self._entries[entry.stored.record.key]
        return await super().commit(writes)


class LosesMessagesOfACreation(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit(
            [
                write if write.expected_revision else attrs.evolve(write, messages=())
                for write in writes
            ]
        )


class MarksOnlyWhatIsVisible(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        taken: list[SessionWrite] = []
        for write in writes:
            entry = self._by_id.get(write.after.record.session_id)
            hidden = {one.seq for one in entry.messages if one.hidden_by} if entry else set[int]()
            marks = tuple(mark for mark in write.marks if mark[0] not in hidden)
            taken.append(attrs.evolve(write, marks=marks))
        return await super().commit(taken)


class ForgetsTheEndOfAPrompt(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        before = None if query.for_prompt else query.before_seq
        return await super().read_messages(key, attrs.evolve(query, before_seq=before))


class ForgetsTheBeginningOfAPrompt(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        after = 0 if query.for_prompt else query.after_seq
        return await super().read_messages(key, attrs.evolve(query, after_seq=after))


class ReadsThirtyOneBits(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return [one for one in await super().read_messages(key, query) if one.seq < 2**31]


class ReturnsItsOwnList(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        if query == MessageQuery(include_hidden=True) and key in self._entries:
            return self._entries[key].messages
        return await super().read_messages(key, query)


class FiltersTheFirstPageOnly(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        if query.before_key is not None:
            query = attrs.evolve(query, active_since_us=None)
        return await super().list_sessions(query)


class ListsAHundredAtMost(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return on_page(page, page.records[:100])


class ForgetsOpenTurnsOfArchivedSessions(Good):
    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        found = await super().load_unfinished(10_000)
        active = [one for one in found if one.record.status is SessionStatus.ACTIVE]
        return active[:limit]
