"""Backups by themselves, every so often, the newest few kept."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from ....actors.errors import SessionError
from .copying import PARTIAL

if TYPE_CHECKING:
    from .maintenance import Maintenance

logger = logging.getLogger("langswarm.core.session")

RETRY_SECONDS = 3600.0
"""After a backup that failed; sooner where they are more frequent."""


@attrs.frozen(kw_only=True)
class Schedule:
    """What SQLiteSessionStorage was told about backups, checked."""

    directory: str
    keep: int
    interval_seconds: float


class ScheduledBackups:
    """Makes a backup whenever the newest one in the directory is older than the interval."""

    def __init__(self, schedule: Schedule, database_path: str, maintenance: Maintenance) -> None:
        self._schedule = schedule
        self._maintenance = maintenance
        stem, extension = os.path.splitext(os.path.basename(database_path))  # noqa: PTH119, PTH122
        self._name = f"{stem}-{{}}{extension}"
        name = re.escape(stem) + r"-\d{8}T\d{12}Z" + re.escape(extension)
        self._complete = re.compile(name)
        self._left_by_a_kill = re.compile(name + re.escape(PARTIAL) + ".*")
        self._end = asyncio.Event()
        self.count = 0
        self.error: SessionError | None = None
        """Why the last one failed; None: it did not."""

    async def run(self) -> None:
        """Until `end`."""
        while not self._end.is_set():
            seconds = self._due_in()
            if seconds <= 0:
                await self._make()
                if self.error is not None:
                    seconds = min(self._schedule.interval_seconds, RETRY_SECONDS)
                else:
                    continue
            try:
                async with asyncio.timeout(seconds):
                    await self._end.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """Make no more."""
        self._end.set()

    def _due_in(self) -> float:
        try:
            found = self._found(self._complete)
            newest = max((entry.stat().st_mtime for entry in found), default=None)
        except OSError:
            return 0.0
        if newest is None:
            return 0.0
        # a clock that was set back must not put the next one off for ever
        age = max(0.0, time.time() - newest)
        return self._schedule.interval_seconds - age

    async def _make(self) -> None:
        directory = self._schedule.directory
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103
            for entry in self._found(self._left_by_a_kill):
                os.unlink(entry.path)  # noqa: PTH108
            await self._maintenance.backup(os.path.join(directory, self._name.format(now)))  # noqa: PTH118
            for entry in sorted(self._found(self._complete), key=_name)[: -self._schedule.keep]:
                os.unlink(entry.path)  # noqa: PTH108
        except (SessionError, OSError) as error:
            if not self._end.is_set():
                logger.exception("a scheduled backup into %s failed", directory)
            self.error = error if isinstance(error, SessionError) else SessionError(str(error))
        else:
            self.count += 1
            self.error = None

    def _found(self, pattern: re.Pattern[str]) -> list[os.DirEntry[str]]:
        with os.scandir(self._schedule.directory) as entries:
            return [entry for entry in entries if pattern.fullmatch(entry.name)]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
