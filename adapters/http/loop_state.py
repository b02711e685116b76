"""What an HTTP service holds in each event loop that uses it."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...actors.wait import current_backend
from .client import Client
from .gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .buckets import Meter
    from .options import HttpOptions


class LoopState:
    """Connections, and lines of those who wait. Made in a running event loop, for that loop."""

    def __init__(self, library: Any, options: HttpOptions) -> None:
        self.backend = current_backend()
        self.client = Client(library, options)
        self.gate = Gate(self.backend, options.max_connections)
        self._offset = time.monotonic() - self.backend.now()
        self._lines: WeakKeyDictionary[Meter, Gate] = WeakKeyDictionary()

    def now(self) -> float:
        """Seconds that go on from loop to loop; virtual where the loop's clock is."""
        return self.backend.now() + self._offset

    def line(self, meter: Meter) -> Gate:
        """The line before a meter: one at a time looks whether it may go."""
        line = self._lines.get(meter)
        if line is None:
            line = self._lines[meter] = Gate(self.backend, 1)
        return line


class LoopStates:
    """One state for each event loop, in whatever thread it runs. Those of dead loops are let go."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: list[LoopState] = []
        self.latest: LoopState | None = None
        """Of the loop that asked last."""

    def here(self, make: Callable[[], LoopState]) -> LoopState:
        """The state of the running loop; a new one, if it has none."""
        state = self.latest
        if state is not None and state.backend.is_current():
            return state
        with self._lock:
            for each in self._all:
                if each.backend.is_current():
                    self.latest = each
                    return each
            self._all = [each for each in self._all if each.backend.is_alive()]
            state = self.latest = make()
            self._all.append(state)
        return state

    def current(self) -> LoopState | None:
        """The state of the running loop, if it has one."""
        with self._lock:
            return next((each for each in self._all if each.backend.is_current()), None)
