"""How a manager is: one answer for a readiness probe, from what is known already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from ..actors.ports import StorageHealth

if TYPE_CHECKING:
    from .host import Host, Runtime

HealthStatus = Literal["ok", "degraded", "failed"]


@attrs.frozen(kw_only=True)
class Health:
    """How the manager is; `await manager.health()` makes it."""

    status: HealthStatus
    """`ok`; `degraded`: it works, but the storage's last operation or the last clean-up failed, or
    the storage warns; `failed`: nothing can be written: writes are stopped, or the storage cannot
    be opened, or the manager is closed."""
    storage: StorageHealth
    """What the storage says of itself."""
    last_error: Exception | None = None
    """The last error of the storage that was not the fault of one write; it may be over."""
    writes_stopped: bool = False
    """Nothing will be written until a restart."""
    waiting_writes: int = 0
    """Writes that wait for the storage: at most one per live session."""
    waiting_loads: int = 0
    """Sessions that wait to be loaded."""
    waiting_sessions: int = 0
    """Sessions that wait for a live place."""
    running_turns: int = 0
    cleanup_error: Exception | None = None
    """Why the last clean-up by `cleanup_config` did not come to its end; it is tried again."""


def health_of(host: Host) -> Health:
    """Plain, cheap, never raises; starts nothing."""
    runtime = host.started
    if runtime is None:
        return Health(status="ok", storage=StorageHealth(is_open=False))
    actor = runtime.storage
    storage, counts = actor.health(), actor.statistics()
    supervisor = runtime.supervisor.statistics()
    cleanup_error = None if runtime.cleanup is None else runtime.cleanup.last_error
    return Health(
        status=_status(runtime, storage),
        storage=storage,
        last_error=actor.last_error,
        writes_stopped=storage.writes_stopped,
        waiting_writes=counts.waiting_writes,
        waiting_loads=counts.waiting_loads,
        waiting_sessions=supervisor.waiting,
        running_turns=supervisor.running_turns,
        cleanup_error=cleanup_error,
    )


def _status(runtime: Runtime, storage: StorageHealth) -> HealthStatus:
    actor = runtime.storage
    if storage.writes_stopped or actor.is_shut or runtime.finished:
        return "failed"
    cleanup = runtime.cleanup
    fails = actor.is_failing or (cleanup is not None and cleanup.last_error is not None)
    if storage.warning is not None or fails:
        return "degraded"
    return "ok"
