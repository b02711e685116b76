"""Test tools for programs built on the session runtime.

:func:`simulate` runs an anyio program under one seed that decides its schedule, on asyncio or trio.
:func:`sweep_cancellations` cancels a call at each of its points, :func:`sweep_faults` lets each
call of a storage, provider, middleware or hook fail. :class:`SimulatedStorage` and
:class:`ScriptedProvider` stand in for the outside world, :class:`FaultyStorage` makes any storage
fail on demand, :func:`ordering_violations` checks what is left.

Apart from these: ``langswarm.core.session.testing.storage_contract`` finds out whether a storage of
your own keeps what the runtime relies on, and ``langswarm.core.session.testing.pytest_plugin`` has
a fixture for pytest.
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
from langswarm.core.session.testing.faulty_guests import (
    HookFault,
    MiddlewareFault,
    ProviderFault,
)
from langswarm.core.session.testing.faulty_storage import Fault, FaultyStorage
from langswarm.core.session.testing.ordering import (
    HistoryMessage,
    SendRecorder,
    Sent,
    Told,
    ordering_violations,
    told_by,
)
from langswarm.core.session.testing.scripted_provider import ScriptedProvider, ScriptedTurn
from langswarm.core.session.testing.shrinking import shrink_deviations
from langswarm.core.session.testing.simulated_storage import (
    Crash,
    SimulatedDisk,
    SimulatedStorage,
)
from langswarm.core.session.testing.simulation import Backend, SimulationResult, simulate
from langswarm.core.session.testing.sweep_cancellations import (
    CallEnd,
    Cancellations,
    Ended,
    sweep_cancellations,
)
from langswarm.core.session.testing.sweep_faults import FaultPoint, Faults, sweep_faults
from langswarm.core.session.testing.sweep_report import SweepReport, Violation
from langswarm.core.session.testing.trace import Step, Trace

__all__ = [
    "Backend",
    "CallEnd",
    "Cancellations",
    "Chooser",
    "Crash",
    "DeadlockError",
    "Deviations",
    "Ended",
    "Fault",
    "FaultPoint",
    "Faults",
    "FaultyStorage",
    "Fifo",
    "HistoryMessage",
    "HookFault",
    "MiddlewareFault",
    "OutsideSimulationError",
    "ProviderFault",
    "ScriptedProvider",
    "ScriptedTurn",
    "Seeded",
    "SendRecorder",
    "Sent",
    "SimulatedDisk",
    "SimulatedStorage",
    "SimulationError",
    "SimulationInUseError",
    "SimulationResult",
    "SimulationUnsupportedError",
    "Step",
    "StepLimitError",
    "SweepReport",
    "Told",
    "Trace",
    "Violation",
    "ordering_violations",
    "shrink_deviations",
    "simulate",
    "sweep_cancellations",
    "sweep_faults",
    "told_by",
]
