"""A process of the simulated world: the runtime with its own way to the disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.runtime.manager import Manager
from langswarm.core.session.runtime.views import RisingClock

from .disk import FaultyStorage
from .guests import Listener, Recorder, ScriptedProvider
from .program import HOOK, MIDDLEWARE, SHOWING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    import anyio
    from langswarm.core.session.actors.supervisor import Supervisor
    from langswarm.core.session.runtime.session import Session

    from .disk import Disk
    from .guests import Witness
    from .program import Settings


class PlannedCrashError(Exception):
    """What a step `crash` kills an actor with."""


def limits_of(settings: Settings) -> Limits:
    """The runtime's bounds; the times are such that steps of programs straddle them."""
    return Limits(
        max_live_sessions=settings.live,
        idle_seconds=settings.idle,
        mailbox_size=settings.box,
        queue_timeout_seconds=4.0,
        turn_timeout_seconds=5.0,
        middleware_timeout_seconds=2.0,
        cancel_grace_seconds=1.0,
        drain_seconds=2.0,
        max_restarts=settings.restarts,
        restart_window_seconds=60.0,
        quarantine_seconds=5.0,
        window_cache_bytes=settings.window,
        storage_batch_size=settings.batch,
        checkpoint_seconds=settings.check,
    )


class Process:
    """A manager with its own way to the disk."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        disk: Disk,
        witness: Witness,
        wall_clock_us: Callable[[], int],
    ) -> None:
        self.number = number
        self.storage = FaultyStorage(disk)
        self.witness = witness
        recorder = Recorder(witness, shows=bool(settings.guests & SHOWING))
        self.manager = Manager(
            storage=self.storage,
            providers={"scripted": ScriptedProvider(witness)},
            limits=limits_of(settings),
            middleware=[recorder] if settings.guests & MIDDLEWARE else (),
            hooks=[Listener(witness)] if settings.guests & HOOK else (),
        )
        self.manager._anchor.host.wall_clock_us = RisingClock(wall_clock_us)
        self.sessions: list[Session] = []
        self.scopes: dict[anyio.CancelScope, None] = {}

    @property
    def supervisor(self) -> Supervisor:
        """Its supervisor; the process has started."""
        return self.manager._anchor.host.runtime().supervisor

    def complaints(self) -> list[str]:
        """What it should not look like when its work is done."""
        statistics = self.manager.statistics()
        found = list(self.witness.violations)
        if statistics is not None and statistics.executor.crashed:
            found.append(f"{statistics.executor.crashed} tasks of the runtime crashed")
        return found


class LogWatch(logging.Handler):
    """Collects what the runtime logs about itself that must not happen, and keeps it quiet."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        planned = error is None or isinstance(error, PlannedCrashError)
        text = record.getMessage()
        if not planned or "report" in text:
            self.complaints.append(f"the runtime logged {text!r} ({error!r})")

    def __enter__(self) -> Self:
        self._logger = logging.getLogger("langswarm.core.session")
        self._before = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._before
