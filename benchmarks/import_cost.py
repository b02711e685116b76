"""Time and modules of a program that uses memory storage and the mock, beside one that does not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import attrs
from figures import Figure, Scale, Target, beside

REPETITIONS: dict[Scale, int] = {"full": 15, "quick": 5, "tiny": 1}

_BARE = {
    "asyncio": """
import time; start = time.perf_counter()
import asyncio
async def main(): pass
asyncio.run(main())
""",
    "trio": """
import time; start = time.perf_counter()
import trio
async def main(): pass
trio.run(main)
""",
}
_SESSION = """
from langswarm.core.session import create_session_manager
async def use():
    async with create_session_manager() as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        assert (await session.send_message("Hello")).content
{loop}.run(use)
"""
_REPORT = """
seconds = time.perf_counter() - start
import json, sys
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


@attrs.frozen
class Program:
    """What one process reported."""

    seconds: float
    modules: frozenset[str]


def figures(scale: Scale, backend: str) -> list[Figure]:
    use = _SESSION.format(loop=backend)
    if backend == "asyncio":
        use = use.replace(".run(use)", ".run(use())")
    bare, whole = _BARE[backend] + _REPORT, _BARE[backend] + use + _REPORT
    runs = [(_run(whole), _run(bare)) for _ in range(REPETITIONS[scale])]
    one, other = runs[-1]
    added = len(one.modules - other.modules)
    if backend == "asyncio":
        count = Figure(
            name="modules of a session on memory",
            value=len(one.modules),
            unit="modules",
            floor=len(other.modules),
            ratio=len(one.modules) / len(other.modules),
            target=Target(of="value", most=249),
        )
    else:
        count = Figure(
            name="modules beyond a bare trio.run",
            value=added,
            unit="modules",
            target=Target(of="value", most=59),
        )
    heavy = {"aiosqlite", "httpx"} & one.modules
    return [
        beside(
            "start, one turn, end",
            "ms",
            [(whole.seconds * 1e3, bare.seconds * 1e3) for whole, bare in runs],
        ),
        count,
        Figure(
            name="aiosqlite, httpx among them",
            value=len(heavy),
            unit="modules",
            target=Target(of="value", most=0),
        ),
    ]


def _run(program: str) -> Program:
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return Program(report["seconds"], frozenset(report["modules"]))
