"""The demo's input: conversations, one JSON object per line.

A line that the runtime would refuse is refused here, with its number, before anything runs.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any, NoReturn, cast

import attrs
from langswarm.core.session import InvalidMessageError, Limits, Role
from langswarm.core.session.actors.values import check_text, encode_object
from langswarm.core.session.cli.exits import UsageError

DEFAULT_INPUT = Path("examples", "conversations.jsonl")

_LINE_KEYS = ("id", "language", "title", "system", "context", "turns")
_TURN_KEYS = ("user", "assistant")
_ID_BYTES = 400


@attrs.frozen(kw_only=True)
class Turn:
    """What a user says and what is answered."""

    user: str
    assistant: str


@attrs.frozen(kw_only=True)
class Conversation:
    """One line of the input."""

    conversation_id: str
    turns: tuple[Turn, ...]
    system: str | None = None
    context: dict[str, Any] = attrs.field(factory=dict[str, Any])

    @property
    def half(self) -> int:
        """How many turns come before the change of processes."""
        return (len(self.turns) + 1) // 2

    def history(self) -> list[tuple[Role, str]]:
        """The messages that the session must hold at the end."""
        messages = [] if self.system is None else [(Role.SYSTEM, self.system)]
        for turn in self.turns:
            messages += [(Role.USER, turn.user), (Role.ASSISTANT, turn.assistant)]
        return messages

    def context_of(self, *, second: bool) -> dict[str, Any]:
        """The part of the context that this half adds."""
        keys = list(self.context)
        middle = (len(keys) + 1) // 2
        return {key: self.context[key] for key in (keys[middle:] if second else keys[:middle])}


@attrs.frozen(kw_only=True)
class User:
    """Somebody who has one of the conversations, in a session of their own."""

    user_id: str
    session_id: str
    conversation: Conversation


def users_of(conversations: list[Conversation], count: int) -> list[User]:
    """So many users, on the conversations in turn; the same in every process."""
    users: list[User] = []
    for number in range(1, count + 1):
        conversation = conversations[(number - 1) % len(conversations)]
        session_id = f"{conversation.conversation_id}#{number}"
        user = User(user_id=f"user-{number}", session_id=session_id, conversation=conversation)
        users.append(user)
    return users


def find_input(given: Path | None) -> Path:
    """The file to read. Raises UsageError that says what to do if there is none."""
    if given is not None:
        return given
    if DEFAULT_INPUT.is_file():
        return DEFAULT_INPUT
    raise UsageError(
        f"no conversations to replay: there is no {DEFAULT_INPUT} here; run this in a clone of "
        "the repository, which has it, or give a file of your own with --input FILE"
    )


def read_conversations(path: Path) -> list[Conversation]:
    """All conversations of a file. Raises UsageError that names file and line."""
    try:
        lines = path.read_bytes().removeprefix(BOM_UTF8).split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    found: dict[str, Conversation] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            conversation = _conversation(line.decode())
            if conversation.conversation_id in found:
                _refuse(f"a second conversation with id {conversation.conversation_id!r}")
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}:{number}:{error.colno}: not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: {error}") from None
        found[conversation.conversation_id] = conversation
    if not found:
        raise UsageError(f"{path} has no conversations: one JSON object per line is expected")
    return list(found.values())


def _refuse(why: str) -> NoReturn:
    raise InvalidMessageError(why)


def _conversation(line: str) -> Conversation:
    fields = _object(json.loads(line), "the line", _LINE_KEYS)
    for key in ("language", "title"):  # for people; the runtime has no use for them
        if not isinstance(fields.get(key, ""), str):
            _refuse(f"{key} must be a text")
    turns = fields.get("turns")
    if not isinstance(turns, list) or not turns:
        _refuse("turns must be a list of one or more turns")
    system, context = fields.get("system"), fields.get("context")
    limits = Limits()
    if context is not None:
        encode_object(context, "context", max_bytes=limits.max_context_bytes)
    return Conversation(
        conversation_id=check_text(fields.get("id"), "id", max_bytes=_ID_BYTES),
        turns=tuple(
            _turn(turn, f"turns[{place}]", limits.max_message_bytes)
            for place, turn in enumerate(cast("list[object]", turns))
        ),
        system=None
        if system is None
        else check_text(system, "system", max_bytes=limits.max_message_bytes),
        context=cast("dict[str, Any]", context or {}),
    )


def _turn(value: object, name: str, max_bytes: int) -> Turn:
    fields = _object(value, name, _TURN_KEYS)
    return Turn(
        user=check_text(fields.get("user"), f"{name}.user", max_bytes=max_bytes),
        assistant=check_text(fields.get("assistant"), f"{name}.assistant", max_bytes=max_bytes),
    )


def _object(value: object, name: str, keys: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(f"{name} must be a JSON object with {', '.join(keys)}")
    fields = cast("dict[str, object]", value)
    for key in fields:
        if key not in keys:
            _refuse(f"{name} has an unknown key {key!r}; there are {', '.join(keys)}")
    return fields
