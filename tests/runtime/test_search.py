"""search_sessions: every condition, alone and together; text by words; values only by value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    InvalidMessageError,
    create_session_manager,
)

from .helpers import Echo, Store, new_session

if TYPE_CHECKING:
    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import SessionPage, SessionQuery


async def found(manager: SessionManager, **conditions: Any) -> list[str]:
    return [session.session_id for session in await manager.search_sessions(**conditions)]


async def test_conditions_hold_together(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        for name, user, model, tags in (
            ("a", "ada", "gpt-4", ["ml", "education"]),
            ("b", "ada", "gpt-4", ["ml"]),
            ("c", "ada", "other", ["education"]),
            ("d", "bob", "gpt-4", ["ml"]),
        ):
            await manager.create_session(
                user, "openai", model, session_config={"tags": tags}, session_id=name
            )
        await manager.create_session("ada", "mock", "gpt-4", session_id="e")
        assert await found(manager) == ["e", "d", "c", "b", "a"]
        assert await found(manager, user_id="ada", tags=["ml"]) == ["b", "a"]
        assert await found(manager, tags=["ml", "education", "ml"]) == ["a"]
        assert await found(manager, tags={"education"}) == ["c", "a"]
        assert await found(manager, tags=[]) == ["e", "d", "c", "b", "a"]
        assert await found(manager, provider="mock") == ["e"]
        assert await found(manager, provider="openai", model="gpt-4") == ["d", "b", "a"]
        assert await found(manager, provider="nonsuch") == []
        await (await manager.get_session("b")).archive()
        assert await found(manager, status="archived", tags=["ml"]) == ["b"]
        later = datetime.now(UTC) + timedelta(seconds=5)
        assert await found(manager, since=later) == []


async def test_tags_are_found_as_they_are_now(store: Store) -> None:
    """After update_config the old ones are gone, also after a restart."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, session_id="s", session_config={"tags": ["old"]})
        await session.update_config({"tags": ["new"]})
        assert await found(manager, tags=["old"]) == []
    async with store.manager(Echo()) as manager:
        assert await found(manager, tags=["new"]) == ["s"]
        await (await manager.get_session("s")).update_config({"tags": None})
        assert await found(manager, tags=["new"]) == []


async def test_text_is_found_by_words_in_one_message(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, session_id="s")
        await session.send_message("Über die Straße nach Århus")
        await session.send_message("gradient descent")
        for text in ("uber strasse", "ARHUS über", "descent", '"descent" gradient*', "answer to"):
            assert await found(manager, text=text) == ["s"], text
        for text in ("gradient straße", "grad", "descent -gradient OR x", "NEAR gradient"):
            assert await found(manager, text=text) == [], text
        await session.clear_messages()
        assert await found(manager, text="descent") == []


async def test_text_that_was_taken_back_is_not_found(store: Store) -> None:
    """A rewound message is not visible, and not found; nor is one of a deleted session."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, session_id="s")
        await session.send_message("first")
        await session.send_message("second")
        await session.rewind(2)
        assert await found(manager, text="second") == []
        assert await found(manager, text="first") == ["s"]
        await session.delete()
        assert await found(manager, text="first") == []


@pytest.mark.parametrize("text", ["", "   ", "!?-", "\0", " ".join(["w"] * 33), 5, "a\ud800b"])
async def test_text_needs_1_to_32_words(text: Any) -> None:
    async with create_session_manager() as manager:
        with pytest.raises(InvalidMessageError):
            await manager.search_sessions(text=text)
        assert await manager.search_sessions(text=" ".join(["w"] * 32)) == []


class NoText(InMemorySessionStorage):
    """As one whose messages are encrypted."""

    searches_text = False

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        if query.text is not None:
            raise ConfigurationError("no text search: messages are encrypted")
        return await super().list_sessions(query)


async def test_a_storage_that_cannot_search_texts_says_why() -> None:
    async with create_session_manager(NoText()) as manager:
        with pytest.raises(ConfigurationError, match="encrypted"):
            await manager.search_sessions(text="word")
        with pytest.raises(InvalidMessageError):
            await manager.search_sessions(text="")
        assert await manager.search_sessions() == []


VALUES: list[Any] = [
    "text",
    "",
    0,
    1,
    -5,
    1.5,
    True,
    False,
    None,
    [],
    [1, "a", None],
    {},
    {"b": 1, "a": [True]},
    "ünï",
    "'; DROP TABLE sessions; --",
]


async def test_metadata_is_found_by_equal_values_and_no_others(store: Store) -> None:
    """Any JSON value; 1 is 1.0, and neither True nor "1"."""
    async with store.manager(Echo()) as manager:
        for number, value in enumerate(VALUES):
            await new_session(
                manager, session_id=f"s{number}", session_config={"metadata": {"k": value}}
            )
        await new_session(manager, session_id="none")
        for number, value in enumerate(VALUES):
            assert await found(manager, metadata={"k": value}) == [f"s{number}"], value
        assert await found(manager, metadata={"k": 1.0}) == ["s3"]
        assert await found(manager, metadata={"k": "1"}) == []
        assert await found(manager, metadata={"k": {"a": [True], "b": 1}}) == ["s12"]


KEYS = [
    "k",
    "",
    " ",
    "a.b",
    'quo"te',
    "it's",
    "$",
    "$.k",
    "[0]",
    "k') OR 1=1 --",
    "\\",
    "\0",
    "%",
    "schlüssel",
    "x" * 300,
]


async def test_metadata_keys_are_names_and_never_code(store: Store) -> None:
    """Each finds its own session, whatever characters it has."""
    async with store.manager(Echo()) as manager:
        for number, key in enumerate(KEYS):
            await new_session(
                manager, session_id=f"s{number}", session_config={"metadata": {key: number}}
            )
        for number, key in enumerate(KEYS):
            assert await found(manager, metadata={key: number}) == [f"s{number}"], key
            assert await found(manager, metadata={key: number + 1}) == [], key
        assert await found(manager, metadata={"k": 0, "": 1}) == []
        assert len(await found(manager, metadata={})) == len(KEYS)


async def test_metadata_is_replaced_as_a_whole(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        session = await new_session(
            manager, session_id="s", session_config={"metadata": {"a": 1, "b": 2}}
        )
        assert await session.update_config({"metadata": {"b": 3}}) == {"metadata": {"b": 3}}
        assert await found(manager, metadata={"a": 1}) == []
        assert await found(manager, metadata={"b": 3}) == ["s"]
        assert await session.update_config({"metadata": None}) == {}
        assert await found(manager, metadata={"b": 3}) == []
        for wrong in ("text", [1], {1: 2}, {"k": object()}, {"k": float("nan")}):
            with pytest.raises(ConfigurationError):
                await session.update_config({"metadata": wrong})


@pytest.mark.parametrize(
    "conditions",
    [
        {"tags": "ml"},
        {"tags": [5]},
        {"tags": [""]},
        {"tags": 5},
        {"tags": [f"{n}" for n in range(101)]},
        {"metadata": "k"},
        {"metadata": {1: 2}},
        {"metadata": {"k": object()}},
        {"metadata": {"k": "x" * 100_000}},
        {"metadata": {f"{n}": n for n in range(101)}},
        {"provider": ""},
        {"model": 5},
        {"user_id": ""},
        {"status": "gone"},
        {"limit": -1},
        {"limit": True},
    ],
    ids=str,
)
async def test_a_condition_that_is_none_is_refused(conditions: dict[str, Any]) -> None:
    async with create_session_manager() as manager:
        with pytest.raises(InvalidMessageError):
            await manager.search_sessions(**conditions)


async def test_messages_are_found_by_their_metadata(store: Store) -> None:
    """get_messages(metadata=): at the top, by equal values."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_message("one", metadata={"a": 1, "b": {"c": None}})
        await session.send_message("two", metadata={"a": True, "it's": "x"})
        await session.send_message("three")

        async def seqs(**keywords: Any) -> list[int]:
            return [message.seq for message in await session.get_messages(**keywords)]

        assert await seqs(metadata={"a": 1}) == [1]
        assert await seqs(metadata={"a": True}) == [3]
        assert await seqs(metadata={"b": {"c": None}, "a": 1.0}) == [1]
        assert await seqs(metadata={"it's": "x"}) == [3]
        assert await seqs(metadata={"a": 2}) == []
        assert await seqs(metadata={}) == await seqs()
        assert await seqs(metadata={"a": 1}, after=1) == []
        for wrong in ("a", {1: 2}, {"a": object()}):
            with pytest.raises(InvalidMessageError):
                await session.get_messages(metadata=wrong)  # type: ignore[arg-type]
