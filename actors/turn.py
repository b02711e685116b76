"""One turn, from the head of the mailbox to its end; the way it may go is the table in stages.py.

Two commits frame the conversation with the provider: the first stores the user message and the
open turn, the second the answer and the end. A turn has a task only while guest code (middleware,
provider) runs, inside cancel scopes that belong to the turn; the commits go on in the storage
actor's call-backs. So an interruption, or the end of the event loop, ends the guest and never a
commit, and what was opened in the storage is closed.

A guest that ignores its cancellation is abandoned: another task goes on from there with what had
arrived, and whatever the guest says later is dropped. A turn that waits for its storage is never
abandoned: what is being written must be known before anyone is answered.
"""

from __future__ import annotations

import math
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs

from .answer import Answer, describe
from .checkpoints import Checkpoints
from .decisions import SendMessage
from .errors import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidMessageError,
    MiddlewareError,
    ProviderTimeoutError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionError,
    StorageError,
)
from .fallback import fallbacks_of, may_fall_back
from .model import EMPTY_JSON, MessageRecord, Role, TurnState
from .rollover import is_full
from .stages import TRANSITIONS, Event, Stage, next_stage
from .transcript import Transcript
from .turn_errors import (
    answer_lost,
    bug_of,
    cut_off,
    deadline_passed,
    interrupted,
    timed_out,
    turned_away,
)
from .turn_writes import Question, TurnResult, close_turn, open_turn
from .values import check_text, printable
from .watch import Watched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .mailbox import Ticket
    from .model import SessionWrite, StoredSession
    from .ports import IProvider, ProviderRequest
    from .session_actor import SessionActor
    from .turn_writes import Replay
    from .wait import Scope

T = TypeVar("T")

_RETRY_PAUSES_SECONDS = (0.05, 0.25)
_CLOSED = {
    TurnState.COMPLETED: Event.COMPLETE,
    TurnState.FAILED: Event.FAIL,
    TurnState.INTERRUPTED: Event.INTERRUPT,
}


class _AbandonedError(Exception):
    """A guest ended after its turn went on without it: nothing that it says counts."""


class Turn:
    """A turn in progress; its actor runs one at a time (G2)."""

    __slots__ = (
        "_actor",
        "_answer",
        "_context",
        "_error",
        "_generation",
        "_interruption",
        "_question",
        "_replay",
        "_resumed_id",
        "_scope",
        "_ticket",
        "_transcript",
        "_tries",
        "began_at",
        "checkpoints",
        "deadline",
        "in_guest",
        "is_cancelled",
        "is_waiting",
        "stage",
        "task",
    )

    def __init__(
        self, actor: SessionActor, ticket: Ticket[object], replay: Replay | None = None
    ) -> None:
        self._actor = actor
        # The turn that this one runs again; None: a message of its own.
        self._replay = replay
        self._ticket = ticket
        self._context = ticket.context
        self.stage = Stage.ADMITTED
        self.task: object = None
        # Invariant: whether guest code of the current generation runs; only then abandon.
        self.in_guest = False
        self._generation = 0
        self._scope: Scope | None = None
        self._interruption: SessionError | None = None
        self.began_at = actor.backend.now()
        # Invariant: whether it is in the line of the turn gate.
        self.is_waiting = False
        # When the guest must end. The supervisor watches it, so there is no timer per turn.
        self.deadline = ticket.deadline
        # Invariant: whether the guest's scope is cancelled; without one, no guest is begun.
        self.is_cancelled = False
        self._tries = 0
        self._question: MessageRecord | None = None
        self._resumed_id: str | None = None
        if ticket.transcript is None:
            ticket.transcript = Transcript(actor.backend)
        self._transcript = ticket.transcript
        self._transcript.is_held_back = actor.system.guests.holds_back_answers
        self._answer = Answer(
            actor.loaded_state().record.provider, actor.system.limits, self._transcript
        )
        self.checkpoints = Checkpoints(actor, self._answer, self._transcript)
        self._error: Exception | None = None

    @property
    def session_id(self) -> str:
        """Whose turn it is."""
        return self._actor.session_id

    @property
    def user_id(self) -> str:
        """Whose session it is; to be asked while it begins."""
        return self._actor.loaded_state().record.user_id

    def now(self) -> float:
        """The time of its event loop."""
        return self._actor.backend.now()

    @property
    def turn_no(self) -> int:
        """Its number in the session."""
        return 0 if self._question is None else self._question.turn_no

    @property
    def ticket(self) -> Ticket[object]:
        """The place that it runs for: settled when it has ended."""
        return self._ticket

    @property
    def transcript(self) -> Transcript:
        """What it has said so far."""
        return self._transcript

    # -------------------------------------------------------- the control lane

    def interrupt(self, reason: SessionError) -> None:
        """End the guest that is running and close the turn with what had arrived. Plain call."""
        if self._interruption is None and self.stage is not Stage.CLOSING:
            self._interruption = reason
            self.deadline = min(self.deadline, self._actor.backend.now())
            self._actor.system.turns.hurried()
            self.expire()

    def expire(self) -> None:
        """Its time is over: end the guest, as a failure if it was not interrupted before."""
        self.is_cancelled = True
        in_time = self._ticket.deadline > self._actor.backend.now()
        if not in_time and self._interruption is None and self.stage is not Stage.CLOSING:
            self._interruption = deadline_passed()
        if self._scope is not None:
            self._scope.cancel()
        if self.is_waiting:
            self.is_waiting = False
            self._refuse(self._refusal())

    def abandon(self) -> None:
        """Go on without the guest, which ignored its cancellation (G15). Only while in_guest."""
        self._generation += 1
        self.in_guest = False
        self.task = None
        if self.stage is Stage.ADMITTED:
            self._refuse(self._refusal())
        elif self.stage is Stage.RUNNING:
            if self._interruption is None:
                self._error = self._out_of_time()
            self._start(self._conclude)
        else:
            self._error = MiddlewareError("a middleware hung on the answer, which is dropped")
            self._start(self._close_failed)

    # -------------------------------------------------------- the task

    def begin(self) -> None:
        """Start it. Whatever happens, the ticket is settled and the actor goes on."""
        self.is_waiting = True
        if self._actor.system.gate.enter(self):
            self.admitted()

    def turned_away(self, limit: str, most: int, seconds: float) -> None:
        """It waited too long for others to end."""
        self.is_waiting = False
        self._refuse(turned_away(limit, most, seconds, self._content()))

    def admitted(self) -> None:
        """Begin; its time counts from here."""
        self.is_waiting = False
        system = self._actor.system
        until = self._actor.backend.now() + system.limits.turn_timeout_seconds
        self.deadline = min(until, self._ticket.deadline)
        system.turns.look_at(self.deadline)
        if self._replay is not None:
            self._open(self._asked_again(self._replay))  # it has passed the middleware before
        elif self._actor.system.guests.has_middleware:
            self._start(self._admit)
        else:
            command = self._command()
            self._open(
                Question(content=command.content, metadata=command.metadata, claim=command.claim)
            )

    def _start(self, part: Callable[[], Awaitable[None]]) -> None:
        self._actor.system.executor.start(self._context, self._go_on, part)

    async def _go_on(self, part: Callable[[], Awaitable[None]]) -> None:
        self.task = self._actor.backend.current_task()
        try:
            await part()
            self.task = None
        except _AbandonedError:
            return  # not an error, because another task has taken the turn over
        except SessionError as error:
            self.lose(error)
        except Exception as error:  # noqa: BLE001 - a bug ends its turn, not its neighbours
            self.lose(bug_of(self.session_id, error))
        except BaseException as error:
            self.lose(RuntimeClosedError(f"the program is ending: {describe(error)}"))
            raise

    def _advance(self, event: Event) -> None:
        self.stage = next_stage(self.stage, event)

    async def _as_guest(self, call: Awaitable[T], guest: str) -> T:
        """Await guest code. _AbandonedError if it ended after the turn went on without it."""
        mine = self._generation
        self.in_guest = True
        try:
            blocking = self._actor.system.blocking
            result = await Watched(call, blocking, guest, self.session_id, self.turn_no)
        except BaseException:
            if mine != self._generation:
                raise _AbandonedError from None
            self.in_guest = False
            raise
        if mine != self._generation:
            raise _AbandonedError
        self.in_guest = False
        return result

    # -------------------------------------------------------- before the first commit

    async def _admit(self) -> None:
        """Open the turn with the message as the middleware wants it, or refuse."""
        command = self._command()
        system = self._actor.system
        record = self._actor.loaded_state().record
        provisional = MessageRecord(
            seq=record.last_seq + 1,
            role=Role.USER,
            content=command.content,
            metadata=command.metadata,
            created_us=system.wall_clock_us(),
            turn_no=record.last_turn_no + 1,
        )
        try:
            content, metadata = await self._filtered(provisional)
            check_text(content, "the message", max_bytes=system.limits.max_message_bytes)
        except SessionError as error:
            self._refuse(error)
            return
        self._context = copy_context()  # the provider sees what the middleware set there
        self._open(Question(content=content, metadata=metadata, claim=command.claim))

    def _content(self) -> str | None:
        """The message, to be handed back; None: it was none of the caller's."""
        content: str | None = getattr(self._ticket.command, "content", None)
        return content

    def _command(self) -> SendMessage:
        command = self._ticket.command
        if not isinstance(command, SendMessage):
            raise RuntimeBugError(f"no turn runs a {type(command).__name__}")
        return command

    async def _filtered(self, message: MessageRecord) -> tuple[str, str]:
        """Through all middleware, in a scope that an interruption cancels."""
        filtered = ("", "")
        if self.is_cancelled:
            raise self._refusal()
        with self._actor.backend.scope() as scope:
            self._scope = scope
            filtered = await self._filter(message)
        self._scope = None
        if scope.cancelled_caught:
            raise self._refusal()
        return filtered

    async def _filter(self, message: MessageRecord) -> tuple[str, str]:
        actor = self._actor
        try:
            filtering = actor.system.guests.filter(actor.loaded_state(), message)
            return await self._as_guest(filtering, "a middleware")
        except (SessionError, KeyboardInterrupt, _AbandonedError):
            raise
        except BaseException as error:
            if self._scope is not None and self._scope.cancel_called:
                raise
            if actor.backend.native_cancellations():
                raise self._handed_back("the event loop is ending") from error
            raise MiddlewareError(f"a middleware failed: {describe(error)}") from error

    def _asked_again(self, replay: Replay) -> Question:
        question = replay.question
        return Question(
            content=question.content,
            metadata=question.metadata,
            claim=getattr(self._ticket.command, "claim", None),
            replay=replay,
        )

    def _open(self, question: Question) -> None:
        """Hand the first write over."""
        if self._interruption is not None:
            self._refuse(self._refusal())
            return
        actor = self._actor
        state = actor.loaded_state()
        pending = actor.system.pending_settings(actor.session_id)
        try:
            settings = actor.merged_settings(pending)
        except InvalidMessageError as error:
            # Too large together with what is stored; kept, they would refuse every later turn.
            actor.system.settings_saved(actor.session_id, pending)
            self._refuse(ConfigurationError(f"{error}; what was set last is dropped"))
            return
        record = state.record
        afresh = (
            record.dirty
            or self._replay is not None
            or is_full(record.visible_messages + 1, actor.max_messages())
        )
        self._resumed_id = None if afresh else record.provider_session_id
        write = open_turn(
            state,
            question,
            actor.system.wall_clock_us(),
            afresh=afresh,
            settings=settings,
            keeps=actor.provider().keeps_conversations,
        )
        actor.submit_write(write, partial(self._opened, write, pending))

    def _opened(
        self, write: SessionWrite, pending: dict[str, Any], end: StoredSession | SessionError
    ) -> None:
        """The first commit is decided."""
        if isinstance(end, SessionError):
            self._refuse(end)
            return
        actor = self._actor
        self._advance(Event.OPENED)
        if pending:
            actor.system.settings_saved(actor.session_id, pending)
        if write.purges:
            actor.system.purger.queued()
        if write.hides:
            actor.system.windows.drop(actor.session_id)
        self._question = write.messages[0]
        self._transcript.opened(self._question)
        actor.publish("message_sent", self._context, message=self._question)
        self._start(self._converse)

    # -------------------------------------------------------- between the commits

    async def _converse(self) -> None:
        """Ask the provider, then end the turn with what it said."""
        self._advance(Event.ASK)
        await self._ask()
        await self._conclude()

    async def _ask(self) -> None:
        """What the provider says, and how it ends, is in the turn afterwards."""
        actor = self._actor
        content = "" if self._question is None else self._question.content
        try:
            request = await actor.provider_request(content, self._resumed_id)
            provider = actor.provider()
        except SessionError as error:
            self._error = error
            return
        if self.is_cancelled:
            # The storage took all the time: the guest is not asked, so it cannot be too slow.
            self._error = self._out_of_time() if self._interruption is None else None
            return
        self._answer.goes_on(self._resumed_id, keeps=provider.keeps_conversations)
        failure = await self._listen(provider, request)
        if may_fall_back(failure):
            await self._ask_others(request, failure)
        if self._answer.completed is None and self._interruption is None:
            self._error = failure or self._out_of_time()

    async def _ask_others(self, request: ProviderRequest, failure: Exception | None) -> None:
        """Its fallbacks, one after the other, until one answers or something has arrived."""
        actor, answer = self._actor, self._answer
        try:
            fallbacks = fallbacks_of(request.config)
        except ConfigurationError as error:
            # Stored by another version, or set by a provider's own controls.
            if failure is not None:
                failure.add_note(f"there is no fallback: {error}")
            return
        for fallback in fallbacks:
            if self.is_cancelled or not answer.is_empty:
                return
            other: Exception | None
            try:
                provider = actor.provider_named(fallback.provider)
            except ConfigurationError as error:
                other = error
            else:
                answer.falls_back(fallback, provider, failure)
                other = await self._listen(provider, fallback.request(request, provider))
                if other is None:
                    return
            if failure is not None:
                name = f"{fallback.provider}/{fallback.model}"
                failure.add_note(f"the fallback {name} failed too: {describe(other)}")

    async def _listen(self, provider: IProvider, request: ProviderRequest) -> Exception | None:
        """Until the stream ends; returns what the provider raised. None also if cancelled."""
        actor, answer = self._actor, self._answer
        mine = self._generation
        failure: Exception | None = None
        try:
            with actor.backend.scope() as scope:
                self._scope = scope
                listening = answer.receive(
                    provider, request, lambda: mine == self._generation, self.checkpoints.heard
                )
                await self._as_guest(listening, f"the provider {answer.provider!r}")
        except (KeyboardInterrupt, _AbandonedError):
            raise
        except BaseException as error:  # noqa: BLE001 - a guest may raise anything at all
            failure = answer.failure(error)
            self._note_the_end_of_the_loop()
        self._scope = None
        return failure

    def _note_the_end_of_the_loop(self) -> None:
        if self._interruption is None and self._actor.backend.native_cancellations():
            self._interruption = RuntimeClosedError("the event loop is ending")

    def checkpoint(self) -> None:
        """Store what has arrived, if more may come. Plain call."""
        self.checkpoints.due = math.inf
        if self.in_guest:
            self.checkpoints.store()

    # -------------------------------------------------------- the second commit

    async def _conclude(self) -> None:
        """Filter the answer and hand the second write over."""
        self._advance(Event.END)
        self._close(await self._filtered_result(self._result()))

    def _result(self) -> TurnResult:
        answer, last = self._answer, self._answer.completed
        if last is not None:
            return TurnResult(
                state=TurnState.COMPLETED,
                text=answer.text(),
                finish_reason=last.finish_reason,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                provider_message_id=last.provider_message_id,
                provider_session_id=answer.conversation_id,
                provider_metadata=answer.metadata,
                in_step=answer.is_in_step,
                strays=tuple(answer.strays),
            )
        if self._error is not None:
            return self._failed(self._error)
        return TurnResult(
            state=TurnState.INTERRUPTED,
            text=answer.text(),
            finish_reason="interrupted",
            error_code="interrupted",
            error_text=str(self._interruption),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            provider_session_id=answer.conversation_id,
            provider_metadata=answer.metadata,
            strays=tuple(answer.strays),
        )

    async def _filtered_result(self, result: TurnResult) -> TurnResult:
        """No answer passes unfiltered: where the middleware fails, there is none."""
        system = self._actor.system
        if not result.text or not system.guests.has_middleware:
            return result
        record = self._actor.loaded_state().record
        message = MessageRecord(
            seq=record.last_seq + 1,
            role=Role.ASSISTANT,
            content=result.text,
            metadata=EMPTY_JSON,
            created_us=system.wall_clock_us(),
            turn_no=record.open_turn_no,
            token_count=result.output_tokens,
            finish_reason=result.finish_reason,
            provider_message_id=result.provider_message_id,
            provider_metadata=result.provider_metadata,
        )
        # The provider's time is over; middleware has timeouts of its own.
        self.deadline = self._actor.backend.now() + system.guests.filter_seconds
        self.is_cancelled = False
        system.turns.look_at(self.deadline)
        try:
            content, metadata = await self._filter(message)
            limit = system.limits.max_message_bytes
            check_text(content, "the answer", max_bytes=limit, empty=True)
        except SessionError as error:
            # The question is stored by now: it must not be handed back as if it never ran.
            told = (
                cut_off(self._answer.provider, error)
                if isinstance(error, RuntimeClosedError)
                else error
            )
            self._error = told
            return self._failed(told)
        same = result.in_step and content == result.text
        return attrs.evolve(result, text=content, metadata=metadata, in_step=same)

    def _failed(self, error: Exception) -> TurnResult:
        answer = self._answer
        return TurnResult(
            state=TurnState.FAILED,
            error_code=printable(str(getattr(error, "code", type(error).__name__)))[:200],
            error_text=describe(error),
            # What it cost is owed, whatever came of it.
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            provider_session_id=answer.conversation_id,
            strays=tuple(answer.strays),
        )

    async def _close_failed(self) -> None:
        self._close(self._failed(self._error or self._out_of_time()))

    def _close(self, result: TurnResult) -> None:
        """Hand the second write over."""
        actor = self._actor
        if self.checkpoints.then(partial(self._close, result)):
            return
        if self.checkpoints.doubt is not None:
            self.lose(answer_lost(self.checkpoints.doubt))
            return
        write = close_turn(actor.loaded_state(), result, actor.system.wall_clock_us())
        actor.submit_write(write, partial(self._closed, write, result))

    def _closed(
        self, write: SessionWrite, result: TurnResult, end: StoredSession | SessionError
    ) -> None:
        """The second commit is decided."""
        if isinstance(end, SessionError):
            self._close_again(write, result, end)
            return
        actor = self._actor
        self._advance(_CLOSED[result.state])
        if write.purges:
            actor.system.purger.queued()
        answer = write.messages[0] if write.messages else None
        if answer is not None:
            self._transcript.reveal(answer.content)
        self._transcript.closed(answer, (result.input_tokens, result.output_tokens))
        if self._question is not None:
            actor.turn_closed(self._question, write)
        if write.messages:
            actor.publish("message_received", self._context, message=write.messages[0])
        if result.state is TurnState.COMPLETED:
            self._ticket.succeed(write.messages[0])
        else:
            self._tell(self._error or interrupted(self._answer.provider, self._interruption))
        actor.step_ended()

    def _close_again(self, write: SessionWrite, result: TurnResult, error: SessionError) -> None:
        """The answer is there and paid for: a passing fault of the storage shall not lose it."""
        passing = isinstance(error, StorageError) and error.retryable and error.outcome == "failed"
        if not passing or self._tries == len(_RETRY_PAUSES_SECONDS):
            self.lose(answer_lost(error))
            return
        pause_seconds = _RETRY_PAUSES_SECONDS[self._tries]
        self._tries += 1

        async def later() -> None:
            await anyio.sleep(pause_seconds)
            self._actor.submit_write(write, partial(self._closed, write, result))

        self._start(later)

    # -------------------------------------------------------- ends

    def _refuse(self, error: Exception) -> None:
        """Nothing is stored and no seq is used."""
        self._advance(Event.REFUSE)
        self._tell(error)
        self._actor.step_ended()

    def lose(self, error: SessionError) -> None:
        """The end could not be stored: the actor loads again and closes what is open there."""
        if self.checkpoints.then(partial(self.lose, error)):
            return
        if (self.stage, Event.LOSE) in TRANSITIONS:
            self._advance(Event.LOSE)
        try:
            if self._question is not None and isinstance(error, RuntimeClosedError):
                self._tell(cut_off(self._answer.provider, error))
            else:
                self._tell(error)
        finally:
            self._actor.step_lost(error, self._answer.left_behind())

    def _tell(self, error: Exception) -> None:
        self._actor.last_error = describe(error)
        self._ticket.fail(error)
        self._actor.publish("session_error", self._context, error=error)

    def _refusal(self) -> SessionError:
        """Why the message did not run."""
        if isinstance(self._interruption, RuntimeClosedError):
            return self._handed_back(str(self._interruption))
        if isinstance(self._interruption, DeadlineExceededError):
            return deadline_passed(self._content(), ran=False)
        return self._interruption or MiddlewareError("a middleware hung on the message")

    def _out_of_time(self) -> ProviderTimeoutError:
        limits = self._actor.system.limits
        return timed_out(self._answer.provider, limits.turn_timeout_seconds)

    def _handed_back(self, why: str) -> RuntimeClosedError:
        return RuntimeClosedError(why, content=self._content())
