"""The storage actor: one writer that commits together what arrives while a commit is running.

A write is handed over by a plain call with the call-back that takes its outcome. The writer is a
task while there is something to write; it takes all that waits, commits it as one batch, and calls
back for each. So a thousand sessions that write at once share one sync, and a lonely one pays for
nothing but its own. Loads are batched the same way.

Handing over is the point of no return: a caller that goes away does not take its write along.

An outcome that nobody can tell (the commit raised something unexpected, or was cut off by the end
of the event loop) is read back from behind the writer before anyone is answered: the revision of
the session says whether the write is there. Only where even that fails the caller gets
StorageError(outcome="unknown"), and the actor loads its session again before the next message.

Opening comes first, and with it the turns that a killed process left open: they are closed as
interrupted before the first read (G5). A storage that cannot be opened fails all who wait for it;
the next call tries again.
"""

from __future__ import annotations

import logging
from collections import deque
from contextvars import Context
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import attrs

from .errors import RuntimeClosedError, SessionError, StorageError, again
from .model import Committed, SessionWrite, StoredSession
from .outcomes import closed_error, load_failed, outcome_found, unknown_outcome
from .ports import StorageHealth
from .turn_writes import close_lost_turn
from .values import about
from .wait import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from .executor import Executor
    from .model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        SessionPage,
        SessionQuery,
        TurnRecord,
        UsageQuery,
        UsageReport,
    )
    from .ports import Backup, ISessionStorage, KeyRotation, Verification, WriteOutcome
    from .wait import Backend

    Loaded = StoredSession | None | StorageError | RuntimeClosedError
    WriteSettled = Callable[[WriteOutcome | RuntimeClosedError], None]
    LoadSettled = Callable[[Loaded], None]

T = TypeVar("T")

logger = logging.getLogger("langswarm.core.session")

_RECOVERY_PAGE = 500


@attrs.frozen(kw_only=True)
class StorageStatistics:
    """A snapshot. Counts are since the runtime started on this event loop."""

    batches: int
    writes: int
    largest_batch: int
    failed_writes: int
    resolved_unknown: int
    """Writes whose outcome was settled by reading back."""
    loads: int
    load_batches: int
    recovered_turns: int
    """Turns found open at start and closed as interrupted."""
    waiting_writes: int
    waiting_loads: int


class _Door(Enum):
    SHUT = "shut"
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class StorageActor:
    """The one user of the storage port, on one event loop."""

    def __init__(
        self,
        storage: ISessionStorage,
        backend: Backend,
        executor: Executor,
        *,
        wall_clock_us: Callable[[], int],
        batch_size: int,
    ) -> None:
        self._storage = storage
        self._executor = executor
        self._wall_clock_us = wall_clock_us
        self._batch_size = batch_size
        self._door = _Door.SHUT
        self._door_moved = Signal(backend)
        self._open_error: StorageError | None = None
        self._writes: deque[tuple[SessionWrite, WriteSettled]] = deque()
        self._loads: deque[tuple[str, LoadSettled]] = deque()
        # Invariant: True from the call that starts the task to its last step; at most one of each.
        self._writing = False
        self._loading = False
        self._counts = dict.fromkeys(
            ("batches", "writes", "failed", "resolved", "loads", "load_batches", "recovered"), 0
        )
        self._largest_batch = 0
        # The last error that was not the fault of one write, and whether it came since a commit.
        self.last_error: SessionError | None = None
        self.is_failing = False
        # The error after which nothing is written any more; what is read may not last.
        self.stopped_by: StorageError | None = None

    # -------------------------------------------------------- plain calls

    def submit(self, write: SessionWrite, settled: WriteSettled) -> None:
        """Hand a write over. `settled` is called once, from the writer, after COMMIT."""
        if self._door is _Door.CLOSED:
            settled(closed_error())
            return
        self._writes.append((write, settled))
        if not self._writing:
            self._writing = True
            self._executor.start(Context(), self._write_all)

    def load(self, session_id: str, settled: LoadSettled) -> None:
        """Ask for a session as last committed. `settled` is called once."""
        if self._door is _Door.CLOSED:
            settled(closed_error())
            return
        self._loads.append((session_id, settled))
        if not self._loading:
            self._loading = True
            self._executor.start(Context(), self._load_all)

    @property
    def waiting_writes(self) -> int:
        """Writes that were handed over and are in no batch yet."""
        return len(self._writes)

    def statistics(self) -> StorageStatistics:
        """A snapshot of the storage actor."""
        counts = self._counts
        return StorageStatistics(
            batches=counts["batches"],
            writes=counts["writes"],
            largest_batch=self._largest_batch,
            failed_writes=counts["failed"],
            resolved_unknown=counts["resolved"],
            loads=counts["loads"],
            load_batches=counts["load_batches"],
            recovered_turns=counts["recovered"],
            waiting_writes=len(self._writes),
            waiting_loads=len(self._loads),
        )

    # -------------------------------------------------------- reads of callers

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        """Committed messages, in the caller's task; it waits for no turn and no write."""
        await self.opened()
        return await _read(self._storage.read_messages(key, query))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of committed sessions, in the caller's task."""
        await self.opened()
        return await _read(self._storage.list_sessions(query))

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        """The figures of days, as committed, in the caller's task."""
        await self.opened()
        return await _read(self._storage.read_usage(query))

    async def erase_user(self, user_id: str) -> None:
        """What is kept of a user beside sessions; in the caller's task."""
        await self.opened()
        await _read(self._storage.erase_user(user_id))

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        """A turn as committed, in the caller's task."""
        await self.opened()
        return await _read(self._storage.read_turn(key, turn_no))

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        """What was done under an idempotency key, as committed."""
        await self.opened()
        return await _read(self._storage.find_claim(scope, method, key))

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        """Delete idempotency keys that are older; how many there were, up to `limit`."""
        await self.opened()
        return await _read(self._storage.sweep_claims(before_us, limit))

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        """Conversations that are due to be deleted at their providers."""
        await self.opened()
        return await _read(self._storage.load_purges(now_us, limit))

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        """Take one off the queue, or make it due again."""
        await self.opened()
        await _read(self._storage.settle_purge(purge, retry_us=retry_us, error=error))

    async def load_now(self, session_id: str) -> StoredSession | None:
        """The session as committed, in the caller's task, without activating it."""
        [found] = await self.load_many([session_id])
        return found

    async def load_many(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        """As `load_now`, for each of them."""
        await self.opened()
        found = await _read(self._storage.load(session_ids))
        if len(found) != len(session_ids):
            raise load_failed("the storage gave another number of sessions")
        return found

    async def optimize(self) -> None:
        """Let the storage tidy up, in the caller's task."""
        await self.opened()
        await _read(self._storage.optimize())

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        """Let the storage write a backup, in the caller's task."""
        await self.opened()
        return await _read(self._storage.backup(path))

    async def verify(self) -> Verification:
        """Let the storage look at all that it has, in the caller's task."""
        await self.opened()
        return await _read(self._storage.verify())

    async def rotate_keys(self) -> KeyRotation:
        """Let the storage encrypt everything with its current key, in the caller's task."""
        await self.opened()
        return await _read(self._storage.rotate_keys())

    # -------------------------------------------------------- opening and closing

    async def opened(self) -> None:
        """Return once the storage is open. Raises what opening raised."""
        if self._door is _Door.OPEN:
            return
        if self._door is _Door.SHUT:
            self._door = _Door.OPENING
            self._executor.start(Context(), self._open)
        while self._door is _Door.OPENING:
            await self._door_moved.wait()
        if self._door is _Door.CLOSED:
            raise closed_error()
        if self._door is _Door.SHUT:
            error = self._open_error or StorageError("the storage did not open", code="unknown")
            raise again(error)

    async def _open(self) -> None:
        try:
            await self._storage.open()
            await self._recover()
        except StorageError as error:
            self._move_door(_Door.SHUT, error)
        except BaseException as error:
            wrapped = StorageError(f"the storage did not open: {error!r}", code="unknown")
            wrapped.__cause__ = error
            self._move_door(_Door.SHUT, wrapped)
            if not isinstance(error, Exception):
                raise
        else:
            self._move_door(_Door.OPEN, None)

    @property
    def is_shut(self) -> bool:
        """Whether it is closed, or the last opening failed."""
        return self._door is _Door.CLOSED or self._open_error is not None

    def health(self) -> StorageHealth:
        """What the storage says of itself; whatever it does, an answer."""
        try:
            return self._storage.health()
        except Exception as error:
            logger.exception("the storage could not say how it is")
            return StorageHealth(warning=f"the storage could not say how it is: {error!r}")

    def _note(self, error: object) -> None:
        """Keep for `health` what is not the fault of one write."""
        if isinstance(error, SessionError) and getattr(error, "code", None) != "invalid":
            self.last_error, self.is_failing = copy(error), True
            if isinstance(error, StorageError) and self.health().writes_stopped:
                self.stopped_by = copy(error)

    def _move_door(self, door: _Door, error: StorageError | None) -> None:
        if error is not None:
            self._note(error)
        if self._door is not _Door.CLOSED:
            self._door, self._open_error = door, error
        self._door_moved.wake()

    async def _recover(self) -> None:
        damaged: set[int] = set()
        while True:
            found = await self._storage.load_unfinished(_RECOVERY_PAGE + len(damaged))
            lost = [state for state in found if state.record.key not in damaged]
            if not lost:
                return
            now_us = self._wall_clock_us()
            writes = [close_lost_turn(state, now_us) for state in lost]
            for write, outcome in zip(writes, await self._storage.commit(writes), strict=True):
                if isinstance(outcome, Committed):
                    self._counts["recovered"] += 1
                elif isinstance(outcome, StorageError) and outcome.code == "corrupt":
                    # its own load meets the damage again, and closes the turn or fails alone
                    record = write.after.record
                    logger.error(
                        "session %s is not recovered: %s",
                        record.session_id,
                        outcome,
                        extra=about(record.session_id),
                    )
                    self._note(outcome)
                    damaged.add(record.key)
                else:
                    raise StorageError(
                        f"a turn that was cut off could not be closed: {outcome}", code="unknown"
                    )

    def abandon(self) -> None:
        """Tell all who wait that it ends before it has begun. Plain."""
        self._door = _Door.CLOSED
        self._refuse_writes(closed_error())
        self._refuse_loads(closed_error())
        self._door_moved.wake()

    async def aclose(self) -> None:
        """Refuse new work, finish what was handed over, close the storage. Call it last (G13)."""
        try:
            while self._writing or self._loading or self._door is _Door.OPENING:
                await self._door_moved.wait()
        finally:
            # Also where the storage hangs: whoever waits for it to open is told.
            self._door = _Door.CLOSED
            self._door_moved.wake()
        await self._storage.close()

    # -------------------------------------------------------- the writer

    async def _write_all(self) -> None:
        try:
            await self._write_batches()
        finally:
            self._writing = False
            self._move_door(self._door, self._open_error)

    async def _write_batches(self) -> None:
        try:
            await self.opened()
        except (StorageError, RuntimeClosedError) as error:
            self._refuse_writes(error)
            return
        except BaseException:
            self._refuse_writes(closed_error())
            raise
        while self._writes:
            count = min(len(self._writes), self._batch_size)
            batch = [self._writes.popleft() for _ in range(count)]
            outcomes = await self._commit([write for write, _ in batch])
            self.is_failing = False
            self._counts["batches"] += 1
            self._counts["writes"] += count
            self._largest_batch = max(self._largest_batch, count)
            for (_, settled), outcome in zip(batch, outcomes, strict=True):
                if not isinstance(outcome, Committed):
                    self._counts["failed"] += 1
                    self._note(outcome)
                self._settle(settled, outcome)

    def _refuse_writes(self, error: StorageError | RuntimeClosedError) -> None:
        while self._writes:
            self._settle(self._writes.popleft()[1], again(error))

    async def _commit(self, writes: list[SessionWrite]) -> list[WriteOutcome]:
        """The outcome of each write; never raises, whatever the storage does."""
        try:
            outcomes = list(await self._storage.commit(writes))
            if len(outcomes) != len(writes):
                outcomes = await self._read_back(writes, None)
        except StorageError as error:
            if error.outcome == "failed":
                return [again(error) for _ in writes]
            return await self._read_back(writes, error)
        except BaseException as error:  # noqa: BLE001 - the end of the loop included: see above
            return await self._read_back(writes, error)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, StorageError) and outcome.outcome == "unknown":
                [outcomes[index]] = await self._read_back([writes[index]], outcome)
        return outcomes

    async def _read_back(self, writes: list[SessionWrite], cause: object) -> list[WriteOutcome]:
        """Look behind the writer whether the writes are there."""
        logger.warning("the outcome of a commit is unknown and is read back: %r", cause)
        ids = [write.after.record.session_id for write in writes]
        try:
            stored = await self._storage.read_back(ids)
            outcomes = [
                outcome_found(write, state, cause)
                for write, state in zip(writes, stored, strict=True)
            ]
        except BaseException as error:  # noqa: BLE001 - then it stays unknown
            if len(writes) > 1 and getattr(error, "code", None) == "corrupt":
                # damage in one session is no reason to leave the others in doubt
                return [found for one in writes for found in await self._read_back([one], cause)]
            return [unknown_outcome(cause, error) for _ in writes]
        self._counts["resolved"] += len(writes)
        return outcomes

    # -------------------------------------------------------- the loader

    async def _load_all(self) -> None:
        try:
            await self._load_batches()
        finally:
            self._loading = False
            self._move_door(self._door, self._open_error)

    async def _load_batches(self) -> None:
        while self._loads:
            try:
                await self.opened()
            except BaseException as failure:  # noqa: BLE001 - told to all who wait
                self._refuse_loads(load_failed(failure))
                return
            count = min(len(self._loads), self._batch_size)
            batch = [self._loads.popleft() for _ in range(count)]
            found = await self._load_batch([session_id for session_id, _ in batch])
            self._counts["loads"] += count
            self._counts["load_batches"] += 1
            for (_, settled), state in zip(batch, found, strict=True):
                self._settle(settled, state)

    async def _load_batch(self, session_ids: list[str]) -> list[Loaded]:
        """The session of each id, or why not; never raises, whatever the storage does."""
        try:
            found: list[Loaded] = list(await self._storage.load(session_ids))
        except BaseException as failure:  # noqa: BLE001 - the end of the loop included
            if len(session_ids) > 1 and getattr(failure, "code", None) == "corrupt":
                # damage in one session is no reason to refuse the others
                return [loaded for name in session_ids for loaded in await self._load_batch([name])]
            self._note(load_failed(failure))
            return [load_failed(failure) for _ in session_ids]
        if len(found) != len(session_ids):
            return [load_failed("the storage gave another number of sessions") for _ in session_ids]
        return found

    def _refuse_loads(self, error: StorageError | RuntimeClosedError) -> None:
        while self._loads:
            self._settle(self._loads.popleft()[1], again(error))

    def _settle(self, settled: Callable[..., None], outcome: object) -> None:
        try:
            settled(outcome)
        except Exception:
            logger.exception("a session could not take the outcome of its storage")


async def _read(reading: Awaitable[T]) -> T:
    """What a storage gives; whatever else it raises is a StorageError for those who read."""
    try:
        return await reading
    except SessionError:
        raise
    except Exception as error:
        raise StorageError(f"reading failed: {error!r}", code="unknown") from error
