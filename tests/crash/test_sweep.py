"""Every write and sync of a scenario: the process is killed there, or the call fails.

The scenario creates a file and three sessions, sends, updates contexts, clears, archives, reopens,
and closes. With CRASH_TESTS=long every single call is swept, else a share of them.
"""

import random
from dataclasses import dataclass, replace
from errno import EIO, ENOSPC
from pathlib import Path

import anyio
import pytest

from .checker import Report, examine
from .order import FOR_EVER, Action, Line, Order, read_journal
from .stack import IS_LONG, Nursery, tell

SHARE = 10
"""So many calls of each sweep in the short version, evenly spread."""
CREATION = 45
"""So many calls it takes to make a file, and more."""


@dataclass
class Run:
    """One process with one trouble, and what it has left behind."""

    code: int
    lines: list[Line]
    report: Report

    @property
    def hit(self) -> str:
        """Which call was acted upon: its kind and file; empty where it came to none."""
        return str(self.lines[-1].get("hit", "")) if self.lines else ""

    @property
    def errors(self) -> list[Line]:
        """What callers were told."""
        return [line for line in self.lines if "failed" in line]

    def done_after_first_error(self) -> int:
        """Acknowledged calls behind the first failed one; a reopen() may have nothing to do."""
        places = [place for place, line in enumerate(self.lines) if "failed" in line]
        behind = self.lines[places[0] :] if places else []
        return sum(line.get("done", "reopen") != "reopen" for line in behind)


class Sweep:
    """The scenario, again and again in folders of its own."""

    def __init__(self, nursery: Nursery, folder: Path, backend: str) -> None:
        self._nursery = nursery
        self._folder = folder
        self._backend = backend
        self._runs = 0

    def run(
        self, action: Action = "nothing", nth: int = -1, work: str = "fixed", **trouble: int
    ) -> Run:
        """One process and its reopening."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        path, journal = folder / "sessions.db", folder / "journal"
        order = Order(
            path=str(path),
            journal=str(journal),
            work=work,
            calls=3,
            backend=self._backend,
            padding=300,
            action=action,
            nth=nth,
            **trouble,  # type: ignore[arg-type]
        )
        code = self._nursery.run(order)
        lines = read_journal(journal)
        report = anyio.run(examine, path, lines, backend=self._backend)
        backup = folder / "sessions.db.backup"
        if backup.exists():
            report.wrong += self._faults_of_backup(backup, lines)
        return Run(code, lines, report)

    def _faults_of_backup(self, backup: Path, lines: list[Line]) -> list[str]:
        """What is called a backup has all that was acknowledged before it began."""
        place = next(place for place, line in enumerate(lines) if "begins" in line)
        report = anyio.run(examine, backup, lines[:place], backend=self._backend)
        return [f"the backup: {fault}" for fault in report.faults + report.unopened]

    def every(
        self, action: Action, *, upto: int = FOR_EVER, work: str = "fixed", **trouble: int
    ) -> dict[int, Run]:
        """A run for every call that is counted, or for a share."""
        whole = self.run(work=work)
        assert (whole.code, whole.report.faults) == (0, []), self._nursery.said()
        counted: int = whole.lines[-1]["counted"]
        assert counted > 150, "SQLite does not write through the preloaded library"
        counted = min(counted, upto)
        step = 1 if IS_LONG else counted // SHARE
        start = random.Random(f"{action}{trouble}{self._backend}").randint(1, step)
        numbers = range(start, counted + 1, step)
        return {number: self.run(action, number, work, **trouble) for number in numbers}


@pytest.fixture
def sweep(nursery: Nursery, tmp_path: Path, backend: str) -> Sweep:
    return Sweep(nursery, tmp_path, backend)


def summarize(title: str, runs: dict[int, Run]) -> None:
    """A line for `just crash`."""
    acknowledged = sum(run.report.acknowledged for run in runs.values())
    faults = sum(bool(run.report.faults) for run in runs.values())
    tell(f"{title}: {len(runs)} calls, {acknowledged} turns acknowledged, {faults} with a fault")


def faults_of(runs: dict[int, Run]) -> dict[int, list[str]]:
    """Nothing acknowledged is lost, nothing is half, every session goes on."""
    return {number: run.report.faults for number, run in runs.items() if run.report.faults}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("action", ["kill before", "kill after", "tear"])
def test_g3_g5_a_kill_at_any_write_or_sync_loses_and_halves_nothing(
    sweep: Sweep, action: Action
) -> None:
    """Before it, after it, in the middle of it (G3, G4, G5)."""
    runs = sweep.every(action)
    summarize(action, runs)
    assert faults_of(runs) == {}
    killed = [run for run in runs.values() if run.code == -9]
    assert len(killed) >= len(runs) * 0.7  # a run may group its commits better, and end earlier


@pytest.mark.timeout(900)
def test_g4_a_kill_while_the_file_is_made_leaves_one_that_opens(sweep: Sweep) -> None:
    """Nothing was acknowledged, so nothing is lost; but the next start must not fail (G4)."""
    runs = sweep.every("kill before", upto=CREATION)
    unopened = {number: run.report.unopened for number, run in runs.items() if run.report.unopened}
    assert unopened == {}


def survived(runs: dict[int, Run]) -> None:
    """The process went on, told its callers by typed errors, and ended in good order (G14)."""
    for number, run in runs.items():
        assert run.code == 0, number
        assert run.lines[-1].get("end"), number
        types = {line["error"] for line in run.errors}
        assert types <= {"StorageError", "SessionArchivedError"}, (number, run.errors)


def is_of_a_write(run: Run) -> bool:
    """Not a sync, not the lock, not in opening or closing: what a commit writes."""
    return run.hit.startswith("W ") and run.hit.endswith("-wal")


def counted_in(run: Run) -> int:
    """How many calls there were."""
    return int(run.lines[-1]["counted"])


FULL = {"once": 1, "for some calls": 20, "for ever": FOR_EVER}
"""How many calls fail."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", FULL)
def test_g3_a_full_disk_is_a_clean_failure_and_passes(sweep: Sweep, how: str) -> None:
    """ENOSPC: StorageError `full`, retryable, nothing stored; with room again all works (G3)."""
    runs = sweep.every("fail", error=ENOSPC, times=FULL[how])
    summarize(f"ENOSPC {how}", runs)
    assert faults_of(runs) == {}
    survived(runs)
    for number, run in runs.items():
        if is_of_a_write(run):
            told = [line for line in run.errors if line["error"] == "StorageError"]
            assert {(line["code"], line["outcome"], line["retryable"]) for line in told} <= {
                ("full", "failed", True)
            }, number
            after = run.done_after_first_error()
            if how == "for ever":
                assert after == 0, number
            elif told and number < counted_in(run) * 0.6:
                assert after > 0, number


@pytest.mark.timeout(900)
def test_g3_a_short_write_on_a_full_disk_is_a_clean_failure(sweep: Sweep) -> None:
    """Half of it is written before the disk is full: as if none of it were (G3, G5)."""
    runs = sweep.every("shorten", error=ENOSPC, times=2)
    summarize("ENOSPC in mid-write", runs)
    assert faults_of(runs) == {}
    survived(runs)
    for number, run in runs.items():
        if is_of_a_write(run):
            told = [line for line in run.errors if line["error"] == "StorageError"]
            assert {line["code"] for line in told} <= {"full"}, number


@pytest.mark.timeout(900)
def test_g3_an_input_output_error_is_told_and_nothing_is_acknowledged_on_it(sweep: Sweep) -> None:
    """EIO at a write: the batch fails alone. At the sync of a commit: writing has ended (G3)."""
    runs = sweep.every("fail", error=EIO)
    summarize("EIO", runs)
    assert faults_of(runs) == {}
    survived(runs)
    for number, run in runs.items():
        told = [line for line in run.errors if line["error"] == "StorageError"]
        if is_of_a_write(run):
            assert {line["code"] for line in told} <= {"io"}, number
            assert sum(line["failed"] == "send" for line in told) <= 3, number
        if run.hit.startswith("S ") and run.hit.endswith("-wal") and told:
            assert run.done_after_first_error() == 0, number
            assert not any(line["retryable"] for line in told), number


@pytest.mark.timeout(900)
def test_g14_a_disk_that_answers_nothing_any_more_leaves_the_process_alive(sweep: Sweep) -> None:
    """EIO from one call on: everything fails with typed errors; what was acknowledged is there."""
    runs = sweep.every("fail", error=EIO, times=FOR_EVER)
    summarize("EIO for ever", runs)
    assert faults_of(runs) == {}
    survived(runs)


BACKUP_TROUBLES: dict[str, tuple[Action, int]] = {
    "kill": ("kill before", 0),
    "EIO": ("fail", EIO),
    "ENOSPC": ("fail", ENOSPC),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", BACKUP_TROUBLES)
def test_g3_a_backup_is_whole_or_not_there(sweep: Sweep, how: str) -> None:
    """Whatever fails in making one: a file of that name opens and has everything (G3, G5)."""
    action, error = BACKUP_TROUBLES[how]
    runs = sweep.every(action, work="with backup", error=error)
    summarize(f"backup, {how}", runs)
    assert faults_of(runs) == {}
    if action == "fail":
        survived(runs)
    assert any("backup" in line for run in runs.values() for line in run.lines)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trouble", ["kill", "EIO"])
def test_g5_a_start_after_a_kill_may_itself_be_cut_off(
    nursery: Nursery, tmp_path: Path, backend: str, trouble: str
) -> None:
    """Recovery is killed, or fails, at any of its writes: the next start does it (G5)."""
    action: Action = "kill before" if trouble == "kill" else "fail"

    def twice(nth: int) -> Report:
        folder = tmp_path / str(nth)
        folder.mkdir()
        path, journal = folder / "sessions.db", folder / "journal"
        order = Order(
            path=str(path), journal=str(journal), work="drawn", backend=backend, sessions=8
        )
        nursery.run(replace(order, action="kill before", nth=400 + nth))
        again = replace(order, label="1", work="sent", calls=1, error=EIO)
        nursery.run(replace(again, action=action, nth=nth))
        return anyio.run(examine, path, read_journal(journal), backend=backend)

    found = {nth: twice(nth) for nth in range(1, 60, 1 if IS_LONG else 5)}
    assert sum(report.interrupted for report in found.values()), "no turn was open"
    assert {nth: report.faults for nth, report in found.items() if report.faults} == {}
    assert not any(report.unopened for report in found.values())
