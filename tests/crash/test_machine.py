"""Limits of the process, small disks, descriptors, a stopped process, clocks, permissions."""

import signal
import threading
import time
from pathlib import Path

import anyio
import pytest
from langswarm.core.session import SQLiteSessionStorage, StorageError, create_session_manager

from .checker import Report, examine
from .order import Line, Order, read_journal
from .stack import Nursery, tell


class Machine:
    """One file and the processes that work on it."""

    def __init__(self, nursery: Nursery, folder: Path, backend: str) -> None:
        self.nursery = nursery
        self.backend = backend
        self.journal = folder / "journal"
        self.path = folder / "data" / "sessions.db"
        self.path.parent.mkdir()

    def order(self, work: str, **keywords: object) -> Order:
        """For one process."""
        return Order(
            path=str(self.path),
            journal=str(self.journal),
            work=work,
            backend=self.backend,
            **keywords,  # type: ignore[arg-type]
        )

    def run(self, work: str, **keywords: object) -> list[Line]:
        """Let it live, and read its journal; it must end in good order."""
        code = self.nursery.run(self.order(work, **keywords))
        lines = read_journal(self.journal)
        reasons = [line["skip"] for line in lines if "skip" in line]
        if reasons:
            pytest.skip(f"NOT RUN, needs root or user namespaces: {reasons[0]}")
        assert code == 0, self.nursery.said()
        assert lines[-1].get("end"), lines[-1]
        return lines

    def is_at_work(self) -> bool:
        """It has opened its storage, and has not ended."""
        lines = read_journal(self.journal)
        return any("done" in line for line in lines) and "end" not in lines[-1]

    def examine(self, path: Path | None = None, lines: list[Line] | None = None) -> Report:
        """Open what was left behind, as any user would."""
        lines = read_journal(self.journal) if lines is None else lines
        return anyio.run(examine, path or self.path, lines, backend=self.backend)


@pytest.fixture
def machine(plain_nursery: Nursery, tmp_path: Path, backend: str) -> Machine:
    return Machine(plain_nursery, tmp_path, backend)


def went_full_and_on(lines: list[Line], codes: set[str]) -> None:
    """Refused with a clean failure, then fine again without a restart."""
    place = next(place for place, line in enumerate(lines) if "full" in line)
    errors = [line for line in lines[:place] if "failed" in line]
    assert len(errors) >= 3, "it was never full"
    assert {(line["code"], line["outcome"]) for line in errors} <= {
        (code, "failed") for code in codes
    }
    after = [line for line in lines[place:] if "failed" in line]
    assert after == []
    assert sum("done" in line for line in lines[place:]) == 5


def test_g3_files_that_may_not_grow_are_a_clean_failure(machine: Machine) -> None:
    """RLIMIT_FSIZE: typed errors, nothing lost, and with the limit lifted all works (G3)."""
    lines = machine.run("small files", value=400_000, padding=3_000)
    went_full_and_on(lines, {"full", "io"})
    report = machine.examine()
    tell(f"RLIMIT_FSIZE, {machine.backend}: {report.acknowledged} turns acknowledged")
    assert report.faults == []


@pytest.mark.parametrize("megabytes", [0, 4], ids=["tmpfs", "ext4"])
def test_g3_a_full_file_system_is_a_clean_failure_and_passes(
    machine: Machine, megabytes: int
) -> None:
    """A disk that is full, for real: `full`, nothing lost; room is made: it goes on (G3)."""
    lines = machine.run("small disk", value=megabytes, padding=3_000)
    went_full_and_on(lines, {"full"})
    copy = machine.journal.with_name(f"{machine.journal.name}.{machine.path.name}")
    report = machine.examine(copy)
    tell(f"full disk, {machine.backend}: {report.acknowledged} turns acknowledged")
    assert report.faults == []


def test_g3_a_process_without_descriptors_is_told_and_opens_later(machine: Machine) -> None:
    """RLIMIT_NOFILE at open: typed errors only, nothing hangs, nothing leaks (G3)."""
    lines = machine.run("few descriptors", value=25)
    errors = [line for line in lines if line.get("failed") == "create"]
    assert errors
    assert {line["error"] for line in errors} == {"StorageError"}
    assert any(line.get("done") == "send" and line["session"] == "enough" for line in lines)
    assert machine.examine().faults == []


def test_g3_descriptors_that_run_out_later_lose_nothing(machine: Machine) -> None:
    """RLIMIT_NOFILE while it works: an open storage needs no more; close() works (G3)."""
    lines = machine.run("no descriptors later", calls=5)
    failed = [line for line in lines if "failed" in line and line["text"].endswith("/with")]
    assert failed == []
    assert machine.examine().faults == []


def test_g3_a_process_that_is_stopped_in_mid_commit_goes_on(machine: Machine) -> None:
    """SIGSTOP and SIGCONT: no error, nothing lost; the file stays locked meanwhile (G2, G3)."""
    machine.nursery.start(machine.order("drawn", calls=250, sessions=8, skip_sync=False))
    stops = refused = 0
    while not machine.journal.exists():
        time.sleep(0.001)
    while stops < 8 and not machine.nursery.has_ended():
        time.sleep(0.02)
        machine.nursery.kill(signal.SIGSTOP)
        if machine.is_at_work():
            refused += anyio.run(is_refused, machine.path)
            stops += 1
        machine.nursery.kill(signal.SIGCONT)
    assert machine.nursery.wait() == 0, machine.nursery.said()
    lines = read_journal(machine.journal)
    assert [line for line in lines if "failed" in line] == []
    assert lines[-1].get("end")
    assert refused == stops > 0
    assert machine.examine().faults == []


async def is_refused(path: Path) -> bool:
    """Whether another process holds it; it is opened else, and closed."""
    storage = SQLiteSessionStorage(path)
    try:
        await storage.open()
    except StorageError as error:
        return error.code == "busy"
    await storage.close()
    return False


def test_g1_the_order_is_that_of_seq_whatever_the_clock_says(machine: Machine) -> None:
    """The clock jumps, and each process starts a day before the one before it (G1)."""
    for number in range(3):
        machine.run("stepping clock", calls=6, label=str(number), value=-86_400 * number)
    assert machine.examine().faults == []

    async def times() -> None:
        async with create_session_manager(SQLiteSessionStorage(machine.path)) as manager:
            session = await manager.get_session("s0")
            messages = await session.get_messages()
        assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
        seen = [message.timestamp for message in messages]
        assert seen != sorted(seen), "the clock did not go back"

    anyio.run(times, backend=machine.backend)


def test_g3_a_folder_that_cannot_be_written_is_refused_and_left_alone(machine: Machine) -> None:
    """A typed error that names the cause; the file is as it was (G3)."""
    lines = machine.run("sent", calls=3)
    before = machine.path.read_bytes()
    lines = machine.run("read-only folder")[len(lines) :]
    errors = [line for line in lines if "failed" in line]
    moved = machine.path.parent.with_name("copy") / machine.path.name
    path = moved if moved.exists() else machine.path
    machine.path.parent.chmod(0o700)
    assert {(line["error"], line["code"]) for line in errors} == {("StorageError", "read_only")}
    assert path.read_bytes() == before


def test_a_database_that_is_deleted_while_in_use_is_lost_and_nothing_hangs(
    machine: Machine,
) -> None:
    """Not promised: the file is gone with whoever deleted it. Calls end, the next start works."""
    lines = machine.run("deleted file", calls=3)
    place = next(place for place, line in enumerate(lines) if "deleted" in line)
    after = lines[place:]
    kinds = {line["error"] for line in after if "failed" in line}
    tell(f"deleted file: {sum('done' in line for line in after)} turns acknowledged, {kinds}")
    assert kinds <= {"StorageError"}
    assert [line for line in after if "bug" in line] == []

    async def fresh() -> None:
        async with create_session_manager(SQLiteSessionStorage(machine.path)) as manager:
            session = await manager.create_session("ann", "mock", "mock-model")
            await session.send_message("hello")

    anyio.run(fresh, backend=machine.backend)


def test_g2_only_one_of_many_processes_gets_the_file_of_a_killed_one(machine: Machine) -> None:
    """The lock ends with its holder: after a kill exactly one of several openers has it (G2)."""
    machine.nursery.start(machine.order("drawn"))
    while not machine.journal.exists():
        time.sleep(0.005)
    machine.nursery.kill()
    machine.nursery.wait()
    outcomes: list[str] = []
    all_tried = threading.Barrier(4)

    async def open_it() -> None:
        storage = SQLiteSessionStorage(machine.path)
        try:
            await storage.open()
        except StorageError as error:
            outcomes.append(error.code)
        else:
            outcomes.append("open")
        await anyio.to_thread.run_sync(all_tried.wait, 60)
        await storage.close()

    threads = [threading.Thread(target=anyio.run, args=(open_it,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy", "busy", "busy", "open"]
    assert machine.examine().faults == []
