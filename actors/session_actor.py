"""The session actor: one mailbox, one step at a time, commit before apply.

It holds the session as last committed, or nothing. `pump` takes the next message when the step
before is over; a plain command is decided and handed to the storage actor in that same call and
continues in the call-back; a turn runs in a task of its own. The state changes in one place,
`_committed`, after the write is durable, so an idle actor has nothing unsaved and dropping it is
a plain deletion: there is no moment in which a message could be lost (G4).

While a step is in progress nothing else of this session runs (G2). Control comes by plain calls:
`evict` takes effect if the actor is idle, `crash` and `interrupt` at the end of the step.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from .answer import describe
from .decisions import (
    AppendMessage,
    ChangeStatus,
    ClearMessages,
    CreateSession,
    OwnDecision,
    RetryTurn,
    Rewind,
    SendMessage,
    UpdateConfig,
    UpdateContext,
    check_writable,
    decide,
)
from .errors import (
    ConfigurationError,
    ProviderError,
    ReentrantCallError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
    again,
)
from .mailbox import Mailbox, Ticket
from .model import (
    Committed,
    Conflict,
    Role,
    SessionStatus,
    StoredSession,
    changed,
)
from .ports import Notice, ProviderRequest
from .preparation import Prepared, Repeated, VisibleAfter, needs_preparation, prepare
from .prompt import PromptWindow
from .rollover import begins_at
from .stages import Cause, Phase, next_phase
from .turn import Turn
from .turn_errors import bug_of
from .turn_writes import Replay, close_lost_turn
from .values import decode_object, encode_object
from .window_cache import read_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import MessageRecord, SessionWrite
    from .ports import IProvider, WriteOutcome
    from .supervisor import Supervisor
    from .wait import Backend


DEFAULT_MAX_MESSAGES = 100


_TURNS = frozenset((SendMessage, RetryTurn))
_NOTICES: dict[type[object], str] = {
    CreateSession: "session_created",
    UpdateContext: "context_updated",
    UpdateConfig: "config_updated",
    ClearMessages: "messages_cleared",
    Rewind: "messages_rewound",
}
_STATUS_NOTICES = {
    SessionStatus.ACTIVE: "session_reopened",
    SessionStatus.ARCHIVED: "session_archived",
    SessionStatus.DELETED: "session_deleted",
}


class SessionActor:
    """One session's slot: mailbox, loaded state, the step in progress."""

    __slots__ = (
        "_failure",
        "_in_flight",
        "_mailbox",
        "_reload",
        "_step",
        "_strays",
        "idle_since",
        "last_error",
        "newer",
        "older",
        "phase",
        "session_id",
        "state",
        "system",
        "turn",
    )

    def __init__(self, session_id: str, system: Supervisor) -> None:
        self.session_id = session_id
        self.system = system
        self.phase = Phase.NEW
        # Invariant: what the storage holds, or None; changed only after a commit succeeded.
        self.state: StoredSession | None = None
        self.turn: Turn | None = None
        self._mailbox: Mailbox | None = None
        # Invariant: not None from taking a message to its end; nothing else runs meanwhile (G2).
        self._step: Turn | Ticket[Any] | SessionWrite | None = None
        self._in_flight = False
        self._failure: Exception | None = None
        self._reload = False
        # (provider, id) of conversations that a lost turn made: to be deleted once it is closed.
        self._strays: tuple[tuple[str, str], ...] = ()
        self.last_error: str | None = None
        # The supervisor's list of idle actors, oldest first.
        self.idle_since = -1.0
        self.older: SessionActor | None = None
        self.newer: SessionActor | None = None

    @property
    def backend(self) -> Backend:
        """The event loop that it lives on."""
        return self.system.backend

    @property
    def queued(self) -> int:
        """Messages waiting."""
        return 0 if self._mailbox is None else self._mailbox.size

    @property
    def is_busy(self) -> bool:
        """Whether a step is in progress or anything waits."""
        return self._step is not None or self._in_flight or self.queued > 0

    @property
    def is_writing(self) -> bool:
        """Whether a write is in flight."""
        return self._in_flight

    def loaded_state(self) -> StoredSession:
        """The state, in places where there must be one."""
        if self.state is None:
            raise RuntimeBugError(f"session {self.session_id!r} is not loaded")
        return self.state

    # -------------------------------------------------------- messages

    def enqueue(self, ticket: Ticket[Any]) -> None:
        """Take the last place in the mailbox, and start if nothing is before it. Plain call."""
        if self._mailbox is None:
            self._mailbox = Mailbox()
        self._mailbox.put(ticket, self.system.limits.mailbox_size)
        self.pump()

    def ticket_withdrawn(self) -> None:
        """Called by a ticket of this mailbox."""
        if self._mailbox is not None:
            self._mailbox.withdrawn()
        if self.phase is Phase.WAITING and not self.is_busy:
            self.system.drop(self)

    def refuse_reentrant_wait(self) -> None:
        """Raise if the running task is this session's own turn: it would wait for itself."""
        turn = self.turn
        if turn is not None and turn.task is not None and turn.task is self.backend.current_task():
            raise ReentrantCallError(self.session_id)

    def pump(self) -> None:
        """Begin the next step, if none is in progress. Plain, and the only way a step begins."""
        while self._step is None and not self._in_flight:
            if self.phase is not Phase.LIVE:
                if self.phase is Phase.NEW:
                    self.system.activate(self)
                return
            mailbox = self._mailbox
            ticket = None if mailbox is None else mailbox.take(self.backend.now)
            if ticket is None:
                self._mailbox = None
                self.system.became_idle(self)
                return
            if self.idle_since >= 0:
                self.system.became_busy(self)
            self._begin(ticket)

    def _begin(self, ticket: Ticket[Any]) -> None:
        """Decide. An error ends the step at once; a write or a turn goes on elsewhere."""
        if needs_preparation(ticket.command):
            self._step = ticket
            self.system.executor.start(Context(), self._prepare, ticket)
        else:
            self._decide(ticket, None)

    async def _prepare(self, ticket: Ticket[Any]) -> None:
        """Read what the command needs to know; nothing else runs meanwhile."""
        try:
            storage, state = self.system.storage, self.state
            found = await prepare(storage, self.session_id, state, ticket.command)
        except SessionError as error:
            self._unprepared(ticket, error)
        except Exception as error:  # noqa: BLE001 - a bug must not leave the session stuck
            self._unprepared(ticket, bug_of(self.session_id, error))
        except BaseException:
            content = getattr(ticket.command, "content", None)
            text = "the event loop is ending; the message is handed back"
            self._unprepared(ticket, RuntimeClosedError(text, content=content))
            raise
        else:
            self._step = None
            self._decide(ticket, found)
            if self._step is None:
                self.step_ended()

    def _unprepared(self, ticket: Ticket[Any], error: SessionError) -> None:
        ticket.fail(error)
        self._reload = self._reload or self.state is None
        if isinstance(error, RuntimeBugError):
            self._failure, self._reload = error, True
        self.step_ended()

    def _decide(self, ticket: Ticket[Any], found: Prepared) -> None:
        try:
            if isinstance(found, Repeated):
                ticket.succeed(found.value)
                self._reload = self._reload or self.state is None
            elif type(ticket.command) in _TURNS:
                self._begin_turn(ticket, found if isinstance(found, Replay) else None)
            else:
                self._begin_command(ticket, found)
        except SessionError as error:
            self._step = None
            ticket.fail(error)
        except Exception as error:  # noqa: BLE001 - a bug must not take the neighbours along
            self._step = None
            ticket.fail(bug_of(self.session_id, error))
            self.crash(error)

    def _begin_turn(self, ticket: Ticket[Any], replay: Replay | None) -> None:
        if self.state is None:
            raise SessionNotFoundError(self.session_id)
        check_writable(self.state)
        if self.system.is_ending:
            text = "the runtime shut down before this message ran; it is handed back"
            raise RuntimeClosedError(text, content=getattr(ticket.command, "content", None))
        self.provider()
        turn = Turn(self, ticket, replay)
        self._step = self.turn = turn
        self.system.turns.began(turn)
        turn.begin()

    def _begin_command(self, ticket: Ticket[Any], found: Prepared) -> None:
        command, now_us = ticket.command, self.system.wall_clock_us()
        if isinstance(command, Rewind) and isinstance(found, VisibleAfter):
            from .branches import rewind  # noqa: PLC0415 - not for every program

            state = self.loaded_state()
            write: SessionWrite | None = rewind(state, command.to_seq, found.count, now_us)
        else:
            write = decide(self.session_id, self.state, command, now_us)
        if write is None:
            # Nothing to write is success only where what was read is sure to last (G3).
            if self.system.storage.stopped_by is not None:
                raise again(self.system.storage.stopped_by)
            ticket.succeed(None if isinstance(command, OwnDecision) else self.state)
            return
        self._step = ticket
        self.submit_write(write, partial(self._command_ended, ticket, write))

    def _command_ended(
        self, ticket: Ticket[Any], write: SessionWrite, end: StoredSession | SessionError
    ) -> None:
        if isinstance(end, StoredSession):
            context = ticket.context
            appended = isinstance(ticket.command, AppendMessage)
            ticket.succeed(write.messages[0] if appended else end)
            self._told(ticket.command, context, write, end)
            if write.purges:
                self.system.purger.queued()
            if write.erases:
                self.refuse_waiting()
        else:
            ticket.fail(end)
            # A failed creation leaves nothing to hold; what is queued behind it needs a look.
            self._reload = self._reload or self.state is None
        self.step_ended()

    def _told(
        self, command: object, context: Context, write: SessionWrite, after: StoredSession
    ) -> None:
        system = self.system
        changed_all = write.clear_through_seq or write.hides or write.erases
        if changed_all or isinstance(command, UpdateConfig):
            system.windows.drop(self.session_id)
        elif write.messages:
            self._extend_window(*write.messages)
        if not system.guests.is_listening:
            return
        if isinstance(command, OwnDecision):
            kind = command.notice
        elif isinstance(command, ChangeStatus):
            kind = _STATUS_NOTICES[command.status]
        elif isinstance(command, AppendMessage):
            kind = "message_received" if command.role is Role.ASSISTANT else "message_sent"
        else:
            kind = _NOTICES[type(command)]
        if kind is None:
            return
        message = write.messages[0] if isinstance(command, AppendMessage) else None
        system.guests.publish(Notice(kind=kind, record=after.record, message=message), context)

    # -------------------------------------------------------- commits

    def submit_write(
        self, write: SessionWrite, done: Callable[[StoredSession | SessionError], None]
    ) -> None:
        """Hand a write to the storage actor; one in flight per session. `done` takes the end."""
        if self._in_flight:
            raise RuntimeBugError(f"session {self.session_id!r} has two writes in flight")
        self._in_flight = True
        self.system.storage.submit(write, partial(self._settled, write, done))

    def _settled(
        self,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
        outcome: WriteOutcome | RuntimeClosedError,
    ) -> None:
        self._in_flight = False
        try:
            if isinstance(outcome, Committed):
                done(self._committed(write, outcome))
            else:
                done(self._refused(write, outcome))
        except Exception as error:  # noqa: BLE001 - a bug must not leave the session stuck
            bug = bug_of(self.session_id, error)
            if self.turn is not None:
                self.turn.lose(bug)
                return
            if isinstance(self._step, Ticket):
                self._step.fail(bug)
            self.step_lost(bug)

    def _committed(self, write: SessionWrite, outcome: Committed) -> StoredSession:
        """Apply: the only place where the state changes."""
        after = write.after
        if after.record.key != outcome.key:
            after = changed(after, record=changed(after.record, key=outcome.key))
        if write.erases:
            self.state = None
            self.system.session_erased(after.record)
        else:
            self.state = after
            self.system.header_changed(after.record)
        return after

    def _refused(
        self, write: SessionWrite, outcome: Conflict | StorageError | RuntimeClosedError
    ) -> SessionError:
        if isinstance(outcome, Conflict):
            if write.expected_revision == 0:
                return SessionExistsError(self.session_id)
            self._reload = True
            return RuntimeBugError(
                f"session {self.session_id!r} is at revision {outcome.stored_revision}, not "
                f"{write.expected_revision}: somebody else wrote to the storage"
            )
        if isinstance(outcome, StorageError) and outcome.outcome == "unknown":
            self._reload = True
        return outcome

    def turn_closed(self, question: MessageRecord, write: SessionWrite) -> None:
        """Keep the window in step with the history: failed turns are no part of it."""
        if not write.marks:
            self._extend_window(question, *write.messages)

    def _extend_window(self, *messages: MessageRecord) -> None:
        window = self.system.windows.get(self.session_id)
        if window is not None:
            limit = self.max_messages()
            for message in messages:
                window.append(message, limit)
            self.system.windows.put(self.session_id, window)

    # -------------------------------------------------------- for the turn

    def provider(self) -> IProvider:
        """The session's provider. ConfigurationError if this runtime has none of that name."""
        return self.provider_named(self.loaded_state().record.provider)

    def provider_named(self, name: str) -> IProvider:
        """Any of the runtime's providers. ConfigurationError if there is none of that name."""
        found = self.system.providers.get(name)
        if found is None:
            known = ", ".join(sorted(self.system.providers))
            raise ConfigurationError(
                f"session {self.session_id!r} asks for provider {name!r}, which this manager "
                f"does not have (it has {known}); pass it in providers="
            )
        return found

    def max_messages(self) -> int:
        """How many messages of the history a provider sees at most."""
        config = self.loaded_state().documents.config
        if '"max_messages"' not in config:
            return DEFAULT_MAX_MESSAGES
        value = decode_object(config).get("max_messages")
        return value if isinstance(value, int) else DEFAULT_MAX_MESSAGES

    def on_busy(self) -> str:
        """What the session's config says of messages that find it busy."""
        config = "" if self.state is None else self.state.documents.config
        if '"on_busy"' not in config:
            return "queue"
        return str(decode_object(config).get("on_busy", "queue"))

    def merged_settings(self, pending: dict[str, Any]) -> str | None:
        """The provider settings with what a handle has set since the last write; None: nothing."""
        if not pending:
            return None
        settings = decode_object(self.loaded_state().documents.provider_settings)
        settings.update(pending)
        limit = self.system.limits.max_config_bytes
        return encode_object(settings, "the provider settings", max_bytes=limit)

    async def provider_request(self, content: str, resumed_id: str | None) -> ProviderRequest:
        """What the provider is asked with, the user message last."""
        state = self.loaded_state()
        record, documents = state.record, state.documents
        limit = self.max_messages()
        window = self.system.windows.get(self.session_id)
        if window is None:
            window = await self._read_window(limit)
            self.system.windows.put(self.session_id, window)
        config = decode_object(documents.provider_config)
        config.update(decode_object(documents.provider_settings))
        room = limit
        if self._holds_conversation(config):  # also where it turns out to be gone
            room = record.visible_messages - begins_at(record.visible_messages, limit)
        return ProviderRequest(
            session_id=self.session_id,
            turn_id=f"{self.session_id}/{record.open_turn_no}",
            model=record.model,
            messages=window.with_user_message(content, limit, room),
            config=config,
            provider_session_id=resumed_id,
        )

    def _holds_conversation(self, config: dict[str, Any]) -> bool:
        try:
            return self.provider().holds_conversation(config)
        except SessionError:
            raise
        except Exception as error:
            name = self.loaded_state().record.provider
            text = f"the provider {name!r} failed: {describe(error)}"
            raise ProviderError(text, code="internal", provider=name) from error

    async def _read_window(self, limit: int) -> PromptWindow:
        """The same window that a session which never left memory would have."""
        record = self.loaded_state().record
        if record.visible_messages <= 1:
            return PromptWindow()
        read = partial(self.system.storage.read_messages, record.key)
        has_system = record.counters.system_messages > 0
        return await read_window(read, record.last_seq, limit, has_system=has_system)

    def publish(
        self,
        kind: str,
        context: Context,
        *,
        message: MessageRecord | None = None,
        error: Exception | None = None,
    ) -> None:
        """Tell whoever listens what this session's turn did."""
        guests = self.system.guests
        if guests.is_listening and self.state is not None:
            notice = Notice(kind=kind, record=self.state.record, message=message, error=error)
            guests.publish(notice, context)

    # -------------------------------------------------------- the end of a step

    def step_ended(self) -> None:
        """The step in progress is over; go on with the next one."""
        turn, self.turn = self.turn, None
        self._step = None
        if turn is not None:
            self.system.turns.ended(turn)
            self.system.gate.leave(turn)
        if self._reload and self.phase is Phase.LIVE:
            self._restart()
        elif self.queued and self.phase is Phase.LIVE:
            self.system.yield_place(self)
        self.pump()

    def step_lost(self, error: SessionError, strays: tuple[tuple[str, str], ...] = ()) -> None:
        """The step ended in doubt: load again, and close what it left open.

        `strays`: (provider, id) of conversations that it made and that may not be stored.
        """
        self._reload, self._strays = True, strays
        if isinstance(error, RuntimeBugError):
            self._failure = error
        self.step_ended()

    def _restart(self) -> None:
        failure, self._failure, self._reload = self._failure, None, False
        self.state = None
        self.system.windows.drop(self.session_id)
        if failure is not None and not self.system.may_restart(self, failure):
            return
        self.system.reload(self)

    # -------------------------------------------------------- phases, by the supervisor

    def move(self, cause: Cause) -> None:
        """Take the way that the table allows."""
        self.phase = next_phase(self.phase, cause)

    def next_is_create(self) -> bool:
        """Whether the first message makes the session, so that there is nothing to load."""
        mailbox = self._mailbox
        first = None if mailbox is None else mailbox.first()
        return first is not None and isinstance(first.command, CreateSession)

    def loaded(self, state: StoredSession | None) -> None:
        """It is live now. A turn that was left open is closed before any message.

        Without a state every message but a creation is refused, and then the actor goes.
        """
        self.move(Cause.LOADED)
        self.state = state
        if state is not None and state.open_turn is not None:
            strays, self._strays = self._strays, ()
            self._step = write = close_lost_turn(state, self.system.wall_clock_us(), strays)
            self.submit_write(write, partial(self._lost_turn_closed, write))
        self.pump()

    def _lost_turn_closed(self, write: SessionWrite, end: StoredSession | SessionError) -> None:
        if isinstance(end, SessionError):
            self.fail_queued(lambda _: again(end))
            self.system.drop(self)
        elif write.purges:
            self.system.purger.queued()
        self.step_ended()

    def fail_queued(self, refusal: Callable[[str | None], Exception]) -> None:
        """Answer everything that waits; `refusal` makes an error from the content handed back."""
        if self._mailbox is not None:
            self._mailbox.close(refusal)

    def refuse_waiting(self) -> None:
        """The session goes for good: what waits for it finds none. Creations wait for their turn.

        They are of another session, which may have the id once this one is gone.
        """
        if self._mailbox is not None:
            self._mailbox.refuse_all_but(
                CreateSession, lambda _: SessionNotFoundError(self.session_id)
            )

    def crash(self, error: Exception) -> None:
        """The actor failed: at the end of the step it starts anew from the storage (G14)."""
        if self.phase is not Phase.LIVE:
            return
        self._failure = self._failure or error
        self._reload = True
        if self.turn is not None:
            self.turn.interrupt(bug_of(self.session_id, error))
        elif self._step is None and not self._in_flight:
            self._restart()
            self.pump()
