"""The simulated storage with planned faults, and the journal that the model compares answers with.

Everything that really was committed is in the journal, by session and in order. Processes here are
killed, not cut off from power: what they wrote stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import TurnState
from langswarm.core.session.testing import SimulatedDisk, SimulatedStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome

    from .program import Fault

READ_FAULTS = ("clean", "raise")
"""A StorageError that says so; an exception out of the blue."""
COMMIT_FAULTS = (
    "clean",  # nothing is stored, and the storage says so
    "one",  # the first write of the batch alone is not stored
    "lost",  # nothing is stored, and the storage does not know
    "done",  # all is stored, and the storage does not know
    "told",  # all is stored; of the first write the storage does not know
    "raise",  # nothing is stored; an exception out of the blue
    "after",  # all is stored; an exception out of the blue
    "short",  # all is stored; fewer outcomes than writes
)
_FAULTY_READS = {
    "open": "open",
    "load": "load",
    "read_back": "readback",
    "load_unfinished": "unfinished",
    "read_messages": "messages",
    "list_sessions": "list",
    "read_usage": "usage",
    "read_turn": "turn",
    "find_claim": "claim",
}
"""The names of the methods in the text of a program."""


def _is_checkpoint(write: SessionWrite) -> bool:
    turn = write.turn
    return turn is not None and turn.state is TurnState.OPEN and not write.opens_turn


class Disk(SimulatedDisk):
    """What survives a process."""

    def __init__(self, faults: Sequence[Fault], latency: float) -> None:
        super().__init__(latency_seconds=latency)
        self._journal: dict[str, list[SessionWrite]] = {}
        self._noted = 0
        self.opened_at: dict[str, float] = {}
        """By turn: when its first commit arrived, on the clock of the loop."""
        self._known: dict[str, int] = {}
        self.faulty = False
        self._plan = {(fault.method, fault.number): fault.kind for fault in faults}
        self._calls: dict[str, int] = {}

    @property
    def journal(self) -> dict[str, list[SessionWrite]]:
        """The writes of each session, in the order of the commits."""
        new = self.writes[self._noted :]
        self._noted += len(new)
        for write in new:
            self._journal.setdefault(write.after.record.session_id, []).append(write)
        return self._journal

    def written(self, session_id: str) -> int:
        """How many commits there are of the session."""
        return len(self.journal.get(session_id, ()))

    def last_seq(self, session_id: str) -> int:
        """Of the last message that is committed of the session."""
        writes = self.journal.get(session_id, ())
        return writes[-1].after.record.last_seq if writes else 0

    def known(self, session_id: str) -> int:
        """Of how many of them a process has been told: what it shows is no older than that."""
        return self._known.get(session_id, 0)

    def tell(self, session_ids: Iterable[str]) -> None:
        """A process knows now what is committed of these sessions."""
        for session_id in session_ids:
            self._known[session_id] = self.written(session_id)

    def note_opened(self, writes: Iterable[SessionWrite]) -> None:
        """Writes arrive: remember when turns are opened."""
        for write in writes:
            if write.opens_turn and write.turn is not None:
                turn_id = f"{write.after.record.session_id}/{write.turn.turn_no}"
                self.opened_at[turn_id] = anyio.current_time()

    def next_fault(self, method: str) -> str | None:
        """What goes wrong with this call."""
        if not self.faulty:
            return None
        number = self._calls[method] = self._calls.get(method, 0) + 1
        return self._plan.get((method, number))


class FaultyStorage(SimulatedStorage):
    """One process's way to the disk, on which calls fail as the program says."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self._faults = disk

    async def _enter(self, method: str) -> None:
        await super()._enter(method)
        if method not in _FAULTY_READS:
            return
        fault = self._faults.next_fault(_FAULTY_READS[method])
        if fault == "clean":
            raise StorageError(f"{method} failed", code="busy", retryable=True)
        if fault == "raise":
            raise RuntimeError(f"a driver failed in {method}")

    async def _write(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        fault = self._faults.next_fault("commit")
        if any(map(_is_checkpoint, writes)):
            fault = self._faults.next_fault("checkpoint") or fault
        if fault == "clean":
            raise StorageError("the disk is busy", code="busy", retryable=True)
        if fault == "lost":
            raise StorageError("no word from the disk", code="unknown", outcome="unknown")
        if fault == "raise":
            raise RuntimeError("a driver failed before it wrote")
        self._faults.note_opened(writes)
        outcomes: list[WriteOutcome]
        if fault == "one":
            error = StorageError("the row is too large", code="full")
            outcomes = [error, *await super()._write(writes[1:])]
        else:
            outcomes = await super()._write(writes)
        if fault == "done":
            raise StorageError("no word from the disk", code="unknown", outcome="unknown")
        if fault == "after":
            raise RuntimeError("a driver failed after it wrote")
        if fault == "short":
            return outcomes[:-1]
        if fault == "told":
            outcomes[0] = StorageError("no word of a row", code="unknown", outcome="unknown")
            writes = writes[1:]
        self._faults.tell(write.after.record.session_id for write in writes)
        return outcomes
