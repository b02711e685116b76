"""Test tools for programs built on the session runtime.

:func:`simulate` runs an anyio program under one seed that decides its schedule, on asyncio or trio.
"""

from __future__ import annotations

from langswarm.core.session.testing.choosers import Chooser, Deviations, Fifo, Seeded
from langswarm.core.session.testing.failures import (
    DeadlockError,
    OutsideSimulationError,
    SimulationError,
    SimulationInUseError,
    SimulationUnsupportedError,
    StepLimitError,
)
from langswarm.core.session.testing.shrinking import shrink_deviations
from langswarm.core.session.testing.simulation import Backend, SimulationResult, simulate
from langswarm.core.session.testing.trace import Step, Trace

__all__ = [
    "Backend",
    "Chooser",
    "DeadlockError",
    "Deviations",
    "Fifo",
    "OutsideSimulationError",
    "Seeded",
    "SimulationError",
    "SimulationInUseError",
    "SimulationResult",
    "SimulationUnsupportedError",
    "Step",
    "StepLimitError",
    "Trace",
    "shrink_deviations",
    "simulate",
]
