"""The prompt by examples; property_tests/test_prompt.py has the rules under random histories."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session.actors.model import MessageRecord, PromptMessage, Role
from langswarm.core.session.actors.prompt import PromptWindow, merge_adjacent, split_system
from langswarm.core.session.actors.window_cache import WindowCache
from langswarm.core.session.providers import Completed, ProviderEvent, ProviderRequest, TextDelta

from .helpers import Echo, Store, new_session, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROLES = {"u": Role.USER, "a": Role.ASSISTANT, "s": Role.SYSTEM}


def history(*texts: str) -> list[MessageRecord]:
    """Messages from "u1", "a2", "s3": the letter is the role, alone it stands for a blank text.

    Before it, `-` is for a hidden message, `!` for the question of a failed turn.
    """
    records: list[MessageRecord] = []
    for seq, text in enumerate(texts, 1):
        marked = text[0] in "-!"
        role = ROLES[text[marked]]
        records.append(
            MessageRecord(
                seq=seq,
                role=role,
                content=text[marked:] if text[marked + 1 :] else "",
                created_us=seq,
                hidden_by=9 if text[0] == "-" else 0,
                finish_reason="failed" if text[0] == "!" else None,
            )
        )
    return records


def prompt(*texts: str, max_messages: int = 100) -> str:
    """The texts of the next prompt."""
    window = PromptWindow.of(history(*texts), max_messages)
    messages = window.with_user_message("next", max_messages)
    assert messages[-1].role is Role.USER
    return " ".join(message.content for message in messages)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("", "next"),
        ("u1 a1 u2 a2", "u1 a1 u2 a2 next"),
        ("u1 s1 a1 s2", "s1 s2 u1 a1 next"),
        ("u1 a1 !u2 u3 a3", "u1 a1 u3 a3 next"),
        ("u1 a1 -u2 -a2 u2 a3", "u1 a1 u2 a3 next"),
        ("u1 a1 u2", "u1 a1 u2 next"),
        ("u1 a1 u2 a", "u1 a1 u2 next"),
        ("a0 a1 u1 a2", "u1 a2 next"),
        ("a0 a1", "next"),
        ("u1 u2 a1 a2", "u1 u2 a1 a2 next"),
        ("s", "next"),
    ],
    ids=[
        "nothing",
        "two turns",
        "system messages come first",
        "a failed question is left out",
        "hidden messages are left out",
        "a question that was stopped before any answer stays",
        "a question with a blank answer stays, the answer does not",
        "a foreign history that begins with answers",
        "a foreign history of answers alone",
        "a foreign history with several of a kind in a row",
        "a blank system message",
    ],
)
def test_g9_the_prompt_holds_what_was_said_and_begins_with_a_user(
    texts: str, expected: str
) -> None:
    assert prompt(*texts.split()) == expected


@pytest.mark.parametrize(
    ("max_messages", "expected"),
    [
        (1, "s3 next"),
        (2, "s2 s3 next"),
        (3, "s1 s2 s3 u2 a2 next"),
        (4, "s1 s2 s3 u2 a2 next"),
        (5, "s1 s2 s3 u1 a1 u2 a2 next"),
    ],
)
def test_g11_max_messages_counts_the_new_message_and_splits_no_pair(
    max_messages: int, expected: str
) -> None:
    """G11: system messages are bounded by themselves."""
    texts = ("s1", "s2", "u1", "a1", "s3", "u2", "a2")
    assert prompt(*texts, max_messages=max_messages) == expected


def test_neighbours_of_one_role_are_merged_for_vendors_that_want_roles_to_alternate() -> None:
    """Nothing that was said is lost, and nobody is given another's words."""
    texts = ("u1", "u2", "a1", "u3", "a2", "a3", "u4")
    messages = [PromptMessage(role=ROLES[text[0]], content=text) for text in texts]
    merged = [(message.role.value, message.content) for message in merge_adjacent(messages)]
    assert merged == [
        ("user", "u1\n\nu2"),
        ("assistant", "a1"),
        ("user", "u3"),
        ("assistant", "a2\n\na3"),
        ("user", "u4"),
    ]
    assert merge_adjacent(()) == ()


def test_system_texts_are_split_off_for_vendors_with_a_field_for_them() -> None:
    """In their order, and so is the conversation."""
    window = PromptWindow.of(history("u1", "s1", "a1", "s2"), 100)
    system, conversation = split_system(window.with_user_message("next", 100))
    assert system == ("s1", "s2")
    assert [message.content for message in conversation] == ["u1", "a1", "next"]


def test_g11_a_window_lets_go_of_what_no_prompt_can_hold() -> None:
    """G11: bounded however long the history, and only now and then, so growing stays linear."""
    window, lets_go, last = PromptWindow(), 0, 0
    for seq in range(1, 10_001):
        role = Role.USER if seq % 2 else Role.ASSISTANT
        window.append(MessageRecord(seq=seq, role=role, content="x" * 50, created_us=0), 100)
        assert window.bytes < 130 * 300
        lets_go += window.bytes < last
        last = window.bytes
    assert 0 < lets_go <= 10_000 / 25
    assert len(window.with_user_message("next", 100)) == 99


def test_g11_a_window_beyond_the_budget_drives_no_other_out() -> None:
    """G11: it is read again each time, and the cache goes on serving the others."""
    large, small = PromptWindow.of(history("u" * 5000), 10), PromptWindow.of(history("u1"), 10)
    cache = WindowCache(budget_bytes=3000)
    cache.put("small", small)
    cache.put("large", small)
    cache.put("large", large)
    assert cache.get("small") is small
    assert cache.get("large") is None
    assert (len(cache), cache.bytes) == (1, small.bytes)


def test_g11_the_window_that_was_used_last_stays() -> None:
    """G11: within the budget; also the empty window of a session that just began takes room."""
    cache = WindowCache(budget_bytes=3 * PromptWindow().bytes)
    for name in "abc":
        cache.put(name, PromptWindow())
    assert cache.get("a") is not None
    cache.put("d", PromptWindow())
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]
    cache.drop("a")
    cache.drop("a")
    assert (len(cache), cache.bytes) == (2, 2 * PromptWindow().bytes)


class Speechless(Echo):
    """Answers nothing to what begins with "mute"; fails on what begins with "bad"."""

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.requests.append(request)
        text = request.messages[-1].content
        if text.startswith("bad"):
            raise ValueError("planted")
        if not text.startswith("mute"):
            yield TextDelta(f"re {text}")
        yield Completed()


async def last_prompt(store: Store, idle_seconds: float) -> list[str]:
    provider, number = Speechless(), count()
    async with store.manager(provider, idle_seconds=idle_seconds) as manager:
        session = await new_session(manager, session_config={"max_messages": 8})
        for kind in ("ok", "ok", "mute", "bad", "bad", "mute", "bad", "mute", "bad", "ok"):
            await outcome(session.submit(f"{kind} {next(number)}"))
        await session.send_message("last")
    return provider.prompts()[-1]


async def test_g4_a_window_read_again_is_as_full_as_one_that_grew(store: Store) -> None:
    """G4: however many failed turns and blank answers lie in between."""
    expected = ["ok 1", "re ok 1", "mute 2", "mute 5", "mute 7", "ok 9", "re ok 9", "last"]
    assert await last_prompt(store, 0.0) == expected


async def test_g4_a_window_that_grew_is_as_full_as_one_read_again(memory: Store) -> None:
    """G4: the same prompt where the session never left memory."""
    expected = ["ok 1", "re ok 1", "mute 2", "mute 5", "mute 7", "ok 9", "re ok 9", "last"]
    assert await last_prompt(memory, 3600.0) == expected


async def test_g11_a_huge_max_messages_is_read_in_pages(store: Store) -> None:
    """G11: no single read is larger than a page, whatever max_messages says."""
    provider = Echo()
    async with store.manager(provider, idle_seconds=0.0) as manager:
        session = await new_session(manager, session_config={"max_messages": 10**30})
        await session.send_system_message("rule")
        for text in ("1", "2"):
            await session.send_message(text)
    assert provider.prompts()[-1] == ["rule", "1", "answer to 1", "2"]
