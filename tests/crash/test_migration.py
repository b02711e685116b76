"""A file of the first version is opened, and the process gets into trouble on the way up.

Whatever happens: the file opens afterwards with everything that was acknowledged, and a copy of the
name that copies have is the whole file of before.
"""

import random
import sqlite3
from dataclasses import replace
from errno import EIO, ENOSPC
from pathlib import Path

import anyio
import pytest

from .checker import Report, examine
from .images import Disk, journal_until, read_events
from .order import Action, Line, Order, read_journal
from .stack import IS_LONG, Nursery, tell

CALLS = 40
"""So many calls of the way up are swept; the rest is the life of a file as any other."""
COPY = "sessions.db.v1.bak"

TROUBLES: dict[str, tuple[Action, int]] = {
    "kill before": ("kill before", 0),
    "kill after": ("kill after", 0),
    "torn": ("tear", 0),
    "EIO": ("fail", EIO),
    "ENOSPC": ("fail", ENOSPC),
}

LATER_TABLES = (
    "search",
    "search_pending",
    "session_tags",
    "usage_users",
    "usage_days",
    "encryption_keys",
    "claims",
    "provider_purges",
)
LATER_COLUMNS = (
    ("sessions", "auto_archive_seconds"),
    ("sessions", "latencies"),
    ("session_documents", "revision"),
)


def step_down(path: Path) -> None:
    """Make of a file what the first version would have left."""
    connection = sqlite3.connect(path)
    for table in LATER_TABLES:
        connection.execute(f"DROP TABLE {table}")
    for table, column in LATER_COLUMNS:
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def lived(nursery: Nursery, folder: Path, backend: str) -> tuple[Order, list[Line]]:
    """A file of the first version with some sessions: the next process's order, what was said."""
    path = folder / "sessions.db"
    journal = str(folder / "journal")
    order = Order(
        path=str(path), journal=journal, work="sent", calls=2, backend=backend, padding=300
    )
    assert nursery.run(order) == 0, nursery.said()
    step_down(path)
    return replace(order, label="1", calls=1), read_journal(Path(journal))


def examined(order: Order, said: list[Line]) -> list[str]:
    """What is wrong with the file, or with the copy of when this had been `said`."""
    backend = order.backend
    path = Path(order.path)
    lines = read_journal(Path(order.journal))
    report: Report = anyio.run(examine, path, lines, backend=backend)
    found = report.faults + report.unopened
    copy = path.with_name(COPY)
    if copy.exists():
        found += faults_of_copy(copy, said, backend)
    return found


def faults_of_copy(copy: Path, lines: list[Line], backend: str) -> list[str]:
    """It is of the first version, and has all that there was before the way up."""
    connection = sqlite3.connect(copy)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    report: Report = anyio.run(examine, copy, lines, backend=backend)
    found = [f"the copy: {fault}" for fault in report.faults + report.unopened]
    return found + ([f"the copy is of version {version}"] if version != 1 else [])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", TROUBLES)
def test_g4_trouble_at_any_call_of_a_migration_leaves_the_version_before_or_after(
    nursery: Nursery, tmp_path: Path, backend: str, how: str
) -> None:
    """Killed, torn, EIO or ENOSPC at every write, sync, renaming, deletion of it (G3, G4)."""
    action, error = TROUBLES[how]
    step = 1 if IS_LONG else 4
    start = random.Random(f"{how}{backend}").randint(1, step)
    faults: dict[int, list[str]] = {}
    hits: set[str] = set()
    numbers = range(start, CALLS + 1, step)
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        order, said = lived(nursery, folder, backend)
        nursery.run(replace(order, action=action, nth=number, error=error))
        lines = read_journal(Path(order.journal))
        hits.add(str(lines[-1].get("hit", "")).partition(" ")[0])
        faults[number] = examined(order, said)
    tell(f"migration, {how}, {backend}: {len(numbers)} calls, {sum(map(bool, faults.values()))}")
    assert {number: found for number, found in faults.items() if found} == {}
    if action == "fail":
        assert len(hits & {"W", "S", "U", "R"}) >= 2


@pytest.mark.timeout(900)
def test_g3_a_power_cut_during_a_migration_loses_nothing(
    nursery: Nursery, tmp_path: Path, backend: str
) -> None:
    """At any of its records: the file is whole, the copy is whole or not there (G3, G4)."""
    order, said = lived(nursery, tmp_path, backend)
    before = Path(order.path).read_bytes()
    log = tmp_path / "record"
    assert nursery.run(replace(order, record=str(log), skip_sync=False)) == 0, nursery.said()
    events = read_events(log)
    assert any(event.kind == "R" for event in events), "the copy is renamed when it is whole"
    rng = random.Random(7)
    image = tmp_path / "image" / "sessions.db"
    image.parent.mkdir()
    faults: dict[int, list[str]] = {}
    for place in range(0, len(events) + 1, 1 if IS_LONG else 5):
        disk = Disk(order.path)
        disk.hold(order.path, before)
        for event in events[:place]:
            disk.take(event)
        disk.cut(rng, image)
        lines = said + journal_until(events[:place])
        report: Report = anyio.run(examine, image, lines, backend=backend)
        faults[place] = report.faults + report.unopened
        copy = image.with_name(COPY)
        if copy.exists():
            faults[place] += faults_of_copy(copy, said, backend)
    tell(f"migration, power cuts, {backend}: {len(faults)}, {sum(map(bool, faults.values()))} bad")
    assert {place: found for place, found in faults.items() if found} == {}
