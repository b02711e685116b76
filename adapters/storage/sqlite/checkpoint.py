"""When the writer folds its -wal into the database, and what bounds it.

SQLite's own way (wal_autocheckpoint) does it within COMMIT, before anybody is answered, and hides
what goes wrong. Here it is a job of its own behind the commit that made the -wal long enough, so
those of that batch have their answers, and a failed sync is seen.

The size of the file tells how long the -wal is; the look at its place after each commit has it.
`journal_size_limit` cuts the file back when the writer starts over at its beginning, so the file is
longer than that limit exactly while its content is. A checkpoint is PASSIVE, which waits for
nobody; the next commit then starts over, unless a reader still looks at the old content. While one
does, the -wal grows, and a checkpoint is tried again after each further step. Beyond `limit_bytes`
commits are refused until the reader ends: that is a clean failure, where a full disk would be one
for everything else on it, too.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ....actors.errors import StorageError
from .mapping import storage_error

if TYPE_CHECKING:
    from .connection import JobConnection
    from .place import Place
    from .writer import Writer

CHECKPOINT_BYTES = 4 * 1024 * 1024
"""A thousand pages: some milliseconds of work, one sync."""
STEP_BYTES = 1024 * 1024


class Checkpoints:
    """The -wal of one database file."""

    def __init__(self, place: Place, limit_bytes: int) -> None:
        self._place = place
        self._limit_bytes = limit_bytes
        self._due_bytes = CHECKPOINT_BYTES
        self.count = 0
        self.error: StorageError | None = None
        """Why the last one failed; None: it did not."""

    def is_due(self) -> bool:
        """Whether one should run behind the commit that has just ended."""
        size = self._place.wal_bytes
        if size <= CHECKPOINT_BYTES:
            self._due_bytes = CHECKPOINT_BYTES
        return size > self._due_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the file."""
        return self._place.wal_bytes == 0

    def is_over(self) -> bool:
        """Whether there is no room for another commit."""
        return self._place.wal_bytes > self._limit_bytes

    def run(self, writer: Writer, connection: JobConnection) -> None:
        """Fold in what no reader needs, waiting for nobody. In the writer's thread; never raises.

        Above the limit the file is cut to nothing at once, because no commit will start it over.
        """
        mode = "TRUNCATE" if self.is_over() else "PASSIVE"
        self._checkpoint(mode, writer, connection)
        self._due_bytes = max(CHECKPOINT_BYTES, self._place.wal_bytes + STEP_BYTES)

    def truncate(self, writer: Writer, connection: JobConnection) -> None:
        """Cut the file to nothing if no reader is in the way."""
        self._checkpoint("TRUNCATE", writer, connection)

    def _checkpoint(self, mode: str, writer: Writer, connection: JobConnection) -> None:
        writer.look()
        if writer.failed is not None:
            return  # nothing is written any more, here neither
        try:
            (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {patience}")
        except sqlite3.Error as error:
            self.failed(error)
            writer.note(error)
            connection.doubt(error)
        else:
            self.count += 1
            self.error = None
        writer.look()

    def failed(self, error: Exception) -> None:
        """Keep it for `health`."""
        self.error = error if isinstance(error, StorageError) else storage_error(error)
