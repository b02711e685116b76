"""Tells at the end of the test run how much was swept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .profile import POINTS, RUNS

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    swept: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        properties = dict(report.user_properties)
        if report.when == "call" and RUNS in properties:
            module = report.nodeid.partition("::")[0]
            swept[f"{module}: {POINTS}"] += int(str(properties[POINTS]))
            swept[f"{module}: {RUNS}"] += int(str(properties[RUNS]))
    for name, count in swept.items():
        terminalreporter.write_line(f"{name}: {count}")
