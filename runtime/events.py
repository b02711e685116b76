"""The manager's event stream: what happened, for whoever watches; bounded, gap-marked.

Publishing is a plain call that never waits: a subscriber that is too slow loses the oldest events
of its own buffer and is told how many, and no turn is ever held up (G10).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

import anyio.lowlevel
import attrs

from ..actors.errors import ConfigurationError
from ..actors.wait import current_backend
from .views import to_datetime

if TYPE_CHECKING:
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
    """One of `EVENT_TYPES`, or `gap`: then `missed` events were dropped, this one's the last."""
    cursor: int
    """Give it back as `after` to go on behind this event."""
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
    """Of a `gap`: how many; those that were dropped before a subscriber came back are counted
    whether or not it asks for their kind."""

    @property
    def timestamp(self) -> datetime:
        """When it was published: aware, UTC."""
        return to_datetime(self.created_us)


def preview_of(content: str) -> str:
    """The beginning of a text on one line."""
    return " ".join(content[: 2 * _PREVIEW_CHARACTERS].split())[:_PREVIEW_CHARACTERS]


@attrs.frozen(kw_only=True)
class EventFilter:
    """Which events a subscriber asks for; None: all."""

    types: frozenset[str] | None = None
    session_id: str | None = None
    user_id: str | None = None

    def takes(self, event: SessionEvent) -> bool:
        """Whether the event is one of these."""
        return (
            (self.types is None or event.type in self.types)
            and (self.session_id is None or event.session_id == self.session_id)
            and (self.user_id is None or event.user_id == self.user_id)
        )


def checked_types(types: object) -> frozenset[str] | None:
    """The event types that a subscriber names. Raises ConfigurationError for one there is not."""
    if types is None:
        return None
    if isinstance(types, str) or not isinstance(types, Iterable):
        raise ConfigurationError(f"types={types!r} must be a list of event types")
    given = frozenset(
        each if isinstance(each, str) else repr(each) for each in cast("Iterable[object]", types)
    )
    for unknown in sorted(given - EVENT_TYPES):
        near = get_close_matches(unknown, EVENT_TYPES, n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(EVENT_TYPES))}"
        )
        raise ConfigurationError(f"no event type {unknown!r}; {hint}")
    return given


class EventHistory:
    """The last events of a manager, for subscribers that come back."""

    def __init__(self, size: int) -> None:
        self._events: deque[SessionEvent] = deque(maxlen=size)
        self.last_cursor = 0

    def add(self, event: SessionEvent) -> None:
        """The newest event; the oldest goes when there is no room."""
        self.last_cursor = event.cursor
        self._events.append(event)

    def after(self, cursor: int) -> list[SessionEvent]:
        """Those behind a cursor, with a gap in front if some of them are kept no more.

        Raises ConfigurationError for a cursor that this manager has not given out.
        """
        if cursor > self.last_cursor:
            raise ConfigurationError(
                f"after={cursor} is no cursor of this manager, whose last one is "
                f"{self.last_cursor}: cursors hold for one manager in one process; "
                "read what you need anew and subscribe without it"
            )
        found = [event for event in self._events if event.cursor > cursor]
        missed = self.last_cursor - cursor - len(found)
        return [_gap(cursor + missed, missed), *found] if missed else found


def _gap(cursor: int, missed: int) -> SessionEvent:
    return SessionEvent(type="gap", cursor=cursor, missed=missed)


class EventStream:
    """`async for event in manager.session_events()`: from the call on, until the manager closes.

    One task iterates it at a time. Leaving it unread costs its buffer; dropping it costs nothing.
    `aclose()` ends it earlier.
    """

    def __init__(
        self, wanted: EventFilter, *, buffer_size: int, replayed: Iterable[SessionEvent] = ()
    ) -> None:
        self._wanted = wanted
        self._buffer: deque[SessionEvent] = deque()
        self._buffer_size = buffer_size
        self._missed = 0
        self._missed_cursor = 0
        self._closed = False
        self._cell: Cell[Any] | None = None
        for event in replayed:
            if event.type == "gap":
                self._missed, self._missed_cursor = event.missed, event.cursor
            else:
                self.offer(event)

    def offer(self, event: SessionEvent) -> None:
        """Buffer an event if it is asked for; the oldest goes when there is no room."""
        if self._closed or not self._wanted.takes(event):
            return
        if len(self._buffer) == self._buffer_size:
            self._missed_cursor = self._buffer.popleft().cursor
            self._missed += 1
        self._buffer.append(event)
        self._wake()

    def close(self) -> None:
        """End the stream after what is buffered."""
        self._closed = True
        self._wake()

    async def aclose(self) -> None:
        """Listen no longer: what is buffered is dropped, and the iteration ends."""
        self._buffer.clear()
        self._missed = 0
        self.close()
        await anyio.lowlevel.checkpoint()

    def _wake(self) -> None:
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.set(None)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        while not self._buffer and not self._missed and not self._closed:
            if self._cell is not None:
                raise ConfigurationError("two tasks iterate one event stream; ask for one each")
            self._cell = current_backend().cell()
            try:
                await self._cell.wait()
            finally:
                self._cell = None
        if self._missed:
            missed, self._missed = self._missed, 0
            await anyio.lowlevel.checkpoint()
            return _gap(self._missed_cursor, missed)
        if not self._buffer:
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()
        return self._buffer.popleft()


SessionEvent.__module__ = "langswarm.core.session.interfaces"
