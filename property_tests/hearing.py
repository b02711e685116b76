"""Subscribers that fall behind, leave and come back: every event is told once or counted (G10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .serving import require

if TYPE_CHECKING:
    import random

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.interfaces import SessionEvent
    from langswarm.core.session.runtime.events import EventStream

    from .serving import Place

_VERBS = ("say", "say", "send", "archive", "create", "context")


@attrs.define(eq=False)
class Ear:
    """One subscriber, and where it is."""

    stream: EventStream
    last: int
    heard: dict[int, SessionEvent] = attrs.field(factory=dict[int, "SessionEvent"])

    async def read(self, most: int) -> None:
        """What is there, up to so many."""
        while most > 0 and self.has_something():
            self.note(await anext(self.stream))
            most -= 1

    def has_something(self) -> bool:
        """Whether the next one would not be waited for."""
        return bool(self.stream._buffer or self.stream._missed)

    def note(self, event: SessionEvent) -> None:
        """It is the next one, or the gap up to its place says how many are between."""
        step = event.missed if event.type == "gap" else 1
        require(
            event.cursor == self.last + step,
            f"G10: behind {self.last} came {event.type} {event.cursor}, missed={event.missed}",
        )
        self.last = event.cursor
        if event.type != "gap":
            self.heard[event.cursor] = event


async def check_hearing(source: random.Random, place: Place) -> None:
    """With buffers of a few events, which most subscribers overrun."""
    size = source.choice((1, 2, 5, 100))
    async with place.manager(event_buffer_size=size) as manager:
        ears = [Ear(manager.session_events(), 0) for _ in range(3)]
        sessions = [await manager.create_session("ann", "p", "m")]
        for _ in range(source.choice((5, 20))):
            await _act(source, manager, sessions)
            await ears[0].read(1000)
            ear = source.choice(ears)
            await ear.read(source.choice((0, 1, 3)))
            if source.random() < 0.3:
                await ear.stream.aclose()
                ear.stream = manager.session_events(after=ear.last)
    for ear in ears:
        async for event in ear.stream:
            ear.note(event)
    _compare(ears)


def _compare(ears: list[Ear]) -> None:
    """All came to the same end and heard the same under the same number."""
    ends = {ear.last for ear in ears}
    require(len(ends) == 1, f"G10: subscribers ended at {ends}")
    known: dict[int, SessionEvent] = {}
    for ear in ears:
        for cursor, event in ear.heard.items():
            other = known.setdefault(cursor, event)
            require(event == other, f"G10: {event} is {other} for somebody else")


async def _act(source: random.Random, manager: SessionManager, sessions: list[Session]) -> None:
    session = source.choice(sessions)
    verb = source.choice(_VERBS)
    if verb == "create":
        sessions.append(await manager.create_session("ann", "p", "m"))
    elif verb == "say":
        await session.add_message("user", "hello")
    elif verb == "send":
        await session.send_message("hello")
    elif verb == "context":
        await session.update_context({"k": 1})
    else:
        await session.archive()
        await session.reopen()
