"""Border control: what cannot be stored is refused before anybody is asked, or preserved."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from langswarm.core.session import InvalidMessageError, SessionError, SessionNotFoundError
from langswarm.core.session.errors import MessageNotFoundError

from .helpers import Echo, Store, answer_to, contents, new_session, supervisor_of


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


BAD_TEXTS: dict[str, object] = {
    "white space alone": " \t\u2003\n",
    "empty": "",
    "lone high surrogate": "a \ud800 b",
    "lone low surrogate": "\udfff",
    "bytes": b"bytes",
    "none": None,
    "number": 5,
}

BAD_METADATA: dict[str, object] = {
    "nan": {"x": float("nan")},
    "infinity": {"x": float("-inf")},
    "surrogate": {"x": "\ud800"},
    "surrogate key": {"\udc00": 1},
    "number as key": {1: "x"},
    "nested number as key": {"x": [{"y": {None: 1}}]},
    "bytes": {"x": b"y"},
    "set": {"x": {1}},
    "object": {"x": object()},
    "datetime": {"x": datetime(2026, 1, 1, tzinfo=UTC)},
    "too deep": nested(100_000),
    "deeper than it can be read back": nested(990),
    "itself": endless(),
    "number that has no text": {"x": 10**10_000},
    "too large": {"x": "y" * 70_000},
    "list": [1],
    "text": "text",
}

GOOD_TEXTS = {
    "nul": "a\0b\0",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "right to left": "שלום \u202eabc\u202c مرحبا",
    "controls": "\x01\x1b[31m\r\n\t\x7f\u2028",
    "quotes": """'; DROP TABLE messages; --" \\ %s {input} {0}""",
    "astral": "\U0001f600\U00010348",
    "not normalized": "e\u0301 \ufb01 \u212b",
    "byte order mark": "\ufeffx",
    "blank at its ends": " x\n",
    "huge": "0123456789abcdef" * 100_000,
}


@pytest.mark.parametrize("name", BAD_TEXTS)
async def test_a_text_that_cannot_be_stored_is_refused_at_the_edge(store: Store, name: str) -> None:
    """InvalidMessageError from the call itself; nobody is asked, nothing stored, no seq used."""
    provider, text = Echo(), BAD_TEXTS[name]
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        with pytest.raises(InvalidMessageError):
            _ = session.submit(text)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessageError):
            await session.send_message(text)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="message"):
            await session.send_system_message(text)  # type: ignore[arg-type]
        with pytest.raises(SessionError):
            await new_session(manager, text)  # type: ignore[arg-type]
        with pytest.raises(SessionError):
            await manager.create_session("user", "openai", text)  # type: ignore[arg-type]
        if text is not None:
            with pytest.raises(SessionError):
                await new_session(manager, session_id=text)
        assert (provider.requests, session.message_count) == ([], 0)
        assert (await session.send_message("fine")).seq == 2


@pytest.mark.parametrize("name", BAD_METADATA)
async def test_json_that_would_not_come_back_the_same_is_refused_at_the_edge(
    store: Store, name: str
) -> None:
    """The same for metadata, context and configs: InvalidMessageError, no crash, no trace."""
    provider, value = Echo(), BAD_METADATA[name]
    async with store.manager(provider, max_context_bytes=65_536) as manager:
        session = await new_session(manager)
        with pytest.raises(InvalidMessageError):
            await session.send_message("x", metadata=value)  # type: ignore[arg-type]
        with pytest.raises(InvalidMessageError):
            await session.send_system_message("x", metadata=value)  # type: ignore[arg-type]
        with pytest.raises((InvalidMessageError, TypeError, ValueError)):
            await session.update_context(value)  # type: ignore[arg-type]
        with pytest.raises(SessionError):
            await new_session(manager, provider_config=value)
        assert (provider.requests, session.message_count) == ([], 0)
        assert dict(await session.get_context()) == {}
        await session.send_message("fine")
        assert supervisor_of(manager).statistics().restarts == 0


@pytest.mark.parametrize("name", GOOD_TEXTS)
async def test_every_valid_text_comes_back_as_it_was(store: Store, name: str) -> None:
    """Texts are never trimmed, normalized or cut, in all places, over a restart."""
    text = GOOD_TEXTS[name]
    short = text[:100]
    async with store.manager(Echo()) as manager:
        session = await new_session(
            manager, f"user {short}", session_id=f"id {short}", session_config={"name": short}
        )
        answer = await session.send_message(text, metadata={"text": short, short: "key"})
        assert answer.content == answer_to(text)
        await session.update_context({"text": text[:1000], short: 1})
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(f"id {short}", user_id=f"user {short}")
        assert await contents(session) == [text, answer_to(text)]
        question = (await session.get_messages())[0]
        assert question.metadata == {"text": short, short: "key"}
        assert dict(await session.get_context()) == {"text": text[:1000], short: 1}
        assert (await session.get_config())["name"] == short
        assert len(await manager.get_user_sessions(f"user {short}")) == 1
        assert (await session.get_message(question.message_id)).content == text


async def test_every_json_value_comes_back_as_it_was(store: Store) -> None:
    """Large integers, tiny floats, nesting within the bound, empty things: unchanged."""
    values: dict[str, Any] = {
        "big": 2**70,
        "negative": -(2**200),
        "float": 0.1 + 0.2,
        "tiny": 5e-324,
        "minus zero": -0.0,
        "none": None,
        "true": True,
        "empty": [{}, [], ""],
        "nested": nested(20),
        "": "empty key",
    }
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager, provider_config=values)
        await session.send_message("one", metadata=values)
        await session.update_context(values)
        assert (await session.get_messages())[0].metadata == values
        assert dict(await session.get_context()) == values
        assert repr((await session.get_context())["minus zero"]) == "-0.0"


QUERIES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "limit 2**70": ("get_messages", (), {"limit": 2**70}),
    "after 2**70": ("get_messages", (), {"after": 2**70}),
    "after -2**70": ("get_messages", (), {"after": -(2**70)}),
    "before 2**70": ("get_messages", (), {"before": 2**70}),
    "before -2**70": ("get_messages", (), {"before": -(2**70)}),
    "first day": ("get_messages", (), {"since": datetime.min.replace(tzinfo=UTC)}),
    "last day": ("get_messages", (), {"end_time": datetime.max.replace(tzinfo=UTC)}),
    "limit as text": ("get_messages", (), {"limit": "5"}),
    "limit as float": ("get_messages", (), {"limit": 1.5}),
    "after as text": ("get_messages", (), {"after": "5"}),
    "role as surrogate": ("get_messages", (), {"role": "\ud800"}),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_strange_read_answers_or_says_what_is_wrong(store: Store, name: str) -> None:
    """A read with extreme arguments gives a result or an error of ours, on every storage."""
    method, args, keywords = QUERIES[name]
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        try:
            result = await getattr(session, method)(*args, **keywords)
        except SessionError:
            pass
        else:
            assert result == [] or [message.seq for message in result] == [1, 2]
        assert len(await session.get_messages()) == 2


@pytest.mark.parametrize(
    "bad", ["\ud800", "a\0b", "", "x" * 100_000, "%", "' OR 1=1 --"], ids=ascii
)
async def test_a_strange_id_is_an_id_that_does_not_exist(store: Store, bad: str) -> None:
    """Ids that could never have been given: an error of ours, never a crash, never a hit."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        with pytest.raises((SessionNotFoundError, InvalidMessageError)):
            await manager.get_session(bad)
        with pytest.raises((SessionNotFoundError, InvalidMessageError)):
            await manager.get_session(session.session_id, user_id=bad)
        with pytest.raises((MessageNotFoundError, InvalidMessageError)):
            await session.get_message(bad)
        with suppress(InvalidMessageError):
            assert await manager.get_user_sessions(bad) == []
