"""A database into a new file, whole or not at all.

SQLite's backup interface starts anew whenever another connection writes, so under load it would
never end. Here the source holds one snapshot from the first page to the last: the copy is what was
committed at that moment, and in WAL mode nobody waits for it. The price is that the -wal cannot
start over meanwhile: it grows by what is written during the copy.

`VACUUM INTO` would do the same in one statement that can be neither slowed down nor ended between
two pages, and takes several times the processor's time.

The copy grows under another name, is synced as it grows (one large sync at the end would hold up
those of the writer), is checked, and only then gets its name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ....actors.errors import ConfigurationError, StorageError
from .mapping import os_error, storage_error
from .place import uri_of
from .schema import APPLICATION_ID

if TYPE_CHECKING:
    from collections.abc import Callable

PARTIAL = ".partial"
"""Behind the name of a copy that is not complete."""
SLICE_PAGES = 256
"""A step of the copy: one megabyte, after which it may be told to end."""


def check_target(path: str) -> None:
    """Raise ConfigurationError if something is there, or no folder for it."""
    if os.path.lexists(path):
        raise ConfigurationError(f"{path} exists: a backup overwrites nothing, choose another name")
    if not os.path.isdir(os.path.dirname(path)):  # noqa: PTH112, PTH120 - str all along
        raise ConfigurationError(f"there is no folder {os.path.dirname(path)} for a backup")  # noqa: PTH120


def copy(
    source: sqlite3.Connection,
    path: str,
    *,
    watch: Callable[[], None] = lambda: None,
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
) -> int:
    """Copy what is committed to `path`, replacing what is there; returns the size in bytes.

    After an error nothing new is at `path`. Raises StorageError, also what `watch` raises, which is
    called after each slice and before the copy gets its name.
    """
    partial = f"{path}{PARTIAL}"
    try:
        _discard(partial)  # what a kill has left
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with contextlib.closing(_connected(partial, connect)) as target:
                _fill(source, target, descriptor, watch)
            with contextlib.closing(_connected(partial, connect)) as target:
                _check(target)
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            watch()
            os.replace(partial, path)  # noqa: PTH105
            _sync_folder(path)
        finally:
            os.close(descriptor)
            _discard(partial)
    except sqlite3.Error as error:
        raise storage_error(error) from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise os_error(error, f"the backup {path} could not be written") from error
    return size


def _discard(partial: str) -> None:
    """All of it: SQLite would take a -wal of before for one of the next file of that name."""
    for name in (partial, f"{partial}-wal", f"{partial}-shm", f"{partial}-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - a str all along


def _connected(partial: str, connect: Callable[..., sqlite3.Connection]) -> sqlite3.Connection:
    return connect(uri_of(partial, "mode=rw"), uri=True, isolation_level=None)


def _fill(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    descriptor: int,
    watch: Callable[[], None],
) -> None:
    def step(status: int, remaining: int, total: int) -> None:
        del status, remaining, total
        os.fsync(descriptor)
        watch()

    source.execute("BEGIN")
    try:
        source.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the snapshot begins
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=SLICE_PAGES, progress=step)
    finally:
        source.execute("COMMIT")


def _check(target: sqlite3.Connection) -> None:
    """As it will be opened, as a single file without a -wal."""
    target.execute("PRAGMA journal_mode = DELETE")
    (application_id,) = target.execute("PRAGMA application_id").fetchone()
    problems = [text for (text,) in target.execute("PRAGMA quick_check(5)")]
    if application_id != APPLICATION_ID:
        raise StorageError(
            "what was copied is not one of this program's databases; nothing is left of the copy",
            code="foreign",
        )
    if problems != ["ok"]:
        raise StorageError(
            f"the backup is damaged, because the database is: {'; '.join(problems)}. Nothing is "
            "left of it; keep the last good one",
            code="corrupt",
        )


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
