"""The manager's event stream: what happened, for whoever watches; bounded, gap-marked.

Publishing is a plain call that never waits: a subscriber that is too slow loses the oldest events
of its own buffer and is told how many, and no turn is ever held up (G10).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import attrs

from ..actors.errors import ConfigurationError
from ..actors.wait import current_backend
from .views import to_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ..actors.wait import Cell

EVENT_TYPES = frozenset(
    (
        "session_created",
        "message_sent",
        "message_received",
        "context_updated",
        "config_updated",
        "messages_cleared",
        "messages_rewound",
        "session_archived",
        "session_reopened",
        "session_deleted",
        "session_evicted",
        "session_error",
    )
)
_PREVIEW_CHARACTERS = 80


@attrs.frozen(kw_only=True)
class SessionEvent:
    """Something that happened to a session of this manager.

    Events of one session follow its commits: (revision, index) never goes back. Those that are no
    commit, `session_error` and `session_evicted`, have revision 0. `cursor` counts the events of
    this manager in this process.
    """

    type: str
    """One of `EVENT_TYPES`, or `gap`: then `missed` events were dropped before this one."""
    cursor: int
    session_id: str = ""
    user_id: str = ""
    revision: int = 0
    index: int = 0
    """Tells several events of one commit apart."""
    created_us: int = 0
    message_id: str | None = None
    message_preview: str = ""
    """The first characters of the message; empty unless `event_previews=True`."""
    error: Exception | None = None
    missed: int = 0

    @property
    def timestamp(self) -> datetime:
        """When it was published: aware, UTC."""
        return to_datetime(self.created_us)


def preview_of(content: str) -> str:
    """The beginning of a text on one line."""
    return " ".join(content[: 2 * _PREVIEW_CHARACTERS].split())[:_PREVIEW_CHARACTERS]


class EventStream:
    """`async for event in manager.session_events()`: from the call on, until the manager closes.

    One task iterates it at a time. Leaving it unread costs its buffer; dropping it costs nothing.
    """

    def __init__(
        self, *, types: Iterable[str] | None, session_id: str | None, buffer_size: int
    ) -> None:
        self._types = None if types is None else frozenset(types)
        unknown = (self._types or frozenset()) - EVENT_TYPES
        if unknown:
            raise ConfigurationError(
                f"no event type {min(unknown)!r}; there are {', '.join(sorted(EVENT_TYPES))}"
            )
        self._session_id = session_id
        self._buffer: deque[SessionEvent] = deque()
        self._buffer_size = buffer_size
        self._missed = 0
        self._closed = False
        self._cell: Cell[Any] | None = None

    def offer(self, event: SessionEvent) -> None:
        """Buffer an event if it is asked for; the oldest goes when there is no room."""
        if self._types is not None and event.type not in self._types:
            return
        if self._session_id is not None and event.session_id != self._session_id:
            return
        if len(self._buffer) == self._buffer_size:
            self._buffer.popleft()
            self._missed += 1
        self._buffer.append(event)
        self._wake()

    def close(self) -> None:
        """End the stream after what is buffered."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.set(None)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        while not self._buffer and not self._closed:
            if self._cell is not None:
                raise ConfigurationError("two tasks iterate one event stream; ask for one each")
            self._cell = current_backend().cell()
            try:
                await self._cell.wait()
            finally:
                self._cell = None
        if self._missed:
            missed, self._missed = self._missed, 0
            return SessionEvent(type="gap", cursor=self._buffer[0].cursor, missed=missed)
        if not self._buffer:
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()
        return self._buffer.popleft()


SessionEvent.__module__ = "langswarm.core.session.interfaces"
