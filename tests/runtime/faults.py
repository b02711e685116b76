"""A storage that fails on demand, in front of a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session import ISessionStorage, StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session.actors.model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        SessionPage,
        SessionQuery,
        SessionWrite,
        StoredSession,
        TurnRecord,
        UsageQuery,
        UsageReport,
    )
    from langswarm.core.session.actors.ports import WriteOutcome

    Commit = Callable[[Sequence[SessionWrite]], Awaitable[Sequence[WriteOutcome]]]
    Fault = Callable[[Commit, Sequence[SessionWrite]], Awaitable[Sequence[WriteOutcome]]]


class Faulty(ISessionStorage):
    """Passes everything on; each commit first asks the next of `faults`, if there is one.

    None in `faults` lets a commit pass.
    """

    def __init__(self, inner: ISessionStorage) -> None:
        self.inner = inner
        self.searches_text = inner.searches_text
        self.faults: list[Fault | None] = []
        self.open_error: Exception | None = None
        self.load_error: Exception | None = None
        self.read_back_error: Exception | None = None
        self.read_error: Exception | None = None
        self.batches = 0

    async def open(self) -> None:
        if self.open_error is not None:
            raise self.open_error
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self.batches += 1
        ids = [write.after.record.session_id for write in writes]
        assert len(ids) == len(set(ids)), "a batch holds a session at most once"
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            return await self.inner.commit(writes)
        return await fault(self.inner.commit, writes)

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        if self.load_error is not None:
            raise self.load_error
        return await self.inner.load(session_ids)

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        if self.read_back_error is not None:
            raise self.read_back_error
        return await self.inner.read_back(session_ids)

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        return await self.inner.load_unfinished(limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        if self.read_error is not None:
            raise self.read_error
        return await self.inner.read_messages(key, query)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await self.inner.list_sessions(query)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        return await self.inner.read_usage(query)

    async def erase_user(self, user_id: str) -> None:
        await self.inner.erase_user(user_id)

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        return await self.inner.find_claim(scope, method, key)

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return await self.inner.read_turn(key, turn_no)

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        return await self.inner.sweep_claims(before_us, limit)

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        return await self.inner.load_purges(now_us, limit)

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        await self.inner.settle_purge(purge, retry_us=retry_us, error=error)


async def busy(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """A clean failure: nothing was stored."""
    raise StorageError("planted: busy", code="busy", retryable=True)


async def each_fails(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """A clean failure, told per write."""
    return [StorageError("planted: full", code="full", retryable=True) for _ in writes]


async def raises_before(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """An exception of no known kind; nothing was stored."""
    raise ValueError("planted: before")


async def raises_after(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """An exception of no known kind; everything was stored."""
    await commit(writes)
    raise ValueError("planted: after")


async def unknown_stored(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """It says that it does not know; everything was stored."""
    await commit(writes)
    error = StorageError("planted: unknown", code="unknown", outcome="unknown")
    return [error for _ in writes]


async def unknown_lost(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """It says that it does not know; nothing was stored."""
    raise StorageError("planted: unknown", code="unknown", outcome="unknown")


async def too_few(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """It stores everything and answers nothing."""
    await commit(writes)
    return []


class Base(BaseException):
    """No Exception."""


async def raises_base(commit: Commit, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
    """Not even an Exception; everything was stored."""
    await commit(writes)
    raise Base("planted")


LOST: list[Fault] = [busy, each_fails, raises_before, unknown_lost]
STORED: list[Fault] = [raises_after, unknown_stored, too_few, raises_base]
