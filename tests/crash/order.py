"""What a test asks of a process, and how the two talk: plain data, imports nothing of ours."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Action = Literal["nothing", "kill before", "kill after", "tear", "fail", "shorten"]
ACTIONS: tuple[Action, ...] = (
    "nothing",
    "kill before",
    "kill after",
    "tear",
    "fail",
    "shorten",
)
"""In the order of the numbers that shim.c knows."""

Line = dict[str, Any]
"""One line of the journal that a process writes about its calls."""

FOR_EVER = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Order:
    """One process: what it is to do on which file, and which trouble it is to have."""

    path: str
    journal: str
    """Where it writes a line per call before it makes it, and per answer that it got."""
    work: str
    """A name in workload.WORKS or troubles.TROUBLES."""
    backend: str = "asyncio"
    label: str = "0"
    """Part of every text, so that no two processes of one test write the same one."""
    seed: int = 0
    sessions: int = 3
    calls: int = 0
    padding: int = 40
    synchronous: str = "FULL"
    wal: bool = True
    action: Action = "nothing"
    nth: int = -1
    times: int = 1
    error: int = 0
    record: str = ""
    """Where the shim is to record every write and sync; empty: nowhere."""
    skip_sync: bool = True
    """Do not wait for the disk: a kill leaves the page cache alone."""
    value: int = 0
    """For the work, whatever it means there."""

    def text(self) -> str:
        """As a line."""
        return json.dumps(asdict(self))


def read_journal(path: Path) -> list[Line]:
    """The complete lines: the last one may have been cut off by the kill."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
