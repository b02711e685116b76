"""A line before something scarce: first come, first served, with a bound on the wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...actors.wait import Backend, Cell


class Gate:
    """So many at once pass; the others wait in the order in which they came. For one loop."""

    __slots__ = ("_backend", "_free", "_line")

    def __init__(self, backend: Backend, places: int) -> None:
        self._backend = backend
        # Invariant: nobody waits while a place is free.
        self._free = places
        self._line: deque[Cell[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def try_enter(self) -> bool:
        """Take a place if one is free. Plain."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def enter(self, deadline: float) -> bool:
        """Take a place, waiting until `deadline` of the loop's clock; False: it passed."""
        if self.try_enter():
            return True
        cell: Cell[None] = self._backend.cell()
        self._line.append(cell)
        passed = False
        try:
            with self._backend.scope(deadline):
                await cell.wait()
                passed = True
        finally:
            if not passed:
                self._give_up(cell)
        return passed

    def leave(self) -> None:
        """Give the place back: it goes to the one who waits longest. Plain."""
        if self._line:
            self._line.popleft().set(None)
        else:
            self._free += 1

    def _give_up(self, cell: Cell[None]) -> None:
        try:
            self._line.remove(cell)
        except ValueError:
            self.leave()  # the place came while the wait was being given up: pass it on
