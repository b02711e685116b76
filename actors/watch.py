"""Notices guests that hold the event loop: a blocking call in one turn stalls every session.

The guest's coroutine is driven step by step and each step is timed, so the report names the
session and the guest, where a thread that watches the loop from outside could only say that
something is slow. The price is two readings of the clock per step. A guest that never gives the
loop back at all cannot be reported from inside the loop; a debugger's stack dump shows it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .values import about

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")

logger = logging.getLogger("langswarm.core.session")


class BlockingReport:
    """Counts and logs the steps that took too long."""

    def __init__(self, now: Callable[[], float], blocking_seconds: float) -> None:
        self.now = now
        self.limit_seconds = blocking_seconds
        self.count = 0

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
            try:
                trap = step(argument)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            finally:
                seconds = report.now() - began
                if seconds > report.limit_seconds:
                    report.tell(seconds, self._guest, self._session_id, self._turn_no)
            try:
                argument = yield trap
                step = steps.send
            except BaseException as error:  # noqa: BLE001 - passed on to the guest
                argument, step = error, steps.throw
