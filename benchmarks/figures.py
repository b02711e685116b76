"""What a benchmark yields: figures, each beside a floor of the same run, and how they are shown."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    Job = Callable[[], Awaitable[object]]
    Sample = Callable[[], Awaitable[float]]

Scale = Literal["full", "quick", "tiny"]


@attrs.frozen(kw_only=True)
class Target:
    """What a figure, or its ratio to the floor, should reach."""

    of: Literal["value", "ratio"]
    least: float | None = None
    most: float | None = None

    def is_met(self, figure: Figure) -> bool:
        """Whether the figure is within the bounds."""
        number = figure.value if self.of == "value" else figure.ratio
        if number is None:
            return False
        return (self.least is None or number >= self.least) and (
            self.most is None or number <= self.most
        )

    def __str__(self) -> str:
        sign, bound = (">=", self.least) if self.most is None else ("<=", self.most)
        return f"{self.of} {sign} {bound:,g}"


@attrs.frozen(kw_only=True)
class Figure:
    """One measured number. docs/benchmarks.md says what each name and each floor means."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    """value / floor; of repeated measurements the median of the ratios of each repetition."""
    target: Target | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, the target in words beside whether it was met."""
        values = attrs.asdict(self, filter=lambda field, _: field.name != "target")
        if self.target is not None:
            values |= {"target": str(self.target), "met": self.target.is_met(self)}
        return values


def beside(
    name: str,
    unit: str,
    pairs: Iterable[tuple[float, float]],
    target: Target | None = None,
) -> Figure:
    """The medians of (value, floor) pairs; each pair was measured back to back."""
    known = list(pairs)
    return Figure(
        name=name,
        value=median(value for value, _ in known),
        unit=unit,
        floor=median(floor for _, floor in known),
        ratio=median(value / floor for value, floor in known),
        target=target,
    )


class Meter:
    """What passes inside `with Meter() as meter`: time, CPU of all threads, bytes written."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.written: int | None = None
        """Bytes handed to write(); None: this system does not say."""

    def __enter__(self) -> Self:
        gc.collect()
        self._written = bytes_written()
        self._cpu, self._start = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_seconds = time.process_time() - self._cpu
        written = bytes_written()
        if written is not None and self._written is not None:
            self.written = written - self._written


def bytes_written() -> int | None:
    """What this process has handed to write() so far; None: this system does not say."""
    try:
        counters = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return None
    return next(int(line.split()[1]) for line in counters.splitlines() if line.startswith("wchar"))


async def cpu_us(job: Job, count: int) -> float:
    """Microseconds of CPU, of all threads of this process, per one of `count` operations."""
    with Meter() as meter:
        await job()
    return meter.cpu_seconds / count * 1e6


async def alternate(value: Sample, floor: Sample, repetitions: int) -> list[tuple[float, float]]:
    """Measure value and floor in turns, so that a noisy minute hits both."""
    pairs: list[tuple[float, float]] = []
    for _ in range(repetitions):
        floor_now = await floor()
        pairs.append((await value(), floor_now))
    return pairs


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(title: str, figures: Iterable[Figure]) -> str:
    """The figures as text, at most 100 columns wide."""
    lines = [title, f"  {'figure':<44}{'value':>12}  {'unit':<10}{'floor':>10}{'ratio':>8}  target"]
    for figure in figures:
        floor = "" if figure.floor is None else _short(figure.floor)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        line = (
            f"  {figure.name:<44}{_short(figure.value):>12}  {figure.unit:<10}{floor:>10}{ratio:>8}"
        )
        if figure.target is not None:
            verdict = "met" if figure.target.is_met(figure) else "MISSED"
            line += f"  {figure.target}: {verdict}"
        lines.append(line)
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.2f}"
