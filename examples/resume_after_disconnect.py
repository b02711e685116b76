"""A reader that is cut off twice and still gets the whole answer, each letter once.

    python examples/resume_after_disconnect.py
    python examples/resume_after_disconnect.py trio

A turn belongs to its session, not to whoever follows it. So it goes on when a browser closes, and
the cursor of the last event that the browser has seen is all it needs to go on reading: while the
turn runs, after its end, and after a restart of the server.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from langswarm.core.session import create_session_manager
from langswarm.core.session.interfaces import TurnText

if TYPE_CHECKING:
    from langswarm.core.session import Session, SessionManager

QUESTION = "Which stars does a sailor know by name?"


class Reader:
    """As a browser: keeps the text, and where it is."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor: str | None = None

    async def read(self, session: Session, pieces: int | None = None) -> None:
        """To the end of the turn, or until so many pieces have come and the line breaks."""
        async for event in session.follow(after=self.cursor):
            self.cursor = event.cursor
            if isinstance(event, TurnText):
                self.text += event.text
                pieces = None if pieces is None else pieces - 1
            if pieces == 0:
                break
        print(f"{self.cursor:>6}  {self.text!r}")


def sessions_in(path: Path) -> SessionManager:
    return create_session_manager("sqlite", storage_config={"db_path": str(path)})


async def main() -> None:
    reader = Reader()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sessions.db")
        async with sessions_in(path) as manager:
            session = await manager.create_session("ada", "mock", "mock-model")
            session.provider_session.set_chunk_size(5)
            session.provider_session.set_chunk_delay(20)
            answer = session.submit(QUESTION)
            await reader.read(session, pieces=3)  # and here the line breaks
            await reader.read(session, pieces=3)  # live again, behind what was seen, and again lost
            await answer
        async with sessions_in(path) as manager:  # as after a restart
            session = await manager.get_session(session.session_id, user_id="ada")
            await reader.read(session)  # the rest comes from the history
    assert reader.text == f"Mock response to: {QUESTION}"


anyio.run(main, backend=sys.argv[1] if sys.argv[1:] else "asyncio")
