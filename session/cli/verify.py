"""Is what is stored exactly what was said? Everything is read through the public API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from langswarm.core.session import Role, SessionError, SessionManager, SessionMessage
from langswarm.core.session.cli.conversations import User

_SHOWN = 24


async def difference_of(manager: SessionManager, user: User) -> str | None:
    """The first difference between a user's session and the conversation, None if there is none."""
    try:
        session = await manager.get_session(user.session_id, user_id=user.user_id)
        messages = await session.get_messages()
        context = await session.get_context()
        own = [found.session_id for found in await manager.get_user_sessions(user.user_id)]
    except SessionError as error:
        return f"{type(error).__name__}: {error}"
    if own != [user.session_id]:
        return f"the user's sessions are {own}, not just this one"
    if session.message_count != len(messages):
        return f"it counts {session.message_count} messages and has {len(messages)}"
    return difference_of_messages(user.conversation.history(), messages) or difference_of_context(
        user.conversation.context, context
    )


def difference_of_messages(
    wanted: Sequence[tuple[Role, str]], messages: Sequence[SessionMessage]
) -> str | None:
    """The first difference in order, role, text, in how a message ended, or in number."""
    for place, ((role, content), message) in enumerate(
        zip(wanted, messages, strict=False), start=1
    ):
        difference = _difference_of_message(place, role, content, message)
        if difference is not None:
            return f"message {place} {difference}"
    if len(messages) != len(wanted):
        return f"it has {len(messages)} messages, the conversation {len(wanted)}"
    return None


def _difference_of_message(
    place: int, role: Role, content: str, message: SessionMessage
) -> str | None:
    facts = (
        ("seq", message.seq, place),
        ("role", message.role.value, role.value),
        ("finish_reason", message.finish_reason, "stop" if role is Role.ASSISTANT else None),
    )
    for name, found, wanted in facts:
        if found != wanted:
            return f"has {name} {found!r}, not {wanted!r}"
    if message.content != content:
        return _first_difference(content, message.content)
    return None


def difference_of_context(
    wanted: Mapping[str, object], context: Mapping[str, object]
) -> str | None:
    """The first key whose value is another one, down to 1, 1.0 and true."""
    for key in {**wanted, **context}:
        if key not in context:
            return f"the context lacks {key!r}"
        if key not in wanted:
            return f"the context has {key!r}, which nobody set"
        texts = [json.dumps(values[key], ensure_ascii=False) for values in (wanted, context)]
        if texts[0] != texts[1]:
            return f"the context's {key!r} {_first_difference(*texts)}"
    return None


def _first_difference(wanted: str, found: str) -> str:
    place = next(
        (
            place
            for place, pair in enumerate(zip(wanted, found, strict=False))
            if pair[0] != pair[1]
        ),
        min(len(wanted), len(found)),
    )
    part = slice(place, place + _SHOWN)
    return f"differs at character {place}: {found[part]!r} instead of {wanted[part]!r}"
