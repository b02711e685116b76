"""What ran, in which order: the identity of a schedule."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names made from a repr() carry an address, which is another one in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Step(NamedTuple):
    """One step of one task: from where it was resumed to its next suspension."""

    step: int
    task: int
    name: str


class Trace:
    """The steps of one run. Two runs took the same schedule when their digests are equal."""

    def __init__(self) -> None:
        """Start empty; a trace records one run."""
        self._steps: list[Step] = []

    def record(self, step: int, task: int, name: str) -> None:
        """Add a step; only the schedulers call this."""
        if " at 0x" in name:
            name = _ADDRESS.sub("", name)
        self._steps.append(Step(step, task, name))

    @property
    def digest(self) -> str:
        """A hash over all steps, the same in every process and for every ``PYTHONHASHSEED``."""
        folded = hashlib.blake2b(digest_size=16)
        for step in self._steps:
            folded.update(f"{step.step}\t{step.task}\t{step.name}\n".encode())
        return folded.hexdigest()

    def busiest(self, last: int = 1000) -> str:
        """Name the tasks that took most of the ``last`` steps, for a message."""
        counted = Counter(f"#{step.task} {step.name}" for step in self._steps[-last:])
        return ", ".join(f"{name}: {count} steps" for name, count in counted.most_common(5))

    def __len__(self) -> int:
        """Count the steps."""
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        """Go through the steps, first to last."""
        return iter(self._steps)
