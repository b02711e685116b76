"""Wrong variants of the order of things: tickets, archive, context, seq."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio.lowlevel
from langswarm.core.session.actors import decisions, session_actor
from langswarm.core.session.actors.decisions import ChangeStatus, ClearMessages
from langswarm.core.session.actors.mailbox import Mailbox, TicketState
from langswarm.core.session.actors.model import changed
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.stages import Phase
from langswarm.core.session.actors.supervisor import Supervisor
from langswarm.core.session.actors.turn import Turn
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage

from .catalogue import planted, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.mailbox import Ticket
    from langswarm.core.session.actors.model import (
        MessageQuery,
        MessageRecord,
        SessionDocuments,
        SessionWrite,
        StoredSession,
    )


@planted("G1")
def a_task_per_message() -> AbstractContextManager[object]:
    """A message enters the mailbox in a task of its own, so the scheduler decides the order."""
    enqueue = SessionActor.enqueue

    def late(self: SessionActor, ticket: Ticket[Any]) -> None:
        async def later() -> None:
            await anyio.lowlevel.checkpoint()
            enqueue(self, ticket)

        self.system.executor.start(Context(), later)

    return patch.object(SessionActor, "enqueue", late)


@planted("G1")
def last_in_first_out() -> AbstractContextManager[object]:
    """The mailbox gives the newest message first."""
    take = Mailbox.take

    def take_newest(self: Mailbox, now: Callable[[], float]) -> Ticket[Any] | None:
        self._queue.reverse()
        try:
            return take(self, now)
        finally:
            self._queue.reverse()

    return patch.object(Mailbox, "take", take_newest)


@planted("G1")
def clearing_starts_seq_anew() -> AbstractContextManager[object]:
    """After clear_messages() the numbers begin at 1 again."""

    def clear(state: StoredSession, command: ClearMessages, now_us: int) -> SessionWrite:
        write = decisions.clear_messages(state, command, now_us)
        record = changed(write.after.record, last_seq=0)
        return changed(write, after=changed(write.after, record=record))

    return patch.dict(decisions._PLAIN, {ClearMessages: clear})


@planted("G2")
def two_activations_at_once() -> AbstractContextManager[object]:
    """A call that finds its session loading loads it once more."""
    submit = Supervisor.submit

    def submit_twice(
        self: Supervisor, session_id: str, *arguments: Any, **keywords: Any
    ) -> Ticket[Any]:
        actor = self._actors.get(session_id)
        if actor is not None and actor.phase is Phase.LOADING:
            del self._actors[session_id]
        return submit(self, session_id, *arguments, **keywords)

    return patch.object(Supervisor, "submit", submit_twice)


@planted("G6")
def stale_context() -> AbstractContextManager[object]:
    """A turn sees the context as it was when its message was sent."""
    enqueue, filtered = SessionActor.enqueue, Turn._filter
    seen: dict[Ticket[Any], SessionDocuments | None] = {}

    def note(self: SessionActor, ticket: Ticket[Any]) -> None:
        seen[ticket] = None if self.state is None else self.state.documents
        enqueue(self, ticket)

    async def filter_stale(self: Turn, message: MessageRecord) -> tuple[str, str]:
        actor, documents = self._actor, seen.get(self._ticket)
        state = actor.loaded_state()
        if documents is not None:
            actor.state = changed(state, documents=documents)
        try:
            return await filtered(self, message)
        finally:
            actor.state = state

    return together(
        patch.object(SessionActor, "enqueue", note), patch.object(Turn, "_filter", filter_stale)
    )


@planted("G8")
def archive_is_not_final() -> AbstractContextManager[object]:
    """An archived session takes messages."""

    def anything_goes(state: StoredSession) -> None:
        del state

    return together(
        patch.object(decisions, "check_writable", anything_goes),
        patch.object(session_actor, "check_writable", anything_goes),
    )


@planted("G8")
def archive_overtakes() -> AbstractContextManager[object]:
    """archive() goes to the head of the queue, before the messages that were sent earlier."""
    put = Mailbox.put

    def put_first(self: Mailbox, ticket: Ticket[Any], mailbox_size: int) -> None:
        put(self, ticket, mailbox_size)
        if isinstance(ticket.command, ChangeStatus):
            self._queue.rotate(1)

    return patch.object(Mailbox, "put", put_first)


@planted("G9")
def withdrawn_messages_run() -> AbstractContextManager[object]:
    """The mailbox does not look whether a message was withdrawn."""

    def take_any(self: Mailbox, now: Callable[[], float]) -> Ticket[Any] | None:
        del now
        while self._queue and self._queue[0].state is TicketState.SETTLED:
            del self._queue[0]
        if not self._queue:
            return None
        ticket = self._queue.popleft()
        self.size = len(self._queue)
        ticket.run()
        return ticket

    return patch.object(Mailbox, "take", take_any)


@planted("G1")
def ordered_by_time() -> AbstractContextManager[object]:
    """The history is in the order of the messages' times; a clock may have been put back."""
    read = InMemorySessionStorage.read_messages

    async def by_time(
        self: InMemorySessionStorage, key: int, query: MessageQuery
    ) -> Sequence[MessageRecord]:
        found = await read(self, key, query)
        return sorted(found, key=lambda message: message.created_us)

    return patch.object(InMemorySessionStorage, "read_messages", by_time)
