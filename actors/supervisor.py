"""The supervisor: which sessions are live, which wait, which rest; and the end of all of them.

It holds one slot per session that is doing anything, live or not. A slot that is not idle cannot
be evicted, so a long answer never counts as idleness; one that is idle is dropped by a plain call.

When all live places are taken by busy sessions, further ones wait in line, first come first
served, until `queue_timeout_seconds`. A session that has more to do goes to the end of the line
after each step while others wait, so nobody waits for more than one step of each ahead (G12).

A session whose actor crashes is restarted from the storage; one that crashes more than
`max_restarts` times within the window is quarantined: its messages are answered with the error,
its neighbours never notice (G14).

Everything here is a plain call. Nothing waits but `drain`.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from weakref import WeakValueDictionary

import attrs

from .claim_sweep import ClaimSweep
from .decisions import SendMessage
from .errors import (
    CapacityError,
    RuntimeClosedError,
    SessionBusyError,
    SessionQuarantinedError,
    TurnInterruptedError,
    again,
)
from .idle import IdleList
from .mailbox import Ticket, TicketState
from .model import StoredSession
from .outcomes import storage_is_behind
from .ports import Notice
from .purger import Purger
from .quarantine import Quarantine
from .session_actor import SessionActor
from .stages import Cause, Phase
from .turn_gate import TurnGate
from .turn_watch import TurnWatch
from .values import about
from .wait import Signal
from .watch import BlockingReport
from .window_cache import WindowCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .decisions import Command
    from .executor import Executor
    from .idempotency import ClaimKey
    from .limits import Limits
    from .model import SessionRecord
    from .ports import IGuests, IProvider
    from .storage_actor import Loaded, StorageActor
    from .turn import Turn
    from .wait import Backend

T = TypeVar("T")

logger = logging.getLogger("langswarm.core.session")

OnBusy = Literal["queue", "reject", "interrupt"]

# So that a wave of expiries does not hold the event loop up for more than a few milliseconds.
_EVICTIONS_PER_TICK = 500


class Chore(Protocol):
    """Something that is done from time to time."""

    @property
    def due(self) -> float | None:
        """When to check, on the clock of the event loop; None: not before something happens."""

    def check(self, now: float) -> None:
        """Begin if it is time. Plain."""


class SessionHeader:
    """The facts of a session that its handles show without waiting; one for all of its handles.

    It lives as long as a handle does. Every commit of this process updates it.
    """

    __slots__ = ("__weakref__", "is_erased", "pending_settings", "record")

    def __init__(self) -> None:
        self.record: SessionRecord | None = None
        # Invariant: once True its session is gone for good; the id may be another one's by now.
        self.is_erased = False
        self.pending_settings: dict[str, Any] = {}

    def update(self, record: SessionRecord) -> None:
        """Take a record unless a later one is known, or it is of another session of that id."""
        known = self.record
        if self.is_erased:
            return
        if known is None or (record.key, record.revision) > (known.key, known.revision):
            self.record = record


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    """A snapshot. Counts are since the runtime started on this event loop."""

    live: int
    """Sessions in memory, loading ones included."""
    idle: int
    """Of these, those with nothing to do."""
    waiting: int
    """Sessions waiting for a live place."""
    running_turns: int
    waiting_turns: int
    """Of these, those that wait for `max_inflight_turns`."""
    quarantined: int
    activations: int
    evictions: int
    restarts: int
    quarantines: int
    abandoned_turns: int
    """Turns whose guest ignored its cancellation."""
    blocked_loop: int
    """Steps of guests that held the event loop longer than `blocking_seconds`."""
    cached_windows: int
    cached_window_bytes: int


class Supervisor:
    """All actors on one event loop."""

    def __init__(
        self,
        *,
        backend: Backend,
        executor: Executor,
        storage: StorageActor,
        providers: Mapping[str, IProvider],
        guests: IGuests,
        limits: Limits,
        headers: WeakValueDictionary[str, SessionHeader],
        wall_clock_us: Callable[[], int],
        wake_at: Callable[[float], None],
    ) -> None:
        self.backend = backend
        self.executor = executor
        self.storage = storage
        self.providers = providers
        self.guests = guests
        self.limits = limits
        self.wall_clock_us = wall_clock_us
        self.windows = WindowCache(limits.window_cache_bytes)
        self.blocking = BlockingReport(backend.now, limits.blocking_seconds)
        self._headers = headers
        self._wake_at = wake_at
        self._closing: str | None = None
        self._quiet = Signal(backend)
        # Invariant: once True no turn begins: all that had begun are interrupted by then.
        self.is_ending = False
        self._actors: dict[str, SessionActor] = {}
        # Of calls under idempotency keys that have not ended: their tickets, by what they claim.
        self._claimed: WeakValueDictionary[tuple[str, str, str], Ticket[Any]] = (
            WeakValueDictionary()
        )
        # Invariant: the number of actors in phase LOADING or LIVE; at most max_live_sessions.
        self._live = 0
        # Invariant: exactly the WAITING actors, in line, with the time at which each gives up.
        self._waiting: OrderedDict[SessionActor, float] = OrderedDict()
        # Invariant: exactly the LIVE actors with nothing to do.
        self._idle = IdleList()
        self.turns = TurnWatch(backend, limits.cancel_grace_seconds, wake_at)
        self.gate = _gate(backend, limits, wake_at)
        self.purger = Purger(
            backend, executor, storage, providers, wall_clock_us=wall_clock_us, wake_at=wake_at
        )
        self.claim_sweep = ClaimSweep(
            backend,
            executor,
            storage,
            kept_seconds=limits.idempotency_hours * 3600,
            wall_clock_us=wall_clock_us,
            wake_at=wake_at,
        )
        self.chores: list[Chore] = [self.claim_sweep, self.purger]
        # Called at each commit of a session that is to be archived by itself.
        self.on_auto_archive: Callable[[], None] | None = None
        self._quarantine = Quarantine(limits)
        self._counts = dict.fromkeys(
            ("activations", "evictions", "restarts", "quarantines", "abandoned"), 0
        )

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the actors."""
        now, counts = self.backend.now(), self._counts
        return SupervisorStatistics(
            live=self._live,
            idle=self._idle.count,
            waiting=len(self._waiting),
            running_turns=len(self.turns),
            waiting_turns=self.gate.waiting,
            quarantined=self._quarantine.count_resting(now),
            activations=counts["activations"],
            evictions=counts["evictions"],
            restarts=counts["restarts"],
            quarantines=counts["quarantines"],
            abandoned_turns=counts["abandoned"],
            blocked_loop=self.blocking.count,
            cached_windows=len(self.windows),
            cached_window_bytes=self.windows.bytes,
        )

    # -------------------------------------------------------- calls from outside

    def submit(
        self,
        session_id: str,
        command: Command,
        present: Callable[[Any], T],
        *,
        timeout_seconds: float | None = None,
        on_busy: OnBusy | None = None,
    ) -> Ticket[T]:
        """Put a command into the session's mailbox; the ticket is its place. Plain call.

        The caller's context goes along, for the guests.

        Raises RuntimeClosedError, SessionQuarantinedError, MailboxFullError, CapacityError or
        SessionBusyError; then nothing was queued.
        """
        if self._closing is not None:
            raise RuntimeClosedError(self._closing, content=getattr(command, "content", None))
        if self._quarantine and not getattr(command, "passes_quarantine", False):
            self._refuse_quarantined(session_id)
        if self.storage.waiting_writes >= self.limits.storage_queue_size:
            raise storage_is_behind(
                self.limits.storage_queue_size, getattr(command, "content", None)
            )
        deadline = math.inf if timeout_seconds is None else self.backend.now() + timeout_seconds
        claim: ClaimKey | None = getattr(command, "claim", None)
        if claim is not None:
            shared = self._shared(claim)
            if shared is not None:
                shared.deadline = max(shared.deadline, deadline)
                return shared
        actor = self._actors.get(session_id)
        if actor is None:
            self._refuse_crowd(command)
            actor = self._actors[session_id] = SessionActor(session_id, self)
        if isinstance(command, SendMessage) and actor.is_busy:
            self._meet_busy(actor, on_busy or actor.on_busy(), command)
        ticket = Ticket(command, actor, present, copy_context(), deadline)
        actor.enqueue(ticket)
        if claim is not None:
            self._claimed[claim.scope, claim.method, claim.key] = ticket
            self.claim_sweep.claimed()
        return ticket

    def _shared(self, claim: ClaimKey) -> Ticket[Any] | None:
        """The ticket of the same call under the same key that has not ended (G7).

        One with another payload is nothing to go by: it may itself be a conflict with what is
        stored. Both are decided in their order.
        """
        ticket = self._claimed.get((claim.scope, claim.method, claim.key))
        if ticket is None or ticket.state not in {TicketState.QUEUED, TicketState.RUNNING}:
            return None
        if getattr(ticket.command, "claim", None) != claim:
            return None
        ticket.shares += 1
        return ticket

    def _meet_busy(self, actor: SessionActor, on_busy: str, command: SendMessage) -> None:
        """The session has something to do before this message."""
        if on_busy == "reject":
            raise SessionBusyError(
                f'session {actor.session_id!r} is busy, and on_busy="reject": the message was not '
                "queued",
                content=command.content,
            )
        if on_busy == "interrupt" and actor.turn is not None:
            actor.turn.interrupt(_stopped("a message with on_busy='interrupt' came"))

    def stop(self, session_id: str, turn_no: int | None) -> Turn | None:
        """Interrupt the turn that runs, if it is this one; None: any. Plain call.

        Returns the turn, which ends soon with what had arrived; None: there was nothing to stop.
        """
        turn = self.turn_of(session_id)
        if turn is None or (turn_no is not None and turn.turn_no != turn_no):
            return None
        turn.interrupt(_stopped("stop() was called"))
        return turn

    def turn_of(self, session_id: str) -> Turn | None:
        """The turn that the session runs now."""
        actor = self._actors.get(session_id)
        return None if actor is None else actor.turn

    def actor_of(self, session_id: str) -> SessionActor | None:
        """The session's slot, if it is in memory."""
        return self._actors.get(session_id)

    def actors(self) -> list[SessionActor]:
        """All slots."""
        return list(self._actors.values())

    def refuse_reentrant_wait(self, session_id: str) -> None:
        """Raise ReentrantCallError if the running task is this session's own turn."""
        actor = self._actors.get(session_id)
        if actor is not None:
            actor.refuse_reentrant_wait()

    def evict(self, session_id: str) -> bool:
        """Drop the session from memory if it is idle: True if it is not live afterwards."""
        actor = self._actors.get(session_id)
        if actor is None:
            return True
        if actor.idle_since < 0:
            return False
        self._evict(actor)
        return True

    def make_way(self, session_id: str, key: int) -> None:
        """Before the session is erased: refuse what waits, interrupt its turn. Plain call."""
        actor = self._actors.get(session_id)
        if actor is None or (actor.state is not None and actor.state.record.key != key):
            return
        actor.refuse_waiting()
        if actor.turn is not None:
            actor.turn.interrupt(_stopped("the session is being erased"))

    def crash(self, session_id: str, error: Exception) -> bool:
        """Make the session's actor start anew as after a bug: True if there was one."""
        actor = self._actors.get(session_id)
        if actor is None:
            return False
        actor.crash(error)
        return True

    def live_state(self, session_id: str) -> StoredSession | None:
        """The session as last committed, if it is in memory."""
        actor = self._actors.get(session_id)
        return None if actor is None else actor.state

    def _refuse_quarantined(self, session_id: str) -> None:
        rest = self._quarantine.rest_of(session_id, self.backend.now())
        if rest > 0:
            raise SessionQuarantinedError(session_id, retry_after_seconds=rest)

    def _refuse_crowd(self, command: Command) -> None:
        limit = self.limits.max_waiting_sessions
        if len(self._waiting) >= limit:
            raise CapacityError(
                f"{limit} sessions wait for a live place (limit max_waiting_sessions); "
                "the message was not queued: send it again later",
                content=getattr(command, "content", None),
                retry_after_seconds=self.limits.queue_timeout_seconds,
            )

    # -------------------------------------------------------- live places

    def activate(self, actor: SessionActor) -> None:
        """Give the actor a live place, or a place in the line."""
        if not self._waiting and self._has_place():
            self._admit(actor)
            return
        until = self.backend.now() + self.limits.queue_timeout_seconds
        actor.move(Cause.WAIT)
        self._waiting[actor] = until
        if len(self._waiting) == 1:
            self._wake_at(until)

    def _has_place(self) -> bool:
        if self._live < self.limits.max_live_sessions:
            return True
        if self._idle.oldest is None:
            return False
        self._drop_idle(self._idle.oldest)
        return True

    def _admit(self, actor: SessionActor) -> None:
        self._live += 1
        self._counts["activations"] += 1
        actor.move(Cause.ADMIT)
        if actor.next_is_create():
            actor.move(Cause.CREATE)
            actor.pump()
        else:
            self._load(actor)

    def yield_place(self, actor: SessionActor) -> None:
        """After a step: let those who wait for a live place go first (G12)."""
        if not self._waiting:
            return
        self._live -= 1
        actor.move(Cause.YIELD)
        actor.state = None
        self.windows.drop(actor.session_id)
        self._waiting[actor] = self.backend.now() + self.limits.queue_timeout_seconds
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting and self._has_place():
            actor, _ = self._waiting.popitem(last=False)
            self._admit(actor)

    def reload(self, actor: SessionActor) -> None:
        """Load the actor's session again; it keeps its live place and its mailbox."""
        self._idle.remove(actor)
        actor.move(Cause.RELOAD)
        self._counts["restarts"] += 1
        self._load(actor)

    def _load(self, actor: SessionActor) -> None:
        def settled(found: Loaded) -> None:
            if actor.phase is not Phase.LOADING:
                return  # not an error, because the drain dropped it meanwhile
            if found is None or isinstance(found, StoredSession):
                actor.loaded(found)
            else:
                actor.fail_queued(lambda _: again(found))
                self.drop(actor)

        self.storage.load(actor.session_id, settled)

    def drop(self, actor: SessionActor) -> None:
        """Remove the slot, whatever it is doing."""
        self._remove(actor)
        self._admit_waiting()
        self._check_quiet()

    def _remove(self, actor: SessionActor) -> None:
        """No await between the check that a slot may go and this (G4)."""
        self._idle.remove(actor)
        self._waiting.pop(actor, None)
        if actor.phase is Phase.LOADING or actor.phase is Phase.LIVE:
            self._live -= 1
        actor.move(Cause.DROP)
        self.windows.drop(actor.session_id)
        del self._actors[actor.session_id]

    # -------------------------------------------------------- idleness

    def became_idle(self, actor: SessionActor) -> None:
        """Nothing to do: the idle clock starts now, at the end of the last step."""
        if actor.idle_since >= 0:
            return
        if actor.state is None:
            self.drop(actor)
            return
        self._idle.append(actor, self.backend.now())
        if self.limits.idle_seconds == 0:
            self._evict(actor)
            return
        if self._idle.oldest is actor:
            self._wake_at(actor.idle_since + self.limits.idle_seconds)
        self._admit_waiting()
        self._check_quiet()

    def became_busy(self, actor: SessionActor) -> None:
        """It took a message."""
        self._idle.remove(actor)

    def _evict(self, actor: SessionActor) -> None:
        self._drop_idle(actor)
        self._admit_waiting()
        self._check_quiet()

    def _drop_idle(self, actor: SessionActor) -> None:
        self._counts["evictions"] += 1
        self._remove(actor)
        if self.guests.is_listening and actor.state is not None:
            notice = Notice(kind="session_evicted", record=actor.state.record)
            self.guests.publish(notice, Context())

    # -------------------------------------------------------- time

    def tick(self) -> float | None:
        """Do what is due by now; returns when to be called again, None: not for now."""
        now = self.backend.now()
        for _ in range(_EVICTIONS_PER_TICK):
            oldest = self._idle.oldest
            if oldest is None or oldest.idle_since + self.limits.idle_seconds > now:
                break
            self._evict(oldest)
        while self._waiting and next(iter(self._waiting.values())) <= now:
            self._turn_away(next(iter(self._waiting)))
        for turn in self.turns.check(now):
            self._abandon(turn)
        self.gate.check(now)
        self._quarantine.forget(now)
        for chore in self.chores:
            chore.check(now)
        return self._next_due()

    def _next_due(self) -> float | None:
        due: list[float] = []
        if self._idle.oldest is not None:
            due.append(self._idle.oldest.idle_since + self.limits.idle_seconds)
        if self._waiting:
            due.append(next(iter(self._waiting.values())))
        dates = [self.turns.due, self.gate.due, *(chore.due for chore in self.chores)]
        due += [date for date in dates if date is not None]
        return min(due, default=None)

    def _turn_away(self, actor: SessionActor) -> None:
        seconds = self.limits.queue_timeout_seconds
        text = (
            f"all {self._live} live sessions were busy for queue_timeout_seconds={seconds:g}; "
            "the message did not run: send it again later"
        )
        actor.fail_queued(
            lambda content: CapacityError(text, content=content, retry_after_seconds=seconds)
        )
        self.drop(actor)

    # -------------------------------------------------------- turns

    def _abandon(self, turn: Turn) -> None:
        self._counts["abandoned"] += 1
        logger.error(
            "a guest of session %s ignored its cancellation and is abandoned; "
            "the session is quarantined",
            turn.session_id,
            extra=about(turn.session_id, turn.turn_no),
        )
        self._impose_quarantine(turn.session_id)
        self._refuse_queued(self._actors[turn.session_id])
        turn.abandon()

    # -------------------------------------------------------- crashes

    def may_restart(self, actor: SessionActor, error: Exception) -> bool:
        """Count a crash. False: too many, the actor is gone and its session quarantined."""
        session_id = actor.session_id
        may_restart = self._quarantine.crashed(session_id, self.backend.now())
        logger.error(
            "the actor of session %s crashed",
            session_id,
            exc_info=error,
            extra=about(session_id),
        )
        if may_restart:
            return True
        self._impose_quarantine(session_id)
        self._refuse_queued(actor)
        self.drop(actor)
        return False

    def _refuse_queued(self, actor: SessionActor) -> None:
        seconds = self.limits.quarantine_seconds
        actor.fail_queued(
            lambda _: SessionQuarantinedError(actor.session_id, retry_after_seconds=seconds)
        )

    def _impose_quarantine(self, session_id: str) -> None:
        self._quarantine.impose(session_id, self.backend.now())
        self._counts["quarantines"] += 1

    # -------------------------------------------------------- headers

    def header_changed(self, record: SessionRecord) -> None:
        """A commit changed the facts that handles show."""
        if record.auto_archive_seconds and self.on_auto_archive is not None:
            self.on_auto_archive()
        header = self._headers.get(record.session_id)
        if header is not None:
            header.update(record)

    def session_erased(self, record: SessionRecord) -> None:
        """Its handles stay with it: a later session of that id is none of theirs."""
        header = self._headers.pop(record.session_id, None)
        if header is not None:
            header.update(record)
            header.is_erased = True
            header.pending_settings = {}

    def pending_settings(self, session_id: str) -> dict[str, Any]:
        """Provider settings that a handle has set since the last write; do not change it."""
        header = self._headers.get(session_id)
        return {} if header is None else header.pending_settings

    def settings_saved(self, session_id: str, saved: dict[str, Any]) -> None:
        """They are stored; what was set meanwhile stays pending."""
        header = self._headers.get(session_id)
        if header is not None and header.pending_settings is saved:
            header.pending_settings = {}

    # -------------------------------------------------------- the end

    def abandon(self) -> None:
        """Tell all who wait that it ends before it has begun. Plain; after the storage's."""
        text = "the event loop cancelled the runtime before it began; the message is handed back"
        for actor in list(self._actors.values()):
            actor.fail_queued(lambda content: RuntimeClosedError(text, content=content))
            self.drop(actor)

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let the rest finish for `seconds`, then interrupt it (G13)."""
        self._closing = "the runtime is shutting down; the message was not queued"
        await self._until_quiet(self.backend.now() + seconds)
        text = "the runtime shut down before this message ran; it is handed back"
        self.is_ending = True
        for actor in list(self._actors.values()):
            actor.fail_queued(lambda content: RuntimeClosedError(text, content=content))
            if actor.phase is Phase.WAITING:
                self.drop(actor)
        self.turns.interrupt_all(RuntimeClosedError("the runtime is shutting down"))
        await self._until_quiet(self.backend.now() + 2 * self.limits.cancel_grace_seconds)
        for turn in self.turns.in_guest():
            self._abandon(turn)
        await self._until_quiet(self.backend.now() + self.limits.cancel_grace_seconds)
        if self.busy:
            logger.error("%d sessions did not come to rest before the end", self.busy)

    @property
    def busy(self) -> int:
        """Sessions with a step in progress or anything waiting."""
        return len(self._actors) - self._idle.count

    async def _until_quiet(self, until: float) -> None:
        while self.busy and self.backend.now() < until:
            due = self.tick()
            with self.backend.scope(until if due is None else min(due, until)):
                await self._quiet.wait()

    def look_again(self) -> None:
        """A date came up while draining, when no owner is parked to be woken by it."""
        self._quiet.wake()

    def _check_quiet(self) -> None:
        if self._closing is not None and not self.busy:
            self._quiet.wake()


def _gate(backend: Backend, limits: Limits, wake_at: Callable[[float], None]) -> TurnGate:
    if not limits.max_inflight_turns_per_user:
        return TurnGate(backend, limits.max_inflight_turns, limits.queue_timeout_seconds, wake_at)
    from .user_gate import UserGate  # noqa: PLC0415 - not for every program

    return UserGate(backend, limits, wake_at)


def _stopped(why: str) -> TurnInterruptedError:
    return TurnInterruptedError(why, code="interrupted", retryable=True)
