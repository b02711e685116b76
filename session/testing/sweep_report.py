"""What a sweep found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

T = TypeVar("T")

_SHOWN = 10


@dataclass(frozen=True)
class Violation:
    """One run that went wrong.

    Attributes:
        where: the point, or the fault.
        text: what the check said, or what was raised.
        replay: the arguments that run it alone.
    """

    where: str
    text: str
    replay: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}\n    replay: {self.replay}"


@dataclass(frozen=True)
class SweepReport:
    """A sweep that ended. ``assert not report.violations, report`` shows what went wrong.

    Attributes:
        points: how many places there were: suspensions and steps, or calls of leaves.
        runs: how often the program ran, the first run included.
        violations: what went wrong, in the order of the runs.
    """

    points: int
    runs: int
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        head = f"{self.points} points, {self.runs} runs, {len(self.violations)} violations"
        shown = [str(violation) for violation in self.violations[:_SHOWN]]
        return "\n".join([head, *shown])


def problems_of(check: Callable[[T], Iterable[str]] | None, value: T) -> list[str]:
    """What the check says is wrong; raises TypeError if that is no list of texts."""
    if check is None:
        return []
    found = cast("object", check(value))
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        problems = list(cast("Iterable[object]", found))
        if all(isinstance(problem, str) for problem in problems):
            return cast("list[str]", problems)
    raise TypeError(
        f"the check returned {found!r}; it must return what is wrong as a list of texts, and an "
        "empty list when all is well"
    )


def described(error: BaseException) -> str:
    """An exception in one line; of a group, those that are in it."""
    if not isinstance(error, BaseExceptionGroup):
        return repr(error)
    group = cast("BaseExceptionGroup[BaseException]", error)
    return " and ".join(map(described, group.exceptions))
