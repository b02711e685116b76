"""A storage that fails when a test tells it to, in front of any other."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.ports import ISessionStorage

if TYPE_CHECKING:
    import os
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
    from langswarm.core.session.actors.ports import (
        Backup,
        KeyRotation,
        StorageHealth,
        Verification,
        WriteOutcome,
    )

T = TypeVar("T")


class Fault(StrEnum):
    """What goes wrong with one call. Every fault is one that the port allows a storage to have."""

    FAILS = "fails"
    """StorageError of code "io", retryable: nothing was done; but `close` has closed."""
    FULL = "full"
    """Writes: StorageError of code "full": nothing was stored."""
    ONE_FAILS = "one fails"
    """`commit`: the first write alone is not stored, its outcome is a StorageError."""
    LOST_BEFORE = "lost before"
    """Writes: StorageError of outcome "unknown"; in truth nothing was stored."""
    LOST_AFTER = "lost after"
    """Writes: StorageError of outcome "unknown"; in truth all was stored that could be."""
    RAISES_BEFORE = "raises before"
    """A RuntimeError, as of a driver; nothing was done; but `close` has closed."""
    RAISES_AFTER = "raises after"
    """Writes: a RuntimeError; in truth all was stored that could be."""
    SHORT = "short"
    """`commit`, `load`, `read_back`: the last of the answers is missing; all was done."""
    SLOW = "slow"
    """`slow_seconds` pass before the call is done; else it succeeds."""


_EVERYWHERE: Final = frozenset({Fault.FAILS, Fault.RAISES_BEFORE, Fault.SLOW})
_WRITES: Final = _EVERYWHERE | {
    Fault.FULL,
    Fault.LOST_BEFORE,
    Fault.LOST_AFTER,
    Fault.RAISES_AFTER,
}
POSSIBLE_FAULTS: Final = {
    "open": _EVERYWHERE,
    "close": _EVERYWHERE,
    "commit": frozenset(Fault),
    "load": _EVERYWHERE | {Fault.SHORT},
    "read_back": _EVERYWHERE | {Fault.SHORT},
    "load_unfinished": _EVERYWHERE,
    "read_messages": _EVERYWHERE,
    "list_sessions": _EVERYWHERE,
    "read_usage": _EVERYWHERE,
    "erase_user": _WRITES,
    "read_turn": _EVERYWHERE,
    "find_claim": _EVERYWHERE,
    "sweep_claims": _WRITES,
    "load_purges": _EVERYWHERE,
    "settle_purge": _WRITES,
    "optimize": _EVERYWHERE,
    "backup": _EVERYWHERE,
    "verify": _EVERYWHERE,
    "rotate_keys": _EVERYWHERE,
}
"""By method, in what ways a call can fail."""


class FaultyStorage(ISessionStorage):
    """Passes every call on to `inner`, but for those that were told to fail.

        storage = FaultyStorage(InMemorySessionStorage())
        storage.fail("commit", Fault.LOST_AFTER)  # the next commit
        storage.fail("load", Fault.FAILS, call=3)  # the third load from now

    With or without faults it keeps the contract of storages, as long as `inner` does. Time is that
    of the event loop, so `simulate` runs a slow storage in no time.

    `slow_seconds`
        How long a call with `Fault.SLOW` waits; 1 by default.
    """

    def __init__(self, inner: ISessionStorage, *, slow_seconds: float = 1.0) -> None:
        self.inner = inner
        self.searches_text = inner.searches_text
        self.searches_text = inner.searches_text
        self.slow_seconds = slow_seconds
        self._calls: Counter[str] = Counter()
        self._plan: dict[tuple[str, int], Fault] = {}
        # Held by a commit, which may be slow: reading back and closing come behind it (the port).
        self._behind_commits = anyio.Lock()

    def fail(self, method: str, fault: Fault, *, call: int = 1) -> None:
        """Make the `call`-th call of `method` from now on fail; 1 is the next one.

        `fault` may be given by its value, as "full".

        Raises ValueError for a method without faults, a fault that the method cannot have or that
        there is not, or a call that is to fail already.
        """
        possible = POSSIBLE_FAULTS.get(method)
        if possible is None:
            known = ", ".join(POSSIBLE_FAULTS)
            raise ValueError(f"no faults for {method!r}; there are some for {known}")
        fault = Fault(fault)  # also from its value, which equals it and is not the same object
        if fault not in possible:
            raise ValueError(f"{method} cannot have {fault!r}; it can have {sorted(possible)}")
        number = self._calls[method] + call
        if call < 1 or (method, number) in self._plan:
            raise ValueError(f"call={call} of {method} is over, or is to fail already")
        self._plan[method, number] = fault

    @property
    def planned(self) -> int:
        """How many faults are still to come: 0 at the end of a test that met them all."""
        return len(self._plan)

    def calls(self, method: str) -> int:
        """How often `method` was called so far."""
        return self._calls[method]

    async def open(self) -> None:
        await self._pass_on("open", self.inner.open)

    async def close(self) -> None:
        async with self._behind_commits:
            try:
                await self._begin("close")
            finally:  # whoever is told that it failed has no second way to release what it holds
                await self.inner.close()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        async with self._behind_commits:
            fault = await self._begin("commit")
            if fault is Fault.ONE_FAILS and writes:
                error = StorageError("planned: this write alone failed", code="io", retryable=True)
                return [error, *(await self.inner.commit(writes[1:]) if writes[1:] else ())]
            outcomes = await self.inner.commit(writes)
            _end("commit", fault)
            return outcomes[:-1] if fault is Fault.SHORT else outcomes

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        fault = await self._begin("load")
        found = await self.inner.load(session_ids)
        return found[:-1] if fault is Fault.SHORT else found

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        async with self._behind_commits:
            fault = await self._begin("read_back")
            found = await self.inner.read_back(session_ids)
            return found[:-1] if fault is Fault.SHORT else found

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        return await self._pass_on("load_unfinished", lambda: self.inner.load_unfinished(limit))

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return await self._pass_on("read_messages", lambda: self.inner.read_messages(key, query))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._pass_on("list_sessions", lambda: self.inner.list_sessions(query))

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        return await self._pass_on("read_usage", lambda: self.inner.read_usage(query))

    async def erase_user(self, user_id: str) -> None:
        await self._pass_on("erase_user", lambda: self.inner.erase_user(user_id))

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return await self._pass_on("read_turn", lambda: self.inner.read_turn(key, turn_no))

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        return await self._pass_on("find_claim", lambda: self.inner.find_claim(scope, method, key))

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        return await self._pass_on(
            "sweep_claims", lambda: self.inner.sweep_claims(before_us, limit)
        )

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        return await self._pass_on("load_purges", lambda: self.inner.load_purges(now_us, limit))

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        await self._pass_on(
            "settle_purge",
            lambda: self.inner.settle_purge(purge, retry_us=retry_us, error=error),
        )

    def health(self) -> StorageHealth:
        """That of `inner`."""
        return self.inner.health()

    async def optimize(self) -> None:
        await self._pass_on("optimize", self.inner.optimize)

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        return await self._pass_on("backup", lambda: self.inner.backup(path))

    async def verify(self) -> Verification:
        return await self._pass_on("verify", self.inner.verify)

    async def rotate_keys(self) -> KeyRotation:
        return await self._pass_on("rotate_keys", self.inner.rotate_keys)

    # ------------------------------------------------------------ inside

    async def _pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        fault = await self._begin(method)
        done = await call()
        _end(method, fault)
        return done

    async def _begin(self, method: str) -> Fault | None:
        """Count the call; fail or wait here if that is what it is to do first."""
        self._calls[method] += 1
        fault = self._plan.pop((method, self._calls[method]), None)
        if fault is Fault.FAILS:
            raise StorageError(f"planned: {method} failed", code="io", retryable=True)
        if fault is Fault.RAISES_BEFORE:
            raise _driver_error(method)
        if fault is Fault.FULL:
            raise StorageError("planned: the storage is full", code="full", retryable=True)
        if fault is Fault.LOST_BEFORE:
            raise _lost()
        if fault is Fault.SLOW:
            await anyio.sleep(self.slow_seconds)
        return fault


def _end(method: str, fault: Fault | None) -> None:
    """All is done; fail here if nobody is to learn of it."""
    if fault is Fault.LOST_AFTER:
        raise _lost()
    if fault is Fault.RAISES_AFTER:
        raise _driver_error(method)


def _lost() -> StorageError:
    return StorageError("planned: the answer was lost", code="unknown", outcome="unknown")


def _driver_error(method: str) -> RuntimeError:
    return RuntimeError(f"planned: a driver failed in {method}")
