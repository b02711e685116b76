"""The queue of the simulated asyncio loop: plain callbacks keep their place, task steps may not.

asyncio promises FIFO order to ``call_soon``, and libraries build on it. What no program may rely on
is which of several ready *tasks* goes first. So neighbouring task steps form a group, the chooser
picks inside the group at the head, and a plain callback is a wall that no step passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from langswarm.core.session.testing.choosers import Chooser

T = TypeVar("T")


class SimulatedTask(asyncio.Task[T]):
    """A task with a number, counted from 1 in each run in the order of creation.

    The number is the hash, too. Sets of tasks are everywhere (``asyncio.wait`` returns two), and by
    default they are ordered by memory address, which no seed can repeat.
    """

    def __init__(self, coro: Any, *, number: int, queue: ReadyQueue, **options: Any) -> None:
        """Number the task before asyncio puts it into its first set."""
        self.number = number
        self.started = False
        self._queue = queue
        if options.get("name") is None:
            # asyncio's own default counts on over all loops of the process.
            options["name"] = f"Task-{number}"
        super().__init__(coro, **options)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel, and let the queue know on whose behalf callbacks are now scheduled."""
        self._queue.begin_cancel(self.number)
        try:
            return super().cancel(msg=msg)
        finally:
            self._queue.end_cancel()

    def __hash__(self) -> int:
        """Hash by number, the same in every process."""
        return self.number


class Entry(NamedTuple):
    """A callback and, if it is a task's step, the task."""

    handle: asyncio.Handle
    task: SimulatedTask[Any] | None


class ReadyQueue:
    """Takes the place of the deque in ``BaseEventLoop._ready``."""

    def __init__(self) -> None:
        """Start empty."""
        self._size = 0
        self._groups: deque[list[Entry]] = deque()
        # anyio cancels a *set* of tasks and of scopes. The callbacks that one step schedules by
        # cancelling wait here, by task, and enter the queue in the order of the task numbers.
        self._cancelled: list[tuple[int, list[asyncio.Handle]]] = []
        self._depth = 0

    def __len__(self) -> int:
        """Count everything that is ready."""
        return self._size

    def append(self, handle: asyncio.Handle) -> None:
        """Add a callback at the end."""
        self._size += 1
        if self._depth:
            self._cancelled[-1][1].append(handle)
        else:
            self._settle()
            self._push(handle)

    def clear(self) -> None:
        """Forget everything; the loop is being closed."""
        self._size = 0
        self._groups.clear()
        self._cancelled.clear()

    def take(self, chooser: Chooser) -> Entry:
        """Remove and return what runs next."""
        self._settle()
        group = self._groups[0]
        free = group[0].task is not None and len(group) > 1
        entry = group.pop(chooser.choose(len(group)) if free else 0)
        if not group:
            self._groups.popleft()
        self._size -= 1
        return entry

    def begin_cancel(self, number: int) -> None:
        """Collect what is scheduled from here on for the cancelled task."""
        if not self._depth:  # a task that waits for another one passes its cancellation on
            self._cancelled.append((number, []))
        self._depth += 1

    def end_cancel(self) -> None:
        """Stop collecting."""
        self._depth -= 1

    def _settle(self) -> None:
        if self._cancelled:
            collected = sorted(self._cancelled, key=lambda item: item[0])
            self._cancelled = []
            for _, handles in collected:
                for handle in handles:
                    self._push(handle)

    def _push(self, handle: asyncio.Handle) -> None:
        entry = Entry(handle, _stepped_task(handle))
        last = self._groups[-1] if self._groups else None
        if last is None or (last[0].task is None) != (entry.task is None):
            self._groups.append([entry])
        else:
            last.append(entry)


def _stepped_task(handle: asyncio.Handle) -> SimulatedTask[Any] | None:
    # A step is a private method bound to its task. A public one (loop.call_later(1, task.cancel))
    # is a callback like any other. A cancelled handle has lost its callback and does not matter.
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if not isinstance(owner, SimulatedTask):
        return None
    name = getattr(callback, "__name__", None)
    if name is not None and hasattr(asyncio.Task, name):
        return None
    return owner  # pyright: ignore[reportUnknownVariableType] - a task of anything
