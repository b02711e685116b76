"""Wrong variants of what a provider is asked with."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from unittest.mock import patch

from langswarm.core.session.actors import prompt, window_cache
from langswarm.core.session.actors.model import MessageRecord, PromptMessage, Role, changed
from langswarm.core.session.actors.prompt import PromptWindow
from langswarm.core.session.actors.window_cache import WindowCache

from .catalogue import planted, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.window_cache import Read


def _shown_if(rule: Callable[[MessageRecord], bool]) -> AbstractContextManager[object]:
    return together(
        patch.object(prompt, "is_shown", rule), patch.object(window_cache, "is_shown", rule)
    )


@planted("G9", by="prompt")
def failed_questions_are_asked_again() -> AbstractContextManager[object]:
    """The mark of a failed turn is not looked at."""
    shown = prompt.is_shown
    return _shown_if(lambda record: shown(changed(record, finish_reason=None)))


@planted("G9", by="prompt")
def hidden_messages_are_shown() -> AbstractContextManager[object]:
    """What was retried or rewound stays in the prompt."""
    shown = prompt.is_shown
    return _shown_if(lambda record: shown(changed(record, hidden_by=0)))


@planted("G9", by="prompt")
def only_retried_messages_are_hidden() -> AbstractContextManager[object]:
    """What was rewound stays in the prompt."""
    shown = prompt.is_shown
    return _shown_if(lambda record: shown(changed(record, hidden_by=max(0, record.hidden_by))))


@planted("G9", by="prompt")
def blank_messages_are_sent() -> AbstractContextManager[object]:
    """White space is taken for text."""
    return _shown_if(
        lambda record: bool(
            record.content and not record.hidden_by and record.finish_reason != "failed"
        )
    )


@planted("G9", by="prompt")
def windows_begin_with_an_answer() -> AbstractContextManager[object]:
    """The budget cuts between a question and its answer."""

    def cut(self: PromptWindow, content: str, max_messages: int) -> tuple[PromptMessage, ...]:
        said = self._conversation
        start = max(0, len(said) + 1 - max_messages)
        question = PromptMessage(role=Role.USER, content=content)
        return (*self._system[-max_messages:], *said[start:], question)

    return patch.object(PromptWindow, "with_user_message", cut)


@planted("G9", by="prompt")
def answers_leave_before_their_questions() -> AbstractContextManager[object]:
    """Where the budget is short, the oldest answer goes, its question stays."""

    def cut(self: PromptWindow, content: str, max_messages: int) -> tuple[PromptMessage, ...]:
        said = list(self._conversation)
        while said and (len(said) >= max_messages or said[0].role is not Role.USER):
            answers = [at for at, each in enumerate(said) if each.role is Role.ASSISTANT]
            del said[answers[0] if answers else 0]
        question = PromptMessage(role=Role.USER, content=content)
        return (*self._system[-max_messages:], *said, question)

    return patch.object(PromptWindow, "with_user_message", cut)


@planted("G9", by="prompt")
def unanswered_questions_are_dropped() -> AbstractContextManager[object]:
    """Of neighbours of one role only the last is sent."""
    whole = PromptWindow.with_user_message

    def alternate(self: PromptWindow, content: str, max_messages: int) -> tuple[PromptMessage, ...]:
        messages = whole(self, content, max_messages)
        kept = [
            each
            for each, following in pairwise(messages)
            if each.role is Role.SYSTEM or each.role is not following.role
        ]
        return (*kept, messages[-1])

    return patch.object(PromptWindow, "with_user_message", alternate)


@planted("G11", by="prompt")
def the_new_message_is_not_counted() -> AbstractContextManager[object]:
    """The conversation is one message longer than the budget."""
    whole = PromptWindow.with_user_message

    def longer(self: PromptWindow, content: str, max_messages: int) -> tuple[PromptMessage, ...]:
        return whole(self, content, max_messages + 1)

    return patch.object(PromptWindow, "with_user_message", longer)


@planted("G4", by="prompt")
def growing_windows_lose_too_much() -> AbstractContextManager[object]:
    """A window that is too long is halved."""
    append = PromptWindow.append

    def halve(self: PromptWindow, record: MessageRecord, max_messages: int) -> None:
        before = len(self._conversation)
        append(self, record, max_messages)
        if len(self._conversation) < before:
            surplus = self._conversation[: len(self._conversation) // 2]
            self.bytes -= sum(map(prompt._size, surplus))
            del self._conversation[: len(surplus)]

    return patch.object(PromptWindow, "append", halve)


@planted("G4", by="prompt")
def blank_messages_count_when_read() -> AbstractContextManager[object]:
    """A window that is read is shorter than one that grew."""

    def all_count(record: MessageRecord) -> bool:
        del record
        return True

    return patch.object(window_cache, "is_shown", all_count)


@planted("G4", by="prompt")
def the_open_question_is_read_too() -> AbstractContextManager[object]:
    """The question that was just stored is in the window, and behind it once more."""
    read_window = window_cache.read_window

    async def read_beyond(
        read: Read, before_seq: int, max_messages: int, *, has_system: bool
    ) -> PromptWindow:
        return await read_window(read, before_seq + 1, max_messages, has_system=has_system)

    return patch.object(window_cache, "read_window", read_beyond)


@planted("G9", by="prompt")
def merging_keeps_the_last() -> AbstractContextManager[object]:
    """Of neighbours that are merged the last one's text survives."""

    def keep_last(run: tuple[PromptMessage, ...]) -> PromptMessage:
        return run[-1]

    return patch.object(prompt, "_merged", keep_last)


@planted("G9", by="prompt")
def merging_forgets_to() -> AbstractContextManager[object]:
    """Neighbours of one role stay apart."""

    def apart(messages: Iterable[PromptMessage]) -> tuple[PromptMessage, ...]:
        return tuple(messages)

    return patch.object(prompt, "merge_adjacent", apart)


@planted("G11", by="prompt")
def the_cache_does_not_see_windows_grow() -> AbstractContextManager[object]:
    """A window that is cached already is not counted again."""
    put = WindowCache.put

    def put_once(self: WindowCache, session_id: str, window: PromptWindow) -> None:
        if session_id not in self._windows:
            put(self, session_id, window)

    return patch.object(WindowCache, "put", put_once)
