"""A turn as its followers see it: typed events, each with a cursor to go on from.

A turn belongs to its session, not to whoever started it: following one and leaving it changes
nothing for the turn. A cursor names a turn and a number of characters of its answer, so it stays
good whatever becomes of this process: what was missed is taken from the running turn or, after its
end, from the history.

    async for event in session.follow(after="7.120"):  # what turn 7 said after 120 characters
        if isinstance(event, TurnText): ...

A slow follower gets larger pieces, and never holds the turn up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

import anyio.lowlevel
import attrs

from ..actors.errors import (
    ConfigurationError,
    DeadlineExceededError,
    RuntimeBugError,
    SessionError,
    TurnInterruptedError,
)
from ..actors.mailbox import TicketState
from ..actors.outcomes import error_of

if TYPE_CHECKING:
    from types import TracebackType

    from ..actors.mailbox import Ticket
    from ..actors.model import MessageRecord, TurnRecord
    from ..actors.transcript import Transcript
    from ..actors.turn import Turn
    from .views import SessionMessage

    StoredTurn = tuple[TurnRecord, SessionMessage, SessionMessage | None]

END = "end"
_MOST_DIGITS = 15


@attrs.frozen(kw_only=True)
class TurnEvent:
    """What happened in a turn. The last one is completed, failed or interrupted."""

    type: ClassVar[Literal["started", "text_delta", "usage", "completed", "failed", "interrupted"]]
    turn_id: str | None
    """None: the message was refused before its turn began."""
    cursor: str
    """Give it to `follow(after=...)` to get what comes after this event. Opaque, without spaces."""


@attrs.frozen(kw_only=True)
class TurnStarted(TurnEvent):
    """The question is stored, the provider is asked."""

    type: ClassVar = "started"
    message: SessionMessage
    """The question."""


@attrs.frozen(kw_only=True)
class TurnText(TurnEvent):
    """The next piece of the answer; what came since the last look is one piece."""

    type: ClassVar = "text_delta"
    text: str


@attrs.frozen(kw_only=True)
class TurnUsage(TurnEvent):
    """What the provider counted; not told where it counted nothing."""

    type: ClassVar = "usage"
    input_tokens: int
    output_tokens: int


@attrs.frozen(kw_only=True)
class TurnCompleted(TurnEvent):
    """The answer is stored (G3)."""

    type: ClassVar = "completed"
    message: SessionMessage
    """The answer as it is in the history; middleware may have changed the text."""


@attrs.frozen(kw_only=True)
class TurnFailed(TurnEvent):
    """There is no answer: what `send_message` would have raised."""

    type: ClassVar = "failed"
    error: SessionError


@attrs.frozen(kw_only=True)
class TurnInterrupted(TurnEvent):
    """The turn was stopped, timed out for its caller, or cut off."""

    type: ClassVar = "interrupted"
    message: SessionMessage | None
    """What had arrived, as it is in the history; None: nothing had."""
    error: SessionError


@attrs.frozen
class Cursor:
    """Where a follower is: in which turn, and how much of its answer it has."""

    turn_no: int
    characters: int | None
    """None: all, and the end."""

    def __str__(self) -> str:
        return f"{self.turn_no}.{END if self.characters is None else self.characters}"

    @classmethod
    def parse(cls, text: object) -> Cursor:
        """What `str` made. Raises ConfigurationError for anything else."""
        turn_no, _, place = text.partition(".") if isinstance(text, str) else ("", "", "")
        if not _is_count(turn_no) or not (_is_count(place) or place == END):
            raise ConfigurationError(f"after={text!r} is no cursor of a turn's event")
        return cls(int(turn_no), None if place == END else int(place))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


class TurnSource(Protocol):
    """The turns of one session, as a stream asks for them."""

    @property
    def session_id(self) -> str: ...

    def view_of(self, record: MessageRecord) -> SessionMessage:
        """A copy for the user."""
        ...

    def running(self) -> Turn | None:
        """The turn that runs now."""
        ...

    async def stored(self, turn_no: int | None) -> StoredTurn | None:
        """A turn that has ended; None: the last one.

        Gives None if it has not ended; then it is running, or about to. Raises TurnNotFoundError.
        """
        ...

    def refuse_reentrant_wait(self) -> None:
        """Raise ReentrantCallError inside of this session's own turn, which would wait for it."""
        ...


class TurnStream:
    """Events of one turn, to be iterated once; made by `stream_message` and `follow`.

    Use it as `async with` or iterate it as it is: leaving it, at any point and in any way, does not
    stop the turn. One exception: whoever is cancelled, or leaves by an exception, while the message
    of `stream_message` is still queued takes the message along, as with `send_message` (G9).
    """

    def __init__(
        self,
        source: TurnSource,
        *,
        ticket: Ticket[SessionMessage] | None = None,
        turn_no: int | None = None,
        after: Cursor | None = None,
    ) -> None:
        self._source = source
        self._ticket = ticket
        self._transcript = None if ticket is None else ticket.transcript
        self._wanted = turn_no if after is None else after.turn_no or None
        self._skips_start = after is not None and after.characters is not None
        self._characters = 0 if after is None or after.characters is None else after.characters
        self._skips_all = after is not None and after.characters is None
        self._place: int | None = None
        self._turn_no = 0
        self._stored_text = ""
        self._events: deque[TurnEvent] = deque()
        self._is_over = False
        self._message: SessionMessage | None = None

    @property
    def turn_id(self) -> str | None:
        """The turn, once it has begun."""
        return f"{self._source.session_id}/{self._turn_no}" if self._turn_no else None

    @property
    def cursor(self) -> str:
        """Behind the last event that was taken."""
        return str(Cursor(self._turn_no, self._characters))

    @property
    def text(self) -> str:
        """The answer as far as it was taken, from its beginning."""
        whole = self._stored_text if self._transcript is None else self._transcript.text
        return whole[: self._characters]

    @property
    def message(self) -> SessionMessage | None:
        """The answer as it is stored, once `completed` or `interrupted` was taken."""
        return self._message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self._take_along()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnEvent:
        if not self._events:
            await self._fetch()
        if not self._events:
            raise StopAsyncIteration
        event = self._events.popleft()
        if isinstance(event, TurnText):
            self._characters += len(event.text)
        elif isinstance(event, TurnCompleted | TurnInterrupted):
            self._message = event.message
        return event

    # -------------------------------------------------------- where the events come from

    async def _fetch(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not self._events and not self._is_over:
            if self._transcript is None:
                await self._find()
            else:
                await self._listen(self._transcript)

    async def _listen(self, transcript: Transcript) -> None:
        has_turn = transcript.question is not None or not transcript.ended
        if self._ticket is not None and not has_turn and transcript.error is None:
            repeated = await self._ticket  # a repetition of a turn that ended before
            self._wanted = int((repeated.turn_id or "0").rpartition("/")[2])
            self._transcript = None
            return
        self._look(transcript)
        if self._events or self._is_over:
            return
        try:
            self._source.refuse_reentrant_wait()
            await transcript.change()
        except BaseException:
            self._take_along()
            raise

    def _take_along(self) -> None:
        if self._ticket is not None and self._ticket.state is TicketState.QUEUED:
            self._ticket.withdraw()

    def _look(self, transcript: Transcript) -> None:
        """Make events of what is new."""
        question = transcript.question
        if question is not None and not self._turn_no:
            self._turn_no = question.turn_no
            self._begin(self._source.view_of(question))
        if not transcript.is_held_back:
            text = ""
            if self._place is None:
                self._place, text = transcript.place_of(self._characters)
            self._place, more = transcript.since(self._place)
            self._tell_text(text + more)
        if transcript.ended:
            answer = transcript.answer
            self._end(
                None if answer is None else self._source.view_of(answer),
                transcript.tokens,
                transcript.error,
            )

    def _begin(self, question: SessionMessage) -> None:
        if not self._skips_start:
            cursor = str(Cursor(self._turn_no, 0))
            self._events.append(TurnStarted(turn_id=self.turn_id, cursor=cursor, message=question))

    def _tell_text(self, text: str) -> None:
        if text:
            cursor = Cursor(self._turn_no, self._characters + len(text))
            self._events.append(TurnText(turn_id=self.turn_id, cursor=str(cursor), text=text))

    def _end(
        self,
        answer: SessionMessage | None,
        tokens: tuple[int, int],
        error: BaseException | None,
    ) -> None:
        turn_id, cursor = self.turn_id, str(Cursor(self._turn_no, None))
        self._is_over = True
        if tokens != (0, 0):
            given = sum(len(event.text) for event in self._events if isinstance(event, TurnText))
            place = str(Cursor(self._turn_no, self._characters + given))
            self._events.append(
                TurnUsage(
                    turn_id=turn_id, cursor=place, input_tokens=tokens[0], output_tokens=tokens[1]
                )
            )
        if error is None and answer is not None:
            self._events.append(TurnCompleted(turn_id=turn_id, cursor=cursor, message=answer))
            return
        failure = error if isinstance(error, SessionError) else RuntimeBugError(repr(error))
        if self._turn_no and isinstance(failure, TurnInterruptedError | DeadlineExceededError):
            self._events.append(
                TurnInterrupted(turn_id=turn_id, cursor=cursor, message=answer, error=failure)
            )
        else:
            self._events.append(TurnFailed(turn_id=turn_id, cursor=cursor, error=failure))

    # -------------------------------------------------------- a turn that somebody else began

    async def _find(self) -> None:
        """The turn that runs, if it is the wanted one; else what the history tells of it."""
        live = self._source.running()
        if live is not None and self._wanted in {None, live.turn_no}:
            self._transcript = live.transcript
            return
        stored = await self._source.stored(self._wanted)
        if stored is None:
            return  # it has begun, or ended, in this moment: look again
        turn, question, answer = stored
        self._turn_no = turn.turn_no
        if self._skips_all:
            self._is_over = True
            return
        self._begin(question)
        if answer is not None:
            self._stored_text = answer.content
            self._tell_text(answer.content[self._characters :])
        self._end(answer, (turn.input_tokens, turn.output_tokens), error_of(turn))
