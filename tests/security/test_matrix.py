"""Every public method, found by introspection: hostile text, ids of others, a secret that shows.

What is refused is a typed error, what is taken harms nobody, and no call tells anything of another
user's session or of a provider's key.
"""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import (
    SessionError,
    Ticket,
    create_session_manager,
)
from langswarm.core.session.interfaces import SessionEvent

from .calls import CALLS, NOT_CALLED, World, public_methods, text_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from langswarm.core.session.interfaces import TurnEvent, TurnStream

KEY = "sk-canary-0123456789abcdef0123456789"
SECRET = "bob's secret words"

HOSTILE = {
    "nul": "a\0b",
    "lone surrogate": "a\ud800b",
    "sql": """'; DROP TABLE sessions; --" OR 1=1""",
    "search syntax": """" OR NEAR(a b) AND * - : ^ (""",
    "path": "../../../etc/passwd",
    "terminal": "\x1b]0;owned\x07\x1b[31m\r\n",
    "format": "%s %n {0} {key.__class__} $HOME `id`",
    "direction": "\u202e\u2066abc\u2069",
    "long": "x" * 70_000,
    "empty": "",
    "blank": " \t",
    "deep": "[" * 50_000,
    "no number": "1e999",
    "percent": "%25%00",
}


@asynccontextmanager
async def world_in(folder: Path) -> AsyncGenerator[World]:
    """A file with Ada's session and Bob's, and a provider whose key must not show."""
    manager = create_session_manager(
        "sqlite",
        storage_config={"db_path": folder / "sessions.db"},
        providers={"openai": {"api_key": KEY, "base_url": "http://127.0.0.1:9/v1"}},
    )
    async with manager:
        mine = await manager.create_session("ada", "mock", "m")
        foreign = await manager.create_session("bob", "mock", "m")
        await mine.send_message("Hello")
        await foreign.send_message(SECRET)
        exported = await mine.export_conversation()
        yield World(manager=manager, mine=mine, foreign=foreign, folder=folder, exported=exported)


def is_awaitable(value: object) -> bool:
    """A coroutine, or a ticket."""
    return isinstance(value, Ticket) or inspect.isawaitable(value)


async def events_of(stream: TurnStream) -> list[TurnEvent]:
    """All that a follower is told."""
    async with stream as turn:
        return [event async for event in turn]


async def called(world: World, name: str, arguments: dict[str, Any]) -> object:
    """The outcome of a call as its user gets it: a value, or the SessionError that ended it."""
    method = getattr(world.owner(name), name.partition(".")[2])
    parameters = inspect.signature(method).parameters
    positional = [
        arguments[each.name]
        for each in parameters.values()
        if each.kind is inspect.Parameter.POSITIONAL_ONLY and each.name in arguments
    ]
    keywords = {
        key: value
        for key, value in arguments.items()
        if parameters[key].kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    result: Any
    try:
        result = method(*positional, **keywords)
        if is_awaitable(result):
            result = await result
        if name in {"Session.follow", "Session.stream_message"}:
            return await events_of(result)
    except SessionError as error:
        return error
    return result


def replaced(value: object, text: str) -> object:
    """The hostile text in the place of a good value."""
    if isinstance(value, dict):
        return {text: text}
    if isinstance(value, (list, tuple)):
        return [text]
    return text


def shown(outcome: object) -> str:
    """All that a caller could print of an outcome."""
    parts = [repr(outcome), str(outcome)]
    if isinstance(outcome, BaseException):
        parts += [repr(vars(outcome)), repr(outcome.__cause__)]
    if isinstance(outcome, SessionEvent):
        parts.append(repr(outcome.error))
    return "\n".join(parts)


async def assert_unharmed(world: World) -> None:
    """Bob's session is as it was, and Ada can go on."""
    history = [message.content for message in await world.foreign.get_messages()]
    assert history == [SECRET, f"Mock response to: {SECRET}"]
    session = await world.manager.create_session("ada", "mock", "m")
    assert (await session.send_message("Still there?")).content
    assert (await world.manager.verify_storage()).problems == ()


def test_every_public_method_is_in_the_matrix() -> None:
    """A new one is missed here, and a row that calls none is found."""
    assert set(CALLS) | set(NOT_CALLED) == public_methods()


@pytest.mark.parametrize("name", [name for name in sorted(CALLS) if text_parameters(name)])
async def test_hostile_text_is_taken_or_refused_and_harms_nobody(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each argument in turn: a result or a SessionError, and everything goes on."""
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    async with world_in(tmp_path) as world:
        assert set(text_parameters(name)) <= set(CALLS[name](world))
        for parameter in text_parameters(name):
            for text in HOSTILE.values():
                arguments = CALLS[name](world)
                arguments[parameter] = replaced(arguments[parameter], text)
                outcome = await called(world, name, arguments)
                assert KEY not in shown(outcome)
                assert SECRET not in shown(outcome)
        await assert_unharmed(world)


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_no_call_shows_a_key_or_the_words_of_others(name: str, tmp_path: Path) -> None:
    """With good arguments: neither in what is returned nor in what is raised."""
    async with world_in(tmp_path) as world:
        outcome = await called(world, name, CALLS[name](world))
        assert KEY not in shown(outcome)
        assert SECRET not in shown(outcome)
    for path in tmp_path.iterdir():
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()


OF_OTHERS = {
    ("Session.follow", "turn_id"): "{}/1",
    ("Session.fork", "at"): "{}/1",
    ("Session.get_message", "message_id"): "{}/1",
    ("Session.rewind", "to"): "{}/1",
    ("Session.stop", "turn_id"): "{}/1",
    ("SessionManager.archive_sessions", "session_ids"): "{}",
    ("SessionManager.delete_sessions", "session_ids"): "{}",
    ("SessionManager.get_session", "session_id"): "{}",
    ("SessionManager.update_sessions", "session_ids"): "{}",
    ("UserSessions.archive_sessions", "session_ids"): "{}",
    ("UserSessions.delete_sessions", "session_ids"): "{}",
    ("UserSessions.get_session", "session_id"): "{}",
    ("UserSessions.update_sessions", "session_ids"): "{}",
}
"""Where an id of somebody else's session can be given: the argument, made of the session's id."""


@pytest.mark.parametrize(("name", "parameter"), OF_OTHERS)
async def test_an_id_of_others_is_answered_like_one_that_there_is_not(
    name: str, parameter: str, tmp_path: Path
) -> None:
    """The same error with the same words, so that nobody learns which ids are in use."""
    async with world_in(tmp_path) as world:
        told: list[str] = []
        for session_id in (world.foreign.session_id, "0" * 32):
            given = OF_OTHERS[name, parameter].format(session_id)
            arguments = CALLS[name](world)
            arguments[parameter] = replaced(arguments[parameter], given)
            outcome = await called(world, name, arguments)
            assert SECRET not in shown(outcome)
            told.append(shown(outcome).replace(session_id, "ID"))
        assert told[0] == told[1]
        await assert_unharmed(world)


def test_each_argument_that_is_an_id_is_tried_with_an_id_of_others() -> None:
    """By its name; a new one is missed here."""
    ids = {
        (name, parameter)
        for name in CALLS
        for parameter in text_parameters(name)
        if parameter in {"session_id", "session_ids", "turn_id", "message_id", "to", "at"}
    }
    assert ids - set(OF_OTHERS) == MAKES_ITS_OWN


MAKES_ITS_OWN = {
    ("Session.fork", "session_id"),
    ("SessionManager.create_session", "session_id"),
    ("SessionManager.import_conversation", "session_id"),
    ("SessionManager.session_events", "session_id"),
    ("UserSessions.session_events", "session_id"),
}
"""Not of an owner's: ids that the caller chooses for a new session, where one in use is refused
whoever's it is, and the choice of a manager's events."""
