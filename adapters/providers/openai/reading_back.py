"""What became of a request whose answer was lost.

The vendor knows no idempotency keys, so a request that may have arrived is not sent again blindly:
the conversation would hold the question twice. But a session's turns run one at a time, so what
the conversation holds after the last item of the turn before belongs to this turn.

- Nothing is there: the vendor writes a turn's items when the answer is complete. It may still be at
  work, and write them later: the request may be sent again, but in another conversation.
- The question and an answer that is complete: it is the answer.
- All else, or it cannot be found out in time: the failure stands. The session's next turn begins
  a new conversation with what was really said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import attrs

from ....actors.errors import ProviderError
from ....actors.model import Role
from ..reading import id_of, mapping
from ..reading import items as json_items
from .responses import last_message_id, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ....actors.model import PromptMessage
    from .conversations import Conversations

SECONDS = 10.0
"""How long it may take."""
MAX_PAGES = 3
"""A turn has a few items."""


@attrs.frozen
class Mark:
    """Where a turn begins in its conversation: after an item, and behind so many more."""

    after: str | None = None
    skip: int = 0


@attrs.frozen
class NotArrived:
    """Nothing of the turn is there."""


@attrs.frozen
class Unfinished:
    """Something is there, or nothing is known."""


@attrs.frozen(kw_only=True)
class Answered:
    """The answer is there."""

    text: str
    refused: bool
    message_id: str | None


Verdict = NotArrived | Unfinished | Answered


def mark_of(messages: Sequence[PromptMessage]) -> Mark | None:
    """Where the turn begins that goes on with a conversation; None: it cannot be told.

    It can where the message before the question is an answer that came from there.
    """
    before = messages[-2] if len(messages) > 1 else None
    if before is None or before.role is not Role.ASSISTANT or before.provider_message_id is None:
        return None
    return Mark(before.provider_message_id)


def judge(items: Sequence[Mapping[str, Any]], question: str) -> Verdict:
    """What the items say that came with or after this question."""
    if not items:
        return NotArrived()
    messages = [item for item in items if item.get("type") == "message"]
    questions = [_said(item) for item in messages if item.get("role") == "user"]
    answers = [item for item in messages if item.get("role") == "assistant"]
    whole = all(item.get("status") in {None, "completed"} for item in answers)
    if questions != [question] or not answers or not whole or items[-1] is not answers[-1]:
        return Unfinished()
    text, refused = text_of(answers)
    return Answered(text=text, refused=refused, message_id=last_message_id(answers))


def _said(item: Mapping[str, Any]) -> str:
    parts = map(mapping, json_items(item.get("content")))
    return "".join(str(part.get("text", "")) for part in parts)


async def read_back(
    conversations: Conversations, conversation_id: str, mark: Mark | None, question: str
) -> Verdict:
    """What became of a turn. Never raises ProviderError, and takes at most 10 s."""
    verdict: Verdict = Unfinished()
    if mark is None:
        return verdict
    with anyio.move_on_after(SECONDS):
        try:
            found = await _items_behind(conversations, conversation_id, mark)
            verdict = judge(found, question)
        except ProviderError:
            return Unfinished()  # the failure that led here says more
    return verdict


async def _items_behind(
    conversations: Conversations, conversation_id: str, mark: Mark
) -> Sequence[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    after = mark.after
    for _ in range(MAX_PAGES):
        listed, has_more = await conversations.page(conversation_id, after)
        if after is not None and any(item.get("id") == after for item in listed):
            break  # a server that begins where it likes: these are no items of this turn alone
        found += listed
        if not has_more:
            return found[mark.skip :]
        after = id_of(listed[-1].get("id")) if listed else None
        if after is None:
            break
    return [{"type": "unknown"}]
