"""Where a history is cut: the place of a rewind, and the copy that a fork begins with."""

# A part of the session handle, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..actors.branches import copies
from ..actors.decisions import MAX_CREATED_MESSAGES, CreateSession
from ..actors.errors import InvalidMessageError
from ..actors.model import MessageQuery
from ..actors.values import check_count
from .views import SessionMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..actors.model import SessionRecord
    from .session import Session


async def seq_of(session: Session, place: SessionMessage | str | int) -> int:
    """The number of a message, by itself, its id or its number; 0 is before the first one."""
    if isinstance(place, SessionMessage):
        place = place.message_id
    if isinstance(place, str):
        found = await session.get_message(place)
        return found.seq or 0
    return check_count(place, "the place of a message") or 0


async def fork_of(
    session: Session, at: SessionMessage | str | int | None, session_id: str | None
) -> tuple[str, Awaitable[SessionRecord]]:
    """The id of the new session, and its creation, to be awaited."""
    last = None if at is None else await seq_of(session, at)
    state = await session._stored()
    # What is stored meanwhile is no part of it either.
    end = state.record.last_seq + 1
    query = MessageQuery(
        limit=MAX_CREATED_MESSAGES + 1, before_seq=end if last is None else min(end, last + 1)
    )
    found = await session._read(query)
    if len(found) > MAX_CREATED_MESSAGES:
        raise InvalidMessageError(f"a fork copies at most {MAX_CREATED_MESSAGES} messages")
    # A turn that runs is no part of it: its question would be there without its answer.
    running = state.record.open_turn_no
    messages = copies([each for each in found if not running or each.turn_no != running])
    record, documents = state.record, state.documents
    command = CreateSession(
        user_id=record.user_id,
        provider=record.provider,
        model=record.model,
        config=documents.config,
        provider_config=documents.provider_config,
        context=documents.context,
        messages=messages,
    )
    name = os.urandom(16).hex() if session_id is None else session_id
    return name, session._anchor.host.create(name, command)
