"""More storages that break the contract, each in a smaller way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session import StorageError
from langswarm.core.session.actors.model import Counters
from langswarm.core.session.actors.ports import Backup, KeyRotation, Verification

from .wrong_storages import on_page

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import (
        MessageQuery,
        MessageRecord,
        SessionPage,
        SessionQuery,
        SessionWrite,
        StoredSession,
    )
    from langswarm.core.session.actors.ports import StorageHealth, WriteOutcome


def refusal() -> StorageError:
    return StorageError("refused, wrongly", code="invalid")


class _LoadsOtherwise(Good):
    def shown(self, stored: StoredSession) -> StoredSession:
        raise NotImplementedError

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return [one and self.shown(one) for one in await super().load(session_ids)]


class ForgetsTheCounters(_LoadsOtherwise):
    def shown(self, stored: StoredSession) -> StoredSession:
        return attrs.evolve(stored, record=attrs.evolve(stored.record, counters=Counters()))


class MovesKeys(_LoadsOtherwise):
    def shown(self, stored: StoredSession) -> StoredSession:
        key = stored.record.key + stored.record.revision - 1
        return attrs.evolve(stored, record=attrs.evolve(stored.record, key=key))


class LoadsFromAStaleCache(_LoadsOtherwise):
    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, StoredSession] = {}

    def shown(self, stored: StoredSession) -> StoredSession:
        return self._cache.setdefault(stored.record.session_id, stored)


class ReadsBackWithoutOpenTurns(Good):
    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        found = await self.load(session_ids)
        return [stored and attrs.evolve(stored, open_turn=None) for stored in found]


class SettlesACancelledCommitTooLate(Good):
    def __init__(self) -> None:
        super().__init__()
        self._late: list[SessionWrite] = []

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._late.extend(writes)
        await anyio.lowlevel.checkpoint()
        self._late.clear()
        return await super().commit(writes)

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        found = await super().read_back(session_ids)
        await super().commit(self._late)
        self._late.clear()
        return found


class TakesMessageIdsForUnique(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        entries = self._entries.values()
        known = {message.message_id for entry in entries for message in entry.messages} - {None}
        for write in writes:
            if known & {message.message_id for message in write.messages}:
                return [refusal()] * len(writes)
        return await super().commit(writes)


class RefusesTheBatchForOneValue(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        try:
            for write in writes:
                for message in write.messages:
                    message.content.encode()
        except (AttributeError, UnicodeError) as error:
            raise refusal() from error
        return await super().commit(writes)


class RefusesToDoNothing(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        if not writes:
            raise refusal()
        return await super().commit(writes)

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        if not session_ids:
            raise refusal()
        return await super().load(session_ids)


class IgnoresMessageIds(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await super().read_messages(key, attrs.evolve(query, message_id=None))


class IgnoresRoles(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await super().read_messages(key, attrs.evolve(query, role=None))


class IgnoresTimes(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        anytime = attrs.evolve(query, since_us=None, until_us=None)
        return await super().read_messages(key, anytime)


class TakesEndsForInclusive(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        after, before = max(query.after_seq - 1, 0), query.before_seq
        wider = attrs.evolve(
            query, after_seq=after, before_seq=None if before is None else before + 1
        )
        return await super().read_messages(key, wider)


class FindsSomethingForUnknownKeys(Good):
    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        known = key if key in self._entries else next(iter(self._entries), key)
        return await super().read_messages(known, query)


class IgnoresActivity(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await super().list_sessions(attrs.evolve(query, active_since_us=None))


class TakesNoLimitForAll(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await super().list_sessions(attrs.evolve(query, limit=query.limit or 1000))


class ListsHalfARecord(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return on_page(page, [attrs.evolve(one, provider_session_id=None) for one in page.records])


class ForgetsWhenOpenedTwice(Good):
    async def open(self) -> None:
        if self._open:
            self._by_id.clear()
        await super().open()


class RefusesASecondOpen(Good):
    async def open(self) -> None:
        if self._open:
            raise refusal()
        await super().open()


class IsSpoiledByAnEarlyClose(Good):
    _spoiled = False

    async def open(self) -> None:
        if self._spoiled:
            raise refusal()
        await super().open()

    async def close(self) -> None:
        self._spoiled = self._spoiled or not self._open
        await super().close()


class StaysHalfOpen(Good):
    """A cancelled open leaves the mark of one that is on its way."""

    _opening = False

    async def open(self) -> None:
        if not self._opening:
            self._opening = True
            await anyio.lowlevel.checkpoint()
            await super().open()
            self._opening = False


class StaysHalfClosed(Good):
    """A cancelled close leaves the mark of one that is on its way, and open refuses for ever."""

    _closing = False

    async def open(self) -> None:
        if self._closing:
            raise refusal()
        await super().open()

    async def close(self) -> None:
        self._closing = True
        await anyio.lowlevel.checkpoint()
        await super().close()
        self._closing = False


class BreaksWhenAReadIsCancelled(Good):
    _reading = False

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        if self._reading:
            raise refusal()
        self._reading = True
        await anyio.lowlevel.checkpoint()
        self._reading = False
        return await super().load_unfinished(limit)


class OptimizesAway(Good):
    async def optimize(self) -> None:
        for entry in self._entries.values():
            entry.messages.clear()


class RotatesAway(Good):
    async def rotate_keys(self) -> KeyRotation:
        for entry in self._entries.values():
            entry.messages.clear()
        return await super().rotate_keys()


class ClaimsARotation(Good):
    """It says nothing, where it should say that there is nothing to rotate."""

    async def rotate_keys(self) -> Any:
        return "done"


class FindsProblemsEverywhere(Good):
    async def verify(self) -> Verification:
        return Verification(problems=("there is data",))


class ClaimsABackup(Good):
    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        return Backup(path=str(path), size_bytes=6)


class OverwritesABackup(Good):
    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        Path(path).write_bytes(b"backup")
        return Backup(path=str(path), size_bytes=6)


class HealthRaisesWhenClosed(Good):
    def health(self) -> StorageHealth:
        self._check_open()
        return super().health()
