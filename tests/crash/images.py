"""What a disk may hold after a power cut: from the shim's record of all writes and syncs.

The model is that of POSIX with a file system of Linux underneath. A write that was synced is
there. One that was not is there, or not, or in part, sector by sector, and in any order. A file
that was deleted may be back, and one that was renamed have its old name, until its folder was
synced. A failed sync drops what it should have
written: the kernel marks those pages clean, and no later sync writes them.

A new file is there once it, or its folder, was synced. The shared memory is gone.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from .order import Line

HEADER = struct.Struct("<cHqI")
SECTOR = 512


@dataclass(frozen=True)
class Event:
    """One record of shim.c."""

    kind: str
    name: str
    position: int
    data: bytes


def read_events(path: Path) -> list[Event]:
    """All of a record."""
    return list(_events(path.read_bytes()))


def _events(data: bytes) -> Iterator[Event]:
    place = 0
    while place + HEADER.size <= len(data):
        kind, name_bytes, position, data_bytes = HEADER.unpack_from(data, place)
        place += HEADER.size
        name = data[place : place + name_bytes].decode()
        place += name_bytes
        yield Event(kind.decode(), name, position, data[place : place + data_bytes])
        place += data_bytes


def journal_until(events: Sequence[Event]) -> list[Line]:
    """What the process had said by then."""
    return [json.loads(event.data) for event in events if event.kind == "A"]


Change = tuple[int, Event]
"""A write or truncation and its number among the records."""


@dataclass
class File:
    """Its durable content, and what has been asked for since."""

    content: bytearray = field(default_factory=bytearray)
    exists: bool = False
    pending: list[Change] = field(default_factory=list[Change])

    def settle(self, before: int, *, keep: bool) -> None:
        """A sync that began after `before` records has succeeded, or failed."""
        if keep:
            self.exists = True
            for number, event in self.pending:
                if number < before:
                    apply(self.content, event)
        self.pending = [change for change in self.pending if change[0] >= before]


def apply(content: bytearray, event: Event) -> None:
    """Write or truncate."""
    if event.kind == "T":
        if event.position < len(content):
            del content[event.position :]
        else:
            content.extend(bytes(event.position - len(content)))
        return
    if len(content) < event.position:
        content.extend(bytes(event.position - len(content)))
    content[event.position : event.position + len(event.data)] = event.data


class Disk:
    """Takes the records in their order, and shows what a power cut would leave."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._folder = str(Path(database).parent)
        self._files: dict[str, File] = {}
        self._deleted: dict[str, File] = {}
        # Invariant: of a file that may still have its old name: that name, and what it replaced.
        self._renamed: dict[str, tuple[str, File | None]] = {}
        self._taken = 0

    def hold(self, name: str, content: bytes) -> None:
        """A file that was there, and durable, before the first record."""
        self._files[name] = File(bytearray(content), exists=True)

    def take(self, event: Event) -> None:
        """The next record."""
        number, self._taken = self._taken, self._taken + 1
        if event.kind in "SF":
            self._sync(event, keep=event.kind == "S")
        elif event.kind == "U":
            gone = self._files.pop(event.name, None)
            if gone is not None and gone.exists:
                self._deleted[event.name] = gone
        elif event.kind == "R":
            name = event.data.decode()
            self._renamed[name] = event.name, self._files.get(name)
            self._files[name] = self._files.pop(event.name)
        elif event.kind != "A":
            self._files.setdefault(event.name, File()).pending.append((number, event))

    def _sync(self, event: Event, *, keep: bool) -> None:
        if event.name != self._folder:
            self._files.setdefault(event.name, File()).settle(event.position, keep=keep)
        elif keep:
            self._deleted.clear()
            self._renamed.clear()
            for file in self._files.values():
                file.exists = True

    def cut(self, rng: random.Random, target: Path) -> None:
        """Make the files under the name `target` as they may be after a power cut now."""
        for old in target.parent.glob(f"{target.name}*"):
            old.unlink()
        for name, file in self._deleted.items():
            if name not in self._files and rng.random() < 0.5:
                self._write(name, file, rng, target)
        for name, file in self._files.items():
            if name in self._renamed and rng.random() < 0.5:
                before, replaced = self._renamed[name]
                self._write(before, file, rng, target)
                if replaced is not None:
                    self._write(name, replaced, rng, target)
            elif file.exists or rng.random() < 0.7:
                self._write(name, file, rng, target)

    def _write(self, name: str, file: File, rng: random.Random, target: Path) -> None:
        suffix = name.removeprefix(self._database)
        if suffix in {"-shm", ".lock"}:
            return
        content = bytearray(file.content)
        fate = rng.random()  # of all that is pending: a disk may have been quick, or lazy
        for _, event in file.pending:
            survives(content, event, rng, fate)
        target.with_name(target.name + suffix).write_bytes(content)


def survives(content: bytearray, event: Event, rng: random.Random, fate: float) -> None:
    """An unsynced change reaches the disk, or does not, or in part."""
    luck = rng.random()
    if luck < fate * 0.6:
        return
    if luck < fate or not event.data:
        apply(content, event)
        return
    for start in range(0, len(event.data), SECTOR):
        if rng.random() < 0.5:
            piece = event.data[start : start + SECTOR]
            apply(content, Event("W", event.name, event.position + start, piece))
