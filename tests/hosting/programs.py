"""Whole programs in a Python of their own, where warnings are errors and the exit is watched."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = '''
import asyncio, contextlib, gc, logging, os, signal, sys
import anyio
from langswarm.core.session import IProvider, create_session_manager
from langswarm.core.session.providers import Completed, TextDelta

backend, path = sys.argv[1:3]

class Provider(IProvider):
    """Answers; hangs in the middle of the answer to "hang"."""
    async def stream(self, request):
        text = request.messages[-1].content
        yield TextDelta("answer ")
        if text == "hang":
            hanging.set()
            await anyio.sleep_forever()
        yield TextDelta("to " + text)
        yield Completed()

hanging = anyio.Event()

def make(**keywords):
    storage = {"storage": "memory"}
    if path != "memory":
        storage = {"storage": "sqlite", "storage_config": {"db_path": path}}
    return create_session_manager(**storage, providers={"openai": Provider()}, **keywords)

async def new(manager, session_id="s"):
    return await manager.create_session("user", "openai", "gpt-4", session_id=session_id)
'''


def run(
    program: str, backend: str, path: Path | str = "memory", *, warnings: str = "error"
) -> subprocess.CompletedProcess[str]:
    """Run the program behind the prelude; it finds `backend` and `path` set."""
    source = PRELUDE + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", source, backend, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def assert_clean(done: subprocess.CompletedProcess[str], output: str = "") -> None:
    """Exit code 0, nothing on stderr, and exactly this output."""
    found = (done.returncode, done.stderr, done.stdout)
    assert found == (0, "", output), (
        f"exit code {found[0]}, stderr:\n{found[1]}\nstdout:\n{found[2]}"
    )
