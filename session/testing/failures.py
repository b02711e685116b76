"""What the simulator itself has to complain about, apart from what the simulated program raises."""

from __future__ import annotations


class SimulationError(Exception):
    """Base of everything the simulator raises on its own account."""


class DeadlockError(SimulationError):
    """No task can run and no timer is set, so the program would wait for ever."""


class StepLimitError(SimulationError):
    """The program took more steps than ``max_steps``: most likely tasks keep each other busy."""


class OutsideSimulationError(SimulationError, RuntimeError):
    """The program reached for something that one seed cannot decide, such as a thread."""


class SimulationInUseError(SimulationError, RuntimeError):
    """``simulate()`` was called inside a running event loop or next to another simulation."""


class SimulationUnsupportedError(SimulationError):
    """The installed Python, anyio or trio lacks an internal that the simulator stands on."""
