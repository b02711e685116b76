"""Forgets idempotency keys once they are old, in small pieces, while keys are used."""

from __future__ import annotations

import logging
from contextvars import Context
from typing import TYPE_CHECKING

from .errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .executor import Executor
    from .storage_actor import StorageActor
    from .wait import Backend

logger = logging.getLogger("langswarm.core.session")

SWEEP_SECONDS = 3600.0
"""Between two sweeps. There is no date while no key is younger than it is kept."""
_AT_ONCE = 500


class ClaimSweep:
    """Times are those of the event loop, but for the age of a claim."""

    def __init__(
        self,
        backend: Backend,
        executor: Executor,
        storage: StorageActor,
        *,
        kept_seconds: float,
        wall_clock_us: Callable[[], int],
        wake_at: Callable[[float], None],
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._storage = storage
        self._kept_seconds = kept_seconds
        self._wall_clock_us = wall_clock_us
        self._wake_at = wake_at
        self._last_claim = -1.0
        # Invariant: when the next sweep is due; None: there is nothing that could grow old.
        self.due: float | None = None

    def claimed(self) -> None:
        """A key was used."""
        self._last_claim = self._backend.now()
        if self.due is None:
            self.due = self._last_claim + SWEEP_SECONDS
            self._wake_at(self.due)

    def check(self, now: float) -> None:
        """Sweep if it is time."""
        if self.due is None or self.due > now:
            return
        goes_on = self._last_claim + self._kept_seconds + SWEEP_SECONDS > now
        self.due = now + SWEEP_SECONDS if goes_on else None
        self._executor.start(Context(), self._sweep)

    async def _sweep(self) -> None:
        before_us = self._wall_clock_us() - round(self._kept_seconds * 1e6)
        try:
            while await self._storage.sweep_claims(before_us, _AT_ONCE) == _AT_ONCE:
                pass
        except SessionError as error:
            logger.warning("old idempotency keys were not deleted, the next sweep will: %s", error)
