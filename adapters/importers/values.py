"""What a reader of old files gives: one session at a time, or why there is none.

Everything is exactly what the file says: contents and metadata may hold lone surrogates, NUL, NaN
and infinity, ids may occur twice, times may be equal or fall. Whoever stores them decides what to
do about that, and has the list order, which is the order of the conversation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ...actors.model import Role, SessionStatus


class SourceFormat(StrEnum):
    """The formats that are read. Equal to their texts: `format="v1"`."""

    V1 = "v1"
    """LangSwarm V1: an SQLite file, one row per session."""
    V1_JSON = "v1-json"
    """`{"metadata": {...}, "history": {...}}` per session: one, a list of them, or JSON lines."""
    LANGSWARM_0_1 = "langswarm-0.1"
    """LangSwarm 0.1.0: an SQLite file with a table of messages."""
    OPENAI_AGENTS = "openai-agents"
    """SQLiteSession of openai-agents, with the tables' default names."""
    MESSAGES = "messages"
    """A list of `{"role", "content"}`, as one JSON value or as JSON lines: one session."""


@attrs.frozen(kw_only=True)
class ImportedMessage:
    """One message, as the file has it, with a role of this runtime and a time in UTC."""

    role: Role
    content: str
    timestamp: datetime
    """Aware, UTC."""
    id: str | None = None
    """May occur more than once in a session. None: the file has none."""
    metadata: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    provider_message_id: str | None = None
    token_count: int = 0
    finish_reason: str | None = None
    original_role: str | None = None
    """The role in the file, where this runtime has none of that name."""
    extras: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What the file says besides: `tool_calls`, `tool_call_id`."""


@attrs.frozen(kw_only=True)
class ImportedSession:
    """One session with its whole history.

    `user_id`, `provider` and `model` are None where the format has no such thing.
    """

    id: str
    user_id: str | None
    provider: str | None
    model: str | None
    status: SessionStatus
    created: datetime
    """Aware, UTC."""
    updated: datetime
    """Aware, UTC."""
    messages: tuple[ImportedMessage, ...]
    """In the order of the conversation, whatever their times say."""
    context: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    """What was changed or left out, and why; for people to read."""


@attrs.frozen(kw_only=True)
class Skipped:
    """Something in the file that cannot be imported; everything else can."""

    id: str
    """The session's id, or where it is in the file."""
    reason: str


class UnreadableError(Exception):
    """One session cannot be read; the reason is its text. Never leaves this package."""
