"""When a turn goes on with a message thread, and when it does not."""

from __future__ import annotations

import pytest
from langswarm.core.session.actors.ports import Completed
from langswarm.core.session.adapters.providers.anthropic.threads import (
    CREATE,
    field_for,
    local_name,
    name_after,
)

from .test_requests import assistant, system, user

CONTINUE = {"type": "continue", "previous_message_id": "m2"}


def test_a_thread_goes_on_from_its_latest_answer() -> None:
    window = [
        system("s"),
        user("1"),
        assistant("2", "m1"),
        user("3"),
        assistant("4", "m2"),
        user("5"),
    ]
    assert field_for("m1", window) == CONTINUE
    assert field_for("m2", window) == CONTINUE


@pytest.mark.parametrize(
    ("name", "window"),
    [
        (None, [user("1")]),
        (None, [user("1"), assistant("2", "m1"), user("3")]),
        ("local_s", [user("1"), assistant("2", "m1"), user("3")]),
        ("m1", [user("3"), assistant("4", "m2"), user("5")]),
        ("m1", [user("1"), assistant("2", "m1"), user("3"), assistant("4"), user("5")]),
        ("m1", [user("1"), assistant("2", "m1"), user("2"), user("3")]),
        ("m1", [user("1")]),
    ],
)
def test_a_thread_begins_where_none_is_known_to_hold_this_history(
    name: str | None, window: list[object]
) -> None:
    assert field_for(name, window) is CREATE  # type: ignore[arg-type]


def test_a_thread_keeps_the_name_of_its_first_answer() -> None:
    first = name_after(CREATE, None, "s", Completed(provider_message_id="m1"))
    assert first == "m1"
    assert name_after(CONTINUE, first, "s", Completed(provider_message_id="m2")) == "m1"
    assert name_after(CREATE, first, "s", Completed(provider_message_id="m3")) == "m3"


@pytest.mark.parametrize(
    "last",
    [
        Completed(provider_message_id="m1", finish_reason="refusal"),
        Completed(provider_message_id="m1", finish_reason="tool_use"),
        Completed(provider_message_id="m1", finish_reason="pause_turn"),
        Completed(provider_message_id=None),
    ],
)
def test_no_thread_is_gone_on_with_where_the_vendor_would_not_take_a_question(
    last: Completed,
) -> None:
    assert name_after(CREATE, None, "s", last) == local_name("s")
    assert name_after(CONTINUE, "m1", "s", last) == local_name("s")
    assert field_for(local_name("s"), [user("1"), assistant("2", "m1"), user("3")]) is CREATE


def test_without_a_thread_the_name_is_the_sessions_own_and_is_bounded() -> None:
    assert name_after(None, None, "abc", Completed(provider_message_id="m1")) == "local_abc"
    long = local_name("é" * 500)
    assert len(long.encode()) <= 500
    assert long == local_name("é" * 500) != local_name("é" * 499)
