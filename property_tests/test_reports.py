"""What campaigns, soaks and the table of planted bugs say when something is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import Session
from langswarm.core.session.errors import RuntimeBugError

from . import campaign, soak
from .planted import __main__ as planted
from .planted.everything import PLANTED
from .running import BACKENDS, BrokenPromiseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langswarm.core.session.testing import Backend

    from .program import Program


def test_the_table_is_printed_when_every_bug_survives(capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(PLANTED))
    assert planted.print_table("asyncio", {name: [None, None]}) == 1
    out = capsys.readouterr().out
    assert "SURVIVED 2 rounds" in out
    assert "0 of 1 killed" in out


def test_the_planted_bugs_are_looked_for_once_at_least() -> None:
    with pytest.raises(SystemExit):
        planted.main(["--rounds", "0"])


def _as_it_is(program: Program, *_: object) -> Program:
    return program


def _one(first: int) -> list[int]:
    return [first]


def _does_not_break(*_: object) -> None: ...


def _fails(*_: object) -> None:
    raise KeyError("shrinking has a bug")


@pytest.mark.parametrize("then", [_does_not_break, _fails])
def test_a_campaign_goes_on_when_a_program_cannot_be_made_smaller(
    then: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    def run_once(*arguments: object) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise BrokenPromiseError("once")
        then(*arguments)

    monkeypatch.setattr(campaign, "run", run_once)
    monkeypatch.setattr(campaign, "shrink", _as_it_is)
    monkeypatch.setattr(campaign, "count", _one)
    _, [found] = campaign.campaign("trio", 7, 100.0)
    assert found.startswith("program 7 breaks a promise, ")
    assert "on trio, seed " in found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_soak_does_not_pass_with_bugs_and_without_turns(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(_self: Session, _text: str) -> None:
        raise RuntimeBugError("a state that cannot be")

    monkeypatch.setattr(soak, "ROUND_SESSIONS", 20)
    monkeypatch.setattr(soak, "CALLERS", 2)
    monkeypatch.setattr(Session, "send_message", bug)
    work = soak.Soak(tmp_path, backend, 0)
    anyio.run(work.run, 0.0, backend=backend)
    bugs, idle = soak.complaints(work)
    assert "x a bug of the runtime, first RuntimeBugError" in bugs
    assert idle == "not one turn was done"
