"""Do the histories agree with what the callers were told? A checker for tests.

It needs two things. What was called, as values of :class:`Sent`, which a :class:`SendRecorder`
makes of a program's own sends; and the final histories, as ``session.get_messages()`` gives them.
It checks, session by session:

* G1: messages stand in ticket order, ``seq`` has no gap, and no message is there twice;
* G3, G4: what was acknowledged is there, with the answer that the caller got, and nothing is there
  that nobody sent;
* G5: a turn is whole: an answer stands behind its question, and only a question whose caller was
  not answered may stand alone;
* G9: what was withdrawn, or cancelled while it was queued, never ran;
* nobody was told of a bug of the runtime.

Texts must be unique within a session: they are how a message is recognised. Where a middleware
changes what users send, say how with ``stored_as``. Histories must be whole, so do not clear them
before the check; system messages are passed over.

An answer is compared with what its caller got. Of a caller who was cancelled, or told that nobody
knows, that is nothing: such an answer is checked only if you say with ``answer_to`` what it must
be. Else one that belongs to another question would pass.

It is kept apart from the model of the property tests. That one explains every *commit* of a storage
and needs to look inside; this one sees what a user can see, and works for any program.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import anyio
from langswarm.core.session.actors.errors import (
    ConfigurationError,
    InvalidMessageError,
    OverloadError,
    ProviderError,
    ReentrantCallError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionArchivedError,
    SessionError,
    SessionNotFoundError,
    SessionQuarantinedError,
    WithdrawnError,
)
from langswarm.core.session.actors.mailbox import TicketState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from langswarm.core.session.actors.mailbox import Ticket
    from langswarm.core.session.runtime.session import Session
    from langswarm.core.session.runtime.views import SessionMessage


class Told(Enum):
    """What the caller of a send knows."""

    ANSWERED = "answered"
    FAILED = "failed"
    """A ProviderError: the question is stored, and perhaps a part of its answer, marked so."""
    NEVER_RAN = "never ran"
    """Refused at once, withdrawn, or cancelled while queued."""
    UNKNOWN = "unknown"
    """Cancelled while it ran, still open, a middleware's error, or a storage in doubt."""
    BUG = "bug"
    """A RuntimeBugError, which nobody must ever get."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One call of a send.

    Attributes:
        session_id: to which session.
        ticket: numbers the calls of a session in the order of their tickets.
        text: what was sent; unique within the session.
        began, ended: when the call was made, and when its caller was told; None: not yet. Any
            clock that does not go back.
        told: what the caller knows.
        answer: the text that the caller got.
    """

    session_id: str
    ticket: int
    text: str
    began: float = 0.0
    ended: float | None = None
    told: Told = Told.UNKNOWN
    answer: str | None = None


class HistoryMessage(Protocol):
    """What is needed of a message; ``SessionMessage`` has it."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def finish_reason(self) -> str | None: ...


_NEVER_RAN = (
    WithdrawnError,
    OverloadError,
    RuntimeClosedError,
    SessionQuarantinedError,
    SessionArchivedError,
    SessionNotFoundError,
    InvalidMessageError,
    ConfigurationError,
    ReentrantCallError,
)


class SendRecorder:
    """Sends for a program and remembers what became of it; see ``sent``."""

    def __init__(self) -> None:
        self._sent: list[_Recording] = []

    @property
    def sent(self) -> list[Sent]:
        """All sends so far, in the order of their tickets."""
        return [recording.as_sent() for recording in self._sent]

    async def send(self, session: Session, text: str) -> SessionMessage:
        """As ``session.send_message(text)``."""
        recording = _Recording(len(self._sent) + 1, session.session_id, text, anyio.current_time())
        self._sent.append(recording)
        try:
            recording.ticket = session.submit(text)
            message = await recording.ticket
        except SessionError as error:
            recording.told = told_by(error)
            raise
        else:
            recording.told, recording.answer = Told.ANSWERED, message.content
            return message
        finally:
            recording.ended = anyio.current_time()
            if recording.told is Told.UNKNOWN and _is_waiting(recording.ticket):
                recording.told = Told.NEVER_RAN  # nobody else waits, so it must be withdrawn (G9)


class _Recording:
    """A send on its way."""

    def __init__(self, number: int, session_id: str, text: str, began: float) -> None:
        self.number = number
        self.session_id = session_id
        self.text = text
        self.began = began
        self.ended: float | None = None
        self.ticket: Ticket[SessionMessage] | None = None
        self.told = Told.UNKNOWN
        self.answer: str | None = None

    def as_sent(self) -> Sent:
        """As a value."""
        return Sent(
            session_id=self.session_id,
            ticket=self.number,
            text=self.text,
            began=self.began,
            ended=self.ended,
            told=self.told,
            answer=self.answer,
        )


def _is_waiting(ticket: Ticket[SessionMessage] | None) -> bool:
    return ticket is not None and ticket.state in {TicketState.QUEUED, TicketState.WITHDRAWN}


def told_by(error: SessionError) -> Told:
    """What the caller of a send knows who got this error."""
    if isinstance(error, RuntimeBugError):
        return Told.BUG
    if isinstance(error, _NEVER_RAN):
        return Told.NEVER_RAN
    return Told.FAILED if isinstance(error, ProviderError) else Told.UNKNOWN


def ordering_violations(
    sent: Iterable[Sent],
    histories: Mapping[str, Sequence[HistoryMessage]],
    *,
    stored_as: Callable[[str], str] | None = None,
    answer_to: Callable[[Sent], str] | None = None,
) -> list[str]:
    """Every promise that does not hold, in words; an empty list is what you want.

    Args:
        sent: all sends to these sessions; one that is missing here is reported as invented.
        histories: the whole history of each session, by its id.
        stored_as: what a middleware makes of a text that is sent; by default the text itself.
        answer_to: the whole answer to a call, as it is to be stored: then every answer is compared
            with it, also one that no caller got, and a part of one has to be its beginning.
    """
    calls: dict[str, list[Sent]] = {session_id: [] for session_id in histories}
    answers: dict[str, dict[str, str]] = {session_id: {} for session_id in histories}
    found: list[str] = []
    for call in sorted(sent, key=lambda call: call.ticket):
        if call.session_id in calls:
            stored = call if stored_as is None else replace(call, text=stored_as(call.text))
            calls[call.session_id].append(stored)
            if answer_to is not None:
                answers[call.session_id][stored.text] = answer_to(call)
        else:
            found.append(f"no history of session {call.session_id!r}, to which {call} was sent")
    for session_id, history in histories.items():
        problems = [
            *_wrong_calls(calls[session_id]),
            *_wrong_numbers(history),
            *_wrong_order(calls[session_id], history),
            *_wrong_presence(calls[session_id], history),
            *_broken_turns(calls[session_id], history, answers[session_id]),
        ]
        found += [f"{problem} (session {session_id!r})" for problem in problems]
    return found


def _wrong_calls(calls: Sequence[Sent]) -> list[str]:
    texts = Counter(call.text for call in calls)
    found = [f"{text!r} was sent {count} times" for text, count in texts.items() if count > 1]
    found += [
        f"the caller of {call.text!r} got a RuntimeBugError"
        for call in calls
        if call.told is Told.BUG
    ]
    first_to_end: Sent | None = None
    for call in reversed(calls):
        if first_to_end is not None and _ended(first_to_end) < call.began:
            found.append(
                f"G1: {call.text!r} began when {first_to_end.text!r} had ended, and has the "
                "earlier ticket"
            )
        if first_to_end is None or _ended(call) < _ended(first_to_end):
            first_to_end = call
    return found


def _ended(call: Sent) -> float:
    return math.inf if call.ended is None else call.ended


def _wrong_numbers(history: Sequence[HistoryMessage]) -> list[str]:
    expected = range(1, len(history) + 1)
    actual = [message.seq for message in history]
    return [] if actual == list(expected) else [f"G1: seq is {actual}, not 1 to {len(history)}"]


def _wrong_order(calls: Sequence[Sent], history: Sequence[HistoryMessage]) -> list[str]:
    tickets = {call.text: call.ticket for call in calls}
    questions = [message.content for message in _talk(history) if message.role == "user"]
    found = [
        f"G4: {text!r} is there {count} times"
        for text, count in Counter(questions).items()
        if count > 1
    ]
    known = [text for text in questions if text in tickets]
    for earlier, later in pairwise(known):
        if tickets[earlier] > tickets[later]:
            found.append(f"G1: {earlier!r} stands before {later!r}, its ticket is a later one")
    return found


def _wrong_presence(calls: Sequence[Sent], history: Sequence[HistoryMessage]) -> list[str]:
    there = {message.content for message in history if message.role == "user"}
    found = [f"G4: nobody sent {text!r}" for text in sorted(there - {call.text for call in calls})]
    for call in calls:
        if call.told is Told.NEVER_RAN and call.text in there:
            found.append(f"G9: {call.text!r} is there, but its caller was told that it never ran")
        if call.told in {Told.ANSWERED, Told.FAILED} and call.text not in there:
            found.append(f"G3: {call.text!r} was {call.told.value} and is not there")
    return found


def _broken_turns(
    calls: Sequence[Sent], history: Sequence[HistoryMessage], answers: Mapping[str, str]
) -> list[str]:
    told = {call.text: call for call in calls}
    found: list[str] = []
    question: HistoryMessage | None = None
    for message in [*_talk(history), None]:
        if message is not None and message.role == "assistant":
            if question is None:
                found.append(f"G5: the answer {message.content!r} has no question before it")
            else:
                found += _wrong_answer(told.get(question.content), question, message)
                found += _foreign_answer(answers.get(question.content), question, message)
            question = None
            continue
        if question is not None:
            found += _wrong_silence(told.get(question.content), question)
        question = message
    return found


def _wrong_answer(call: Sent | None, question: HistoryMessage, answer: HistoryMessage) -> list[str]:
    if question.finish_reason == "failed":
        return [f"G5: {question.content!r} is marked failed and has an answer"]
    if call is not None and call.told is Told.ANSWERED and call.answer != answer.content:
        told = f"the caller of {question.content!r} got {call.answer!r}"
        return [f"G3: {told}, the history has {answer.content!r}"]
    if call is not None and call.told is Told.FAILED and answer.finish_reason != "interrupted":
        told = f"the caller of {question.content!r} was told that it failed"
        return [f"G3: {told}, and {answer.content!r} is not marked as a part of an answer"]
    return []


def _foreign_answer(
    expected: str | None, question: HistoryMessage, answer: HistoryMessage
) -> list[str]:
    if expected is None or answer.content == expected:
        return []
    if answer.finish_reason == "interrupted" and expected.startswith(answer.content):
        return []
    return [f"G5: {question.content!r} has the answer {answer.content!r}, not {expected!r}"]


def _wrong_silence(call: Sent | None, question: HistoryMessage) -> list[str]:
    """A question without an answer: failed, or interrupted before any text."""
    if call is not None and call.told is Told.ANSWERED:
        return [f"G5: {question.content!r} was answered, and its answer is not there"]
    return []


def _talk(history: Sequence[HistoryMessage]) -> list[HistoryMessage]:
    return [message for message in history if message.role != "system"]
