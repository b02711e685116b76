"""The simulated storage: memory behind schedule points, with a journal and planned faults.

The `Disk` outlives processes; each process has a `SimulatedStorage` of its own, which is dead once
the process is. Everything that really was committed is in the journal, in order: that is what the
model compares all answers with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.ports import ISessionStorage
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langswarm.core.session.actors.model import (
        MessageQuery,
        MessageRecord,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
    )
    from langswarm.core.session.actors.ports import WriteOutcome

    from .program import Fault

READ_FAULTS = ("clean", "raise")
"""A StorageError that says so; an exception out of the blue."""
COMMIT_FAULTS = (
    "clean",  # nothing is stored, and the storage says so
    "one",  # the first write of the batch alone is not stored
    "lost",  # nothing is stored, and the storage does not know
    "done",  # all is stored, and the storage does not know
    "told",  # all is stored; of the first write the storage does not know
    "raise",  # nothing is stored; an exception out of the blue
    "after",  # all is stored; an exception out of the blue
    "short",  # all is stored; fewer outcomes than writes
)


class Disk:
    """What survives a process."""

    def __init__(self, faults: Sequence[Fault], latency: float) -> None:
        self.store = InMemorySessionStorage()
        self.journal: dict[str, list[SessionWrite]] = {}
        self._known: dict[str, int] = {}
        self.violations: list[str] = []
        self.faulty = False
        self._latency = latency
        self._plan = {(fault.method, fault.number): fault.kind for fault in faults}
        self._calls: dict[str, int] = {}

    def written(self, session_id: str) -> int:
        """How many commits there are of the session."""
        return len(self.journal.get(session_id, ()))

    def last_seq(self, session_id: str) -> int:
        """Of the last message that is committed of the session."""
        writes = self.journal.get(session_id, ())
        return writes[-1].after.record.last_seq if writes else 0

    def known(self, session_id: str) -> int:
        """Of how many of them a process has been told: what it shows is no older than that."""
        return self._known.get(session_id, 0)

    def tell(self, session_ids: Iterable[str]) -> None:
        """A process knows now what is committed of these sessions."""
        for session_id in session_ids:
            self._known[session_id] = self.written(session_id)

    def next_fault(self, method: str) -> str | None:
        """What goes wrong with this call."""
        if not self.faulty:
            return None
        number = self._calls[method] = self._calls.get(method, 0) + 1
        return self._plan.get((method, number))

    async def pause(self) -> None:
        """A schedule point, and time."""
        await anyio.lowlevel.checkpoint()
        if self._latency:
            await anyio.sleep(self._latency)

    async def apply(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        """Commit and note down. No schedule point: memory has none either."""
        outcomes = list(await self.store.commit(writes))
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Committed):
                self.journal.setdefault(write.after.record.session_id, []).append(write)
        return outcomes


class SimulatedStorage(ISessionStorage):
    """One process's way to the disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._dead = False
        self._committing = False

    def die(self) -> None:
        """The process is gone: nothing reaches the disk any more."""
        self._dead = True

    async def open(self) -> None:
        await self._enter("open")
        await self._disk.store.open()

    async def close(self) -> None:
        await self._disk.pause()

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        await self._enter("load")
        found = await self._disk.store.load(session_ids)
        await self._leave()
        return found

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        await self._enter("readback")
        found = await self._disk.store.load(session_ids)
        await self._leave()
        return found

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        await self._enter("unfinished")
        return await self._disk.store.load_unfinished(limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        await self._enter("messages")
        found = await self._disk.store.read_messages(key, query)
        await self._leave()
        return found

    async def list_sessions(self, query: SessionQuery) -> Sequence[SessionRecord]:
        await self._enter("list")
        return await self._disk.store.list_sessions(query)

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._check_batch(writes)
        self._committing = True
        try:
            return await self._commit(writes)
        finally:
            self._committing = False

    # ------------------------------------------------------------ inside

    async def _commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        await self._enter("")
        fault = self._disk.next_fault("commit")
        if fault == "clean":
            raise StorageError("the disk is busy", code="busy", retryable=True)
        if fault == "lost":
            raise StorageError("no word from the disk", code="unknown", outcome="unknown")
        if fault == "raise":
            raise RuntimeError("a driver failed before it wrote")
        outcomes: list[WriteOutcome]
        if fault == "one":
            error = StorageError("the row is too large", code="full")
            outcomes = [error, *await self._disk.apply(writes[1:])]
        else:
            outcomes = await self._disk.apply(writes)
        await self._leave()
        if fault == "done":
            raise StorageError("no word from the disk", code="unknown", outcome="unknown")
        if fault == "after":
            raise RuntimeError("a driver failed after it wrote")
        if fault == "short":
            return outcomes[:-1]
        if fault == "told":
            outcomes[0] = StorageError("no word of a row", code="unknown", outcome="unknown")
            writes = writes[1:]
        self._disk.tell(write.after.record.session_id for write in writes)
        return outcomes

    def _check_batch(self, writes: Sequence[SessionWrite]) -> None:
        ids = [write.after.record.session_id for write in writes]
        if len(set(ids)) < len(ids):
            self._disk.violations.append(f"a batch holds a session twice: {ids}")
        if self._committing and not self._dead:
            self._disk.violations.append("two commits at once")

    async def _enter(self, method: str) -> None:
        await self._disk.pause()
        self._check_alive()
        fault = self._disk.next_fault(method) if method else None
        if fault == "clean":
            raise StorageError(f"{method} failed", code="busy", retryable=True)
        if fault == "raise":
            raise RuntimeError(f"a driver failed in {method}")

    async def _leave(self) -> None:
        await self._disk.pause()
        self._check_alive()

    def _check_alive(self) -> None:
        if self._dead:
            raise StorageError("the process is gone", code="closed")
