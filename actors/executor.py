"""Tasks for turns, for the storage's writer and reader, and for hooks; none for idle sessions.

A turn runs in a task of its own, in the context of the call that sent it, so that request ids and
traces survive the mailbox and nothing that guests key by task leaks into another user's turn.
Everything that needs no guest needs no task either: a command is decided in the call that makes
it the next one, and continues in the storage actor's call-back.

Tasks are native because anyio's `start_soon` costs four times as much and takes no context. What
that would lose is put back here: no exception leaves a task unseen, and closing waits for all.

On trio the tasks live in a nursery whose scope is shielded: when the host is cancelled, or its
main task ends, the owner winds the runtime down and the turns end by being interrupted, each with
its closing commit. On asyncio there is no shield against `Task.cancel()`: turns and writer take
the cancellation as a sign of the loop's end and finish what they hold.

Known gap: a guest that ignores cancellation cannot be abandoned when a trio run ends, because
trio waits for every task; on asyncio it is left behind.
"""

from __future__ import annotations

import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from .wait import AsyncioBackend, Backend

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine

    import trio

    Job = Callable[..., Coroutine[Any, Any, None]]

logger = logging.getLogger("langswarm.core.session")

_CANCELLATIONS = 20
"""How often winding down begins again after a `Task.cancel()`; its steps may be repeated."""


@attrs.frozen(kw_only=True)
class ExecutorStatistics:
    """A snapshot. Counts are since the runtime started on this event loop."""

    running: int
    started: int
    crashed: int
    """Tasks that ended with an exception that nobody below had handled: each is a bug."""


class _Tasks(Protocol):
    def start(self, context: Context, job: Job, args: tuple[object, ...]) -> None: ...

    async def own(
        self, park: Callable[[], Awaitable[None]], wind_down: Callable[[], Awaitable[None]]
    ) -> None: ...

    async def join(self, seconds: float) -> None: ...

    def owns(self, task: object) -> bool: ...


class Executor:
    """Starts tasks on one event loop and contains them."""

    def __init__(self, backend: Backend) -> None:
        self._running = 0
        self._started = 0
        self._crashed = 0
        self._tasks: _Tasks
        if isinstance(backend, AsyncioBackend):
            self._tasks = _AsyncioTasks(backend, self._contain)
        else:
            self._tasks = _TrioTasks(self._contain)

    def start(self, context: Context, job: Job, *args: object) -> None:
        """Run `job(*args)` soon in a task of its own, in `context`. Plain and never fails."""
        self._running += 1
        self._started += 1
        self._tasks.start(context, job, args)

    async def own(
        self, park: Callable[[], Awaitable[None]], wind_down: Callable[[], Awaitable[None]]
    ) -> None:
        """Be the owner task: park until it ends or is cancelled, then wind down, shielded."""
        await self._tasks.own(park, wind_down)

    async def join(self, seconds: float) -> None:
        """Wait until every task has ended; where the loop allows, at most `seconds`."""
        await self._tasks.join(seconds)

    def owns(self, task: object) -> bool:
        """Whether the task is one of those started here: a turn, a hook, the writer."""
        return self._tasks.owns(task)

    def statistics(self) -> ExecutorStatistics:
        """A snapshot of the tasks."""
        return ExecutorStatistics(
            running=self._running, started=self._started, crashed=self._crashed
        )

    async def _contain(self, job: Job, args: tuple[object, ...]) -> None:
        try:
            await job(*args)
        except Exception:
            self._crashed += 1
            logger.exception("a task of the runtime crashed; please report this")
        finally:
            self._running -= 1


class _AsyncioTasks:
    def __init__(self, backend: AsyncioBackend, contain: Job) -> None:
        import asyncio  # noqa: PLC0415 - loaded already: its loop is running

        self._asyncio = asyncio
        self._backend = backend
        self._loop = backend.loop
        self._contain = contain
        # Invariant: every task that is not done is in here; the loop itself holds tasks weakly.
        self._held: set[asyncio.Task[None]] = set()
        # Invariant: True while the owner runs, which waits for all tasks at its end.
        self._owned = False

    def start(self, context: Context, job: Job, args: tuple[object, ...]) -> None:
        entered = False

        async def enter() -> None:
            nonlocal entered
            entered = True
            try:
                await self._contain(job, args)
            except self._asyncio.CancelledError:
                pass  # not an error, because only the end of the loop cancels these tasks
            except KeyboardInterrupt:
                raise
            except BaseException:
                logger.exception("a guest tried to end the program")

        def ended(task: asyncio.Task[None]) -> None:
            self._held.discard(task)
            if not entered and self._owned:
                # Cancelled before its first step, which runs none of it, not even a `finally`:
                # the work it stands for (a commit, a turn to settle) must be done all the same.
                self.start(context, job, args)

        task = self._loop.create_task(enter(), context=context)
        self._held.add(task)
        task.add_done_callback(ended)

    async def own(
        self, park: Callable[[], Awaitable[None]], wind_down: Callable[[], Awaitable[None]]
    ) -> None:
        self._owned = True
        try:
            await park()
        finally:
            with self._backend.scope(shield=True):
                await self._insist(wind_down)
            self._owned = False

    async def _insist(self, wind_down: Callable[[], Awaitable[None]]) -> None:
        """A loop that ends may cancel its tasks more than once; nobody else would close."""
        for _ in range(_CANCELLATIONS):
            try:
                await wind_down()
            except self._asyncio.CancelledError:
                continue
            return
        logger.error("the runtime was cancelled too often to end cleanly")

    async def join(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        while True:
            me = self._asyncio.current_task()
            left = [task for task in self._held if not task.done() and task is not me]
            seconds = until - self._loop.time()
            if not left or seconds <= 0:
                break
            await self._asyncio.wait(left, timeout=seconds)
        for task in left:
            logger.error("a guest ignored its cancellation and is left behind: %r", task)

    def owns(self, task: object) -> bool:
        return task in self._held


class _TrioTasks:
    def __init__(self, contain: Job) -> None:
        import trio  # noqa: PLC0415 - loaded already: it is running

        @trio.lowlevel.enable_ki_protection
        async def protected(job: Job, args: tuple[object, ...]) -> None:
            try:
                await contain(job, args)
            except trio.Cancelled:
                raise
            except BaseException:
                logger.exception("a guest tried to end the program")

        self._trio = trio
        # Ctrl-C belongs to the program's main task, not to whichever turn happens to run.
        self._contain = protected
        self._nursery: trio.Nursery | None = None
        self._early: list[tuple[Context, Job, tuple[object, ...]]] = []
        self._done = trio.Event()

    def start(self, context: Context, job: Job, args: tuple[object, ...]) -> None:
        if self._nursery is None:
            self._early.append((context, job, args))
        else:
            context.run(self._nursery.start_soon, self._contain, job, args)

    async def own(
        self, park: Callable[[], Awaitable[None]], wind_down: Callable[[], Awaitable[None]]
    ) -> None:
        async with self._trio.open_nursery() as outer:
            outer.start_soon(self._hold)
            try:
                await park()
            finally:
                with self._trio.CancelScope(shield=True):
                    await wind_down()
                self._done.set()

    async def _hold(self) -> None:
        with self._trio.CancelScope(shield=True):
            async with self._trio.open_nursery() as nursery:
                self._nursery = nursery
                early, self._early = self._early, []
                for context, job, args in early:
                    self.start(context, job, args)
                await self._done.wait()

    async def join(self, seconds: float) -> None:
        del seconds  # the nursery waits, and cannot be told not to

    def owns(self, task: object) -> bool:
        nursery = self._nursery
        return nursery is not None and task in nursery.child_tasks


def start_detached(backend: Backend, main: Job, unbegun: Callable[[], None]) -> object:
    """Run `main()` in a root task with an empty context; keep what this returns.

    `main` must contain its exceptions: on trio one that escapes ends the whole run. On asyncio a
    task that is cancelled before its first step runs none of it, not even a `finally`: then
    `unbegun` is called instead.
    """
    if isinstance(backend, AsyncioBackend):
        begun = False

        async def begin() -> None:
            nonlocal begun
            begun = True
            await main()

        def ended(task: object) -> None:
            del task
            if not begun:
                unbegun()

        owner = backend.loop.create_task(begin(), context=Context())
        owner.add_done_callback(ended)
        return owner
    import trio  # noqa: PLC0415 - loaded already: it is running

    return trio.lowlevel.spawn_system_task(main, context=Context())
