"""What is sent to Anthropic: a conversation that its API takes, and no more than was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.adapters.providers.anthropic.options import Options
from langswarm.core.session.adapters.providers.anthropic.requests import count_body, message_body

MARK = {"type": "ephemeral"}


def user(text: str) -> PromptMessage:
    return PromptMessage(role=Role.USER, content=text)


def assistant(text: str, message_id: str | None = None) -> PromptMessage:
    return PromptMessage(role=Role.ASSISTANT, content=text, provider_message_id=message_id)


def system(text: str) -> PromptMessage:
    return PromptMessage(role=Role.SYSTEM, content=text)


def body(*messages: PromptMessage, thread: Any = None, **options: Any) -> dict[str, Any]:
    return message_body("claude", messages, Options(**options), thread)


def test_the_smallest_request_holds_nothing_that_was_not_asked_for() -> None:
    assert body(user("Hello")) == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    }


def test_system_texts_have_a_field_of_their_own() -> None:
    made = body(system("Be brief."), system("Be kind."), user("Hello"))
    assert made["system"] == "Be brief.\n\nBe kind."
    assert made["messages"] == [{"role": "user", "content": "Hello"}]


def test_neighbours_of_one_role_are_merged_and_the_user_begins() -> None:
    made = body(assistant("0"), user("1"), user("2"), assistant("3"), assistant("4"), user("5"))
    assert [(each["role"], each["content"]) for each in made["messages"]] == [
        ("user", "1\n\n2"),
        ("assistant", "3\n\n4"),
        ("user", "5"),
    ]


def test_each_option_has_its_field() -> None:
    made = body(
        user("Hello"),
        max_tokens=7,
        temperature=0.0,
        top_p=0.5,
        top_k=3,
        stop=["END"],
        conversation_metadata={"user_id": "u-1", "topic": "secret"},
        extra_body={"service_tier": "auto"},
    )
    del made["messages"], made["model"], made["stream"]
    assert made == {
        "max_tokens": 7,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "service_tier": "auto",
    }


def test_metadata_without_a_user_id_stays_here() -> None:
    assert "metadata" not in body(user("Hello"), conversation_metadata={"topic": "t"})


def test_an_extra_body_never_replaces_what_the_runtime_sets() -> None:
    made = body(user("Hello"), extra_body={"model": "other", "stream": False, "messages": []})
    assert made == body(user("Hello"))


# ---------------------------------------------------------------- prompt caching


def marks(made: dict[str, Any]) -> list[str]:
    """The texts that end with a breakpoint, in the order of the prompt."""
    fields: list[Any] = [made.get("system"), *(each["content"] for each in made["messages"])]
    blocks: list[Any] = []
    for field in fields:
        if field is not None and not isinstance(field, str):
            blocks.extend(field)
    assert all(block.keys() == {"type", "text", "cache_control"} for block in blocks)
    assert all(block["cache_control"] == MARK for block in blocks)
    return [block["text"] for block in blocks]


def test_without_prompt_caching_there_is_no_breakpoint() -> None:
    assert "cache_control" not in json.dumps(
        body(system("s"), user("1"), assistant("2"), user("3"))
    )


def test_breakpoints_are_on_the_system_text_the_last_question_and_the_one_before() -> None:
    made = body(
        system("s"),
        user("1"),
        assistant("2"),
        user("3"),
        assistant("4"),
        user("5"),
        prompt_caching=True,
    )
    assert marks(made) == ["s", "3", "5"]


def test_the_last_breakpoint_of_a_turn_is_one_of_the_next_turn() -> None:
    before = body(user("1"), assistant("2"), user("3"), prompt_caching=True)
    after = body(
        user("1"), assistant("2"), user("3"), assistant("4"), user("5"), prompt_caching=True
    )
    assert marks(before)[-1] in marks(after)


@given(st.lists(st.sampled_from("usa"), max_size=12), st.integers(0, 6))
def test_there_are_never_more_than_four_breakpoints(roles: list[str], extra: int) -> None:
    made_of = {"u": user, "s": system, "a": assistant}
    tools = [{"name": f"t{n}", "cache_control": MARK} for n in range(extra)]
    made = body(
        *(made_of[role](f"{role}{n}") for n, role in enumerate(roles)),
        user("last"),
        prompt_caching=True,
        extra_body={"tools": tools},
    )
    ours = marks(made)
    assert len(ours) <= max(0, 4 - extra)
    assert len(ours) <= 3
    if extra < 4:
        assert ours[-1] == made["messages"][-1]["content"][0]["text"]


# ---------------------------------------------------------------- threads


def test_a_thread_that_is_continued_gets_the_new_message_alone() -> None:
    thread = {"type": "continue", "previous_message_id": "msg_1"}
    made = body(
        system("s"),
        user("1"),
        assistant("2"),
        user("3"),
        thread=thread,
        extra_body={"tools": [{"name": "t"}], "service_tier": "auto"},
    )
    assert made == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "3"}],
        "stream": True,
        "thread": thread,
        "service_tier": "auto",
    }


def test_a_thread_that_begins_gets_the_whole_window() -> None:
    made = body(system("s"), user("1"), assistant("2"), user("3"), thread={"type": "create"})
    plain = body(system("s"), user("1"), assistant("2"), user("3"))
    assert made == plain | {"thread": {"type": "create"}}


# ---------------------------------------------------------------- counting


def test_what_is_counted_is_the_prompt_and_what_belongs_to_it() -> None:
    options = Options(
        temperature=0.5,
        max_tokens=9,
        extra_body={"tools": [{"name": "t"}], "service_tier": "auto"},
        conversation_metadata={"user_id": "u"},
    )
    assert count_body("claude", [system("s"), user("1")], options) == {
        "model": "claude",
        "messages": [{"role": "user", "content": "1"}],
        "system": "s",
        "tools": [{"name": "t"}],
    }


@given(st.lists(st.sampled_from("usa"), max_size=12))
def test_every_window_makes_a_conversation_that_the_vendor_takes(roles: list[str]) -> None:
    made_of = {"u": user, "s": system, "a": assistant}
    window = [*(made_of[role](f"{role}{n}") for n, role in enumerate(roles)), user("last")]
    made = body(*window)
    sent = [each["role"] for each in made["messages"]]
    assert sent == ["user" if n % 2 == 0 else "assistant" for n in range(len(sent))]
    assert sent[-1] == "user"
    said = "\n\n".join(each["content"] for each in made["messages"]).split("\n\n")
    first = next(n for n, each in enumerate(window) if each.role is Role.USER)
    kept = [each.content for each in window[first:] if each.role is not Role.SYSTEM]
    assert said == kept


@pytest.mark.parametrize("caching", [False, True])
def test_the_options_are_not_changed_by_a_request(caching: bool) -> None:
    options = Options(extra_body={"tools": [{"name": "t"}]}, prompt_caching=caching)
    thread = {"type": "continue", "previous_message_id": "m"}
    first = message_body("c", [user("1")], options, thread)
    first["messages"].clear()
    first["thread"].clear()
    assert options.extra_body == {"tools": [{"name": "t"}]}
    assert thread["type"] == "continue"
