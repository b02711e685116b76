"""The one place where sqlite3's exceptions become ours."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

import attrs

from ....actors.errors import StorageError
from ..encryption.records import MissingKeyError, SealError

if TYPE_CHECKING:
    from ....actors.errors import StorageCode


@attrs.frozen(kw_only=True)
class _Kind:
    code: StorageCode
    text: str
    retryable: bool = False
    of_the_place: bool = False
    """The file or the machine is at fault: no other write would fare better."""


_BUSY = _Kind(
    code="busy",
    text="another program has locked the database ({}); nothing was written, try again",
    retryable=True,
    of_the_place=True,
)
_FULL = _Kind(
    code="full",
    text="no room is left ({}); nothing was written, make room and try again",
    retryable=True,
    of_the_place=True,
)
_READ_ONLY = _Kind(
    code="read_only",
    text="the database cannot be written ({}); check the permissions of the file and its folder",
    of_the_place=True,
)
_IO = _Kind(
    code="io",
    text="the database file cannot be used ({}); check the path, the disk and the limits of the "
    "process",
    of_the_place=True,
)
_DAMAGED = _Kind(code="corrupt", text="the database is damaged ({}); restore a backup")
_NO_DATABASE = attrs.evolve(_DAMAGED, of_the_place=True)
_INVALID = _Kind(
    code="invalid", text="the database does not take this value ({}); it was not stored"
)
_INTERRUPTED = _Kind(
    code="closed",
    text="the storage was closed meanwhile ({}); nothing was written",
    retryable=True,
    of_the_place=True,
)
_OTHER = _Kind(code="unknown", text="the database refused it: {}")
_SYNC = _Kind(
    code="failed_sync",
    text="the disk refused to sync ({}): what was written may be lost although it reads back. "
    "Writes are refused from now on; check the disk, then restart",
    of_the_place=True,
)

_MOVED = _Kind(
    code="io",
    text="the database file was deleted, moved or replaced while it was in use ({}); nothing was "
    "written, put the file back in its place, then restart",
    of_the_place=True,
)

_KINDS = {
    sqlite3.SQLITE_READONLY_DBMOVED: _MOVED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: _IO,
    sqlite3.SQLITE_CANTOPEN: _IO,
    sqlite3.SQLITE_NOMEM: _IO,
    sqlite3.SQLITE_MISUSE: _IO,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _NO_DATABASE,
    sqlite3.SQLITE_CONSTRAINT: _INVALID,
    sqlite3.SQLITE_MISMATCH: _INVALID,
    sqlite3.SQLITE_TOOBIG: _INVALID,
    sqlite3.SQLITE_INTERRUPT: _INTERRUPTED,
}
# What sqlite3 raises without asking SQLite: a lone surrogate, 2^63, another type, 2 GB.
_UNSTORABLE = (UnicodeEncodeError, OverflowError, sqlite3.ProgrammingError, sqlite3.DataError)
_FAILED_SYNCS = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


def is_failed_sync(error: Exception) -> bool:
    """Whether the disk has refused a sync, so that nothing that is read back proves anything."""
    return _code(error) in _FAILED_SYNCS


def is_of_the_place(error: Exception) -> bool:
    """Whether the file or the machine is at fault, so that no other write would fare better."""
    return _kind(error).of_the_place


def storage_error(error: Exception, *, committing: bool = False) -> StorageError:
    """What happened, whether it is stored, and what to do.

    `committing`: COMMIT itself raised it. An I/O error then leaves open what a restart will find.
    """
    kind = _kind(error)
    undecided = committing and kind in {_SYNC, _IO}
    return StorageError(
        kind.text.format(error),
        code=kind.code,
        retryable=kind.retryable,
        outcome="unknown" if undecided else "failed",
    )


def os_error(error: OSError, what: str) -> StorageError:
    """For files that are not SQLite's own."""
    code: StorageCode = "io"
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        code = "full"
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        code = "read_only"
    return StorageError(f"{what}: {error.strerror}", code=code, retryable=code == "full")


def is_damage(error: Exception) -> bool:
    """Whether what is stored is at fault: SQLite says so, or a row makes no sense."""
    return not isinstance(error, sqlite3.Error) or _kind(error).code == "corrupt"


def damaged(error: Exception) -> StorageError:
    """For rows that SQLite reads and that are none of ours, or do not open."""
    if isinstance(error, MissingKeyError):
        return StorageError(str(error), code="key")
    if isinstance(error, SealError):
        return StorageError(_DAMAGED.text.format(error), code="corrupt")
    return StorageError(_DAMAGED.text.format(f"a row makes no sense: {error!r}"), code="corrupt")


def is_broken_handle(error: Exception) -> bool:
    """Whether sqlite3 itself says that this connection is none any more."""
    text = str(error)
    return isinstance(error, sqlite3.ProgrammingError) and (
        "closed database" in text or "not called" in text
    )


def _kind(error: Exception) -> _Kind:
    if is_failed_sync(error):
        return _SYNC
    if is_broken_handle(error):
        return _IO
    code = _code(error)
    if code:
        return _KINDS.get(code) or _KINDS.get(code & 0xFF, _OTHER)
    if isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error):
        return _DAMAGED
    if isinstance(error, _UNSTORABLE):
        return _INVALID
    return _OTHER


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0)
