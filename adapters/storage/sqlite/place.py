"""Whether a database file and its -wal are still where they were when they were opened.

SQLite goes on writing to a file that was deleted, moved or replaced, and nobody would ever find
what it wrote. It is worse to open such a file anew, by its name: that makes an empty one, and
SQLite deletes a -wal that lies beside an empty file, with all that is not yet folded in. So
nothing that is open here is opened a second time before it was looked for, and never created.

The -wal keeps its inode from the first connection to the last: a checkpoint cuts it, and SQLite
deletes it only when nobody has it open.
"""

from __future__ import annotations

import os
from urllib.parse import quote

_Identity = tuple[int, int]

_GONE = (
    "the database file {!r} was deleted, moved or replaced while it was in use: what was written "
    "may never be found. Writes are refused from now on; put the file back in its place, then "
    "restart"
)
_WAL_GONE = (
    "{!r}, which is a part of the database, was deleted, moved or replaced while it was in use: "
    "what was written is lost if the program is killed. Writes are refused from now on; end the "
    "program cleanly, which saves what it can, then restart"
)
_UNSEEN = (
    "whether {!r} is still in its place cannot be seen ({}): what was written may never be found. "
    "Writes are refused from now on; check the disk and the folder, then restart"
)


def uri_of(path: str, *options: str) -> str:
    """How SQLite is told that a file must exist (`mode=rw`) or is only to be read (`mode=ro`)."""
    return f"file:{quote(os.fsencode(path))}?{'&'.join(options)}"


class Place:
    """Of one database file; any thread may look."""

    def __init__(self, path: str, *, wal: bool) -> None:
        self.path = path
        self._wal_path = f"{path}-wal" if wal else None
        # Invariant: the files that SQLite has open; None: not known yet.
        self._file: _Identity | None = None
        self._wal: _Identity | None = None
        self.wal_bytes = 0
        """Of the -wal when last looked at."""

    def enter(self) -> None:
        """Note which file it is, before it is opened; raises OSError."""
        self._wal = None
        self._file = _identity(os.stat(self.path))  # noqa: PTH116 - a str all along

    def enter_wal(self) -> None:
        """Note which -wal it is, once it is open; raises OSError."""
        if self._wal_path is not None:
            self._wal = _identity(os.stat(self._wal_path))  # noqa: PTH116

    def problem(self) -> str | None:
        """What is not in its place any more; None: everything is. Two calls of the system."""
        path, text = self.path, _GONE
        try:
            if self._file is not None and _identity(os.stat(path)) != self._file:  # noqa: PTH116
                return _GONE.format(path)
            if self._wal is not None and self._wal_path is not None:
                path, text = self._wal_path, _WAL_GONE
                found = os.stat(path)  # noqa: PTH116 - on the path of every commit, as above
                if _identity(found) != self._wal:
                    return _WAL_GONE.format(path)
                self.wal_bytes = found.st_size
        except FileNotFoundError:
            return text.format(path)
        except OSError as error:
            return _UNSEEN.format(path, error.strerror)
        return None


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino
