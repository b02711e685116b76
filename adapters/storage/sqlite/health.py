"""What a database file tells of itself, from what is known already and a look at its size."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ....actors.ports import StorageHealth
from .checkpoint import CHECKPOINT_BYTES

if TYPE_CHECKING:
    from .database import Database

WAL_WARNING_BYTES = 16 * CHECKPOINT_BYTES


def health_of(database: Database) -> StorageHealth:
    """From any thread."""
    problem = database.place.problem()
    if not database.is_open:  # asked behind the look: the end deletes the -wal
        problem = None
    wal_bytes = database.place.wal_bytes if database.is_open else 0
    size = 0
    with contextlib.suppress(OSError):  # it is not there yet, or no more
        size = os.stat(database.path).st_size  # noqa: PTH116 - a str all along
    return StorageHealth(
        is_open=database.is_open,
        writes_stopped=database.writer.failed is not None,
        warning=_warning(database, problem, wal_bytes),
        facts={
            "path": database.path,
            "file_bytes": size,
            "wal_bytes": wal_bytes,
            "sqlite_version": database.sqlite_version,
            "encryption": database.encryption,
            "checkpoints": database.checkpoints.count,
            "reopened": database.reopened,
        },
    )


def _warning(database: Database, problem: str | None, wal_bytes: int) -> str | None:
    if database.writer.failed is not None:
        return str(database.writer.failed)
    if problem is not None:
        return problem
    if database.checkpoints.error is not None:
        return f"the last checkpoint failed: {database.checkpoints.error}"
    if database.scheduled is not None and database.scheduled.error is not None:
        return f"the last scheduled backup failed: {database.scheduled.error}"
    if wal_bytes > WAL_WARNING_BYTES:
        return (
            f"the -wal has {wal_bytes} bytes, because something has been reading the database for "
            "long: a backup, a check, or another program"
        )
    return None
