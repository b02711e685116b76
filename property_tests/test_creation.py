"""Many callers create the same session at once, on a disk that may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.actors.errors import SessionError, SessionExistsError, StorageError
from langswarm.core.session.testing import simulate

from .disk import COMMIT_FAULTS, Disk
from .guests import Evidence, Witness
from .process import LogWatch, Process
from .program import Fault, Settings
from .running import BACKENDS
from .strategies import SEEDS, examples
from .workload import IDLE_TIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.testing import Backend

FAULTS = st.lists(
    st.builds(Fault, st.just("commit"), st.integers(1, 3), st.sampled_from(COMMIT_FAULTS)),
    max_size=2,
    unique_by=lambda fault: fault.number,
)


class Race:
    """The callers and what became of their calls."""

    def __init__(self, callers: int, idle: float, faults: Sequence[Fault]) -> None:
        self.callers = callers
        self.settings = Settings(idle=idle)
        self.disk = Disk(faults, 0.0)
        self.disk.faulty = True
        self.ends: list[SessionError | None] = []
        self._clock = 0

    async def run(self) -> None:
        """All of them at once."""
        witness = Witness(1, Evidence(), self.disk.last_seq)
        process = Process(1, self.settings, self.disk, witness, self._wall_clock_us)
        async with anyio.create_task_group() as callers:
            for _ in range(self.callers):
                callers.start_soon(self._create, process)
        await process.manager.aclose()

    async def _create(self, process: Process) -> None:
        try:
            await process.manager.create_session("u", "scripted", "m", session_id="s0")
        except SessionError as error:
            self.ends.append(error)
        else:
            self.ends.append(None)

    def _wall_clock_us(self) -> int:
        self._clock += 1
        return self._clock


@pytest.mark.parametrize("backend", BACKENDS)
@examples(100)
@given(callers=st.integers(1, 4), idle=st.sampled_from(IDLE_TIMES), faults=FAULTS, seed=SEEDS)
def test_one_creation_wins(
    backend: Backend, callers: int, idle: float, faults: list[Fault], seed: int
) -> None:
    """G2, G3: of all who create the same id at once one succeeds, and only if it is stored."""
    race = Race(callers, idle, faults)
    with LogWatch() as log:
        simulate(race.run, backend=backend, seed=seed)
    stored = race.disk.written("s0")
    won = race.ends.count(None)
    unknown = [
        end for end in race.ends if isinstance(end, StorageError) and end.outcome == "unknown"
    ]
    assert len(race.ends) == callers
    assert won <= stored <= 1
    assert won == stored or unknown
    assert all(
        end is None or isinstance(end, (SessionExistsError, StorageError)) for end in race.ends
    )
    assert not log.complaints
