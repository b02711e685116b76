"""One open database file, on the storage's own event loop: lock, connections, who runs what.

One connection writes, and closes last: SQLite folds the -wal into the file when the last
connection closes, and that must be the one that also does every other checkpoint (with two of them
SQLite before 3.51.3 may lose pages). One or two more only read. Whatever has been acknowledged is
visible to them, because a read begins after COMMIT has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ....actors.errors import ConfigurationError, SessionError, StorageError
from . import listing, queries, usage
from .checkpoint import CHECKPOINT_BYTES, Checkpoints
from .connection import Connection, JobConnection
from .files import prepare
from .indexing import Indexing
from .lock import FileLock
from .maintenance import FIRST_ROWS, MOST_ROWS, Maintenance, next_slice
from .mapping import damaged, os_error, storage_error
from .place import Place
from .rotation import Rotation, check_keys, forget_plain, was_plain
from .schedule import ScheduledBackups
from .sealing import Vault
from .statements import DELETE_PURGE, RETRY_PURGE, SWEEP_CLAIMS, run_rows
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from ....actors.model import (
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
    from ....actors.ports import Backup, KeyRotation, Verification, WriteOutcome
    from ..encryption import KeyRing
    from .cipher import Cipher
    from .connection import Connect
    from .rows import Row
    from .schedule import Schedule

T = TypeVar("T")

MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables; UPDATE FROM is older
LOCK_POLL_SECONDS = 0.05


@attrs.frozen(kw_only=True)
class Options:
    """What SQLiteSessionStorage was told, checked."""

    path: str
    readers: int
    busy_seconds: float
    wal: bool
    synchronous: str
    lock_wait_seconds: float
    wal_limit_bytes: int
    schedule: Schedule | None
    ring: KeyRing | None = None
    cipher: Cipher | None = None


class Database:
    """Every method runs on the storage's own event loop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._opening = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._lock: FileLock | None = None
        self._writer_connection = Connection()
        self._readers: list[Connection] = []
        # Invariant: what runs beside the calls; close() waits for it.
        self._tasks: set[asyncio.Task[None]] = set()
        self.path = os.path.realpath(options.path)
        self.place = Place(self.path, wal=options.wal)
        self._vault = Vault(options.ring)
        self._cipher = options.cipher
        self._connect_by: Connect = (
            JobConnection if options.cipher is None else options.cipher.connect
        )
        self.writer = Writer(self.place, self._vault)
        self.checkpoints = Checkpoints(self.place, options.wal_limit_bytes)
        self.maintenance = Maintenance(
            self.path,
            wal=options.wal,
            busy_seconds=options.busy_seconds,
            writer=self.writer,
            checkpoints=self.checkpoints,
            connection=self._writer_connection,
            set_up_reader=_set_up_reader,
            vault=self._vault,
            connect=self._connect_by,
        )
        self.indexing = Indexing(self.writer, self._change, self._hurry)
        self.scheduled: ScheduledBackups | None = None
        self.is_open = False

    @property
    def encryption(self) -> str:
        """How what is stored is encrypted, for those who look after it."""
        ring = self._options.ring
        records = [] if ring is None else [f"records with the key {ring.current.key_id!r}"]
        return " and ".join([*records, *(["the whole file"] if self._cipher else [])]) or "none"

    @property
    def sqlite_version(self) -> str:
        """Of the SQLite that is used."""
        return sqlite3.sqlite_version if self._cipher is None else self._cipher.sqlite_version

    @property
    def reopened(self) -> int:
        """Connections that had to be made anew."""
        return sum(each.reopened for each in (self._writer_connection, *self._readers))

    async def open(self) -> None:
        """Lock, look, connect; all or nothing."""
        async with self._opening:
            if self.is_open:
                return
            if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
                minimum = ".".join(map(str, MINIMUM_SQLITE))
                raise ConfigurationError(
                    f"SQLiteSessionStorage needs SQLite {minimum} or newer, this Python has "
                    f"{sqlite3.sqlite_version}"
                )
            await self._acquire(FileLock(self.path))
            try:
                await self._connect(self.path)
            except BaseException as error:
                await self.close()
                if isinstance(error, sqlite3.Error):
                    raise storage_error(error) from error
                if isinstance(error, OSError) and not isinstance(error, StorageError):
                    raise os_error(error, f"cannot open {self.path}") from error
                raise
            self.is_open = True
            if self._options.schedule is not None:
                self.scheduled = ScheduledBackups(
                    self._options.schedule, self.path, self.maintenance
                )
                self._start(self.scheduled.run())
            self._index_if_due()

    def hurry(self) -> None:
        """Stop waiting for the lock, end maintenance: the storage is to be closed."""
        self._hurry.set()
        self.maintenance.hurry()
        if self.scheduled is not None:
            self.scheduled.end()

    async def close(self) -> None:
        """Disconnect, the writer last, then let the next process in."""
        self.is_open = False
        self.hurry()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            for connection in (*self._readers, self._writer_connection):
                await connection.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def commit(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        """All in one transaction, in one hop."""
        outcomes = await self._run(self._writer_connection, partial(self._commit, writes))
        self._checkpoint_if_due()
        self._index_if_due()
        return outcomes

    async def read_back(self, session_ids: Sequence[str]) -> list[StoredSession | None]:
        """Behind every commit that was handed over: the writer's jobs run in order."""

        def job(connection: sqlite3.Connection) -> list[StoredSession | None]:
            self.writer.check()
            return queries.load(session_ids, connection, vault=self._vault)

        return await self._run(self._writer_connection, job)

    async def load(self, session_ids: Sequence[str]) -> list[StoredSession | None]:
        """As last committed."""
        return await self._read(partial(queries.load, session_ids, vault=self._vault))

    async def load_unfinished(self, limit: int) -> list[StoredSession]:
        """Sessions whose turn is open."""
        return await self._read(partial(queries.load_unfinished, limit, vault=self._vault))

    async def read_messages(self, key: int, query: MessageQuery) -> list[MessageRecord]:
        """Messages of one session."""
        return await self._read(partial(queries.read_messages, key, query, vault=self._vault))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of sessions."""
        job = partial(listing.list_sessions, query, vault=self._vault)
        if query.text is None or not self.writer.index.is_on:
            return await self._read(job)
        try:
            await self.indexing.catch_up()
            return await self._read(job)
        except StorageError as error:
            if isinstance(error.__cause__, Exception):
                self.writer.index.note(error.__cause__)
            if not self.writer.index.is_damaged:
                raise
        await self.indexing.catch_up()  # it makes the index anew first
        return await self._read(job)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        """The figures of days."""
        return await self._read(partial(usage.read_usage, query))

    async def erase_user(self, user_id: str) -> None:
        """In transactions of some milliseconds, with the commits that arrive in between."""
        if not listing.is_storable(user_id):
            return
        rows = FIRST_ROWS
        while True:
            touched, seconds = await self._change(partial(usage.erase_some, user_id, rows))
            if touched < rows:
                return
            rows = next_slice(rows, seconds, MOST_ROWS)

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        """A turn by its number."""
        return await self._read(partial(queries.turn, key, turn_no, vault=self._vault))

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        """What was done under an idempotency key."""
        found = partial(queries.find_claim, scope, method, key, vault=self._vault)
        return await self._read(found)

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        """In transactions of some milliseconds, with the commits that arrive in between."""
        swept, rows = 0, FIRST_ROWS
        before_us = listing.nearest(before_us)
        while swept < limit:
            wanted = min(rows, limit - swept)
            touched, seconds = await self._change(_rows(SWEEP_CLAIMS, (before_us, wanted)))
            swept += touched
            if touched < wanted:
                break
            rows = next_slice(wanted, seconds, MOST_ROWS)
        return swept

    async def load_purges(self, now_us: int, limit: int) -> list[Purge]:
        """What is due in the outbox."""
        return await self._read(partial(queries.load_purges, now_us, limit))

    async def settle_purge(self, purge: Purge, retry_us: int | None, error: str | None) -> None:
        """Off the queue, or due again later."""
        name = (purge.provider, purge.provider_session_id)
        if retry_us is None:
            await self._change(_rows(DELETE_PURGE, name))
        else:
            await self._change(_rows(RETRY_PURGE, (*name, retry_us, error)))

    async def optimize(self) -> None:
        """Tidy up between the commits."""
        await self.indexing.catch_up()
        await self.indexing.merge()
        await self._mapped(self.maintenance.optimize())

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        """All that is committed, in a new file."""
        return await self._mapped(self.maintenance.backup(path))

    async def verify(self) -> Verification:
        """What is wrong with the file."""
        return await self._mapped(self.maintenance.verify())

    async def rotate_keys(self) -> KeyRotation:
        """Seal everything with the current key."""
        rotation = Rotation(self._vault)
        async with self.maintenance.alone():
            while not rotation.is_done:
                await self._change(rotation.run)
            await self._change(rotation.settle)
            if rotation.is_complete:
                await self._leave_nothing_plain()
            return await self._run(self._writer_connection, rotation.report)

    async def _leave_nothing_plain(self) -> None:
        was = await self._run(self._writer_connection, was_plain)
        if was and await self._mapped(self.maintenance.rebuild()):
            await self._change(forget_plain)
            self._vault.allows_plain = False

    # ------------------------------------------------------------ inside

    def _commit(
        self, writes: Sequence[SessionWrite], connection: JobConnection
    ) -> list[WriteOutcome]:
        if not self._has_room(connection):
            return [_no_room_in_wal(self._options.wal_limit_bytes) for _ in writes]
        return self.writer.commit(writes, connection)

    async def _change(self, change: Callable[[sqlite3.Connection], int]) -> tuple[int, float]:
        """As `Writer.change`, behind the commits that were handed over before."""

        def job(connection: JobConnection) -> tuple[int, float]:
            if not self._has_room(connection):
                raise _no_room_in_wal(self._options.wal_limit_bytes)
            return self.writer.change(change, connection)

        done = await self._run(self._writer_connection, job)
        self._checkpoint_if_due()
        return done

    def _has_room(self, connection: JobConnection) -> bool:
        if not self._options.wal or not self.checkpoints.is_over():
            return True
        self.checkpoints.run(self.writer, connection)
        return not self.checkpoints.is_over()

    def _checkpoint_if_due(self) -> None:
        if self._options.wal and self.checkpoints.is_due():
            self._start(self._checkpoint())

    def _index_if_due(self) -> None:
        if self.indexing.is_due():
            self._start(self.indexing.run())

    async def _checkpoint(self) -> None:
        try:
            await self._writer_connection.run(partial(self.checkpoints.run, self.writer))
        except (sqlite3.Error, StorageError) as error:  # the connection could not be made anew
            self.checkpoints.failed(error)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _acquire(self, lock: FileLock) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.lock_wait_seconds
        while True:
            try:
                lock.acquire()
            except StorageError as error:
                left = deadline - loop.time()
                if error.code != "busy" or left <= 0 or self._hurry.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOCK_POLL_SECONDS)):
                        await self._hurry.wait()
            else:
                self._lock = lock
                return

    async def _connect(self, path: str) -> None:
        prepare(path, self._cipher)
        self.place.enter()
        options = self._options
        connect = partial(
            Connection.open,
            path=path,
            busy_seconds=options.busy_seconds,
            check=self.writer.check_place,
            connect=self._connect_by,
        )
        await connect(self._writer_connection, set_up=partial(_set_up_writer, options))
        await self._writer_connection.run(partial(check_keys, self._vault, self.writer.index))
        await self._writer_connection.run(self.writer.start)
        self.place.enter_wal()
        for _ in range(options.readers if options.wal else 0):
            reader = Connection()
            self._readers.append(reader)
            await connect(reader, set_up=_set_up_reader)

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        # Without WAL a reader and the writer would shut each other out: one connection does it all.
        connection = min(self._readers, key=_by_load, default=self._writer_connection)
        return await self._run(connection, job)

    async def _run(self, connection: Connection, job: Callable[[JobConnection], T]) -> T:
        return await self._mapped(connection.run(job))

    async def _mapped(self, doing: Coroutine[Any, Any, T]) -> T:
        if not self.is_open:
            doing.close()
            raise StorageError("the storage is not open: call open() first", code="closed")
        try:
            return await doing
        except sqlite3.Error as error:
            raise storage_error(error) from error
        except SessionError:
            raise
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(error) from error


def _rows(text: str, row: Row) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: run_rows(connection, text, (row,))


def _by_load(connection: Connection) -> int:
    return connection.unfinished


def _no_room_in_wal(limit_bytes: int) -> StorageError:
    return StorageError(
        f"the -wal has reached wal_limit_bytes={limit_bytes}, because something has been reading "
        "the database for long (a backup, a check, another program): nothing was written, try "
        "again when it has ended",
        code="busy",
        retryable=True,
    )


def _set_up_writer(options: Options, connection: sqlite3.Connection) -> None:
    # Also for the switch of the mode, whose commit is the deletion of a journal.
    _set(connection, synchronous="EXTRA")
    mode = "wal" if options.wal else "delete"
    (actual,) = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    if actual != mode:
        raise StorageError(
            f"SQLite cannot use journal_mode={mode} here (it stays {actual}); WAL needs a local "
            "file system with shared memory",
            code="io",
        )
    # Deleting the journal is the commit when there is no WAL; only EXTRA syncs that deletion.
    extra = options.synchronous == "FULL" and not options.wal
    _set(connection, synchronous="EXTRA" if extra else options.synchronous)
    _set(connection, wal_autocheckpoint=0, journal_size_limit=CHECKPOINT_BYTES)
    _set(connection, cache_size=-16384, temp_store="MEMORY", trusted_schema=0, cell_size_check=1)
    if options.ring is not None:
        _set(connection, secure_delete=1)  # of what was there before it was encrypted


def _set_up_reader(connection: sqlite3.Connection) -> None:
    _set(connection, query_only=1, wal_autocheckpoint=0, trusted_schema=0, cell_size_check=1)
    # It has the -wal open from now on, so that this stays when the writer is connected anew.
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()


def _set(connection: sqlite3.Connection, **pragmas: Any) -> None:
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
