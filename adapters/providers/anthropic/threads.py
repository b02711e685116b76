"""Whether a turn goes on with a message thread, begins one, or does without. Pure.

A thread is named by the id of the first answer in it, which stays its name in this runtime; the
vendor goes on from the id of the latest answer, and takes each one once. A turn goes on only if the
window still holds the thread's first answer: so a thread never holds much more than
`max_messages`, and nothing that was left out of the window by more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....actors.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ....actors.model import PromptMessage
    from ....actors.ports import Completed

BETA = "message-threads-2026-08-12"
CREATE: Mapping[str, str] = {"type": "create"}
LOCAL = "local_"
"""Begins the name of a conversation of which the vendor keeps nothing."""
_MAX_NAME_BYTES = 500
_NO_WAY_ON = frozenset({"refusal", "tool_use", "pause_turn"})
"""Finish reasons behind which the vendor does not take a plain question."""


def local_name(session_id: str) -> str:
    """The name of a session's conversation where only this runtime keeps it."""
    if len(session_id.encode()) > _MAX_NAME_BYTES:
        from hashlib import sha256  # noqa: PLC0415 - rare

        session_id = sha256(session_id.encode()).hexdigest()
    return LOCAL + session_id


def field_for(name: str | None, messages: Sequence[PromptMessage]) -> Mapping[str, str]:
    """The request's `thread` field; `name` is the conversation's, as the last turn left it."""
    if name is None or name.startswith(LOCAL):
        return CREATE
    answers = [each.provider_message_id for each in messages if each.role is Role.ASSISTANT]
    if name not in answers or answers[-1] is None or messages[-2].role is not Role.ASSISTANT:
        return CREATE
    return {"type": "continue", "previous_message_id": answers[-1]}


def name_after(
    field: Mapping[str, str] | None, name: str | None, session_id: str, last: Completed
) -> str:
    """The conversation's name after a turn with this `thread` field that was answered so."""
    answered = last.provider_message_id
    if field is None or answered is None or last.finish_reason in _NO_WAY_ON:
        return local_name(session_id)
    return answered if field["type"] == "create" or name is None else name
