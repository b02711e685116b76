"""Runs sessions and keeps all that was shown while they ran."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session import (
    SessionError,
    SessionManager,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.interfaces import ISessionLifecycleHook, TurnFailed, TurnInterrupted

from .looking import (
    assert_hidden,
    shown_of,
    shown_of_files,
    shown_of_objects,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from langswarm.core.session import Session, SessionMessage
    from langswarm.core.session.providers import IProvider

    from ...vendors import VendorServer
    from .kinds import Kind

PATIENCE_SECONDS = 100.0


class Watch(ISessionLifecycleHook):
    """A hook, a reader of events, and a log of what else a program may see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.errors: list[BaseException] = []
        self.told: list[Exception] = []

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        del session_id
        self.told.append(error)

    def look_at(self, error: BaseException) -> None:
        self.errors.append(error)
        assert_hidden(*shown_of(error))

    async def ask(self, session: Session, text: str) -> SessionMessage | None:
        """One turn, awaited; None: it failed."""
        try:
            return self._shown(await session.send_message(text))
        except SessionError as error:
            self.look_at(error)
            return None

    async def follow(self, session: Session, text: str) -> SessionMessage | None:
        """One turn, event by event; None: it failed."""
        async with session.stream_message(text) as turn:
            async for event in turn:
                assert_hidden(*shown_of_objects(event))
                if isinstance(event, TurnFailed | TurnInterrupted):
                    self.look_at(event.error)
                    return None
        assert turn.message is not None
        return self._shown(turn.message)

    def _shown(self, message: SessionMessage) -> SessionMessage:
        assert_hidden(*shown_of_objects(message))
        return message

    async def look_around(self, manager: SessionManager, *more: object) -> None:
        """Everything that a program can ask for."""
        health = await manager.health()
        assert_hidden(
            *shown_of_objects(manager, manager.statistics(), manager.inspect(), health, *more)
        )

    async def look_back(self, manager: SessionManager) -> None:
        """What hooks were told, and all files."""
        for error in self.told:
            assert_hidden(*shown_of(error))
        await manager.backup(self.folder / "backup.db")
        assert_hidden(*shown_of_files(self.folder))


@asynccontextmanager
async def watched(
    folder: Path, providers: dict[str, IProvider], **limits: Any
) -> AsyncGenerator[tuple[SessionManager, Watch]]:
    """A manager over a database file, looked through at the end, its events included."""
    watch = Watch(folder)
    storage = SQLiteSessionStorage(folder / "s.db")
    manager = create_session_manager(
        storage, providers=providers, hooks=[watch], event_previews=True, **limits
    )
    events = manager.session_events()

    async def read() -> None:
        async for event in events:
            assert_hidden(*shown_of_objects(event))
            if event.error is not None:
                assert_hidden(*shown_of(event.error))

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            async with manager:
                yield manager, watch
                await watch.look_back(manager)
    assert_hidden(*shown_of_files(folder))


def assert_seen_in_its_header_only(vendor: VendorServer, kind: Kind) -> None:
    """The server was shown the key, and where it belongs only."""
    assert vendor.requests
    for seen in vendor.requests:
        shown = dict(seen.headers)
        auth, gateway = shown.pop(kind.header), shown.pop("x-gateway-token")
        assert auth.endswith("Gb8")
        assert gateway.endswith("Jm9")
        assert_hidden(repr(shown), repr(seen.body), repr(seen.query), seen.path)
