"""Wrong variants of eviction, restart, bounds and shutdown."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio.lowlevel
from langswarm.core.session.actors.mailbox import Mailbox
from langswarm.core.session.actors.quarantine import Quarantine
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.stages import Phase
from langswarm.core.session.actors.supervisor import Supervisor
from langswarm.core.session.actors.window_cache import WindowCache
from langswarm.core.session.runtime.guests import Guests

from .catalogue import planted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.mailbox import Ticket


@planted("G4")
def evict_across_an_await() -> AbstractContextManager[object]:
    """An idle session is dropped a moment after it was found idle."""
    evict = Supervisor._evict

    def evict_later(self: Supervisor, actor: SessionActor) -> None:
        async def later() -> None:
            await anyio.lowlevel.checkpoint()
            if actor.phase is Phase.LIVE:
                evict(self, actor)

        self._idle.remove(actor)
        self.executor.start(Context(), later)

    return patch.object(Supervisor, "_evict", evict_later)


@planted("G4")
def evict_the_busy() -> AbstractContextManager[object]:
    """The idle clock is not stopped by a message."""

    def go_on(self: Supervisor, actor: SessionActor) -> None:
        del self, actor

    return patch.object(Supervisor, "became_busy", go_on)


@planted("G4")
def restart_loses_the_mailbox() -> AbstractContextManager[object]:
    """A crashed actor starts anew with an empty mailbox."""
    restart = SessionActor._restart

    def forgetful(self: SessionActor) -> None:
        self._mailbox = None
        restart(self)

    return patch.object(SessionActor, "_restart", forgetful)


@planted("G4")
def stale_prompt_window() -> AbstractContextManager[object]:
    """What was cached of the history is never dropped."""

    def keep(self: WindowCache, session_id: str) -> None:
        del self, session_id

    return patch.object(WindowCache, "drop", keep)


@planted("G10")
def hooks_miss_what_comes_fast() -> AbstractContextManager[object]:
    """A hook that is still busy is not told of the next message."""
    queue = Guests._queue

    def drop(self: Guests, call: Any) -> None:
        if call.notice.record.session_id not in self._lanes:
            queue(self, call)

    return patch.object(Guests, "_queue", drop)


@planted("G11")
def mailbox_off_by_one() -> AbstractContextManager[object]:
    """One message more than mailbox_size fits."""
    put = Mailbox.put

    def put_one_more(self: Mailbox, ticket: Ticket[Any], mailbox_size: int) -> None:
        put(self, ticket, mailbox_size + 1)

    return patch.object(Mailbox, "put", put_one_more)


@planted("G11")
def live_off_by_one() -> AbstractContextManager[object]:
    """One session more than max_live_sessions is live."""
    has_place = Supervisor._has_place

    def one_more(self: Supervisor) -> bool:
        return self._live == self.limits.max_live_sessions or has_place(self)

    return patch.object(Supervisor, "_has_place", one_more)


@planted("G13")
def drain_forgets_the_queue() -> AbstractContextManager[object]:
    """What still waits at the end of a shutdown gets no answer."""

    def silent(self: SessionActor, refusal: Callable[[str | None], Exception]) -> None:
        del self, refusal

    return patch.object(SessionActor, "fail_queued", silent)


@planted("G14")
def neighbours_are_quarantined_too() -> AbstractContextManager[object]:
    """One session's rest is everybody's rest."""
    rest_of = Quarantine.rest_of

    def rest_of_all(self: Quarantine, session_id: str, now: float) -> float:
        del session_id
        return max((rest_of(self, each, now) for each in self._records), default=0.0)

    return patch.object(Quarantine, "rest_of", rest_of_all)
