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
    """`ok`; `degraded`: it works, but the storage's last operation failed or it warns; `failed`:
    nothing can be written: writes are stopped, or the storage cannot be opened, or the manager is
    closed."""
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


def health_of(host: Host) -> Health:
    """Plain, cheap, never raises; starts nothing."""
    runtime = host.started
    if runtime is None:
        return Health(status="ok", storage=StorageHealth(is_open=False))
    actor = runtime.storage
    storage, counts = actor.health(), actor.statistics()
    supervisor = runtime.supervisor.statistics()
    return Health(
        status=_status(runtime, storage),
        storage=storage,
        last_error=actor.last_error,
        writes_stopped=storage.writes_stopped,
        waiting_writes=counts.waiting_writes,
        waiting_loads=counts.waiting_loads,
        waiting_sessions=supervisor.waiting,
        running_turns=supervisor.running_turns,
    )


def _status(runtime: Runtime, storage: StorageHealth) -> HealthStatus:
    actor = runtime.storage
    if storage.writes_stopped or actor.is_shut or runtime.finished:
        return "failed"
    if storage.warning is not None or actor.is_failing:
        return "degraded"
    return "ok"
