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

import attrs

from ....actors.errors import StorageError
from ....actors.model import Committed, Conflict
from .mapping import is_failed_sync, is_of_the_place, storage_error
from .rows import (
    Row,
    changing_row,
    claim_row,
    documents_row,
    fixed_row,
    message_row,
    purge_row,
    row_id,
    turn_row,
)
from .schema import SEQ_MAX
from .statements import (
    CLEAR_MESSAGES,
    HIDE_MESSAGES,
    INSERT_MESSAGES,
    INSERT_SESSIONS,
    INSERT_TURNS,
    MARK_MESSAGES,
    PUT_CLAIMS,
    PUT_DOCUMENTS,
    QUEUE_PURGES,
    UPDATE_SESSIONS,
    UPDATE_TURNS,
    run_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ....actors.model import SessionWrite
    from ....actors.ports import WriteOutcome
    from .connection import JobConnection
    from .place import Place


class _MisfitError(Exception):
    """A write does not fit what is stored."""


@attrs.define(eq=False)
class _Rows:
    """A batch, sorted by kind of row."""

    new: list[Row] = attrs.field(factory=list[Row])
    changed: list[Row] = attrs.field(factory=list[Row])
    documents: list[Row] = attrs.field(factory=list[Row])
    cleared: list[Row] = attrs.field(factory=list[Row])
    hidden: list[Row] = attrs.field(factory=list[Row])
    messages: list[Row] = attrs.field(factory=list[Row])
    marks: list[Row] = attrs.field(factory=list[Row])
    opened: list[Row] = attrs.field(factory=list[Row])
    closed: list[Row] = attrs.field(factory=list[Row])
    claims: list[Row] = attrs.field(factory=list[Row])
    purges: list[Row] = attrs.field(factory=list[Row])

    def add(self, write: SessionWrite, key: int) -> None:
        """Take one write apart."""
        after = write.after
        record = after.record
        expected = write.expected_revision
        if expected:
            fence = (key, expected, record.epoch)
            self.changed.append(fence + changing_row(record))
        else:
            self.new.append(fixed_row(key, record) + changing_row(record))
        if write.documents_changed or not expected:
            self.documents.append((key, *documents_row(after.documents)))
        if write.clear_through_seq or write.hides or write.marks:
            self._change_stored(write, key)
        for message in write.messages:
            self.messages.append(message_row(key, message))
        if write.turn is not None:
            (self.opened if write.opens_turn else self.closed).append(turn_row(key, write.turn))
        if write.claim is not None:
            self.claims.append(claim_row(write.claim))
        if write.purges:
            self.purges.extend(map(purge_row, write.purges))

    def _change_stored(self, write: SessionWrite, key: int) -> None:
        if write.clear_through_seq:
            last = min(write.clear_through_seq, SEQ_MAX)  # behind it are rows of other sessions
            self.cleared.append((row_id(key, 0), row_id(key, last)))
        for seq, finish_reason in dict(write.marks).items():
            self.marks.append((row_id(key, seq), finish_reason))
        for first_seq, last_seq, by in write.hides:
            first, last = max(first_seq, 1), min(last_seq, SEQ_MAX)
            if first <= last:  # beyond them are the rows of other sessions
                self.hidden.append((row_id(key, first), row_id(key, last), by))

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it all; the fence first, so that a stale writer changes nothing else."""
        run_rows(connection, INSERT_SESSIONS, self.new)
        if run_rows(connection, UPDATE_SESSIONS, self.changed) != len(self.changed):
            raise _MisfitError("another revision or epoch is stored")
        run_rows(connection, PUT_DOCUMENTS, self.documents)
        run_rows(connection, CLEAR_MESSAGES, self.cleared)
        run_rows(connection, HIDE_MESSAGES, self.hidden)
        run_rows(connection, INSERT_MESSAGES, self.messages)
        run_rows(connection, MARK_MESSAGES, self.marks)
        run_rows(connection, INSERT_TURNS, self.opened)
        if run_rows(connection, UPDATE_TURNS, self.closed) != len(self.closed):
            raise _MisfitError("the turn is not stored")
        run_rows(connection, PUT_CLAIMS, self.claims)
        run_rows(connection, QUEUE_PURGES, self.purges)


class Writer:
    """Commits batches on the writer connection; every method runs in that connection's thread."""

    def __init__(self, place: Place) -> None:
        self.failed: StorageError | None = None
        """Set once and for all by a failed sync, or by a file or a -wal that is gone."""
        self.batches = 0
        self.repeated = 0
        self.writes = 0
        self.refused = 0
        self._last_key = 0
        self._place = place

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

    def change(self, text: str, row: Row, connection: JobConnection) -> tuple[int, float]:
        """One statement in a transaction of its own: rows touched, seconds without the commit.

        Raises StorageError as the outcome of a write would be.
        """
        self.check()
        try:
            connection.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            touched = run_rows(connection, text, (row,))
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
                return self._one_by_one(writes, keys, connection)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            mapped = self._unsettled(error, connection)
            return [_copy(mapped, mapped.outcome) for _ in writes]

    def _unsettled(self, error: Exception, connection: JobConnection) -> StorageError:
        """Undo what the transaction has done, and say why."""
        _roll_back(connection)
        connection.doubt(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        self.note(error)
        mapped = error if isinstance(error, StorageError) else storage_error(error)
        return _copy(mapped, mapped.outcome)

    def _all_at_once(
        self, writes: Sequence[SessionWrite], keys: Sequence[int], connection: sqlite3.Connection
    ) -> list[WriteOutcome]:
        rows = _Rows()
        for write, key in zip(writes, keys, strict=True):
            rows.add(write, key)
        connection.execute("BEGIN IMMEDIATE")
        rows.apply(connection)
        self._commit(connection)
        return [Committed(key) for key in keys]

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
            for index, (write, key) in enumerate(zip(writes, keys, strict=True)):
                if index in damaged:
                    outcomes.append(damaged[index])
                    continue
                outcome = _try_one(write, key, connection)
                if isinstance(outcome, StorageError) and outcome.code == "corrupt":
                    damaged[index] = outcome
                    break
                outcomes.append(outcome)
            else:
                self._commit(connection)
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


def _try_one(write: SessionWrite, key: int, connection: sqlite3.Connection) -> WriteOutcome:
    """One write in a savepoint: afterwards all of it is there, or nothing."""
    connection.execute("SAVEPOINT one")
    try:
        rows = _Rows()
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
    if isinstance(error, _MisfitError | sqlite3.IntegrityError):
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
