"""Managers in a real event loop, for properties of many sessions: in memory and on files.

A property takes a source of choices and the place where sessions are kept, and raises
BrokenPromiseError.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
from langswarm.core.session import (
    InMemorySessionStorage,
    ProviderError,
    SessionManager,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.runtime.views import RisingClock
from langswarm.core.session.testing import ScriptedProvider, ScriptedTurn

from .running import BrokenPromiseError

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from langswarm.core.session import ISessionStorage
    from langswarm.core.session.providers import ProviderRequest
    from langswarm.core.session.testing import Backend

    Property = Callable[[random.Random, "Place"], Awaitable[None]]

Kind = Literal["memory", "sqlite"]
KINDS: tuple[Kind, ...] = ("memory", "sqlite")
EXAMPLES = {"memory": 40, "sqlite": 5}
"""How many examples CI runs of each: a file is slower."""
PROVIDERS = ("p", "q")
NOW_US = 1_800_000_000_000_000
"""What clocks show that nobody sets; real ones would come to the end of a day in between."""
TOKENS = 7, 11
"""In and out, of each answer."""


def answer(request: ProviderRequest) -> ScriptedTurn:
    """What was asked again; questions that begin with "fail" and "half" get none."""
    question = request.messages[-1].content
    if question.startswith("fail"):
        return ScriptedTurn(end=ProviderError("no answer", code="internal", retryable=False))
    if question.startswith("half"):
        return ScriptedTurn(text=f"re {question}", end="truncate")
    read, said = TOKENS
    return ScriptedTurn(
        text=f"re {question}",
        input_tokens=read,
        output_tokens=said,
        provider_session_id=request.provider_session_id or f"conversation {request.turn_id}",
    )


class Vendor(ScriptedProvider):
    """Keeps conversations of its own, until they are deleted."""

    keeps_conversations = True

    def __init__(self, deleted: set[str]) -> None:
        super().__init__(answer)
        self._deleted = deleted

    async def delete_conversation(self, provider_session_id: str) -> None:
        self._deleted.add(provider_session_id)


class Place:
    """Where sessions are kept, for managers one after the other."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "sessions.db"
        self._memory = InMemorySessionStorage()
        self.deleted: set[str] = set()
        """Conversations that vendors do not keep any more."""

    def storage(self) -> ISessionStorage:
        """Memory: always the same object. SQLite: a new one on the one file."""
        return self._memory if self.kind == "memory" else SQLiteSessionStorage(self.path)

    def forget(self) -> None:
        """Begin with nothing."""
        self._memory = InMemorySessionStorage()
        self.deleted.clear()
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()

    @asynccontextmanager
    async def manager(
        self, wall_clock_us: Callable[[], int] = lambda: NOW_US, **limits: int
    ) -> AsyncGenerator[SessionManager]:
        """A process."""
        manager = make_manager(self.storage(), self.deleted, **limits)
        manager._anchor.host.wall_clock_us = RisingClock(wall_clock_us)
        async with manager:
            yield manager


def make_manager(
    storage: ISessionStorage,
    deleted: set[str] | None = None,
    *,
    page_size: int = 100,
    event_buffer_size: int = 1000,
) -> SessionManager:
    """With the providers that answer as `answer` says."""
    return create_session_manager(
        storage,
        providers={name: Vendor(set() if deleted is None else deleted) for name in PROVIDERS},
        page_size=page_size,
        event_buffer_size=event_buffer_size,
    )


@contextmanager
def a_place(kind: Kind) -> Generator[Place]:
    """An empty one."""
    with tempfile.TemporaryDirectory() as folder:
        yield Place(kind, Path(folder))


def check(property_: Property, source: random.Random, backend: Backend, place: Place) -> None:
    """One example, in an event loop of its own; raises BrokenPromiseError."""
    place.forget()
    anyio.run(property_, source, place, backend=backend)


def require(condition: object, text: str) -> None:
    """Raise BrokenPromiseError with this text if the condition does not hold."""
    if not condition:
        raise BrokenPromiseError(text)
