"""What an HTTP service holds in one event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ...actors.wait import current_backend
from .client import Client
from .gate import Gate

if TYPE_CHECKING:
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
