"""One transaction for many writes.

The plain way assumes that all writes are good: all rows of one kind after those of another, and a
comparison of row counts that proves every fence (revision, epoch) at once. If
anything is off, everything is rolled back and done again with a savepoint around each write, so
that the bad ones fail alone. That is slower by a factor of five and rare; finding the bad ones by
trying each write in a transaction of its own would cost a sync each.

When the place is at fault (disk full, file locked) no second attempt is made: all writes of the
batch share the error, and none of them is stored.

A failed sync ends writing for good. Linux may drop the dirty pages and still serve them from its
cache, so neither a retry nor reading back proves anything. So does a file, or a -wal, that is not
in its place any more (see `place`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Literal

from ....actors.errors import StorageError
from ....actors.model import Committed, Conflict
from .batch import Batch, MisfitError
from .mapping import is_failed_sync, is_of_the_place, storage_error
from .sealing import NO_KEYS
from .search import SearchIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ....actors.model import SessionWrite
    from ....actors.ports import WriteOutcome
    from .connection import JobConnection
    from .place import Place
    from .sealing import Vault


class Writer:
    """Commits batches on the writer connection; every method runs in that connection's thread."""

    def __init__(self, place: Place, vault: Vault = NO_KEYS) -> None:
        self.failed: StorageError | None = None
        """Set once and for all by a failed sync, or by a file or a -wal that is gone."""
        self.batches = 0
        self.repeated = 0
        self.writes = 0
        self.refused = 0
        self._last_key = 0
        self._place = place
        self._vault = vault
        self.index = SearchIndex(is_on=vault.ring is None)

    def check(self) -> None:
        """Raise if writing has ended: nothing that is read back then proves anything."""
        if self.failed is not None:
            raise _copy(self.failed, "failed")

    def look(self) -> str | None:
        """End writing if the file or its -wal is not in its place, and say so; from any thread."""
        problem = self._place.problem()
        if problem is not None and self.failed is None:
            self.failed = StorageError(problem, code="io", outcome="unknown")
        return problem

    def check_place(self) -> None:
        """Look, and raise what was seen; not a failed sync, after which reading may go on."""
        problem = self.look()
        if problem is not None:
            raise StorageError(problem, code="io")

    def note(self, error: Exception) -> None:
        """End writing if the disk has refused a sync."""
        if is_failed_sync(error):
            self.failed = storage_error(error)

    def start(self, connection: sqlite3.Connection) -> None:
        """Learn which keys were ever used; one process holds the file, so nobody else adds any."""
        row = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'sessions'"
        ).fetchone()
        self._last_key = row[0] if row else 0
        self.index.start(connection)

    def commit(
        self, writes: Sequence[SessionWrite], connection: JobConnection
    ) -> list[WriteOutcome]:
        """Outcomes in the order of the writes; never raises an Exception."""
        self.batches += 1
        if self.failed is not None:
            outcomes: list[WriteOutcome] = [_copy(self.failed, "failed") for _ in writes]
        else:
            keys = [self._key_for(write) for write in writes]
            outcomes = self._settle(writes, keys, connection)
        committed = sum(type(outcome) is Committed for outcome in outcomes)
        self.writes += committed
        self.refused += len(outcomes) - committed
        return outcomes

    def change(
        self, change: Callable[[sqlite3.Connection], int], connection: JobConnection
    ) -> tuple[int, float]:
        """Something in a transaction of its own: rows touched, seconds without the commit.

        Raises StorageError as the outcome of a write would be.
        """
        self.check()
        try:
            connection.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            touched = change(connection)
            seconds = time.monotonic() - began
            self._commit(connection)
        except Exception as error:
            raise self._unsettled(error, connection) from error
        return touched, seconds

    def _settle(
        self, writes: Sequence[SessionWrite], keys: Sequence[int], connection: JobConnection
    ) -> list[WriteOutcome]:
        try:
            try:
                return self._all_at_once(writes, keys, connection)
            except Exception as error:
                _roll_back(connection)
                if (
                    self.failed is not None
                    or isinstance(error, StorageError)
                    or is_of_the_place(error)
                ):
                    raise
                self.repeated += 1
                self._mend_index(error, connection)
                return self._one_by_one(writes, keys, connection)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            mapped = self._unsettled(error, connection)
            return [_copy(mapped, mapped.outcome) for _ in writes]

    def _unsettled(self, error: Exception, connection: JobConnection) -> StorageError:
        """Undo what the transaction has done, and say why."""
        _roll_back(connection)
        connection.doubt(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        self.note(error)
        self.index.note(error)
        mapped = error if isinstance(error, StorageError) else storage_error(error)
        return _copy(mapped, mapped.outcome)

    def _all_at_once(
        self, writes: Sequence[SessionWrite], keys: Sequence[int], connection: sqlite3.Connection
    ) -> list[WriteOutcome]:
        rows = Batch(self.index, self._vault)
        for write, key in zip(writes, keys, strict=True):
            rows.add(write, key)
        connection.execute("BEGIN IMMEDIATE")
        rows.apply(connection)
        self._commit(connection)
        rows.committed()
        return [Committed(key) for key in keys]

    def _mend_index(self, error: Exception, connection: sqlite3.Connection) -> None:
        """If it was the index of words, no write need fail of it."""
        self.index.note(error)
        if self.index.is_damaged:
            connection.execute("BEGIN IMMEDIATE")
            self.index.mend(connection)
            self._commit(connection)

    def _one_by_one(
        self, writes: Sequence[SessionWrite], keys: Sequence[int], connection: sqlite3.Connection
    ) -> list[WriteOutcome]:
        """Each write in a savepoint; again without it when one has run into a damaged page.

        SQLite refuses all that follows damage in a transaction, the commit included.
        """
        damaged: dict[int, WriteOutcome] = {}
        while True:
            connection.execute("BEGIN IMMEDIATE")
            outcomes: list[WriteOutcome] = []
            batches: list[Batch] = []
            for place, (write, key) in enumerate(zip(writes, keys, strict=True)):
                if place in damaged:
                    outcomes.append(damaged[place])
                    continue
                rows = Batch(self.index, self._vault)
                outcome = _try_one(rows, write, key, connection)
                if isinstance(outcome, StorageError) and outcome.code == "corrupt":
                    damaged[place] = outcome
                    break
                outcomes.append(outcome)
                if isinstance(outcome, Committed):
                    batches.append(rows)
            else:
                self._commit(connection)
                for rows in batches:
                    rows.committed()
                return outcomes
            _roll_back(connection)

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.note(error)
            raise storage_error(error, committing=True) from error
        self.look()  # after the commit, so that what is seen holds for it
        if self.failed is not None:
            raise self.failed

    def _key_for(self, write: SessionWrite) -> int:
        if write.expected_revision:
            return write.after.record.key
        self._last_key += 1
        return self._last_key


def _copy(error: StorageError, outcome: Literal["failed", "unknown"]) -> StorageError:
    """An exception of its own for each caller: raising writes a traceback into it."""
    return StorageError(str(error), code=error.code, retryable=error.retryable, outcome=outcome)


def _try_one(
    rows: Batch, write: SessionWrite, key: int, connection: sqlite3.Connection
) -> WriteOutcome:
    """One write in a savepoint: afterwards all of it is there, or nothing."""
    connection.execute("SAVEPOINT one")
    try:
        rows.add(write, key)
        rows.apply(connection)
        outcome: WriteOutcome = Committed(key)
    except Exception as error:
        if is_of_the_place(error):
            raise
        connection.execute("ROLLBACK TO one")
        outcome = _verdict(write, error, connection)
    connection.execute("RELEASE one")
    return outcome


def _verdict(write: SessionWrite, error: Exception, connection: sqlite3.Connection) -> WriteOutcome:
    """Why one write alone failed."""
    record = write.after.record
    with contextlib.suppress(UnicodeError):  # an id that cannot be stored is not stored
        stored = connection.execute(
            "SELECT revision, epoch, key FROM sessions WHERE id = ?", (record.session_id,)
        ).fetchone()
        expected = (write.expected_revision, record.epoch, record.key)
        if stored is None and write.expected_revision:
            return Conflict(0, 0)
        if stored is not None and (not write.expected_revision or stored != expected):
            return Conflict(stored[0], stored[1])
    if isinstance(error, MisfitError | sqlite3.IntegrityError):
        return StorageError(
            f"the write to session {record.session_id!r} does not fit what is stored: {error}; "
            "nothing of it was written",
            code="invalid",
        )
    return storage_error(error)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # some errors have rolled back already
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
