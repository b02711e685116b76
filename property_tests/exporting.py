"""Export and import: what comes back is what went out, and what is damaged is refused or whole."""

from __future__ import annotations

import contextlib
import copy
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langswarm.core.session.actors.errors import (
    ConfigurationError,
    InvalidMessageError,
    ProviderError,
    SessionError,
    TurnNotFoundError,
    TurnStateError,
)
from langswarm.core.session.actors.model import MessageQuery

from .serving import PROVIDERS, require

if TYPE_CHECKING:
    import random

    from langswarm.core.session import Session, SessionManager

    from .serving import Place

_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_ODD: tuple[object, ...] = (
    None, "", "x", "\ud800", 0, -1, 1.5, 2**70, True, [], {}, [None], {"x": 1}, "user",
    "2020-01-01",
)  # fmt: skip
_VERBS = ("send", "send", "fail", "half", "say", "note", "again", "rewind", "clear", "put", "conf")


async def a_history(source: random.Random, manager: SessionManager) -> Session:
    """A session that anything may have happened to."""
    provider = source.choice(PROVIDERS)
    session = await manager.create_session("ann", provider, "m", session_config={"tags": ["t"]})
    for number in range(source.choice((0, 3, 8, 15))):
        with contextlib.suppress(ProviderError, TurnStateError, TurnNotFoundError):
            await _act(source, session, source.choice(_VERBS), f"{number}")
    if source.random() < 0.2:
        await session.archive()
    return session


async def _act(source: random.Random, session: Session, verb: str, text: str) -> None:
    match verb:
        case "say":
            role = source.choice(("user", "assistant", "system"))
            when = source.choice((None, _LONG_AGO))
            await session.add_message(role, text, timestamp=when, metadata={"n": text})
        case "note":
            await session.send_system_message(text)
        case "again":
            await session.regenerate()
        case "rewind":
            await session.rewind(source.randrange(8))
        case "clear":
            await session.clear_messages()
        case "put":
            await session.update_context({text: [text]})
        case "conf":
            await session.update_config({"max_messages": source.choice((1, 5)), "tags": [text]})
        case _:
            await session.send_message(f"{verb if verb != 'send' else 'hello'} {text}")


async def check_round_trip(source: random.Random, place: Place) -> None:
    """Export, import, export: equal but for ids; as a mapping, as JSON, and as JSON lines."""
    async with place.manager() as manager:
        session = await a_history(source, manager)
        data = await session.export_conversation()
        stored = await session._read(MessageQuery(include_hidden=True))
        require(
            [each["seq"] for each in data["messages"]] == [each.seq for each in stored],
            f"export: {data['messages']} of {stored}",
        )
        given = source.choice((data, json.dumps(data), await session.export_conversation("jsonl")))
        again = await manager.import_conversation(given)
        found = await again.export_conversation()
        require(_without_ids(found) == _without_ids(data), f"export: {data} came back as {found}")
        lines, were = await again.get_messages(), await session.get_messages()
        require(
            [(each.seq, each.content) for each in lines]
            == [(each.seq, each.content) for each in were],
            f"export: the history is {lines}, it was {were}",
        )
        for _ in range(6):
            await _import_damaged(source, manager, data)


def _without_ids(data: dict[str, Any]) -> dict[str, Any]:
    """What a conversation has beside the names of itself and of what a vendor keeps."""
    data = copy.deepcopy(data)
    name = data["session"].pop("session_id")
    data["session"].pop("provider_session_id")
    for message in data["messages"]:
        message["message_id"] = message["message_id"].replace(name, "")
    return data


async def _import_damaged(
    source: random.Random, manager: SessionManager, data: dict[str, Any]
) -> None:
    """It is refused and leaves nothing, or is a session with all its messages, and goes on."""
    damaged = copy.deepcopy(data)
    where = _damage(source, damaged)
    try:
        session = await manager.import_conversation(damaged, session_id="damaged")
    except (InvalidMessageError, ConfigurationError):
        with contextlib.suppress(SessionError):
            await manager.get_session("damaged")
            require(condition=False, text=f"export: refused and stored all the same: {where}")
        return
    messages = damaged["messages"]
    found = await session.export_conversation()
    require(
        [each["content"] for each in found["messages"]] == [each["content"] for each in messages],
        f"export: of {messages} came {found['messages']}, changed was {where}",
    )
    with contextlib.suppress(ConfigurationError):  # of a provider that this manager does not have
        await session.reopen()
        stored = await session.send_message("hello")
        require(
            stored.seq > max((each["seq"] for each in found["messages"]), default=0),
            f"export: after an import with {where} the answer has seq {stored.seq}",
        )
    require(await manager.erase_user(session.user_id) > 0, f"export: not erased: {where}")


def _damage(source: random.Random, data: dict[str, Any]) -> str:
    """Change one value somewhere, or take it out; what was done."""
    place: Any = data
    path: list[object] = []
    while True:
        is_list = type(place) is list
        keys: list[Any] = list(range(len(place))) if is_list else list(place)
        if not keys:
            return f"nothing at {path}"
        key = source.choice(keys)
        path.append(key)
        value = place[key]
        if type(value) in {dict, list} and value and source.random() < 0.9:
            place = value
            continue
        how = source.choice(("drop", "odd", "twice"))
        if how == "twice" and is_list:
            place.insert(key, copy.deepcopy(value))
        elif how == "odd":
            place[key] = source.choice(_ODD)
        else:
            del place[key]
        return f"{how} at {path}: {place}"
