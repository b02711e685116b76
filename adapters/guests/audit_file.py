"""Lines in a file that is only added to: for its owner alone, rotated by size.

Plain code for a thread. The file is opened for each batch, so that another may move it away.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ...actors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe nobody reads is refused, not waited for
)
_OWNER_ONLY: Final = 0o600
_NEW_LINE: Final = b"\n"


class AuditFile:
    """A file and its predecessors: `name`, `name.1` (the one before), ... `name.<keep>`.

    Not for two processes at once: each would rotate the other's file away.

    Raises ConfigurationError if there is no folder for it.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        if not path.parent.is_dir():
            raise ConfigurationError(f"there is no folder for the audit log {str(path)!r}")
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Write lines that end with a line break; how many are written, and why no more."""
        written = 0
        try:
            while written < len(lines):
                written += self._append_to_one(lines[written:])
        except OSError as error:
            return written, error
        return written, None

    def _append_to_one(self, lines: Sequence[bytes]) -> int:
        """As many as fit into the file that is there, at least one."""
        descriptor = self._opened()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(lines[0]) > self._max_bytes:
                os.close(descriptor)
                descriptor = -1
                self._rotate()
                descriptor = self._opened()
                size = os.fstat(descriptor).st_size
            count, batch = 0, b""
            for line in lines:
                if count and size + len(batch) + len(line) > self._max_bytes:
                    break
                batch += line
                count += 1
            if size and os.pread(descriptor, 1, size - 1) != _NEW_LINE:
                batch = _NEW_LINE + batch  # somebody was cut off there
            self._write(descriptor, batch, size)
            return count
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _opened(self) -> int:
        descriptor = os.open(self.path, _FLAGS, _OWNER_ONLY)
        status = os.fstat(descriptor)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{str(self.path)!r} is no regular file")  # noqa: TRY301
            if stat.S_IMODE(status.st_mode) != _OWNER_ONLY:
                os.fchmod(descriptor, _OWNER_ONLY)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @staticmethod
    def _write(descriptor: int, batch: bytes, size: int) -> None:
        rest = memoryview(batch)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def _rotate(self) -> None:
        """Each takes the next number; the last one goes."""
        names = [self.path, *(self._numbered(n) for n in range(1, self._keep + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        if not self._keep:
            self.path.unlink(missing_ok=True)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
