"""The host: ties the actors to an event loop, and ends them with it.

A manager is made in plain code, often before any loop runs, and used on whichever loop calls it
first. The host starts the runtime there, in the first call that needs it, by a plain call, so
that even `submit` takes its ticket at once. One owner task is parked per loop that is used; it
ticks the supervisor when something is due and winds everything down at the end.

Three ways in, one owner: lazily, by `async with manager` (which closes it at the end), and in a
task group of the caller's. The first two run the owner as a root task of the loop with an empty
context: then it does not inherit the first caller's variables, is not cancelled with the first
caller, and `async with` may be entered and left in different tasks.

The ways out: `aclose()` from any task; the end of the loop, which cancels the owner; and being
forgotten, which a finalizer on the `Anchor` notices. The manager and all its session handles hold
the anchor; the host holds none of them, so that forgetting is possible.

A loop that died without cancelling its tasks leaves a runtime behind that nobody can wind down.
The next loop drops it and starts anew: what was acknowledged is in the storage, what was open
there is closed as interrupted.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
import weakref
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

import attrs

from ..actors.errors import ConfigurationError, RuntimeClosedError
from ..actors.executor import Executor, ExecutorStatistics, start_detached
from ..actors.storage_actor import StorageActor, StorageStatistics
from ..actors.supervisor import SessionHeader, Supervisor, SupervisorStatistics
from ..actors.wait import LoopGoneError, Signal, current_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskGroup

    from ..actors.decisions import CreateSession
    from ..actors.limits import Limits
    from ..actors.model import SessionRecord, StoredSession
    from ..actors.ports import GuestStatistics, IGuests, IProvider, ISessionStorage
    from ..actors.wait import Backend
    from .cleanup import CleanupRules, CleanupSchedule

logger = logging.getLogger("langswarm.core.session")

# A storage finishes what was handed over; one that hangs longer does not come back.
_STORAGE_CLOSE_SECONDS = 30.0

_CLOSED = "the session manager is closed; make a new one"

# Which host uses a storage object, by the object's id: alive as long as the host, which holds it.
_holders: weakref.WeakValueDictionary[int, Host] = weakref.WeakValueDictionary()

_forks = 0


def _forked() -> None:
    global _forks  # noqa: PLW0603 - a process has one count of its forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@attrs.frozen(kw_only=True)
class RuntimeStatistics:
    """A snapshot of the runtime on the event loop that it is used on."""

    supervisor: SupervisorStatistics
    storage: StorageStatistics
    executor: ExecutorStatistics
    guests: GuestStatistics | None
    """None: this manager never had a guest."""


class Anchor:
    """Held by the manager and by its session handles: when all are gone, the runtime may end."""

    __slots__ = ("__weakref__", "_finalizer", "host")

    def __init__(self, host: Host) -> None:
        self.host = host
        self._finalizer = weakref.finalize(self, host.forgotten)
        self._finalizer.atexit = False

    def release(self) -> None:
        """Closed: nobody needs to notice any more.

        The finalizer holds the host and so all guests; one that knows its manager would keep it.
        """
        self._finalizer.detach()


class Runtime:
    """The actors on one event loop, with their owner."""

    def __init__(self, host: Host, backend: Backend) -> None:
        self.backend = backend
        self.executor = Executor(backend)
        self.storage = StorageActor(
            host.storage,
            backend,
            self.executor,
            wall_clock_us=host.wall_clock_us,
            batch_size=host.limits.storage_batch_size,
        )
        self.supervisor = Supervisor(
            backend=backend,
            executor=self.executor,
            storage=self.storage,
            providers=host.providers,
            guests=host.guests,
            limits=host.limits,
            headers=host.headers,
            wall_clock_us=host.wall_clock_us,
            wake_at=self._wake_at,
        )
        # Invariant: True once the owner has ended; then nothing of this runtime runs any more.
        self.finished = False
        self._ended = Signal(backend)
        self.owner: object = None
        self._host = host
        # Invariant: when the parked owner will wake by itself; -inf while it is not parked.
        self._armed = -math.inf
        self._wake = Signal(backend)
        self._closing = False
        self._drain_seconds = 0.0
        # None: nothing is cleaned up by itself.
        self.cleanup: CleanupSchedule | None = None
        self.supervisor.on_auto_archive = self.schedule_cleanup
        if host.cleanup is not None:
            self.schedule_cleanup()

    def schedule_cleanup(self) -> None:
        """Clean up from now on, by the rules of the manager. Plain, idempotent."""
        if self.cleanup is not None or self._closing:
            return
        from .cleanup import CleanupRules, CleanupSchedule  # noqa: PLC0415 - not for every program

        host = self._host
        rules = CleanupRules() if host.cleanup is None else host.cleanup
        self.cleanup = CleanupSchedule(
            self, rules, wall_clock_us=host.wall_clock_us, wake_at=self._wake_at
        )
        self.supervisor.chores.append(self.cleanup)
        self._wake_at(self.cleanup.due)

    def request_close(self, drain_seconds: float) -> None:
        """Let the owner wind down. Plain; the first request decides."""
        if not self._closing:
            self._closing = True
            self._drain_seconds = drain_seconds
            self._wake.wake()

    async def own(self) -> None:
        """The owner task. No exception but a cancellation leaves it."""
        try:
            await self.executor.own(self._park, self._wind_down)
        except Exception:
            logger.exception("the runtime did not end cleanly; please report this")
        finally:
            self.finished = True
            self._ended.wake()

    def unbegun(self) -> None:
        """The owner was cancelled before its first step: the next use begins anew."""
        self.finished = True
        self._host.forget(self)
        self.storage.abandon()
        self.supervisor.abandon()
        self._ended.wake()

    async def until_finished(self) -> None:
        """Wait for the owner to end."""
        while not self.finished:
            await self._ended.wait()

    def _wake_at(self, moment: float) -> None:
        if moment < self._armed:
            self._armed = moment
            self._wake.wake()
        elif self._closing:
            self.supervisor.look_again()

    async def _park(self) -> None:
        promised = math.inf
        while not self._closing:
            due = self.supervisor.tick()
            due = math.inf if due is None else due
            # A session that comes and goes moves the first date back and forth: the earlier one
            # is kept, or each of its turns would wake the owner.
            self._armed = min(due, promised) if promised > self.backend.now() else due
            with self.backend.scope(self._armed):
                await self._wake.wait()
            promised, self._armed = self._armed, -math.inf

    async def _wind_down(self) -> None:
        supervisor, host = self.supervisor, self._host
        if not self._closing and supervisor.busy:
            _warn_busy(supervisor.busy, "its event loop ended")
        self._closing = True
        until = self.backend.now() + self._drain_seconds
        grace = host.limits.cancel_grace_seconds
        if self.cleanup is not None:
            await self.cleanup.end(grace)
        await supervisor.drain(self._drain_seconds)
        await host.guests.drain(max(grace, until - self.backend.now()))
        await supervisor.purger.end(grace)
        for provider in set(host.providers.values()):
            await self._close(provider.aclose, grace)
        await self._close(self.storage.aclose, _STORAGE_CLOSE_SECONDS)
        await self.executor.join(grace)

    async def _close(self, aclose: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Close something of a guest's or the storage's, whatever it does."""
        cancellations = self.backend.native_cancellations()
        try:
            with self.backend.scope(self.backend.now() + seconds) as scope:
                await aclose()
        except KeyboardInterrupt:
            raise
        except BaseException:
            if self.backend.native_cancellations() > cancellations:
                raise  # not an error, because the owner begins the end anew (see the executor)
            logger.exception("closing failed")
        else:
            if scope.cancelled_caught:
                logger.error("closing did not end within %g s: %r", seconds, aclose)


def _warn_busy(busy: int, why: str) -> None:
    text = (
        f"a session manager with {busy} busy sessions was not closed before {why}; their turns "
        "are interrupted. Use `async with manager` or `await manager.aclose()`"
    )
    try:
        warnings.warn(text, ResourceWarning, stacklevel=2)
    except ResourceWarning as error:
        # not an error here, because an exception in the owner would end a whole trio run
        logger.error("%s", error)  # noqa: TRY400 - the traceback says nothing


class Host:
    """Keeps what outlives event loops, and the runtime of the current one."""

    def __init__(
        self,
        *,
        storage: ISessionStorage,
        providers: Mapping[str, IProvider],
        guests: IGuests,
        limits: Limits,
        wall_clock_us: Callable[[], int],
        task_group: TaskGroup | None,
        cleanup: CleanupRules | None = None,
    ) -> None:
        self.storage = storage
        self.cleanup = cleanup
        self.providers = providers
        self.guests = guests
        self.limits = limits
        self.wall_clock_us = wall_clock_us
        self.headers: weakref.WeakValueDictionary[str, SessionHeader] = (
            weakref.WeakValueDictionary()
        )
        self._task_group = task_group
        self._runtime: Runtime | None = None
        self._closed = False
        self._forks = _forks

    def runtime(self) -> Runtime:
        """The runtime on the caller's event loop, started if need be. Plain.

        Raises RuntimeError outside of an event loop, while another loop still uses the manager,
        and RuntimeClosedError after `aclose()` or a fork.
        """
        runtime = self._runtime
        if runtime is not None and self._forks == _forks and runtime.backend.is_current():
            if self._closed or runtime.finished:
                raise RuntimeClosedError(_CLOSED)
            return runtime
        return self._start()

    def create(self, session_id: str, command: CreateSession) -> Awaitable[SessionRecord]:
        """Create a session; its place is taken at once, unless users have a limited number."""
        runtime = self.runtime()
        if not self.limits.max_sessions_per_user:
            return runtime.supervisor.submit(session_id, command, _record_of)
        from .quotas import created_within_quota  # noqa: PLC0415 - not for every program

        return created_within_quota(runtime, self.limits, session_id, command)

    def forget(self, runtime: Runtime) -> None:
        """It never began."""
        if self._runtime is runtime:
            self._runtime = None

    def header(self, session_id: str) -> SessionHeader:
        """The one header of the session's handles.

        It is registered before the session is looked up: a commit that falls in between then
        updates it, and an older answer of the storage does not set it back.
        """
        header = self.headers.get(session_id)
        if header is None:
            header = self.headers[session_id] = SessionHeader()
        return header

    async def created(self, session_id: str, creation: Awaitable[SessionRecord]) -> SessionHeader:
        """The header of a session that is being created, once it is."""
        header = self.header(session_id)
        record = await creation
        if header.record is not None and header.is_erased and header.record.key < record.key:
            header = self.header(session_id)  # the other one's, which had the id before
        header.update(record)
        return header

    def set_guests(self, guests: IGuests) -> None:
        """Take the first guest in."""
        self.guests = guests
        if self._runtime is not None:
            self._runtime.supervisor.guests = guests

    @property
    def started(self) -> Runtime | None:
        """The runtime that was started last, if any."""
        return self._runtime

    def _start(self) -> Runtime:
        if self._forks != _forks:
            raise RuntimeClosedError(
                "this session manager was made before a fork; make a new one in each process"
            )
        backend = current_backend()
        if self._closed:
            raise RuntimeClosedError(_CLOSED)
        if self.is_running():
            raise RuntimeError(
                "this session manager is in use on another event loop that is still running; "
                "make one manager per event loop"
            )
        self._claim_storage()
        self._runtime = runtime = Runtime(self, backend)
        if self._task_group is not None:
            runtime.owner = Context().run(self._task_group.start_soon, runtime.own)
        else:
            runtime.owner = start_detached(backend, runtime.own, runtime.unbegun)
        return runtime

    def _claim_storage(self) -> None:
        holder = _holders.get(id(self.storage))
        if holder is not None and holder is not self and holder.is_running():
            raise ConfigurationError(
                "this storage object is in use by another session manager, and the two would "
                "undo each other's work; make one storage object per manager"
            )
        _holders[id(self.storage)] = self

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called: for good."""
        return self._closed

    def is_running(self) -> bool:
        """Whether a runtime of this host has not ended yet."""
        runtime = self._runtime
        return runtime is not None and not runtime.finished and runtime.backend.is_alive()

    async def aclose(self, drain_seconds: float | None) -> None:
        """Wind down and wait for it; idempotent, from any task but one of the runtime's own."""
        runtime = self._runtime
        self._closed = True
        if runtime is None or runtime.finished or self._forks != _forks:
            return
        if not runtime.backend.is_current():
            self._close_elsewhere(runtime)
            return
        if runtime.executor.owns(runtime.backend.current_task()):
            self._closed = False
            raise RuntimeError(
                "aclose() waits for all turns and hooks, so it cannot be called from inside one; "
                "start a task of your own for it"
            )
        seconds = self.limits.drain_seconds if drain_seconds is None else drain_seconds
        runtime.request_close(seconds)
        await runtime.until_finished()

    def _close_elsewhere(self, runtime: Runtime) -> None:
        # not an error, because a loop that is gone runs no turns
        with suppress(LoopGoneError):
            runtime.backend.post(runtime.request_close, self.limits.drain_seconds)

    def forgotten(self) -> None:
        """The last handle is gone; called by the garbage collector, in any thread."""
        runtime = self._runtime
        if self._closed or runtime is None or self._forks != _forks:
            return
        # not an error, because a loop that is gone runs no turns
        with suppress(LoopGoneError):
            runtime.backend.post(self._close_forgotten, runtime)

    def _close_forgotten(self, runtime: Runtime) -> None:
        if runtime.finished:
            return
        if runtime.supervisor.busy:
            _warn_busy(runtime.supervisor.busy, "its last reference was dropped")
        runtime.request_close(self.limits.drain_seconds)

    def statistics(self) -> RuntimeStatistics | None:
        """A snapshot, None before the first use."""
        runtime = self._runtime
        if runtime is None:
            return None
        return RuntimeStatistics(
            supervisor=runtime.supervisor.statistics(),
            storage=runtime.storage.statistics(),
            executor=runtime.executor.statistics(),
            guests=self.guests.statistics(),
        )


def _record_of(state: StoredSession) -> SessionRecord:
    return state.record
