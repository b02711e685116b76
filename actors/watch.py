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
import math
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

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
        # The watchdog's own: whether there was a step between its last two looks.
        self.was_used = True

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
    """The thread that looks at all reports of the process. It holds none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By report: the number of its last known step, and since when that is known.
        self._seen: WeakKeyDictionary[BlockingReport, tuple[int, float]] = WeakKeyDictionary()
        self._called = threading.Event()
        self._pause_seconds = 0.0
        self.is_running = False

    def watch(self, report: BlockingReport) -> None:
        """Look at this one from now on."""
        with self._lock:
            report.is_watched = True
            self._seen[report] = report.steps, time.monotonic()
            if not self.is_running:
                self.is_running = True
                self._pause_seconds = _LOOKS * report.limit_seconds
                _thread.start_new_thread(self._run, ())
            elif _LOOKS * report.limit_seconds < self._pause_seconds:
                self._called.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._called.clear()
                limits = [report.limit_seconds for report in self._seen]
                self._pause_seconds = max(_LOOKS * min(limits, default=0.0), 0.001)
            if self._called.wait(self._pause_seconds):
                continue
            with self._lock:
                late = self._look()
                if not self._is_needed():
                    self._seen.clear()
                    self.is_running = False
                    return
            for watched, seconds in late:
                watched.tell_where(seconds)

    def _look(self) -> list[tuple[Watched[Any], float]]:
        """Steps that go on for too long; each is told once."""
        now = time.monotonic()
        late: list[tuple[Watched[Any], float]] = []
        for report, (known, since) in list(self._seen.items()):
            steps, watched = report.steps, report.stepping
            if steps != known:
                self._seen[report] = steps, now
                report.was_used = True
            elif watched is None:
                report.was_used = False
            elif now - since >= _LOOKS * report.limit_seconds:
                self._seen[report] = steps, math.inf
                late.append((watched, now - since))
        return late

    def _is_needed(self) -> bool:
        """Whether a guest was called since the last look; if not, nothing is watched any more."""
        reports = list(self._seen)
        for report in reports:
            report.is_watched = False
        for report in reports:
            known, _ = self._seen[report]
            if report.was_used or report.stepping is not None or report.steps != known:
                for each in reports:
                    each.is_watched = True
                return True
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
