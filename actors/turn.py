"""One turn, from the head of the mailbox to its end.

The stages and the ways between them are the table `TRANSITIONS`; the diagram in docs/design.md is
made from it, and tests walk it. Two commits frame the conversation with the provider: the first
stores the user message and the open turn, the second the answer and the end.

The turn's own task runs guest code (middleware, provider) only between those, inside cancel
scopes that belong to the turn. So an interruption ends the guest and never a commit, and what was
opened in the storage is closed. A guest that ignores its cancellation is abandoned: another task
goes on from there with what had arrived, and whatever the guest says later is dropped.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import anyio

from .decisions import SendMessage, TurnResult, close_turn, open_turn
from .errors import (
    InvalidMessageError,
    MiddlewareError,
    ProviderError,
    ProviderTimeoutError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionError,
    TurnInterruptedError,
)
from .model import EMPTY_JSON, MessageRecord, Role, TurnState, changed
from .ports import Completed, TextDelta
from .values import check_text, encode_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from .mailbox import Ticket
    from .model import SessionWrite
    from .ports import ProviderRequest
    from .session_actor import SessionActor


T = TypeVar("T")


class _AbandonedError(Exception):
    """A guest ended after its turn went on without it: nothing that it says counts."""


class Stage(Enum):
    """Where a turn is. The last five are ends."""

    ADMITTED = "admitted"
    OPEN = "open"
    RUNNING = "running"
    CLOSING = "closing"
    REFUSED = "refused"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Event(Enum):
    """What happens to a turn."""

    REFUSE = "refused by a guest or the storage"
    OPENED = "opening commit"
    ASK = "ask the provider"
    END = "the provider ended"
    COMPLETE = "closing commit: completed"
    FAIL = "closing commit: failed"
    INTERRUPT = "closing commit: interrupted"
    LOSE = "storage or actor failed"


TRANSITIONS: dict[tuple[Stage, Event], Stage] = {
    (Stage.ADMITTED, Event.REFUSE): Stage.REFUSED,
    (Stage.ADMITTED, Event.OPENED): Stage.OPEN,
    (Stage.ADMITTED, Event.LOSE): Stage.LOST,
    (Stage.OPEN, Event.ASK): Stage.RUNNING,
    (Stage.OPEN, Event.LOSE): Stage.LOST,
    (Stage.RUNNING, Event.END): Stage.CLOSING,
    (Stage.RUNNING, Event.LOSE): Stage.LOST,
    (Stage.CLOSING, Event.COMPLETE): Stage.COMPLETED,
    (Stage.CLOSING, Event.FAIL): Stage.FAILED,
    (Stage.CLOSING, Event.INTERRUPT): Stage.INTERRUPTED,
    (Stage.CLOSING, Event.LOSE): Stage.LOST,
}
_CLOSED = {
    TurnState.COMPLETED: Event.COMPLETE,
    TurnState.FAILED: Event.FAIL,
    TurnState.INTERRUPTED: Event.INTERRUPT,
}


class Turn:
    """A turn in progress; its actor runs one at a time (G2)."""

    __slots__ = (
        "_actor",
        "_answer",
        "_context",
        "_deadline",
        "_error",
        "_generation",
        "_interruption",
        "_parts",
        "_question",
        "_scope",
        "_size",
        "_ticket",
        "in_guest",
        "opened_at",
        "stage",
        "task",
    )

    def __init__(self, actor: SessionActor, ticket: Ticket[object], context: Context) -> None:
        self._actor = actor
        self._ticket = ticket
        self._context = context
        self.stage = Stage.ADMITTED
        self.task: object = None
        self.opened_at = actor.backend.now()
        self._scope: anyio.CancelScope | None = None
        self._interruption: SessionError | None = None
        self._generation = 0
        self.in_guest = False
        self._deadline = self.opened_at + actor.system.limits.turn_timeout_seconds
        self._question: MessageRecord | None = None
        self._parts: list[str] = []
        self._size = 0
        self._answer: Completed | None = None
        self._error: Exception | None = None

    @property
    def session_id(self) -> str:
        """Whose turn it is."""
        return self._actor.session_id

    # -------------------------------------------------------- the control lane

    def interrupt(self, reason: SessionError) -> None:
        """End the guest that is running and close the turn with what had arrived. Plain call."""
        if self._interruption is None and self.stage is not Stage.CLOSING:
            self._interruption = reason
            if self._scope is not None:
                self._scope.cancel()

    def overdue_at(self) -> float:
        """When the guest must have ended, cancelled or not; later it is abandoned."""
        return self._deadline + self._actor.system.limits.cancel_grace_seconds

    def hurry(self, until: float) -> None:
        """It was interrupted: its guest has until then."""
        self._deadline = min(self._deadline, until)

    def abandon(self) -> None:
        """Go on without the guest, which ignored its cancellation (G15)."""
        self._generation += 1
        self.in_guest = False
        self.task = None
        if self._interruption is None and self._error is None:
            self._error = self._timed_out()
        if self.stage is Stage.ADMITTED:
            self._refuse(self._interruption or self._timed_out())
        elif self.stage is Stage.RUNNING:
            self._actor.system.executor.start(self._context, self._go_on, self._conclude)
        else:
            # The answer's own filter hangs: there is no answer.
            self._error = MiddlewareError("a middleware hung on the answer, which is dropped")
            self._actor.system.executor.start(self._context, self._go_on, self._fail)

    # -------------------------------------------------------- the task

    async def run(self) -> None:
        """The whole turn. Whatever happens, the ticket is settled and the actor goes on."""
        await self._go_on(self._from_the_start)

    async def _go_on(self, part: Callable[[], Awaitable[None]]) -> None:
        self.task = self._actor.backend.current_task()
        try:
            await part()
        except _AbandonedError:
            return  # not an error, because another task has taken the turn over
        except SessionError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001 - a bug ends its turn, not its neighbours
            self._lose(_bug(error))
        except BaseException as error:
            self._lose(RuntimeClosedError(f"the program is ending: {error!r}"))
            raise

    async def _from_the_start(self) -> None:
        message = await self._admit()
        if message is not None and await self._open(message):
            await self._converse(message.content)
            await self._conclude()

    async def _as_guest(self, call: Awaitable[T]) -> T:
        """Await guest code. _AbandonedError if it ended after the turn went on without it."""
        mine = self._generation
        self.in_guest = True
        try:
            result = await call
        except BaseException:
            if mine != self._generation:
                raise _AbandonedError from None
            self.in_guest = False
            raise
        if mine != self._generation:
            raise _AbandonedError
        self.in_guest = False
        return result

    def _advance(self, event: Event) -> None:
        try:
            self.stage = TRANSITIONS[self.stage, event]
        except KeyError:
            raise RuntimeBugError(f"a turn in stage {self.stage.name} got {event.name}") from None

    async def _admit(self) -> SendMessage | None:
        """The message as the middleware wants it, or None: refused."""
        command = self._ticket.command
        if not isinstance(command, SendMessage):
            raise RuntimeBugError(f"no turn runs a {type(command).__name__}")
        system = self._actor.system
        if not system.guests.has_middleware:
            return command
        state = self._actor.loaded_state()
        provisional = MessageRecord(
            seq=state.record.last_seq + 1,
            role=Role.USER,
            content=command.content,
            metadata=command.metadata,
            created_us=system.wall_clock_us(),
            turn_no=state.record.last_turn_no + 1,
        )
        try:
            content, metadata = await self._filtered(provisional)
            check_text(content, "the message", max_bytes=system.limits.max_message_bytes)
        except SessionError as error:
            self._refuse(error)
            return None
        return SendMessage(content=content, metadata=metadata)

    async def _filtered(self, message: MessageRecord) -> tuple[str, str]:
        """Through all middleware, in a scope that an interruption cancels."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            if self._interruption is not None:
                scope.cancel()
            return await self._filter(message)
        raise self._interruption or RuntimeBugError("a scope that nobody cancelled")

    async def _filter(self, message: MessageRecord) -> tuple[str, str]:
        actor = self._actor
        try:
            return await self._as_guest(actor.system.guests.filter(actor.loaded_state(), message))
        except (SessionError, KeyboardInterrupt, _AbandonedError):
            raise
        except BaseException as error:
            if self._scope is not None and self._scope.cancel_called:
                raise
            if actor.backend.cancelled_from_outside():
                raise RuntimeClosedError("the event loop is ending") from error
            raise MiddlewareError(f"a middleware raised {error!r}") from error

    async def _open(self, message: SendMessage) -> bool:
        if self._interruption is not None:
            self._refuse(self._interruption)
            return False
        actor = self._actor
        pending = actor.system.pending_settings(actor.session_id)
        write = open_turn(
            actor.loaded_state(),
            message,
            actor.system.wall_clock_us(),
            settings=actor.merged_settings(pending),
        )
        try:
            await actor.commit(write)
        except SessionError as error:
            self._refuse(error)
            return False
        self._advance(Event.OPENED)
        actor.system.settings_saved(actor.session_id, pending)
        self._question = write.messages[0]
        actor.publish("message_sent", self._context, message=write.messages[0])
        return True

    async def _converse(self, content: str) -> None:
        """Ask the provider; what it says and how it ends is in the turn afterwards."""
        self._advance(Event.ASK)
        failure: Exception | None = None
        try:
            request = await self._actor.provider_request(content)
            with anyio.CancelScope(deadline=self._deadline) as scope:
                self._scope = scope
                if self._interruption is not None:
                    scope.cancel()
                await self._as_guest(self._stream(request))
        except (KeyboardInterrupt, _AbandonedError):
            raise
        except BaseException as error:  # noqa: BLE001 - a guest may raise anything at all
            failure = self._failure_of(error)
        self._scope = None
        if self._answer is None and self._interruption is None:
            self._error = failure or self._timed_out()

    def _failure_of(self, error: BaseException) -> Exception:
        if self._actor.backend.cancelled_from_outside():
            self._interruption = self._interruption or RuntimeClosedError(
                "the event loop is ending", content=None
            )
        if isinstance(error, SessionError):
            return error
        name = self._actor.loaded_state().record.provider
        mapped = ProviderError(
            f"the provider {name!r} raised {error!r}", code="internal", provider=name
        )
        mapped.__cause__ = error
        return mapped

    def _timed_out(self) -> ProviderError:
        seconds = self._actor.system.limits.turn_timeout_seconds
        return ProviderTimeoutError(
            f"no complete answer within turn_timeout_seconds={seconds:g}",
            code="timeout",
            provider=self._actor.loaded_state().record.provider,
            retryable=True,
        )

    async def _stream(self, request: ProviderRequest) -> None:
        provider = self._actor.provider()
        stream = provider.stream(request)
        mine = self._generation
        try:
            async for event in stream:
                if mine != self._generation:
                    return
                if isinstance(event, TextDelta):
                    self._take(event.text)
                elif isinstance(event, Completed):  # pyright: ignore[reportUnnecessaryIsInstance]
                    self._answer = self._checked(event)
                    return
                else:
                    raise TypeError(f"a provider yields TextDelta or Completed, not {event!r}")
        finally:
            aclose = getattr(stream, "aclose", None)
            if aclose is not None:
                await aclose()
        raise ProviderError(
            "the provider's stream ended without Completed: the answer was cut off",
            code="truncated",
            provider=self._actor.loaded_state().record.provider,
            retryable=True,
        )

    def _take(self, text: str) -> None:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a guest
            raise TypeError(f"TextDelta.text must be a str, not {type(text).__name__}")
        limit = self._actor.system.limits.max_message_bytes
        self._size += len(text)
        if self._size > limit:
            raise InvalidMessageError(f"the answer has more than max_message_bytes={limit}")
        self._parts.append(text)

    def _checked(self, answer: Completed) -> Completed:
        limits = self._actor.system.limits
        text = "".join(self._parts)
        check_text(text, "the answer", max_bytes=limits.max_message_bytes, empty=True)
        encode_object(answer.metadata, "provider metadata", max_bytes=limits.max_metadata_bytes)
        return answer

    # -------------------------------------------------------- the end

    async def _conclude(self) -> None:
        """Filter, commit, answer."""
        self._advance(Event.END)
        await self._close(await self._filtered_result(self._result()))

    async def _fail(self) -> None:
        await self._close(_failed(self._error or RuntimeBugError("a failure without an error")))

    async def _close(self, result: TurnResult) -> None:
        actor = self._actor
        write = close_turn(actor.loaded_state(), result, actor.system.wall_clock_us())
        await actor.commit(write)
        self._advance(_CLOSED[result.state])
        self._answer_caller(result, write)

    def _answer_caller(self, result: TurnResult, write: SessionWrite) -> None:
        actor = self._actor
        if self._question is not None:
            actor.turn_closed(self._question, write)
        if write.messages:
            actor.publish("message_received", self._context, message=write.messages[0])
        if result.state is TurnState.COMPLETED:
            self._ticket.succeed(write.messages[0])
        else:
            error = self._error or self._interrupted()
            actor.publish("session_error", self._context, error=error, index=1)
            self._ticket.fail(error)
        actor.step_ended()

    def _interrupted(self) -> TurnInterruptedError:
        error = TurnInterruptedError(
            f"the turn was interrupted: {self._interruption}; what had arrived is in the history",
            code="interrupted",
            retryable=True,
        )
        error.__cause__ = self._interruption
        return error

    def _result(self) -> TurnResult:
        text, answer = "".join(self._parts), self._answer
        if answer is not None:
            return TurnResult(
                state=TurnState.COMPLETED,
                text=text,
                finish_reason=answer.finish_reason,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                provider_message_id=answer.provider_message_id,
                provider_session_id=answer.provider_session_id,
                provider_metadata=encode_object(
                    answer.metadata,
                    "provider metadata",
                    max_bytes=self._actor.system.limits.max_metadata_bytes,
                ),
            )
        if self._error is None:
            try:
                check_text(text, "the answer", max_bytes=self._size * 4 + 1, empty=True)
            except InvalidMessageError:
                text = text.encode("utf-8", "replace").decode()
            return TurnResult(
                state=TurnState.INTERRUPTED,
                text=text,
                finish_reason="interrupted",
                error_code="interrupted",
                error_text=str(self._interruption),
            )
        return _failed(self._error)

    async def _filtered_result(self, result: TurnResult) -> TurnResult:
        """No answer passes unfiltered: where the middleware fails, there is none."""
        system = self._actor.system
        if not result.text or not system.guests.has_middleware:
            return result
        state = self._actor.loaded_state()
        message = MessageRecord(
            seq=state.record.last_seq + 1,
            role=Role.ASSISTANT,
            content=result.text,
            metadata=EMPTY_JSON,
            created_us=system.wall_clock_us(),
            turn_no=state.record.open_turn_no,
            token_count=result.output_tokens,
            finish_reason=result.finish_reason,
            provider_message_id=result.provider_message_id,
            provider_metadata=result.provider_metadata,
        )
        try:
            content, metadata = await self._filter(message)
            limit = system.limits.max_message_bytes
            check_text(content, "the answer", max_bytes=limit, empty=True)
        except SessionError as error:
            self._error = error
            return _failed(error)
        return changed(result, text=content, metadata=metadata)

    def _refuse(self, error: Exception) -> None:
        """Nothing is stored and no seq is used."""
        self._advance(Event.REFUSE)
        self._actor.publish("session_error", self._context, error=error, index=1)
        self._ticket.fail(error)
        self._actor.step_ended()

    def _lose(self, error: SessionError) -> None:
        """The end could not be stored: the actor loads again and closes what is open there."""
        self.stage = Stage.LOST
        self._ticket.fail(error)
        self._actor.publish("session_error", self._context, error=error, index=1)
        self._actor.step_lost(error)


def _failed(error: Exception) -> TurnResult:
    return TurnResult(
        state=TurnState.FAILED,
        error_code=str(getattr(error, "code", type(error).__name__)),
        error_text=str(error),
    )


def _bug(error: Exception) -> RuntimeBugError:
    bug = RuntimeBugError(f"the runtime failed in a turn ({error!r}); please report this")
    bug.__cause__ = error
    return bug
