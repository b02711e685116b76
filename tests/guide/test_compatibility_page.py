"""docs/guide-compatibility.md names every call of the guide, and the test that runs it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from . import test_guide
from .blocks import blocks

PAGE = Path(__file__).parents[2] / "docs" / "guide-compatibility.md"
NOT_OURS = {
    *("print", "len", "isinstance", "now", "timedelta", "field", "getenv", "create_task"),
    *("get", "monitor_sessions", "filter_sensitive_data", "increment_metric", "track_usage"),
    *("is_new_user", "send_welcome_email", "send_alert", "migrate_session"),
    *("LoggingMiddleware", "FilterMiddleware", "SecurityMiddleware", "AnalyticsMiddleware"),
    *("MetricsHook", "NotificationHook", "AlertingHook"),
}
"""Python's own, and what the guide's reader brings."""
V1 = "V1 Session Usage (Complex)"


def rows() -> dict[str, tuple[str, str]]:
    """Calls and test, by heading."""
    found: dict[str, tuple[str, str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[1] in blocks():
            found[cells[1]] = (cells[2], cells[3])
    return found


def called(source: str) -> set[str]:
    """The names of everything that a block calls, and of the arguments that it names."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    names: set[str] = set()
    for node in ast.walk(compile(source, "a block", "exec", flags=flags)):
        if isinstance(node, ast.Call):
            name: str = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            if name not in NOT_OURS:
                names |= {name, *(keyword.arg or "" for keyword in node.keywords)}
    return names


def test_every_block_has_a_row() -> None:
    assert list(rows()) == list(blocks())


@pytest.mark.parametrize("heading", [heading for heading in blocks() if heading != V1])
def test_a_row_names_all_calls_of_its_block_and_its_test(heading: str) -> None:
    calls, test = rows()[heading]
    words = set(re.findall(r"\w+", calls))
    shown = {"user_id", "provider", "model", "days"}  # arguments that say what they are
    assert called(blocks()[heading]) - shown <= words
    assert test == f"`{test_guide.run_by[heading]}`"
