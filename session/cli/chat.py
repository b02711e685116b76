"""An interactive session with the mock provider; piped input works as well.

The main thread belongs to the user: it reads lines, and Ctrl-C ends it wherever it is. The
runtime has an event loop in a thread of its own, where nothing interrupts a turn.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

import attrs
from anyio.from_thread import BlockingPortal, start_blocking_portal
from langswarm.core.session import (
    IProvider,
    MockProvider,
    Session,
    SessionError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
)
from langswarm.core.session.cli.exits import FAILED, INTERRUPTED, OK, UsageError
from langswarm.core.session.cli.screen import Screen
from langswarm.core.session.providers import ProviderEvent, ProviderRequest, TextDelta

_DRAIN_SECONDS = 2.0
_CHUNK = 3
_CHUNK_MS = 15.0
_HELP = "/history shows the conversation, /quit or Ctrl-D ends it."


@attrs.frozen(kw_only=True)
class Options:
    """What the command line says."""

    database: Path | None
    session_id: str | None
    user_id: str
    backend: str


class AloudProvider(IProvider):
    """Shows the pieces of each answer while they arrive, and passes them on.

    A session returns an answer when it is stored; what streams is the provider, so that is where
    one can listen. The caller ends the line when the answer is stored.
    """

    def __init__(self, provider: IProvider, screen: Screen) -> None:
        self._provider = provider
        self._screen = screen

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """The other provider's answer."""
        answering = cast("AsyncGenerator[ProviderEvent, None]", self._provider.stream(request))
        async with contextlib.aclosing(answering) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    self._screen.write(event.text)
                yield event


def chat(options: Options) -> int:
    """Talk until the input ends; returns the exit code. Raises UsageError and SessionError."""
    screen = Screen(sys.stdout)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    manager = SessionManager(
        "memory" if options.database is None else "sqlite",
        storage_config=None if options.database is None else {"db_path": options.database},
        providers={"mock": AloudProvider(_mock(interactive=interactive), screen)},
        drain_seconds=_DRAIN_SECONDS,
    )
    try:
        with (
            start_blocking_portal(options.backend) as portal,
            portal.wrap_async_context_manager(manager),
        ):
            session = portal.call(_opened, manager, options)
            return _Chat(portal, session, screen, interactive=interactive).run(options)
    except KeyboardInterrupt:
        screen.write("\n")
        return INTERRUPTED


def _mock(*, interactive: bool) -> MockProvider:
    return MockProvider(chunk_size=_CHUNK, chunk_delay_ms=_CHUNK_MS if interactive else 0)


async def _opened(manager: SessionManager, options: Options) -> Session:
    if options.session_id is not None:
        with contextlib.suppress(SessionNotFoundError):
            return await manager.get_session(options.session_id, user_id=options.user_id)
    try:
        return await manager.create_session(
            options.user_id, "mock", "mock", session_id=options.session_id
        )
    except SessionExistsError:
        raise UsageError(
            f"session {options.session_id!r} does not belong to user {options.user_id!r}: "
            "give another --session or --user"
        ) from None


class _Chat:
    """The conversation, from the main thread."""

    def __init__(
        self, portal: BlockingPortal, session: Session, screen: Screen, *, interactive: bool
    ) -> None:
        self._portal = portal
        self._session = session
        self._screen = screen
        self._interactive = interactive
        self._code = OK

    def run(self, options: Options) -> int:
        if self._interactive:
            self._greet(options)
        for line in self._lines():
            text = line.strip()
            if text == "/quit":
                break
            if text == "/history":
                self._portal.call(self._show_history)
            elif text:
                self._say(text)
            if self._screen.closed:
                break
        return self._code

    def _greet(self, options: Options) -> None:
        where = "nothing is kept: no --db" if options.database is None else str(options.database)
        count = self._session.message_count
        about = f"session {self._session.session_id}, {count} messages ({where})"
        self._screen.write(f"{about}\n{_HELP}\n")

    def _lines(self) -> Iterator[str]:
        if not self._interactive:
            yield from sys.stdin
            return
        with contextlib.suppress(ImportError):
            import_module("readline")  # lets input() edit lines, where it exists
        while True:
            try:
                yield input("you> ")
            except EOFError:
                self._screen.write("\n")
                return

    def _say(self, text: str) -> None:
        if self._interactive:
            self._screen.write("mock> ")
        try:
            text.encode()
            self._portal.call(self._session.send_message, text)
        except UnicodeEncodeError:
            self._fail(f"this line is not {sys.stdin.encoding} and was not sent: {text!r}")
        except SessionError as error:
            self._fail(str(error))
        else:
            self._screen.write("\n")

    def _fail(self, message: str) -> None:
        print(f"langswarm-session: {message}", file=sys.stderr)
        self._code = FAILED

    async def _show_history(self) -> None:
        for message in await self._session.get_messages():
            self._screen.write(f"{message.seq} {message.role}: {message.content}\n")
