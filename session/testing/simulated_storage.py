"""A disk that outlives processes, and each process's way to it.

A restart is a second :class:`SimulatedStorage` on the same :class:`SimulatedDisk`, with a manager
of its own. Two things end a process early, and they differ in what they leave::

    storage.die()        the process is killed: what it wrote is in the page cache and survives
    disk.lose_power()    the machine stops: what was not synced is gone

A commit has four moments. :class:`Crash` cuts the power at one of the first three::

    before --> [written to the page cache] --> in --> [synced] --> after --> acknowledged

The default storage syncs every commit before it answers, as SQLite does with synchronous=FULL: what
was acknowledged survives both ends. A storage opened with ``synced=False`` answers without the
sync, which follows when it is closed. That is how a database behaves whose durability was switched
off, or a disk that lies: use it to see that a test of yours would notice.

All time here is a schedule point and ``latency_seconds`` of the event loop's clock, so under
:func:`~langswarm.core.session.testing.simulate` it costs nothing and is repeatable. What a dead
process still calls raises StorageError(code="closed").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import anyio
import anyio.lowlevel
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed, SessionWrite
from langswarm.core.session.actors.ports import ISessionStorage, StorageHealth
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session.actors.model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        SessionPage,
        SessionQuery,
        StoredSession,
        TurnRecord,
        UsageQuery,
        UsageReport,
    )
    from langswarm.core.session.actors.ports import WriteOutcome

    _Change = Callable[[InMemorySessionStorage], Awaitable[object]]

T = TypeVar("T")


@dataclass(frozen=True)
class Crash:
    """The power fails at the ``commit``-th commit of a process, counted from 1.

    A program that commits less often never gets there: ``SimulatedDisk.crashed`` tells.
    """

    when: Literal["before", "in", "after"]
    commit: int

    def __post_init__(self) -> None:
        """Raise ValueError for a moment that there is not."""
        if self.when not in {"before", "in", "after"}:
            raise ValueError(f"when={self.when!r}: it must be 'before', 'in' or 'after'")
        if self.commit < 1:
            raise ValueError(f"commit={self.commit}: commits are counted from 1")


class SimulatedDisk:
    """What survives a process. Share one among the storages of a test.

    Attributes:
        latency_seconds: how long each storage call takes on the way there, and again on the way
            back; 0 is a schedule point only.
        violations: what a runtime did to a storage that the port forbids; keep it empty.
        crashed: whether a :class:`Crash` has happened.
    """

    def __init__(self, *, latency_seconds: float = 0.0) -> None:
        """An empty disk."""
        self.latency_seconds = latency_seconds
        self.violations: list[str] = []
        self.crashed = False
        self._pages = _Pages()

    @property
    def store(self) -> InMemorySessionStorage:
        """What a process that looks now would see; to look at without a schedule point."""
        return self._pages.store

    @property
    def writes(self) -> list[SessionWrite]:
        """Every write that is on the disk or in its page cache, in the order of the commits."""
        return self._pages.writes()

    @property
    def unsynced(self) -> int:
        """How many of the changes a power cut would take."""
        return self._pages.unsynced()

    def lose_power(self) -> None:
        """Stop the machine: every process dies, and what was not synced is gone."""
        self._pages.lose()


class _Pages:
    """The disk and its page cache, for the storages. Nothing here is a schedule point."""

    def __init__(self) -> None:
        self.store = InMemorySessionStorage()
        self.storages: list[SimulatedStorage] = []
        # Invariant: done one after the other to an empty store, they make this one.
        self._changes: list[SessionWrite | _Change] = []
        self._synced = 0
        self._is_read = True

    def writes(self) -> list[SessionWrite]:
        return [change for change in self._changes if isinstance(change, SessionWrite)]

    def unsynced(self) -> int:
        return len(self._changes) - self._synced

    async def open(self) -> None:
        """Read what is there."""
        await self.store.open()
        if not self._is_read:
            self._is_read = True
            for change in self._changes:
                if isinstance(change, SessionWrite):
                    await self.store.commit([change])
                else:
                    await change(self.store)

    async def write(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        """Put a batch into the page cache."""
        outcomes = list(await self.store.commit(writes))
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Committed):
                self._changes.append(write)
        return outcomes

    async def change(self, change: Callable[[InMemorySessionStorage], Awaitable[T]]) -> T:
        """Change something that is no session, in the page cache."""
        done = await change(self.store)
        self._changes.append(change)
        return done

    def sync(self) -> None:
        """Whatever is in the page cache is on the disk from now on."""
        self._synced = len(self._changes)

    def lose(self) -> None:
        """What was not synced, and every process."""
        for storage in self.storages:
            storage.die()
        self.storages.clear()
        del self._changes[self._synced :]
        self.store = InMemorySessionStorage()
        self._is_read = False


class SimulatedStorage(ISessionStorage):
    """One process's way to the disk.

    Args:
        disk: shared with the processes before and after.
        synced: False: acknowledge a commit without syncing it; see the module.
        crash: where the power fails, if it does.

    Attributes:
        calls: how often each method was called, by its name.
    """

    def __init__(
        self, disk: SimulatedDisk, *, synced: bool = True, crash: Crash | None = None
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._disk = disk
        self._is_synced = synced
        self._crash = crash
        self._is_open = False
        self._is_dead = False
        self._is_committing = False
        self._pages = disk._pages  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its inside
        self._pages.storages.append(self)

    @property
    def is_dead(self) -> bool:
        """Whether its process is gone."""
        return self._is_dead

    def die(self) -> None:
        """Kill the process: nothing that it calls from now on reaches the disk.

        Its manager still runs, since it is a part of the test: end it with
        ``manager.aclose(drain_seconds=0)``, or let the end of the simulation do it.
        """
        self._is_dead = True

    def health(self) -> StorageHealth:
        return StorageHealth(is_open=self._is_open and not self._is_dead)

    async def open(self) -> None:
        await self._enter("open")
        await self._pages.open()
        self._is_open = True

    async def close(self) -> None:
        # Not an error in a dead process, because a runtime that winds down has to get to its end.
        self.calls["close"] += 1
        await self._pause()
        if not self._is_dead:
            self._pages.sync()
        self._is_open = False

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        await self._enter("load")
        found = await self._pages.store.load(session_ids)
        await self._leave()
        return found

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        await self._enter("read_back")
        found = await self._pages.store.load(session_ids)
        await self._leave()
        return found

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        await self._enter("load_unfinished")
        return await self._pages.store.load_unfinished(limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        await self._enter("read_messages")
        found = await self._pages.store.read_messages(key, query)
        await self._leave()
        return found

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        await self._enter("list_sessions")
        return await self._pages.store.list_sessions(query)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        await self._enter("read_usage")
        return await self._pages.store.read_usage(query)

    async def erase_user(self, user_id: str) -> None:
        await self._change("erase_user", lambda store: store.erase_user(user_id))

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        await self._enter("read_turn")
        found = await self._pages.store.read_turn(key, turn_no)
        await self._leave()
        return found

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        await self._enter("find_claim")
        found = await self._pages.store.find_claim(scope, method, key)
        await self._leave()
        return found

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        return await self._change(
            "sweep_claims", lambda store: store.sweep_claims(before_us, limit)
        )

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        await self._enter("load_purges")
        return await self._pages.store.load_purges(now_us, limit)

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        await self._change(
            "settle_purge",
            lambda store: store.settle_purge(purge, retry_us=retry_us, error=error),
        )

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._check_batch(writes)
        self._is_committing = True
        try:
            await self._enter("commit")
            return await self._write(writes)
        finally:
            self._is_committing = False

    # -------------------------------------------------------- inside, and for subclasses

    async def _enter(self, method: str) -> None:
        """A call is on its way; a subclass may let it fail here, before it did anything."""
        self.calls[method] += 1
        await self._pause()
        self._check_alive()
        if method != "open":
            self._check_open()

    async def _pause(self) -> None:
        """A schedule point, and time."""
        await anyio.lowlevel.checkpoint()
        if self._disk.latency_seconds:
            await anyio.sleep(self._disk.latency_seconds)

    async def _leave(self) -> None:
        await self._pause()
        self._check_alive()

    async def _write(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        """A batch has arrived; a subclass may let it fail here, before or after it is written."""
        self._crash_if("before")
        outcomes = await self._pages.write(writes)
        self._crash_if("in")
        await self._leave()
        if self._is_synced:
            self._pages.sync()
        self._crash_if("after")
        return outcomes

    async def _change(
        self, method: str, change: Callable[[InMemorySessionStorage], Awaitable[T]]
    ) -> T:
        await self._enter(method)
        done = await self._pages.change(change)
        await self._leave()
        if self._is_synced:
            self._pages.sync()
        return done

    def _crash_if(self, when: str) -> None:
        crash = self._crash
        if crash is not None and (crash.when, crash.commit) == (when, self.calls["commit"]):
            self._disk.crashed = True
            self._disk.lose_power()
            self._check_alive()

    def _check_batch(self, writes: Sequence[SessionWrite]) -> None:
        ids = [write.after.record.session_id for write in writes]
        if len(set(ids)) < len(ids):
            self._disk.violations.append(f"a batch holds a session twice: {ids}")
        if self._is_committing and not self._is_dead:
            self._disk.violations.append("two commits at once")

    def _check_alive(self) -> None:
        if self._is_dead:
            raise StorageError("the process of this storage is gone", code="closed")

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError("the storage is not open: call open() first", code="closed")
