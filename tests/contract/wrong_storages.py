"""Storages that break the contract, each in one way."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session import InMemorySessionStorage, StorageError
from langswarm.core.session.actors.model import (
    Committed,
    Conflict,
    MessageQuery,
    SessionPage,
    SessionStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langswarm.core.session.actors.model import (
        MessageRecord,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
    )
    from langswarm.core.session.actors.ports import WriteOutcome

Good = InMemorySessionStorage


def on_page(page: SessionPage, records: Iterable[SessionRecord]) -> SessionPage:
    """The page with other records."""
    return attrs.evolve(page, records=tuple(records))


def cut(query: SessionQuery, found: Sequence[SessionRecord]) -> SessionPage:
    """The page that was asked for, of all that there is."""
    before = query.before_key
    rest = [one for one in found if before is None or one.key < before]
    page = tuple(rest[: query.limit])
    return SessionPage(records=page, next_key=page[-1].key if 0 < len(page) < len(rest) else None)


async def everything(storage: Good, query: SessionQuery) -> list[SessionRecord]:
    """All that a good storage would find for the query."""
    wide = attrs.evolve(query, before_key=None, limit=10_000)
    return list((await Good.list_sessions(storage, wide)).records)


class _Lenient(Good):
    """Takes every write for one of the session as it is stored."""

    def known(self, stored: SessionRecord, write: SessionWrite) -> SessionWrite:
        raise NotImplementedError

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        stored = await self.load([write.after.record.session_id for write in writes])
        return await super().commit(
            [
                write if there is None else self.known(there.record, write)
                for there, write in zip(stored, writes, strict=True)
            ]
        )


class IgnoresTheEpoch(_Lenient):
    def known(self, stored: SessionRecord, write: SessionWrite) -> SessionWrite:
        record = attrs.evolve(write.after.record, epoch=stored.epoch)
        return attrs.evolve(write, after=attrs.evolve(write.after, record=record))


class IgnoresTheRevision(_Lenient):
    def known(self, stored: SessionRecord, write: SessionWrite) -> SessionWrite:
        return attrs.evolve(write, expected_revision=write.expected_revision and stored.revision)


class LosesGoodWritesBesideABadOne(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        for outcome in await Good.commit(copy.deepcopy(self), writes):
            if isinstance(outcome, StorageError):
                return [outcome] * len(writes)
        return await super().commit(writes)


class StoresHalfOfABadWrite(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            entry = self._by_id.get(write.after.record.session_id)
            if isinstance(outcome, StorageError) and entry is not None:
                entry.messages.extend(write.messages[:1])
        return outcomes


class AnswersInTheWrongOrder(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return list(reversed(await super().commit(writes)))


class ClaimsWhatItRefused(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        return [
            Committed(write.after.record.key or 1) if isinstance(outcome, Conflict) else outcome
            for write, outcome in zip(writes, outcomes, strict=True)
        ]


class RaisesForABadWrite(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for outcome in outcomes:
            if isinstance(outcome, StorageError):
                raise outcome
        return outcomes


class FindsTheOldestMessages(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        found = await super().read_messages(key, attrs.evolve(query, limit=None))
        return found[: query.limit]


class FindsMessagesNewestFirst(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return list(reversed(await super().read_messages(key, query)))


class OrdersByTheClock(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        found = await super().read_messages(key, query)
        return sorted(found, key=lambda message: message.created_us)


class ShowsHiddenMessages(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await super().read_messages(key, attrs.evolve(query, include_hidden=True))


class ShowsFailedMessagesToPrompts(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await super().read_messages(key, attrs.evolve(query, for_prompt=False))


class FiltersAfterTheLimit(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        wide = MessageQuery(limit=query.limit, before_seq=query.before_seq, include_hidden=True)
        newest = await super().read_messages(key, wide)
        matching = await super().read_messages(key, attrs.evolve(query, limit=None))
        return [message for message in newest if message in matching]


class ForgetsTheOpenTurn(Good):
    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        found = await super().load(session_ids)
        return [stored and attrs.evolve(stored, open_turn=None) for stored in found]


class FindsNothingUnfinished(Good):
    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        await super().load_unfinished(limit)
        return []


class FindsFinishedSessionsToo(Good):
    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        await super().load_unfinished(limit)
        return [entry.stored for entry in self._entries.values()][:limit]


class ClearsTheNeighbours(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write in writes:
            for entry in self._entries.values():
                if write.clear_through_seq:
                    del entry.messages[: entry.position(write.clear_through_seq + 1)]
        return outcomes


class ClearsOneTooFew(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit(
            [
                attrs.evolve(one, clear_through_seq=max(one.clear_through_seq - 1, 0))
                for one in writes
            ]
        )


class AppliesNoMarks(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, marks=()) for one in writes])


class AlwaysOverwritesDocuments(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, documents_changed=True) for one in writes])


class NeverOverwritesDocuments(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, documents_changed=False) for one in writes])


class ListsOtherUsers(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        found = [
            record
            for user_id in self._by_user
            if user_id.startswith(query.user_id or "")
            for record in await everything(self, attrs.evolve(query, user_id=user_id))
        ]
        return cut(query, sorted(found, key=lambda record: -record.key))


class ListsDeletedSessions(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        found = [
            record
            for status in (SessionStatus if query.status is None else [query.status])
            for record in await everything(self, attrs.evolve(query, status=status))
        ]
        return cut(query, sorted(found, key=lambda record: -record.key))


class ListsOldestFirst(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return on_page(page, page.records[::-1])


class PagesByPosition(Good):
    """The usual OFFSET: what is made meanwhile moves all that is behind it."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        found = await everything(self, query)
        if query.before_key is None:
            self._offset = 0
        page = found[self._offset : self._offset + query.limit]
        self._offset += len(page)
        return SessionPage(records=tuple(page), next_key=page[-1].key if page else None)

    _offset = 0


class LoadsOnlyWhatItFinds(Good):
    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return [stored for stored in await super().load(session_ids) if stored is not None]


class FoldsTheCaseOfIds(Good):
    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        exact = await super().load(session_ids)
        known = {name.lower(): entry.stored for name, entry in self._by_id.items()}
        folded = [known.get(name.lower()) for name in session_ids]
        return [one or other for one, other in zip(exact, folded, strict=True)]


class LosesNulCharacters(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        found = await super().read_messages(key, query)
        return [attrs.evolve(one, content=one.content.partition("\0")[0]) for one in found]


class ChangesLineEnds(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        found = await super().read_messages(key, query)
        return [attrs.evolve(one, content=one.content.replace("\r\n", "\n")) for one in found]


class RoundsLargeNumbers(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        found = await super().read_messages(key, query)
        return [attrs.evolve(one, token_count=int(float(one.token_count))) for one in found]


class ReadsBeforeTheRunningCommit(Good):
    """It says "not there" of what is stored a moment later."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        await anyio.sleep(0.01)
        return await super().commit(writes)


class StoresHalfWhenCancelled(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit([attrs.evolve(one, messages=()) for one in writes])
        await anyio.sleep(0.0003)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Committed) and outcome.key in self._entries:
                self._entries[outcome.key].messages.extend(write.messages)
        return outcomes


class ForgetsWhenClosed(Good):
    async def close(self) -> None:
        self._entries.clear()
        self._by_id.clear()
        self._by_user.clear()
        self._claims.clear()
        self._purges.clear()
        await super().close()


class GivesKeysAgain(Good):
    async def open(self) -> None:
        self._last_key = 0
        await super().open()


class WorksThoughClosed(Good):
    async def close(self) -> None:
        pass
