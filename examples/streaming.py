"""An answer that is shown while it comes, and one that is stopped.

    python examples/streaming.py
    python examples/streaming.py trio

It needs no key: the mock speaks slowly on purpose.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
from langswarm.core.session import create_session_manager
from langswarm.core.session.interfaces import (
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnText,
)

if TYPE_CHECKING:
    from langswarm.core.session import Session


async def show(session: Session, question: str, *, stop_after: int | None = None) -> None:
    """Print the answer as it comes; stop it when so many characters are there."""
    print(">", question)
    async with session.stream_message(question) as turn:
        async for event in turn:
            match event:
                case TurnText():
                    print(event.text, end="", flush=True)
                    if stop_after is not None and len(turn.text) >= stop_after:
                        await session.stop()  # any task may, with any handle of the session
                case TurnCompleted():
                    print("\n[stored]")
                case TurnInterrupted():
                    print("\n[stopped; this much is stored]")
                case TurnFailed():
                    print(f"\n[no answer: {event.error}]")
                case _:
                    pass


async def main() -> None:
    async with create_session_manager() as manager:
        session = await manager.create_session("ada", "mock", "mock-model")
        session.provider_session.set_chunk_size(4)
        session.provider_session.set_chunk_delay(20)
        await show(session, "What is an actor?")
        session.provider_session.set_chunk_delay(100)
        await show(session, "And the history of all programming?", stop_after=16)
        for message in await session.get_messages(role="assistant"):
            print(message.seq, message.finish_reason, repr(message.content))


anyio.run(main, backend=sys.argv[1] if sys.argv[1:] else "asyncio")
