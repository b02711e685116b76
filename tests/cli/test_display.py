import io

import pytest
from langswarm.core.session.cli import display as module
from langswarm.core.session.cli.display import Display
from rich.console import Console


def test_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    display = Display(progress=Console(file=out, force_terminal=True, width=100))
    with display.part("first half", 40, "turns") as gauge:
        gauge(10)
        gauge(40)
    assert "40/40" in out.getvalue()
    assert "━" in out.getvalue()


def test_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    display = Display(progress=Console(file=out, soft_wrap=True))
    with display.part("first half", 40, "turns") as gauge:
        gauge(10)
        gauge(40)
    assert out.getvalue() == "first half: 40 of 40 turns, 0.0 s\n"

    monkeypatch.setattr(module, "_LINE_SECONDS", 0.0)
    with display.part("second half", 40, "turns") as gauge:
        gauge(10)
    assert out.getvalue().splitlines()[1].startswith("second half: 10 of 40 turns, ")


def test_results_are_shown_as_they_are() -> None:
    out = io.StringIO()
    display = Display(results=Console(file=out, width=60, markup=False, soft_wrap=True))
    display.say("session '[bold]x[/bold]' :smile: " + "x" * 100)
    display.table([("turns", "1,234"), ("p50", "1.0")])
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("session '[bold]x[/bold]'")
    assert any("turns" in line and "1,234" in line for line in lines)
