"""Exports that others read: people, and the vendors' APIs. Plain functions over the messages."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from ..actors.model import PromptMessage, Role
from ..actors.prompt import is_shown, merge_adjacent, split_system
from ..actors.values import decode_object
from .views import to_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..actors.model import MessageRecord, StoredSession

_BETWEEN_STEPS = 1_000
_FENCES = re.compile("`{3,}")
_ESCAPES = str.maketrans({character: f"\\{character}" for character in string.punctuation})


# ---------------------------------------------------------------- vendors


def openai_messages(messages: Iterable[MessageRecord]) -> list[dict[str, str]]:
    """What a provider may see, in the order of the conversation, system messages in their places.

    Chat Completions takes any order of roles.
    """
    return [_pair(message) for message in _prompt(messages)]


def anthropic_body(messages: Iterable[MessageRecord]) -> dict[str, Any]:
    """`system`, where there is any, and `messages`, which begin with the user and alternate."""
    system, said = split_system(_prompt(messages))
    first = next((n for n, message in enumerate(said) if message.role is Role.USER), len(said))
    body: dict[str, Any] = {"system": "\n\n".join(system)} if system else {}
    body["messages"] = [_pair(message) for message in merge_adjacent(said[first:])]
    return body


def _prompt(messages: Iterable[MessageRecord]) -> list[PromptMessage]:
    return [
        PromptMessage(role=message.role, content=message.content)
        for message in messages
        if is_shown(message)
    ]


def _pair(message: PromptMessage) -> dict[str, str]:
    return {"role": message.role.value, "content": message.content}


# ---------------------------------------------------------------- people


async def markdown(state: StoredSession, messages: Sequence[MessageRecord]) -> str:
    """A heading and a few facts, then a heading and a fenced text for each message.

    Every text stands in a fence that it cannot close, and what stands outside is escaped, so
    nothing that was said is a heading, a link or HTML.
    """
    record = state.record
    title = decode_object(state.documents.config).get("name") or record.session_id
    facts = (
        ("session", _escaped(record.session_id)),
        ("user", _escaped(record.user_id)),
        ("provider", f"{_escaped(record.provider)}, {_escaped(record.model)}"),
        ("status", record.status.value),
        ("created", to_datetime(record.created_us).isoformat()),
        ("messages", str(len(messages))),
    )
    listed = "".join(f"- {name}: {fact}\n" for name, fact in facts)
    parts = [f"# {_escaped(title)}\n", listed]
    for number, message in enumerate(messages):
        if number % _BETWEEN_STEPS == _BETWEEN_STEPS - 1:
            await anyio.lowlevel.checkpoint()
        parts.append(_section(message))
    return "\n".join(parts)


def _section(message: MessageRecord) -> str:
    remarks = [to_datetime(message.created_us).isoformat()]
    if message.finish_reason not in {None, "stop"}:
        remarks.append(_escaped(message.finish_reason))
    if message.hidden_by:
        remarks.append("hidden")
    heading = f"## {message.seq}. {message.role.value} ({', '.join(remarks)})\n"
    longest = max(map(len, _FENCES.findall(message.content)), default=2)
    fence = "`" * (longest + 1)
    return f"{heading}\n{fence}text\n{message.content}\n{fence}\n"


def _escaped(text: object) -> str:
    """On one line; what means anything in Markdown or HTML does not."""
    return " ".join(str(text).split()).translate(_ESCAPES)
