"""The power is cut at any point: the disk has kept what it had to, and of the rest what it liked.

That the check would notice is shown with the same storage when it does not wait for the disk.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EIO
from pathlib import Path

import anyio
import pytest

from .checker import Report, examine
from .images import Disk, Event, journal_until, read_events
from .order import Order
from .stack import IS_LONG, Nursery, tell

POINTS = 320 if IS_LONG else 60
POINTS_OF_OTHERS = 320 if IS_LONG else 20
CUTS_PER_FAILED_SYNC = 4


@dataclass
class Recording:
    """All that a process asked of the disk."""

    database: Path
    events: list[Event]


def record(nursery: Nursery, folder: Path, **order: object) -> Recording:
    """Let a process live, and close in good order."""
    database = folder / "sessions.db"
    log = folder / "record"
    given: dict[str, object] = {"work": "drawn", "calls": 25, "sessions": 12, "padding": 1_500}
    made = Order(
        path=str(database),
        journal=str(folder / "journal"),
        record=str(log),
        **{**given, **order},  # type: ignore[arg-type]
    )
    assert nursery.run(made) == 0, nursery.said()
    return Recording(database, read_events(log))


def cuts(recording: Recording, points: int, image: Path, seed: int) -> Iterator[int]:
    """Make the image of one power cut after another; says after how many events each was.

    Where a sync failed all are behind it. The last one is behind everything.
    """
    rng = random.Random(seed)
    image.parent.mkdir()
    disk = Disk(str(recording.database))
    end = len(recording.events)
    failed = [place for place, event in enumerate(recording.events) if event.kind == "F"]
    begin = failed[0] if failed else 0
    places = sorted(rng.randint(begin, end) for _ in range(points - 1))
    taken = 0
    for place in [*places, end]:
        for event in recording.events[taken:place]:
            disk.take(event)
        taken = place
        disk.cut(rng, image)
        yield place


def reports(
    recording: Recording, points: int, image: Path, seed: int, backend: str
) -> dict[int, Report]:
    """What is found after each power cut."""
    return {
        place: anyio.run(examine, image, journal_until(recording.events[:place]), backend=backend)
        for place in cuts(recording, points, image, seed)
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("wal", [True, False], ids=["wal", "journal"])
def test_g3_g5_full_loses_nothing_at_a_power_cut(
    nursery: Nursery, tmp_path: Path, backend: str, wal: bool
) -> None:
    """synchronous=FULL, the default: nothing acknowledged lost, nothing half, file whole (G3)."""
    recording = record(nursery, tmp_path, backend=backend, wal=wal)
    points = POINTS if wal or IS_LONG else POINTS // 2
    found = reports(recording, points, tmp_path / "image" / "sessions.db", 7, backend)
    faults = {place: report.faults for place, report in found.items() if report.faults}
    most = max(report.acknowledged for report in found.values())
    tell(
        f"FULL, wal={wal}, {backend}: {len(found)} power cuts, up to {most} turns acknowledged, "
        f"{len(faults)} with a fault"
    )
    assert most > 100
    assert faults == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_g3_the_check_catches_what_does_not_wait_for_the_disk(
    nursery: Nursery, tmp_path: Path, synchronous: str
) -> None:
    """The same check on NORMAL and OFF must find acknowledged turns lost: it has teeth (G3)."""
    recording = record(nursery, tmp_path, synchronous=synchronous)
    image = tmp_path / "image" / "sessions.db"
    found = reports(recording, POINTS_OF_OTHERS, image, 7, "asyncio")
    lost = sum(bool(report.lost) for report in found.values())
    tell(f"{synchronous}: {len(found)} power cuts, acknowledged turns lost at {lost}")
    assert lost > len(found) // 4


@pytest.mark.timeout(600)
def test_g3_nothing_is_acknowledged_on_top_of_a_failed_sync(
    nursery: Nursery, tmp_path: Path, backend: str
) -> None:
    """A sync fails, the kernel forgets its pages, the process goes on, the power is cut (G3)."""
    (tmp_path / "whole").mkdir()
    small = {"work": "fixed", "padding": 300, "backend": backend}
    whole = record(nursery, tmp_path / "whole", **small)
    counted = [event for event in whole.events if event.kind in "WSTU"]
    numbers = [place for place, event in enumerate(counted, 1) if event.kind == "S"]
    chosen = numbers if IS_LONG else random.Random(backend).sample(numbers, 8)
    faults: dict[int, list[str]] = {}
    for number in sorted(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        fault = {"action": "fail", "nth": number, "error": EIO}
        recording = record(nursery, folder, **small, **fault)
        image = folder / "image" / "sessions.db"
        found = reports(recording, CUTS_PER_FAILED_SYNC, image, number, backend)
        faults[number] = [fault for report in found.values() for fault in report.faults]
    bad = {number: found for number, found in faults.items() if found}
    tell(f"{backend}: {len(chosen)} of {len(numbers)} syncs failed, {len(bad)} with a fault")
    assert bad == {}
