"""What the demo shows: progress on stderr, results on stdout.

On a terminal the progress is a bar; elsewhere it is a line per part, and one every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_LINE_SECONDS = 5.0


class Gauge(Protocol):
    """Shows how far a part is."""

    def __call__(self, done: int, /) -> None: ...


class Display:
    """Where the demo is seen."""

    def __init__(self, results: Console | None = None, progress: Console | None = None) -> None:
        plain = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
        self._results = results or Console(**plain)  # type: ignore[arg-type]
        self._progress = progress or Console(stderr=True, **plain)  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        """A line of the results."""
        self._results.print(text)

    def table(self, rows: list[tuple[str, str]]) -> None:
        """Names and figures."""
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        self._results.print(table)

    @contextmanager
    def part(self, name: str, total: int, unit: str) -> Generator[Gauge]:
        """Show one part of the demo, which has `total` steps."""
        if not self._progress.is_terminal:
            yield from self._lines(name, total, unit)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._progress) as bar:
            task = bar.add_task(name, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _lines(self, name: str, total: int, unit: str) -> Generator[Gauge]:
        started = said = time.monotonic()

        def show(done: int) -> None:
            nonlocal said
            now = time.monotonic()
            if done >= total or now - said >= _LINE_SECONDS:
                said = now
                text = f"{name}: {done} of {total} {unit}, {now - started:.1f} s"
                self._progress.print(text)

        yield show
