"""The sweeps have teeth: bugs that are planted in the runtime are found, and can be replayed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import Session
from langswarm.core.session.actors.mailbox import Ticket
from langswarm.core.session.actors.model import Committed
from langswarm.core.session.actors.storage_actor import StorageActor
from langswarm.core.session.testing import FaultPoint, sweep_cancellations, sweep_faults

from . import test_cancellations, test_faults
from .profile import BACKENDS
from .scenarios import BESIDE, SCENARIOS, public_coroutines

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.testing import Backend

both = pytest.mark.parametrize("backend", BACKENDS)


@both
def test_a_queued_message_that_outlives_its_caller_is_found(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(_ticket: Ticket[object]) -> None: ...

    monkeypatch.setattr(Ticket, "_abandoned", forget)
    scenario = BESIDE["Session.submit, awaited"]
    program = partial(test_cancellations.program, scenario, "busy", 1)
    report = sweep_cancellations(program, test_cancellations.problems_of, backend=backend)
    assert any("G9" in violation.text for violation in report.violations)
    point = int(report.violations[0].where.rpartition(" ")[2])
    replay = sweep_cancellations(
        program, test_cancellations.problems_of, backend=backend, at=(point,)
    )
    assert (replay.runs, replay.violations[0]) == (1, report.violations[0])


@both
def test_a_commit_in_doubt_that_is_taken_for_done_is_found(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(
        _actor: StorageActor, writes: list[SessionWrite], _cause: object
    ) -> list[WriteOutcome]:
        return [Committed(write.after.record.key) for write in writes]

    monkeypatch.setattr(StorageActor, "_read_back", believe)
    program = partial(test_faults.program, "idle", ("Session.send_message",))
    report = sweep_faults(program, test_faults.problems_of, backend=backend)
    found = report.violations[0]
    assert "of commit lost before" in found.where
    point = FaultPoint("storage", "commit", int(found.where.split()[2]), "lost before")
    assert f"at={point!r}" in found.replay
    replay = sweep_faults(program, test_faults.problems_of, backend=backend, at=point)
    assert (replay.runs, replay.violations[0]) == (1, found)


def test_a_new_public_coroutine_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pin(_session: Session) -> None: ...

    monkeypatch.setattr(Session, "pin", pin, raising=False)
    assert public_coroutines() - set(SCENARIOS) == {"Session.pin"}
