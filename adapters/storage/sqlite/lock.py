"""One storage per database file: a lock on a file of its own, beside the database.

Not on the database file itself: closing any descriptor of that file drops the locks that SQLite
holds on it in this process. flock, not fcntl: it belongs to the open file, so a second storage of
the same process is refused too, and it ends with its holder, however that dies. The lock file
stays behind: deleting it would let two processes lock two different files of one name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import weakref
from typing import Final

from ....actors.errors import StorageError
from .mapping import os_error

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock beside a database file."""

    def __init__(self, database_path: str) -> None:
        self.path: Final = f"{database_path}.lock"
        self._database_path = database_path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it now, or raise a StorageError of code `busy`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise _unusable(self.path, error) from error
            raise self._busy(holder) from None
        # The pid is a courtesy to whoever is refused: a full disk must not cost the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Let the next one in; idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: close the copy; the lock itself stays with the parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _busy(self, holder: str) -> StorageError:
        who = "this process" if holder == str(os.getpid()) else f"process {holder or 'unknown'}"
        return StorageError(
            f"{self._database_path} is in use by {who}: one process (and one storage in it) per "
            "SQLite file; several workers need routing by session, or PostgreSQL. For rolling "
            "restarts set lock_wait_seconds",
            code="busy",
            retryable=True,
        )


def _read_holder(descriptor: int) -> str:
    with contextlib.suppress(OSError, ValueError):
        return str(int(os.pread(descriptor, 32, 0)))
    return ""


def _unusable(path: str, error: OSError) -> StorageError:
    return os_error(error, f"cannot lock {path}; the folder must exist and be writable")


def _forget_all() -> None:
    for lock in tuple(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)
