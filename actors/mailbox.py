"""A session's mailbox and the tickets in it.

The place of a message is taken by a plain call, so nothing can slip in between taking it and
being in the queue (G1). A message that was withdrawn stays in the deque as a husk and is passed
over, because a deque removes from its middle in O(n); husks are swept when they outnumber the
messages, so the deque stays within twice its bound.

Control (evict, crash, drain, interrupt) has no queue at all: those are plain calls on the actor
that take effect at once, or at the end of the step in progress. That is the control lane: it
overtakes any number of queued messages in O(1).
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .errors import DeadlineExceededError, MailboxFullError, WithdrawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

    from .decisions import Command
    from .transcript import Transcript
    from .wait import Backend, Cell

T = TypeVar("T")

# An empty deque is 600 bytes, more than the rest of an idle session: it is made on demand.


class TicketState(Enum):
    """queued -> running -> settled, or queued -> withdrawn, or queued -> settled (refused)."""

    QUEUED = "queued"
    RUNNING = "running"
    SETTLED = "settled"
    WITHDRAWN = "withdrawn"


class Recipient(Protocol):
    """What a ticket needs of the actor that it was given by."""

    @property
    def session_id(self) -> str: ...

    @property
    def backend(self) -> Backend: ...

    def refuse_reentrant_wait(self) -> None:
        """Raise ReentrantCallError if the running task is this session's own turn."""

    def ticket_withdrawn(self) -> None:
        """One queued message less."""


class Ticket(Generic[T]):
    """A message's place in its session's queue, and later its result. Made by `submit`.

    Await it for the result, as often as you like and from several tasks. When the last task that
    waits for a queued ticket is cancelled, the message is withdrawn and never runs; once it runs,
    it goes on to its commit whoever is waiting (G9). A ticket that nobody awaits runs all the same.
    """

    __slots__ = (
        "__weakref__",
        "_error",
        "_present",
        "_recipient",
        "_state",
        "_value",
        "_waiters",
        "command",
        "context",
        "deadline",
        "shares",
        "transcript",
    )

    def __init__(
        self,
        command: Command,
        recipient: Recipient,
        present: Callable[[Any], T],
        context: Context,
        deadline: float = math.inf,
    ) -> None:
        self.command = command
        self.context = context
        # When it must be over, on the clock of the event loop; see DeadlineExceededError.
        self.deadline = deadline
        # What its turn says, for whoever follows it; made when somebody asks, or with the turn.
        self.transcript: Transcript | None = None
        # How many calls under one idempotency key have it.
        self.shares = 1
        self._recipient = recipient
        self._present = present
        self._state = TicketState.QUEUED
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Cell[None]] = []

    def __repr__(self) -> str:
        kind = type(self.command).__name__
        return f"<Ticket {kind} to {self._recipient.session_id!r}: {self._state.value}>"

    @property
    def state(self) -> TicketState:
        """Where the message is."""
        return self._state

    def withdraw(self) -> bool:
        """Take a queued message back: True if it will never run, False if it ran or runs (G9).

        A ticket that calls under one idempotency key share is taken back by the last of them.
        """
        if self.shares > 1 and self._state is TicketState.QUEUED:
            self.shares -= 1
            return False
        if self._state is not TicketState.QUEUED:
            return self._state is TicketState.WITHDRAWN
        self._settle(TicketState.WITHDRAWN, None, WithdrawnError(self._recipient.session_id))
        self._recipient.ticket_withdrawn()
        return True

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        if self._state is TicketState.QUEUED or self._state is TicketState.RUNNING:
            await self._until_settled()
        if self._error is not None:
            raise self._error
        return self._present(self._value)

    async def _until_settled(self) -> None:
        recipient = self._recipient
        try:
            recipient.refuse_reentrant_wait()
            while self._state is TicketState.QUEUED or self._state is TicketState.RUNNING:
                await self._until_changed(recipient.backend)
        except BaseException:
            self._abandoned()
            raise

    async def _until_changed(self, backend: Backend) -> None:
        """Until it is settled or, while it is queued, until its time is over."""
        cell = backend.cell()
        self._waiters.append(cell)
        try:
            if self._state is TicketState.RUNNING or self.deadline == math.inf:
                # Running, it is over when its turn or its commit is: that is interrupted in time.
                await cell.wait()
                return
            with backend.scope(self.deadline):
                await cell.wait()
        finally:
            if cell in self._waiters:
                self._waiters.remove(cell)
        if self._state is TicketState.QUEUED and self.deadline <= backend.now():
            self.time_out()
            self._recipient.ticket_withdrawn()

    def _abandoned(self) -> None:
        if self._state is not TicketState.QUEUED:
            return
        if self.shares > 1:
            self.shares -= 1  # another call has it, whether it waits or not
        elif not self._waiters:
            self.withdraw()

    # -------------------------------------------------------- for the actor

    def time_out(self) -> None:
        """Its time is over while it is queued: it never runs."""
        content = getattr(self.command, "content", None)
        error = DeadlineExceededError(
            f"session {self._recipient.session_id!r} did not come to it within the timeout of the "
            "call; it never ran",
            content=content,
        )
        self._settle(TicketState.SETTLED, None, error)

    def run(self) -> None:
        """From here on it cannot be withdrawn."""
        self._state = TicketState.RUNNING

    def succeed(self, value: object) -> None:
        """Settle with a result; a ticket that is settled already stays as it is."""
        self._settle(TicketState.SETTLED, value, None)

    def fail(self, error: BaseException) -> None:
        """Settle with an error; a ticket that is settled already stays as it is."""
        self._settle(TicketState.SETTLED, None, error)

    def _settle(self, state: TicketState, value: object, error: BaseException | None) -> None:
        if self._state is TicketState.SETTLED or self._state is TicketState.WITHDRAWN:
            return
        self._state, self._value, self._error = state, value, error
        if self.transcript is not None:
            self.transcript.end(error)
        waiters, self._waiters = self._waiters, []
        for cell in waiters:
            cell.set(None)


class Mailbox:
    """First in, first out, bounded. Made when needed: an idle session has none."""

    __slots__ = ("_queue", "size")

    def __init__(self) -> None:
        self._queue: deque[Ticket[Any]] = deque()
        # Invariant: the number of tickets in _queue that are queued, not withdrawn.
        self.size = 0

    def put(self, ticket: Ticket[Any], mailbox_size: int) -> None:
        """Take the last place. MailboxFullError hands the message back (G11)."""
        if self.size >= mailbox_size:
            content = getattr(ticket.command, "content", None)
            raise MailboxFullError(
                f"the mailbox holds {self.size} messages (limit mailbox_size={mailbox_size}); "
                "the message was not queued: send it again later",
                content=content,
            )
        self._queue.append(ticket)
        self.size += 1

    def take(self, now: Callable[[], float]) -> Ticket[Any] | None:
        """The next message, now running, or None; those whose time is over are told so."""
        while self._queue:
            ticket = self._queue.popleft()
            if ticket.state is not TicketState.QUEUED:
                continue
            self.size -= 1
            if ticket.deadline < math.inf and ticket.deadline <= now():
                ticket.time_out()
                continue
            ticket.run()
            return ticket
        return None

    def first(self) -> Ticket[Any] | None:
        """The next message, left where it is, or None."""
        return next((t for t in self._queue if t.state is TicketState.QUEUED), None)

    def withdrawn(self) -> None:
        """A ticket in the queue became a husk."""
        self.size -= 1
        if len(self._queue) > 2 * self.size + 32:
            self._queue = deque(t for t in self._queue if t.state is TicketState.QUEUED)

    def refuse_all_but(
        self, kept: type[object], refusal: Callable[[str | None], Exception]
    ) -> None:
        """Settle everything that is queued but commands of the type `kept`, which stay in order."""
        queue, self._queue = self._queue, deque()
        self.size = 0
        for ticket in queue:
            if not isinstance(ticket.command, kept):
                ticket.fail(refusal(getattr(ticket.command, "content", None)))
            elif ticket.state is TicketState.QUEUED:
                self._queue.append(ticket)
                self.size += 1

    def close(self, refusal: Callable[[str | None], Exception]) -> None:
        """Settle everything that is queued: no caller is left waiting.

        `refusal` makes the error of each, from the content that it hands back.
        """
        queue, self._queue = self._queue, deque()
        self.size = 0
        for ticket in queue:
            ticket.fail(refusal(getattr(ticket.command, "content", None)))
