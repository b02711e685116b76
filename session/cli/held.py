"""Reads an SQLite file of sessions, whether or not a runtime has it open, and changes nothing.

The lock beside the file is not taken: a look must keep no server from starting. There are two ways
to read. Where a -wal is there, or the lock names a holder, SQLite reads with its own locks, and
sees all that is committed; it cannot fold the -wal in, because the connection may not write. Else
nobody has the file open, and it is read as one that does not change: SQLite would make a -wal and a
-shm otherwise, and leave them there. Should somebody open it meanwhile, what was read counts for
nothing and is read again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from langswarm.core.session import ISessionStorage, StorageError
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
from langswarm.core.session.actors.ports import Verification
from langswarm.core.session.actors.words import words_of
from langswarm.core.session.adapters.storage.encryption import KeyRing
from langswarm.core.session.adapters.storage.encryption.keys import SINGLE_KEY_ID, keys_in
from langswarm.core.session.adapters.storage.sqlite import (
    copying,
    files,
    listing,
    queries,
    usage,
    verification,
)
from langswarm.core.session.adapters.storage.sqlite.mapping import damaged, storage_error
from langswarm.core.session.adapters.storage.sqlite.place import uri_of
from langswarm.core.session.adapters.storage.sqlite.rotation import look_at_keys
from langswarm.core.session.adapters.storage.sqlite.schema import APPLICATION_ID, USER_VERSION
from langswarm.core.session.adapters.storage.sqlite.sealing import NO_KEYS, Vault
from langswarm.core.session.cli.exits import UsageError

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.adapters.storage.sqlite.cipher import Cipher

T = TypeVar("T")

_BUSY_SECONDS = 5.0
"""For a file without a -wal, whose writer keeps readers out while it commits."""


_ATTEMPTS = 10
_PAGE = 500


class DisturbedError(Exception):
    """Somebody has opened the file, which was read as one that does not change."""


@attrs.frozen
class Keys:
    """What opens a file that is encrypted."""

    vault: Vault = NO_KEYS
    cipher: Cipher | None = None


def keys_of(config: Mapping[str, Any]) -> Keys:
    """The keys in a storage_config. Raises ConfigurationError for what is none."""
    ring, cipher = config.get("encryption_keys"), None
    if isinstance(ring, str):
        ring = keys_in(ring)
    if (key := config.get("encryption_key")) is not None:
        ring = {SINGLE_KEY_ID: key}
    if (key := config.get("sqlcipher_key")) is not None:
        from langswarm.core.session.adapters.storage.sqlite.cipher import (  # noqa: PLC0415 - rare
            Cipher,
        )

        cipher = Cipher(key)
    return Keys(NO_KEYS if ring is None else Vault(KeyRing(ring)), cipher)


class HeldFile(ISessionStorage):
    """The sessions of a file, to be read. All of it is one moment: that of the first read."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self.path = os.path.realpath(path)
        self._keys = keys
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[object, ...] | None = None  # None: SQLite's own locks guard what is read

    async def open(self) -> None:
        self.connect()

    def connect(self) -> None:
        """Look at the file. Raises StorageError for what is none of ours, or cannot be read."""
        if self._connection is None:
            seen = self._look()
            self._seen = seen if _is_at_rest(self.path) else None
            options = ("mode=ro",) if self._seen is None else ("mode=ro", "immutable=1")
            cipher = self._keys.cipher
            connect = sqlite3.connect if cipher is None else cipher.connect
            self._connection = self._read(partial(_connected, self.path, options, connect))
            self._read(partial(_check_version, self.path, self._connection, cipher))
            if self._keys.vault.ring is not None:
                self._read(partial(look_at_keys, self._keys.vault, self._connection))

    async def close(self) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def is_disturbed(self) -> bool:
        """Whether somebody has opened it, so that what was read counts for nothing."""
        return self._seen is not None and self._seen != self._look()

    def check(self) -> None:
        """Raise DisturbedError if what was read counts for nothing."""
        if self.is_disturbed:
            raise DisturbedError

    def copy(self, path: Path) -> int:
        """A backup into a new file; its size in bytes."""
        copying.check_target(os.path.abspath(path))  # noqa: PTH100 - as the storage does
        target = os.path.abspath(path)  # noqa: PTH100
        cipher = self._keys.cipher
        connect = sqlite3.connect if cipher is None else cipher.connect
        copy = partial(copying.copy, self._open(), target, watch=self.check, connect=connect)
        size = self._read(copy)
        self._seen = None  # it was looked at last when all was read, before the copy got its name
        return size

    def verification(self) -> Verification:
        """What is wrong with the file: pages, then rows, table by table."""
        problems: list[str] = []
        for table in self._read(partial(verification.tables, self._open())):
            found = self._read(partial(verification.check_pages, table, self._open()))
            problems.extend(found or self._read(partial(self._row_problems, table)))
            self.check()
        return Verification(problems=tuple(problems[: verification.PROBLEMS]))

    def _row_problems(self, table: str) -> list[str]:
        checks = verification.checks_of(table, self._keys.vault)
        while not checks.is_done:
            checks.run(verification.MOST_ROWS, self._open())
        return checks.problems

    # ------------------------------------------------------------ reads

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return self._query(partial(queries.load, session_ids, vault=self._keys.vault))

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return await self.load(session_ids)

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        del limit
        return ()  # they are for the one that holds the file

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        return self._query(partial(queries.read_messages, key, query, vault=self._keys.vault))

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        if query.text is None:
            return self._list(query)
        self._keys.vault.check_searches(query.text)
        # The index of words follows behind the commits, so the messages themselves are asked.
        page = self._list(attrs.evolve(query, text=None))
        words = frozenset(words_of(query.text))
        said = tuple(record for record in page.records if self._says(record.key, words))
        return SessionPage(records=said, next_key=page.next_key)

    def _list(self, query: SessionQuery) -> SessionPage:
        return self._query(partial(listing.list_sessions, query, vault=self._keys.vault))

    def _says(self, key: int, words: frozenset[str]) -> bool:
        """Whether one visible message of the session has all words."""
        before: int | None = None
        while messages := self._query(
            partial(
                queries.read_messages,
                key,
                MessageQuery(limit=_PAGE, before_seq=before),
                vault=self._keys.vault,
            )
        ):
            if any(words.issubset(words_of(message.content)) for message in messages):
                return True
            before = messages[0].seq
        return False

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        return self._query(partial(queries.turn, key, turn_no, vault=self._keys.vault))

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        return self._query(partial(queries.find_claim, scope, method, key, vault=self._keys.vault))

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        connection = self._open()
        if connection.in_transaction:
            connection.execute("ROLLBACK")  # it has a transaction of its own
        return self._read(partial(usage.read_usage, query, connection))

    # ------------------------------------------------------------ no writes

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        del writes
        raise self._only_read()

    async def erase_user(self, user_id: str) -> None:
        del user_id
        raise self._only_read()

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        del before_us, limit
        return 0

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        del now_us, limit
        return ()

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        del purge, retry_us, error
        raise self._only_read()

    def _only_read(self) -> StorageError:
        return StorageError(f"{self.path} is only read here", code="closed")

    # ------------------------------------------------------------ inside

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError("the storage is not open: call open() first", code="closed")
        return self._connection

    def _query(self, job: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._open()
        if not connection.in_transaction:
            connection.execute("BEGIN")  # what is read from now on is of one moment
        return self._read(partial(job, connection))

    def _read(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except sqlite3.Error as error:
            self.check()  # rather than what this led to
            raise storage_error(error) from error
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(error) from error

    def _look(self) -> tuple[object, ...]:
        return tuple(_facts(f"{self.path}{behind}") for behind in ("", "-wal", "-journal"))


def _facts(path: str) -> object:
    try:
        found = os.stat(path)  # noqa: PTH116 - a str, as in the storage
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_at_rest(path: str) -> bool:
    """Whether nobody has it open: the -wal goes and the lock is emptied at the end."""
    lock: Any = _facts(f"{path}.lock")
    return _facts(f"{path}-wal") is None and (lock is None or lock[2] == 0)


def _connected(
    path: str, options: tuple[str, ...], connect: Callable[..., sqlite3.Connection]
) -> sqlite3.Connection:
    connection = connect(
        uri_of(path, *options), uri=True, isolation_level=None, timeout=_BUSY_SECONDS
    )
    for pragma in ("query_only = 1", "wal_autocheckpoint = 0", "trusted_schema = 0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check_version(path: str, connection: sqlite3.Connection, cipher: Cipher | None) -> None:
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
    else:
        if (application_id, version) == (APPLICATION_ID, USER_VERSION):
            return
    version = files.look(path, cipher)  # knows what else it may be, and says so
    if version == 0:
        raise StorageError(f"{path} is empty: there are no sessions in it", code="foreign")
    raise StorageError(
        f"{path} has the format {version}, this version reads {USER_VERSION}: a program of this "
        "version that opens it brings it up to date",
        code="foreign",
    )


def existing(path: Path) -> Path:
    """The path, if a file is there. Raises UsageError: nothing is made by looking."""
    try:
        is_there = path.is_file()
        is_stray = is_there and not path.stat().st_size and Path(f"{path}-wal").exists()
    except OSError as error:
        raise UsageError(f"{path} cannot be looked at: {error.strerror}") from error
    if not is_there:
        raise UsageError(f"there is no file {path}; name it with --db FILE")
    if is_stray:
        raise UsageError(f"{path} is empty, and has a -wal of another file; nothing was touched")
    return path


def reading(path: Path, job: Callable[[HeldFile], T], keys: Keys | None = None) -> T:
    """What `job` reads; again if somebody has opened the file meanwhile."""
    path = existing(path)
    for _ in range(_ATTEMPTS):
        held = HeldFile(path, keys or Keys())
        try:
            held.connect()
            result = job(held)
            held.check()
        except Exception:
            if not held.is_disturbed:
                raise
        else:
            return result
        finally:
            held.disconnect()
    raise StorageError(f"{path} is opened and closed all the time", code="busy", retryable=True)
