"""An audit log: one JSON line per event, written in a thread, what is lost is counted and told."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .audit_file import AuditFile

REPORT_SECONDS: Final = 60.0
_MUTEX_SECONDS: Final = 1.0
_MAX_TEXT_CHARACTERS: Final = 10_000


class AuditLogError(OSError):
    """The audit log could not be written; turns go on. Said once a minute at most."""


class _Line:
    """A line that waits to be written."""

    __slots__ = ("data", "is_settled")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.is_settled = False


class AuditLog:
    """Writes lines to an `AuditFile`; those that come while it writes are written together."""

    def __init__(self, file: AuditFile, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        # Invariant: a line is here until a thread takes it, or who waits for it goes.
        self._waiting: dict[_Line, None] = {}
        self._mutex = Lock()
        self._counting = Lock()
        self._turns: RunVar[anyio.Lock] = RunVar("audit_log")
        self._untold = 0
        self._told_at: float | None = None
        self.written = 0
        self.lost = 0

    async def write(self, event: Mapping[str, Any]) -> None:
        """Return when the line is with the operating system; it is not synced.

        Raises AuditLogError if it could not be written, unless that was said a minute ago.
        """
        line = _Line(encoded(event))
        self._waiting[line] = None
        try:
            async with self._turn():
                if not line.is_settled:
                    await to_thread.run_sync(self._flush, abandon_on_cancel=True)
        finally:
            if self._waiting.pop(line, line) is None:
                self._lose(1)

    def _turn(self) -> anyio.Lock:
        lock = self._turns.get(None)
        if lock is None:
            lock = anyio.Lock()
            self._turns.set(lock)
        return lock

    def _flush(self) -> None:
        """In a thread: write all that waits."""
        if not self._mutex.acquire(timeout=_MUTEX_SECONDS):
            self._report(TimeoutError("the disk does not answer"))
            return
        try:
            lines, untold = self._taken(), self._untold
            told = [encoded({"event": "lines_lost", "count": untold})] if untold else []
            written, error = self._file.append([*told, *(line.data for line in lines)])
            for line in lines:
                line.is_settled = True
            if told and written:
                written -= 1
                with self._counting:
                    self._untold -= untold
            self.written += written
            if error is not None:
                self._lose(len(lines) - written)
                self._report(error)
        finally:
            self._mutex.release()

    def _taken(self) -> list[_Line]:
        lines: list[_Line] = []
        while self._waiting:
            try:
                line = next(iter(self._waiting))
                self._waiting.pop(line)
            except (KeyError, RuntimeError):
                continue  # the event loop's thread was quicker: look again
            lines.append(line)
        return lines

    def _lose(self, count: int) -> None:
        with self._counting:  # both the event loop's thread and the writing one come here
            self.lost += count
            self._untold += count

    def _report(self, error: OSError) -> None:
        now = self._clock()
        if self._told_at is None or now >= self._told_at + REPORT_SECONDS:
            self._told_at = now
            raise AuditLogError(
                error.errno,
                f"the audit log could not be written ({error.strerror or error}); "
                f"{self.lost} lines are lost so far; turns go on",
            ) from error


def encoded(event: Mapping[str, Any]) -> bytes:
    """One line of ASCII, whatever the texts hold; overlong ones are cut."""
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    fields = {"time": moment, **{name: _cut(value) for name, value in event.items()}}
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _cut(value: object) -> object:
    return value[:_MAX_TEXT_CHARACTERS] if isinstance(value, str) else value
