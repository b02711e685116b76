"""What a session costs before it says anything: the modules that it loads."""

import json
import subprocess
import sys
from typing import Any

SESSION = """
from langswarm.core.session import create_session_manager


async def one_turn():
    async with create_session_manager("memory") as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        answer = await session.send_message("Hello")
        assert answer.content == "Mock response to: Hello"

"""
REPORT = """
import json
print(json.dumps({"before": before, "after": after}))
"""

ON_ASYNCIO = f"""
import asyncio, sys
before = []
{SESSION}
asyncio.run(one_turn())
after = sorted(sys.modules)
{REPORT}
"""
ON_TRIO = f"""
import sys, trio


async def nothing():
    pass


trio.run(nothing)
before = sorted(sys.modules)
{SESSION}
trio.run(one_turn)
after = sorted(sys.modules)
{REPORT}
"""


def loaded_by(program: str) -> tuple[set[str], set[str]]:
    """The modules before and after the session, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return set(report["before"]), set(report["after"])


def test_a_memory_and_mock_session_on_asyncio_loads_fewer_than_250_modules() -> None:
    _, loaded = loaded_by(ON_ASYNCIO)
    assert len(loaded) < 250, "\n".join(sorted(loaded))
    assert not loaded & {"aiosqlite", "httpx", "sqlite3", "trio"}


def test_a_memory_and_mock_session_on_trio_loads_fewer_than_60_modules_beyond_trio() -> None:
    before, after = loaded_by(ON_TRIO)
    added = after - before
    assert len(added) < 60, "\n".join(sorted(added))
    assert not added & {"aiosqlite", "httpx", "sqlite3"}
