"""A storage that tells what the host does with it."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from langswarm.core.session import (
    InMemorySessionStorage,
    create_session_manager,
)

from ..runtime.helpers import Echo, Gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Odd(BaseException):
    """No Exception."""


class Watched(InMemorySessionStorage):
    """Says when it is opened and closed, by whom, and can be held or fail while it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.closed = 0
        self.users: set[str] = set()
        self.gate: Gate | None = None
        self.open_error: BaseException | None = None

    async def open(self) -> None:
        self.users.add(user.get())
        self.opened += 1
        if self.gate is not None:
            await self.gate.passed()
        if self.open_error is not None:
            raise self.open_error
        await super().open()

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self.users.add(user.get())
        return await super().commit(writes)

    async def close(self) -> None:
        self.closed += 1
        await super().close()


def watched_manager(provider: Echo | None = None) -> tuple[Watched, SessionManager]:
    storage = Watched()
    provider = provider or Echo()
    return storage, create_session_manager(storage, providers={"openai": provider})
