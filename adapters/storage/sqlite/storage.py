"""Sessions in an SQLite file."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final, Literal, get_args

import attrs

from ....actors.errors import ConfigurationError, StorageError, hides_arguments
from ....actors.ports import ISessionStorage, StorageHealth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    from ..loop_thread import LoopThread
    from .cipher import Cipher
    from .database import Database
    from .schedule import Schedule

DEFAULT_PATH: Final = "langswarm-session.db"
MAX_READERS: Final = 2
"""More readers take the GIL and the page cache away from the writer: 8 cut it to a third."""

LEAST_WAL: Final = 8 * 1024 * 1024
"""Twice what a checkpoint begins at, so that the limit is never met without a reader."""

Synchronous = Literal["FULL", "NORMAL", "OFF"]


@attrs.frozen(kw_only=True)
class SQLiteStatistics:
    """A snapshot of an `SQLiteSessionStorage` since it was last opened."""

    is_open: bool
    batches: int = 0
    """Calls of commit(), each one transaction."""
    repeated: int = 0
    """Batches that were repeated write by write, because not all of them fitted."""
    writes: int = 0
    """Writes that are durable."""
    refused: int = 0
    """Writes that ended as a conflict or an error."""
    writes_stopped: bool = False
    """A sync failed or the file is gone: writes are refused until a restart."""
    reopened: int = 0
    """Connections that had to be made anew, because an error left them in doubt."""
    checkpoints: int = 0
    """How often the -wal was folded into the file."""
    backups: int = 0
    """Scheduled backups that were made."""


class SQLiteSessionStorage(ISessionStorage):
    """Keeps sessions in one SQLite file that this process alone uses while it is open.

    `db_path`
        The file; made if it is missing (its folder is not), readable by its owner only. A file of
        another program, or of an earlier LangSwarm, is refused and left as it is.
    `pool_size`
        Connections that read, beside the one that writes; at most 2 are opened, whatever is
        asked for: more make everything slower.
    `max_overflow`
        Accepted and without effect: connections are neither borrowed nor exhausted, a read waits
        for its turn.
    `pool_timeout`
        How many seconds to wait while another program has locked the database.
    `enable_wal`
        False: a rollback journal, for file systems without shared memory. Several times slower,
        and one connection both reads and writes.
    `lock_wait_seconds`
        How long `open()` waits for another process to let go of the file.
    `synchronous`
        "FULL": an acknowledged write survives a power loss. "NORMAL" loses the last writes then,
        "OFF" may lose the file: for tests and throw-away data.
    `wal_limit_bytes`
        How long the -wal may grow while something reads the database for long, a backup or another
        program; beyond it writes are refused with a StorageError of code `busy`. Without such a
        reader it stays at some 4 MB.
    `backup_enabled`, `backup_directory`, `backup_keep`, `backup_interval_hours`
        Make a backup into the directory (default: `<db_path>.backups`) whenever the newest one
        there is older than the interval, while the storage is open; keep the newest ones only.
        One that fails is logged, told by `health()`, and tried again after an hour at most.
    `encryption_keys`, `encryption_key_id`, `encryption_key`
        Encrypt contents record by record: keys by id, each 32 random bytes or their base64, and
        the id of the one that encrypts (default: the last one). `encryption_key` alone is a key of
        the id "main". As one text, keys are written ID=KEY and separated by spaces. Text search is
        off then. Needs `cryptography`.
    `sqlcipher_key`
        Encrypt the whole file, with one key as above. Needs `sqlcipher3`.
    """

    @hides_arguments
    def __init__(
        self,
        db_path: str | os.PathLike[str] = DEFAULT_PATH,
        *,
        pool_size: int = 1,
        max_overflow: int = 0,
        pool_timeout: float = 30.0,
        enable_wal: bool = True,
        lock_wait_seconds: float = 0.0,
        synchronous: Synchronous = "FULL",
        wal_limit_bytes: int = 1024**3,
        backup_enabled: bool = False,
        backup_directory: str | os.PathLike[str] | None = None,
        backup_keep: int = 7,
        backup_interval_hours: float = 24.0,
        encryption_keys: Mapping[str, bytes | str] | str | None = None,
        encryption_key_id: str | None = None,
        encryption_key: bytes | str | None = None,
        sqlcipher_key: bytes | str | None = None,
    ) -> None:
        self._path = _check_path(db_path)
        _check("pool_size", pool_size, pool_size >= 1, "1 or more")
        _check("max_overflow", max_overflow, max_overflow >= 0, "0 or more")
        _check("pool_timeout", pool_timeout, pool_timeout >= 0, "0 or more seconds")
        _check("lock_wait_seconds", lock_wait_seconds, lock_wait_seconds >= 0, "0 or more seconds")
        _check(
            "synchronous", synchronous, synchronous in get_args(Synchronous), "FULL, NORMAL, OFF"
        )
        _check(
            "wal_limit_bytes", wal_limit_bytes, wal_limit_bytes >= LEAST_WAL, f"{LEAST_WAL} or more"
        )
        _check("backup_keep", backup_keep, backup_keep >= 1, "1 or more")
        hours = backup_interval_hours
        _check("backup_interval_hours", hours, hours > 0, "more than 0")
        self._wal_limit_bytes = wal_limit_bytes
        self._backup_enabled = backup_enabled
        self._backup_directory = os.path.abspath(  # noqa: PTH100 - as db_path
            f"{self._path}.backups" if backup_directory is None else backup_directory
        )
        self._backup_keep = backup_keep
        self._backup_interval_hours = float(hours)
        self._readers = min(pool_size, MAX_READERS)
        self._busy_seconds = float(pool_timeout)
        self._wal = enable_wal
        self._lock_wait_seconds = float(lock_wait_seconds)
        self._synchronous = synchronous
        self._ring = _ring_of(encryption_keys, encryption_key_id, encryption_key)
        self._cipher = _cipher_of(sqlcipher_key)
        self.searches_text = self._ring is None
        self._hosted: tuple[LoopThread, Database] | None = None
        self._openers = 0
        self._finalizer: weakref.finalize[..., SQLiteSessionStorage] | None = None

    @property
    def path(self) -> str:
        """The database file, absolute."""
        return self._path

    def statistics(self) -> SQLiteStatistics:
        """What has happened since it was opened; from any thread."""
        if self._hosted is None:
            return SQLiteStatistics(is_open=False)
        _, database = self._hosted
        writer, scheduled = database.writer, database.scheduled
        return SQLiteStatistics(
            is_open=database.is_open,
            batches=writer.batches,
            repeated=writer.repeated,
            writes=writer.writes,
            refused=writer.refused,
            writes_stopped=writer.failed is not None,
            reopened=database.reopened,
            checkpoints=database.checkpoints.count,
            backups=scheduled.count if scheduled is not None else 0,
        )

    def health(self) -> StorageHealth:
        if self._hosted is None:
            return StorageHealth(is_open=False, facts={"path": self._path})
        from .health import health_of  # noqa: PLC0415 - the driver: not before it is opened

        return health_of(self._hosted[1])

    async def open(self) -> None:
        if self._hosted is not None and self._hosted[0].stopping:
            await self.close()  # it may go on after its caller was cancelled, and has the lock
            self._hosted = None
        thread, database = self._hosted or self._start()
        self._openers += 1
        try:
            await thread.call(database.open)
        finally:
            self._openers -= 1
            if not database.is_open and not self._openers:  # nor will it be for another caller
                thread.request_stop()

    async def close(self) -> None:
        if self._hosted is not None and not self._hosted[0].ended:
            await self._hosted[0].stop()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        thread, database = self._checked()
        return await thread.call(database.commit, writes)

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        thread, database = self._checked()
        return await thread.call(database.load, session_ids)

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        thread, database = self._checked()
        return await thread.call(database.read_back, session_ids)

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        thread, database = self._checked()
        return await thread.call(database.load_unfinished, limit)

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        thread, database = self._checked()
        return await thread.call(database.read_messages, key, query)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        thread, database = self._checked()
        return await thread.call(database.list_sessions, query)

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        thread, database = self._checked()
        return await thread.call(database.read_usage, query)

    async def erase_user(self, user_id: str) -> None:
        thread, database = self._checked()
        await thread.call(database.erase_user, user_id)

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        thread, database = self._checked()
        return await thread.call(database.read_turn, key, turn_no)

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        thread, database = self._checked()
        return await thread.call(database.find_claim, scope, method, key)

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        thread, database = self._checked()
        return await thread.call(database.sweep_claims, before_us, limit)

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        thread, database = self._checked()
        return await thread.call(database.load_purges, now_us, limit)

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        thread, database = self._checked()
        await thread.call(database.settle_purge, purge, retry_us, error)

    async def optimize(self) -> None:
        thread, database = self._checked()
        await thread.call(database.optimize)

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        thread, database = self._checked()
        return await thread.call(database.backup, path)

    async def verify(self) -> Verification:
        thread, database = self._checked()
        return await thread.call(database.verify)

    async def rotate_keys(self) -> KeyRotation:
        thread, database = self._checked()
        return await thread.call(database.rotate_keys)

    # ------------------------------------------------------------ inside

    def _start(self) -> tuple[LoopThread, Database]:
        """The thread never refers to this object, so that a forgotten one is found and ended."""
        from ..loop_thread import LoopThread  # noqa: PLC0415 - asyncio: not for every program
        from .database import Database, Options  # noqa: PLC0415 - nor the driver

        options = Options(
            path=self._path,
            readers=self._readers,
            busy_seconds=self._busy_seconds,
            wal=self._wal,
            synchronous=self._synchronous,
            lock_wait_seconds=self._lock_wait_seconds,
            wal_limit_bytes=self._wal_limit_bytes,
            schedule=self._schedule(),
            ring=self._ring,
            cipher=self._cipher,
        )
        database = Database(options)
        thread = LoopThread("langswarm-sqlite", teardown=database.close, interrupt=database.hurry)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, thread.request_stop)
        self._finalizer.atexit = False  # the thread has its own
        self._hosted = thread, database
        return self._hosted

    def _schedule(self) -> Schedule | None:
        if not self._backup_enabled:
            return None
        from .schedule import Schedule  # noqa: PLC0415 - most have none

        return Schedule(
            directory=self._backup_directory,
            keep=self._backup_keep,
            interval_seconds=self._backup_interval_hours * 3600,
        )

    def _checked(self) -> tuple[LoopThread, Database]:
        if self._hosted is None:
            raise StorageError("the storage is not open: call open() first", code="closed")
        return self._hosted


def _check_path(db_path: str | os.PathLike[str]) -> str:
    path = os.fspath(db_path)
    if not path or path == ":memory:" or path.startswith("file:"):
        raise ConfigurationError(
            f"db_path={path!r} is not the path of a file; for a storage without a file use "
            "InMemorySessionStorage"
        )
    return os.path.abspath(path)  # noqa: PTH100 - now: a later chdir() must not change the file


def _ring_of(
    keys: Mapping[str, bytes | str] | str | None, key_id: str | None, key: bytes | str | None
) -> KeyRing | None:
    if keys is None and key is None:
        if key_id is not None:
            raise ConfigurationError("encryption_key_id goes with encryption_keys, which it names")
        return None
    if keys is not None and key is not None:
        raise ConfigurationError("give encryption_key or encryption_keys, not both")
    from ..encryption import KeyRing  # noqa: PLC0415 - most have none
    from ..encryption.keys import SINGLE_KEY_ID, keys_in  # noqa: PLC0415

    if isinstance(keys, str):
        keys = keys_in(keys)
    return KeyRing({SINGLE_KEY_ID: key} if keys is None else keys, key_id)


def _cipher_of(key: bytes | str | None) -> Cipher | None:
    if key is None:
        return None
    from .cipher import Cipher  # noqa: PLC0415 - most have none

    return Cipher(key)


def _check(name: str, value: object, holds: bool, wanted: str) -> None:  # noqa: FBT001
    if not holds:
        raise ConfigurationError(f"{name}={value!r} is not possible: {wanted}")
