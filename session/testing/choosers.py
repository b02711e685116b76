"""Who decides which ready task runs next.

Every scheduler asks one question, over and over: "n tasks could run now, which one?". The answer 0
always means "the one that first-in-first-out order would take". A schedule is therefore the list of
answers that were *not* 0, a :class:`Deviations` mapping. That is what makes a schedule shrinkable:
a failing run under a :class:`Seeded` chooser leaves its deviations behind, and dropping them one
group after another leads back towards plain FIFO order for as long as the failure stays.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Chooser(ABC):
    """Answers the scheduler's questions and keeps the answers. Each object serves one run.

    Attributes:
        points: how many questions were asked so far; the number of a question is its *point*.
        deviations: the answers that differ from FIFO order, by point.
        parked: the exception :meth:`pick` raised, if it did.
    """

    def __init__(self) -> None:
        """Start without any answer."""
        self.points = 0
        self.deviations: dict[int, int] = {}
        self.parked: BaseException | None = None

    @abstractmethod
    def pick(self, point: int, candidates: int) -> int:
        """Choose an index below ``candidates``; 0 is the task that FIFO order would run."""

    @abstractmethod
    def as_seed(self) -> str:
        """Source text of the ``seed`` argument that repeats this schedule."""

    def choose(self, candidates: int) -> int:
        """Ask for one choice and record it; only the schedulers call this."""
        point = self.points
        self.points += 1
        choice = self._guarded_pick(point, candidates)
        if choice:
            self.deviations[point] = choice
        return choice

    def _guarded_pick(self, point: int, candidates: int) -> int:
        # A chooser may stop the test by an exception (Hypothesis does when its data run out). Let
        # loose in the middle of an event loop it would wreck the loop, so it waits here: the run
        # goes on in FIFO order and simulate() raises it at the end.
        if self.parked is not None:
            return 0
        try:
            choice = self.pick(point, candidates)
            if not 0 <= choice < candidates:
                raise ValueError(  # noqa: TRY301 - it has to be parked like any other
                    f"{self!r} chose {choice} out of {candidates} candidates"
                )
        except BaseException as exc:  # noqa: BLE001 - StopTest derives from BaseException
            self.parked = exc
            return 0
        return choice


class Fifo(Chooser):
    """The order the event loop would choose by itself."""

    def pick(self, point: int, candidates: int) -> int:  # noqa: ARG002
        """Take the first."""
        return 0

    def as_seed(self) -> str:
        """Give ``None``, the seed of FIFO order."""
        return "None"


class Seeded(Chooser):
    """Every choice at random, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        """Seed a generator of its own, so that the program's use of ``random`` is no matter."""
        super().__init__()
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - repeatability is the point

    def pick(self, point: int, candidates: int) -> int:  # noqa: ARG002
        """Draw one."""
        return self._random.randrange(candidates)

    def as_seed(self) -> str:
        """Give the number itself."""
        return repr(self.seed)


class Deviations(Chooser):
    """FIFO order except at a few points.

    Taking a deviation away shifts what later points mean, so an answer can be larger than the
    number of candidates: it wraps round instead of failing, which keeps every subset replayable.
    """

    def __init__(self, planned: Mapping[int, int]) -> None:
        """Plan the answers by point; a finished run's ``deviations`` can be passed as they are."""
        super().__init__()
        self.planned = dict(planned)

    def pick(self, point: int, candidates: int) -> int:
        """Look the point up."""
        return self.planned.get(point, 0) % candidates

    def as_seed(self) -> str:
        """Give the constructor call."""
        return f"Deviations({self.planned!r})"


def as_chooser(seed: int | Chooser | None) -> Chooser:
    """Make a chooser of what callers may pass as ``seed``."""
    if seed is None:
        return Fifo()
    if isinstance(seed, Chooser):
        if seed.points:
            raise ValueError(f"{seed!r} has decided a run already; a chooser serves one run only")
        return seed
    return Seeded(seed)
