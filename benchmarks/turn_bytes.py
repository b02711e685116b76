"""Bytes that a turn hands to the disk, early and late in the same session: history costs none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import anyio
import attrs
from figures import Figure, Scale, Target, bytes_written
from langswarm.core.session import SQLiteSessionStorage, create_session_manager

QUESTION = "What is the capital of France, and how many people live there?"
EARLY = 10
"""The message in the middle of the early turns; two messages a turn."""


@attrs.frozen
class Sizes:
    """How long the session gets."""

    late: int
    """The message in the middle of the late turns."""


SIZES: dict[Scale, Sizes] = {"full": Sizes(10_000), "quick": Sizes(1_000), "tiny": Sizes(40)}


def figures(scale: Scale, backend: str) -> list[Figure]:
    late = SIZES[scale].late
    if bytes_written() is None:
        return []  # only Linux says
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turns.db"
        written = anyio.run(_turns, path, (late + EARLY) // 2, backend=backend)
        size = path.stat().st_size
    early, end = median(written[:EARLY]), median(written[-EARLY:])
    return [
        Figure(name=f"turn of message {EARLY}", value=early, unit="bytes"),
        Figure(
            name=f"turn of message {late:,}; floor: {EARLY}",
            value=end,
            unit="bytes",
            floor=early,
            ratio=end / early,
            target=Target(of="ratio", most=1.1),
        ),
        Figure(
            name="  mean of all turns, checkpoints included",
            value=sum(written) / len(written),
            unit="bytes",
        ),
        Figure(
            name="  the file in the end, per turn",
            value=size / len(written),
            unit="bytes",
        ),
    ]


async def _turns(path: Path, count: int) -> list[int]:
    """One turn after another; the bytes of each."""
    written: list[int] = []
    async with create_session_manager(SQLiteSessionStorage(path)) as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        before = bytes_written() or 0
        for _ in range(count):
            await session.send_message(QUESTION)
            after = bytes_written() or 0
            written.append(after - before)
            before = after
    return written
