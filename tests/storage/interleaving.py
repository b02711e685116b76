"""Runs two functions in two threads, one line at a time, in every order of their lines.

CPython does not let a program decide when a thread is preempted, but a trace function is called
before each line and may wait there until it is that thread's turn.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import CodeType, FrameType

PATIENCE_SECONDS = 60


class _Thread:
    """One function, which goes on only when it is told to."""

    def __init__(self, function: Callable[[], None], codes: Collection[CodeType]) -> None:
        self._function = function
        self._codes = codes
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self.is_done = False
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Up to its next line, or to its end."""
        self._go.release()
        assert self._stopped.acquire(timeout=PATIENCE_SECONDS)
        if self.is_done:
            self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        sys.settrace(self._trace_call)
        try:
            self._function()
        except Exception as error:  # noqa: BLE001 - raised where the threads are scheduled
            self.error = error
        finally:
            sys.settrace(None)
            self.is_done = True
            self._stopped.release()

    def _trace_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        return self._trace_line if frame.f_code in self._codes else None

    def _trace_line(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            self._stopped.release()
            self._go.acquire()
        return self._trace_line


def every_interleaving(
    prepare: Callable[[], tuple[Callable[[], None], Callable[[], None]]],
    codes: Collection[CodeType],
) -> Iterator[str]:
    """For each order of the lines of `codes`: prepare two functions, run them, give the order.

    Depth first: each run repeats the choices of the one before up to its last one that can change.
    """
    choices: list[int] = []
    while True:
        threads = [_Thread(function, codes) for function in prepare()]
        taken, last_free = _run(threads, choices)
        for thread in threads:
            if thread.error is not None:
                raise thread.error
        yield "".join("AB"[choice] for choice in taken)
        if last_free is None:
            return
        choices = [*taken[:last_free], 1]


def _run(threads: list[_Thread], choices: list[int]) -> tuple[list[int], int | None]:
    """What was chosen, and the last place where A went on although B could have."""
    taken: list[int] = []
    last_free: int | None = None
    while ready := [number for number, thread in enumerate(threads) if not thread.is_done]:
        place = len(taken)
        choice = choices[place] if place < len(choices) else ready[0]
        if choice == 0 and len(ready) == 2:
            last_free = place
        taken.append(choice)
        threads[choice].step()
    return taken, last_free
