"""The event loop under us: wait cell, cancel scope, clock, the way in from another thread.

These few are native because they sit on the path of every message: an `anyio.Event` per
acknowledgement halves the throughput of a group commit, and `anyio.current_time()` looks the
backend up again at each call. A cancel scope is anyio's on asyncio, where it carries the levels
that asyncio lacks, and trio's own on trio, whose anyio one only wraps it.

A cell is for one waiter and one value, in one event loop. Setting it twice, or after its waiter
was cancelled, does nothing: not an error, because the outcome and the cancellation race.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    import trio

T = TypeVar("T")


class Cell(Protocol[T]):
    """Wait once for one value."""

    async def wait(self) -> T:
        """The value. Cancelling the wait abandons the cell."""
        ...

    def set(self, value: T) -> None:
        """Give the value and wake the waiter; call it in the cell's own event loop."""
        ...


class LoopGoneError(RuntimeError):
    """`post` found that the event loop has ended."""


class Scope(Protocol):
    """A cancel scope, trio's or anyio's."""

    @property
    def cancel_called(self) -> bool: ...

    @property
    def cancelled_caught(self) -> bool: ...

    def cancel(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...


class Backend(Protocol):
    """One running event loop of one kind."""

    @property
    def name(self) -> Literal["asyncio", "trio"]: ...

    def now(self) -> float:
        """Monotonic seconds of this loop's clock (virtual under simulation)."""
        ...

    def cell(self) -> Cell[Any]:
        """A new wait cell of this loop."""
        ...

    def scope(self, deadline: float = math.inf, *, shield: bool = False) -> Scope:
        """A new cancel scope; `deadline` is a moment of `now()`."""
        ...

    def current_task(self) -> object:
        """The running task: only to be compared."""
        ...

    def is_current(self) -> bool:
        """Whether the calling thread runs this very loop now."""
        ...

    def is_alive(self) -> bool:
        """Whether the loop is running, perhaps in another thread."""
        ...

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Call back soon in this loop, from any thread; LoopGoneError once it has ended."""
        ...

    def native_cancellations(self) -> int:
        """How often the running task was cancelled natively, as a loop does when it ends."""
        ...


class _AsyncioCell(Generic[T]):
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[T]) -> None:
        self._future = future

    async def wait(self) -> T:
        return await self._future

    def set(self, value: T) -> None:
        if not self._future.done():
            self._future.set_result(value)


class Signal:
    """Wakes all who wait for the next change; who waits looks again at what it waits for."""

    __slots__ = ("_backend", "_cells")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._cells: set[Cell[None]] = set()

    async def wait(self) -> None:
        """Until the next `wake`."""
        cell = self._backend.cell()
        self._cells.add(cell)
        try:
            await cell.wait()
        finally:
            self._cells.discard(cell)

    def wake(self) -> None:
        """Wake everyone who waits now. Plain call."""
        cells, self._cells = self._cells, set()
        for cell in cells:
            cell.set(None)


class AsyncioBackend:
    """The running asyncio loop."""

    __slots__ = ("_anyio", "_asyncio", "loop")

    name: Literal["asyncio"] = "asyncio"

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - a trio program does not pay for it

        import anyio  # noqa: PLC0415 - nor for this

        self._asyncio = asyncio
        self._anyio = anyio
        self.loop = asyncio.get_running_loop()

    def now(self) -> float:
        return self.loop.time()

    def cell(self) -> Cell[Any]:
        return _AsyncioCell(self.loop.create_future())

    def scope(self, deadline: float = math.inf, *, shield: bool = False) -> Scope:
        return self._anyio.CancelScope(deadline=deadline, shield=shield)

    def current_task(self) -> object:
        return self._asyncio.current_task()

    def is_current(self) -> bool:
        # Both run in one thread where trio is a guest of asyncio: see which of them the task is of.
        running = self._asyncio._get_running_loop()  # noqa: SLF001 - documented, never raises
        return running is self.loop and not _in_trio_task()

    def is_alive(self) -> bool:
        return self.loop.is_running()

    def post(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError as error:
            raise LoopGoneError(str(error)) from error

    def native_cancellations(self) -> int:
        task = self._asyncio.current_task()
        return 0 if task is None else task.cancelling()


_UNSET: Any = object()


class _TrioCell(Generic[T]):
    __slots__ = ("_low", "_task", "_value")

    def __init__(self, low: Any) -> None:
        self._low = low
        self._task: Any = None
        self._value: T = _UNSET

    async def wait(self) -> T:
        if self._value is _UNSET:
            self._task = self._low.current_task()
            await self._low.wait_task_rescheduled(self._abort)
        else:
            await self._low.checkpoint()
        return self._value

    def set(self, value: T) -> None:
        if self._value is not _UNSET:
            return
        self._value = value
        task, self._task = self._task, None
        if task is not None:
            self._low.reschedule(task)

    def _abort(self, _raise_cancel: object) -> Any:
        self._task = None
        return self._low.Abort.SUCCEEDED


class TrioBackend:
    """The running trio loop."""

    __slots__ = ("_low", "_token", "_trio")

    name: Literal["trio"] = "trio"

    def __init__(self) -> None:
        import trio  # noqa: PLC0415 - only a trio program has it

        self._trio = trio
        self._low = trio.lowlevel
        self._token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()

    def now(self) -> float:
        return self._trio.current_time()

    def cell(self) -> Cell[Any]:
        return _TrioCell(self._low)

    def scope(self, deadline: float = math.inf, *, shield: bool = False) -> Scope:
        return self._trio.CancelScope(deadline=deadline, shield=shield)

    def current_task(self) -> object:
        try:
            return self._low.current_task()
        except RuntimeError:
            return None

    def is_current(self) -> bool:
        return self._low.in_trio_task() and self._low.current_trio_token() is self._token

    def is_alive(self) -> bool:
        try:
            self._token.run_sync_soon(_nothing)
        except self._trio.RunFinishedError:
            return False
        return True

    def post(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._token.run_sync_soon(callback, *args)
        except self._trio.RunFinishedError as error:
            raise LoopGoneError(str(error)) from error

    def native_cancellations(self) -> int:
        return 0


def _nothing() -> None: ...


def _in_trio_task() -> bool:
    # Another thread may be loading it at this moment: then no task of it runs yet.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    in_trio_task = getattr(lowlevel, "in_trio_task", None)
    return in_trio_task is not None and bool(in_trio_task())


def current_backend() -> Backend:
    """The event loop that runs the caller.

    Raises RuntimeError where no asyncio or trio loop is running.
    """
    if _in_trio_task():
        return TrioBackend()
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running_loop is not None and running_loop() is not None:
        return AsyncioBackend()
    raise RuntimeError(
        "langswarm-session needs a running event loop: call this from async code on asyncio or trio"
    )
