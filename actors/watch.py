"""Notices guests that hold the event loop: a blocking call in one turn stalls every session.

The guest's coroutine is driven step by step and each step is timed, so the report names the
session and the guest, where a thread that watches the loop from outside could only say that
something is slow. The price is two readings of the clock per step.

A step that does not end at all never comes to its report. So one thread of the process, for all
runtimes, looks now and then whether a step that it has seen before is still going on, and logs
that with the place where the loop stands. It is there only while guests are called: after an idle
while it ends. It is a bare thread, since nobody ever waits for it. Both sides write first and look
then (the loop: the step, then whether it is watched; the thread: that it goes, then whether there
was a step), so no step is left unwatched.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from .values import about

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")

logger = logging.getLogger("langswarm.core.session")

_LOOKS = 10
"""A step is reported while it goes on once it takes so many times `blocking_seconds`."""


class BlockingReport:
    """Counts and logs the steps that took too long."""

    def __init__(self, now: Callable[[], float], blocking_seconds: float) -> None:
        self.now = now
        self.limit_seconds = blocking_seconds
        self.count = 0
        # For the watching thread, which only reads them.
        self.stepping: Watched[Any] | None = None
        self.steps = 0
        self.thread_id = 0
        # Invariant: False only while the watchdog has let go of it.
        self.is_watched = False

    def tell(self, seconds: float, guest: str, session_id: str, turn_no: int) -> None:
        """A step was too long."""
        self.count += 1
        logger.warning(
            "%s of session %s held the event loop for %.3f s: every session waited; "
            "use async calls, or a thread",
            guest,
            session_id,
            seconds,
            extra=about(session_id, turn_no),
        )

    def be_watched(self) -> None:
        """From the event loop, in the first step after a while."""
        self.thread_id = threading.get_ident()
        _watchdog.watch(self)


class Watchdog:
    """The thread that looks at all reports of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: WeakSet[BlockingReport] = WeakSet()
        self._called = threading.Event()
        self.is_running = False

    def watch(self, report: BlockingReport) -> None:
        """Look at this one from now on."""
        with self._lock:
            report.is_watched = True
            self._reports.add(report)
            self._called.set()
            if not self.is_running:
                self.is_running = True
                _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        seen: dict[BlockingReport, tuple[int, float]] = {}
        while True:
            with self._lock:
                self._called.clear()
                reports = list(self._reports)
            seen = {report: self._look(report, seen.get(report)) for report in reports}
            seconds = min((_LOOKS * report.limit_seconds for report in reports), default=0.0)
            del reports
            idle = {report: steps for report, (steps, _) in seen.items()}
            if self._called.wait(max(seconds, 0.001)):
                continue
            if self._may_go(idle):
                return

    def _look(self, report: BlockingReport, before: tuple[int, float] | None) -> tuple[int, float]:
        """The step's number and since when it is known; a step that goes on is told once."""
        steps, watched, now = report.steps, report.stepping, time.monotonic()
        if before is None or before[0] != steps:
            return steps, now
        since = before[1]
        if watched is not None and now - since >= _LOOKS * report.limit_seconds:
            watched.tell_where(now - since)
            return steps, float("inf")
        return before

    def _may_go(self, idle: dict[BlockingReport, int]) -> bool:
        """Whether no guest was called since; then nothing is watched any more."""
        with self._lock:
            for report in self._reports:
                report.is_watched = False
            rests = all(
                report.stepping is None and idle.get(report) == report.steps
                for report in self._reports
            )
            if rests:
                self._reports.clear()
                self.is_running = False
                return True
            for report in self._reports:
                report.is_watched = True
            return False


_watchdog = Watchdog()


def _after_fork() -> None:
    """The thread is left behind, and perhaps its lock."""
    global _watchdog  # noqa: PLW0603 - one for the process, which is another one now
    _watchdog = Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Watched(Generic[T]):
    """Await this instead of the guest's coroutine."""

    __slots__ = ("_call", "_guest", "_report", "_session_id", "_turn_no")

    def __init__(
        self,
        call: Awaitable[T],
        report: BlockingReport,
        guest: str,
        session_id: str,
        turn_no: int = 0,
    ) -> None:
        self._call = call
        self._report = report
        self._guest = guest
        self._session_id = session_id
        self._turn_no = turn_no

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._call.__await__()
        step, argument = steps.send, None
        report = self._report
        while True:
            began = report.now()
            report.steps += 1
            report.stepping = self
            if not report.is_watched:
                report.be_watched()
            try:
                trap = step(argument)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            finally:
                report.stepping = None
                seconds = report.now() - began
                if seconds > report.limit_seconds:
                    report.tell(seconds, self._guest, self._session_id, self._turn_no)
            try:
                argument = yield trap
                step = steps.send
            except BaseException as error:  # noqa: BLE001 - passed on to the guest
                argument, step = error, steps.throw

    def tell_where(self, seconds: float) -> None:
        """Its step goes on; called by the watching thread."""
        # There is no other way to see where another thread is.
        frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        frame = frames.get(self._report.thread_id)
        where = "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
        logger.error(
            "%s of session %s has held the event loop for more than %.1f s and still does: no "
            "session goes on. It is here:\n%s",
            self._guest,
            self._session_id,
            seconds,
            where,
            extra=about(self._session_id, self._turn_no),
        )
