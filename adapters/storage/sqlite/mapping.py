"""The one place where sqlite3's exceptions become ours."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import attrs

from ....actors.errors import StorageError

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
_OTHER = _Kind(code="unknown", text="the database refused it: {}")
_SYNC = _Kind(
    code="failed_sync",
    text="the disk refused to sync ({}): what was written may be lost although it reads back. "
    "Writes are refused from now on; check the disk, then restart",
)

_KINDS = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_IOERR: _IO,
    sqlite3.SQLITE_CANTOPEN: _IO,
    sqlite3.SQLITE_NOMEM: _IO,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _NO_DATABASE,
}
_FAILED_SYNCS = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


def is_of_the_place(error: Exception) -> bool:
    """Whether the file or the machine is at fault, so that no other write would fare better."""
    return _KINDS.get(_code(error) & 0xFF, _OTHER).of_the_place


def storage_error(error: Exception, *, committing: bool = False) -> StorageError:
    """What happened, whether it is stored, and what to do.

    `committing`: COMMIT itself raised it. An I/O error then leaves open what a restart will find.
    """
    code = _code(error)
    kind = _KINDS.get(code & 0xFF, _OTHER)
    if committing and code in _FAILED_SYNCS:
        kind = _SYNC
    undecided = committing and kind in {_SYNC, _IO}
    return StorageError(
        kind.text.format(error),
        code=kind.code,
        retryable=kind.retryable,
        outcome="unknown" if undecided else "failed",
    )


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0)
