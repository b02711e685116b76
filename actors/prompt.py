"""The prompt: what of a history is sent to a provider. Pure functions of the history alone (G4).

System messages come first, then the conversation, the new user message last. Left out is what is
hidden, the question of a failed turn, and every text without a visible character, which vendors
refuse. An interrupted answer is kept as the user saw it. So is a question that was stopped before
any answer: the user still sees it, and what is asked next often refers to it. Two user messages
then stand side by side; the OpenAI family takes that, for the others there is `merge_adjacent`.

`max_messages` bounds the conversation, the new message included, and the system messages by
themselves. What fits is the newest part that begins with a user message, so no answer is without
the message that it follows, and whatever the history holds the next request is valid (G9).
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from .model import MessageRecord, PromptMessage, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The objects around a text, and those of a window; measured, right within a factor of two.
_MESSAGE_OVERHEAD_BYTES = 120
_WINDOW_OVERHEAD_BYTES = 300

_role_of = attrgetter("role")


def is_shown(record: MessageRecord) -> bool:
    """Whether a provider may see this message at all."""
    content = record.content
    return bool(
        content
        and not content.isspace()
        and not record.hidden_by
        and record.finish_reason != "failed"
    )


class PromptWindow:
    """The latest messages of one session that a provider may see. It only grows by `append`.

    Where messages are hidden or deleted, or `max_messages` changes, a new one is made.
    """

    __slots__ = ("_conversation", "_system", "bytes")

    def __init__(self) -> None:
        self._system: list[PromptMessage] = []
        self._conversation: list[PromptMessage] = []
        # Invariant: the sizes of all messages held, and of the window itself.
        self.bytes = _WINDOW_OVERHEAD_BYTES

    @classmethod
    def of(cls, records: Iterable[MessageRecord], max_messages: int) -> PromptWindow:
        """The window over records; system messages and others each in `seq` order."""
        window = cls()
        for record in records:
            window.append(record, max_messages)
        return window

    def append(self, record: MessageRecord, max_messages: int) -> None:
        """One more message, if it is to be shown; what no later window can hold is let go."""
        if not is_shown(record):
            return
        message = PromptMessage(
            role=record.role,
            content=record.content,
            provider_message_id=record.provider_message_id,
        )
        held = self._system if message.role is Role.SYSTEM else self._conversation
        held.append(message)
        self.bytes += _size(message)
        # A quarter too many are held: so letting go costs O(1) per message, in lists, which are
        # a tenth of the size of deques where sessions are short.
        if len(held) * 4 > max_messages * 5:
            surplus = len(held) - max_messages
            self.bytes -= sum(map(_size, held[:surplus]))
            del held[:surplus]

    def with_user_message(
        self, content: str, max_messages: int, room: int | None = None
    ) -> tuple[PromptMessage, ...]:
        """The whole prompt: system messages, what fits of the conversation, the new message.

        `room`: so many messages of the conversation, where that is less than `max_messages`.
        """
        said = self._conversation
        start = max(0, len(said) + 1 - min(max_messages, room or max_messages))
        while start < len(said) and said[start].role is not Role.USER:
            start += 1
        question = PromptMessage(role=Role.USER, content=content)
        return (*self._system[-max_messages:], *said[start:], question)


def _size(message: PromptMessage) -> int:
    content = message.content
    return len(content) * (1 if content.isascii() else 2) + _MESSAGE_OVERHEAD_BYTES


def split_system(
    messages: Iterable[PromptMessage],
) -> tuple[tuple[str, ...], tuple[PromptMessage, ...]]:
    """(system texts, conversation), for a vendor with a field of its own for the former."""
    system: list[str] = []
    conversation: list[PromptMessage] = []
    for message in messages:
        if message.role is Role.SYSTEM:
            system.append(message.content)
        else:
            conversation.append(message)
    return tuple(system), tuple(conversation)


def merge_adjacent(messages: Iterable[PromptMessage]) -> tuple[PromptMessage, ...]:
    """Neighbours of one role as one message, their texts a blank line apart.

    For a vendor that wants roles to alternate; a prompt begins with a user message already.
    """
    return tuple(_merged(tuple(run)) for _, run in groupby(messages, _role_of))


def _merged(run: Sequence[PromptMessage]) -> PromptMessage:
    if len(run) == 1:
        return run[0]
    return PromptMessage(role=run[0].role, content="\n\n".join(each.content for each in run))
