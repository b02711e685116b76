"""Hosts asyncio-only drivers for asyncio and trio programs alike.

The problem. The drivers worth using (aiosqlite, asyncpg) run on asyncio only, and they break when
a caller is cancelled in the middle of an operation: a transaction stays open, or commits although
its caller was told otherwise. The host's event loop may be trio's, may stall, may end, and may be
followed by another one.

The answer. A thread of our own with an asyncio loop of our own, for asyncio hosts too: one code
path, out of reach of the host's cancellations and of its death.

    host loop                      worker loop (this thread)            driver's thread
    call() -> inbox  --one wake-->  drain: a task per call  ----------> BEGIN ... COMMIT
    cell.wait() <--one wake-- outbox of that host <- result <----------

*   Calls cross in a deque, results too. Only the first entry of an empty deque wakes the other
    side, so a burst of calls, or of results, costs one wake-up each way. (A cross-thread call per
    message is ten times slower.) The flag that says "already woken" is lowered *before* a deque is
    drained: an entry that arrives meanwhile is either seen by the drain or wakes once more for
    nothing, never forgotten. Nothing here needs a lock: deque operations are atomic.
*   The hand-over to the inbox is the point of no return. It happens before call() first awaits, so
    a caller that is cancelled has either not called or its operation runs to its end; the result
    then finds an abandoned cell and is dropped. Likewise a result for an event loop that has ended.
*   Each call remembers its own event loop. There is no binding to undo when a program goes on in
    another loop or on another backend.
*   `Bridge` is the crossing alone. What wakes either side and what starts a coroutine is given
    to it, so that a test can run both sides on one simulated scheduler. `LoopThread` adds the
    thread.

The end. The thread is a daemon, because a forgotten storage must not hang the interpreter's exit
(a driver's threads inherit that from the thread that starts them). Daemons die wherever they are,
so an atexit callback, which runs while they still live, asks every thread to finish and waits a
bounded time: connections close, SQLite folds its -wal away. Rejected: `threading._register_atexit`
(private), a non-daemon thread (hangs), `__del__` (runs at any time, in any thread).

A fork takes memory along but no threads. In the child every call is refused by a count of forks;
the objects are kept alive there, since closing an inherited SQLite connection would act on the
parent's files.

Gap: a driver that blocks for ever in a system call cannot be ended. stop() gives up after its cap
and says so; the thread is left to the process's end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

import anyio

from ...actors.errors import StorageError
from ...actors.wait import LoopGoneError, current_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ...actors.wait import Backend, Cell

    Wake = Callable[[Callable[[], None]], object]
    WakeHost = Callable[[Backend, Callable[[], None]], object]
    Start = Callable[[Coroutine[Any, Any, None]], object]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STOP_SECONDS = 30.0
"""How long stop() waits for the driver; a checkpoint of a large -wal may take a while."""
EXIT_SECONDS = 5.0
"""How long the interpreter's exit waits for all forgotten threads together."""


def post_to(backend: Backend, callback: Callable[[], None]) -> None:
    """Wake a host through its own event loop."""
    backend.post(callback)


class _Host:
    """Results on their way to one event loop."""

    __slots__ = ("_finished", "_wake", "_woken", "backend")

    def __init__(self, backend: Backend, wake: WakeHost) -> None:
        self.backend = backend
        self._wake = wake
        self._finished: deque[_Call] = deque()
        self._woken = False

    def give(self, call: _Call) -> None:
        """From the worker's side."""
        self._finished.append(call)
        if not self._woken:
            self._woken = True
            try:
                self._wake(self.backend, self._deliver)
            except LoopGoneError:
                self._finished.clear()  # not an error, because nobody is left to be told

    def _deliver(self) -> None:
        self._woken = False
        while self._finished:
            self._finished.popleft().cell.set(None)


class _Call:
    """One operation on its way there and back."""

    __slots__ = ("cell", "error", "host", "result", "run")

    def __init__(
        self, run: Callable[[], Coroutine[Any, Any, Any]], host: _Host, cell: Cell[None]
    ) -> None:
        self.run = run
        self.host = host
        self.cell = cell
        self.result: Any = None
        self.error: Exception | None = None


class Bridge:
    """Carries calls from host event loops to a worker event loop and their results back."""

    def __init__(self, *, start: Start, wake_worker: Wake, wake_host: WakeHost = post_to) -> None:
        self._start = start
        self._wake_worker = wake_worker
        self._wake_host = wake_host
        self._inbox: deque[_Call] = deque()
        self._woken = False
        self._host: _Host | None = None

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Run `function(*args)` on the worker's side and return what it returns.

        It is handed over before this first awaits; from then on cancelling changes nothing.
        """
        host = self._host
        if host is None or not host.backend.is_current():
            host = self._host = _Host(current_backend(), self._wake_host)
        call = _Call(lambda: function(*args), host, host.backend.cell())
        self._inbox.append(call)
        if not self._woken:
            self._woken = True
            self._wake_worker(self.drain)
        await call.cell.wait()
        if call.error is not None:
            try:
                raise call.error
            finally:
                call.error = None  # the traceback holds this frame: no cycle
        return cast("T", call.result)

    def drain(self) -> None:
        """Start all that has arrived; on the worker's side."""
        self._woken = False
        while self._inbox:
            self._start(self._run(self._inbox.popleft()))

    def refuse(self, error: StorageError) -> None:
        """Settle what arrived too late; on the worker's side."""
        while self._inbox:
            call = self._inbox.popleft()
            call.error = error
            call.host.give(call)

    @staticmethod
    async def _run(call: _Call) -> None:
        try:
            call.result = await call.run()
        except Exception as error:  # noqa: BLE001 - it is the caller's, whatever it is
            call.error = error
        call.host.give(call)


class LoopThread:
    """A daemon thread with an asyncio loop, reached through a `Bridge`.

    `teardown` runs last in the loop, after every call has ended; `interrupt` runs there as soon
    as the end is asked for, to cut long waits short.
    """

    def __init__(
        self,
        name: str,
        *,
        teardown: Callable[[], Coroutine[Any, Any, None]],
        interrupt: Callable[[], None],
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._bridge = Bridge(start=self._start, wake_worker=self._wake)
        self._teardown = teardown
        self._interrupt = interrupt
        self._tasks: set[asyncio.Task[None]] = set()
        self._forks = _forks
        self._stopping = False
        self._ended = False
        self._waiting: deque[tuple[Backend, Cell[None]]] = deque()
        self._teardown_error: Exception | None = None
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        _running.add(self)
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether its end was asked for."""
        return self._stopping

    @property
    def ended(self) -> bool:
        """Whether the thread has nothing left to do."""
        return self._ended

    @property
    def is_inherited(self) -> bool:
        """Whether this is the shell of a thread that runs in the parent process."""
        return self._forks != _forks

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """As `Bridge.call`."""
        self._check_fork()
        if self._stopping:
            raise _closed()
        return await self._bridge.call(function, *args)

    def request_stop(self) -> None:
        """Finish what was handed over, tear down and end; from any thread, without waiting."""
        if not self._stopping and not self.is_inherited:
            self._stopping = True
            self._wake(self._begin_end)

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """As `request_stop`, and wait for the end, at most `seconds`."""
        self._check_fork()
        self.request_stop()
        backend = current_backend()
        cell: Cell[None] = backend.cell()
        self._waiting.append((backend, cell))
        with anyio.move_on_after(seconds):
            # Either this sees the flag, or the thread, which raises it first, sees the cell.
            if not self._ended:
                await cell.wait()
        if not self._ended:
            raise StorageError(
                f"the storage did not finish within {seconds:g} s; what was handed over may "
                "still be written",
                code="unknown",
                outcome="unknown",
            )
        self._thread.join()  # it has nothing left to do
        if self._teardown_error is not None:
            raise self._teardown_error

    def join(self, seconds: float) -> None:
        """Wait without an event loop."""
        self._thread.join(seconds)

    def _check_fork(self) -> None:
        if self.is_inherited:
            raise StorageError(
                "this process was forked while the storage was open: connections do not survive "
                "a fork; open the storage after the fork, in one process only",
                code="closed",
            )

    def _wake(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError as error:
            raise _closed() from error

    # ------------------------------------------------------------ in the thread

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
            self._ended = True
            self._bridge.refuse(_closed())
            _running.discard(self)
            while self._waiting:
                backend, cell = self._waiting.popleft()
                with contextlib.suppress(LoopGoneError):  # nobody is left to be told
                    backend.post(cell.set, None)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin_end(self) -> None:
        self._bridge.drain()
        self._interrupt()
        self._start(self._end())

    async def _end(self) -> None:
        while calls := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(calls)
        try:
            await self._teardown()
        except Exception as error:  # noqa: BLE001 - raised where the end is awaited
            self._teardown_error = error
        finally:
            self._loop.stop()


def _closed() -> StorageError:
    return StorageError("the storage is not open: call open() first", code="closed")


# ---------------------------------------------------------------- exit and fork

_forks = 0
_running: set[LoopThread] = set()


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - the process forks, not an object
    _forks += 1


def _finish_forgotten() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    threads = [thread for thread in tuple(_running) if not thread.is_inherited]
    for thread in threads:
        thread.request_stop()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


atexit.register(_finish_forgotten)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
