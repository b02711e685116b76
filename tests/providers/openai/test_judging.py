"""What the items of a turn say of a request whose answer was lost."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.adapters.providers.openai.reading_back import (
    Answered,
    Mark,
    NotArrived,
    Unfinished,
    judge,
    mark_of,
)

from .streams import Json, message

QUESTION: Json = {
    "type": "message",
    "id": "msg_q",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Hello"}],
}
REASONING: Json = {"type": "reasoning", "id": "rs_1", "summary": []}


def test_nothing_there_means_that_it_did_not_arrive() -> None:
    assert judge([], "Hello") == NotArrived()


def test_a_question_and_a_complete_answer_are_an_answer() -> None:
    found = judge([QUESTION, REASONING, message(1, "Hi")], "Hello")
    assert found == Answered(text="Hi", refused=False, message_id="msg_1")


def test_an_answer_of_several_messages_is_joined_as_it_would_have_been_streamed() -> None:
    found = judge([QUESTION, message(1, "Hi"), message(2, "there")], "Hello")
    assert found == Answered(text="Hi\n\nthere", refused=False, message_id="msg_2")


def test_a_refusal_is_an_answer() -> None:
    found = judge([QUESTION, message(1, "No.", refuses=True)], "Hello")
    assert found == Answered(text="No.", refused=True, message_id="msg_1")


@pytest.mark.parametrize(
    "items",
    [
        [QUESTION],
        [REASONING],
        [message(1, "Hi")],
        [QUESTION, REASONING],
        [QUESTION, {**message(1, "Hi"), "status": "in_progress"}],
        [QUESTION, {**message(1, "Hi"), "status": "incomplete"}],
        [QUESTION, QUESTION, message(1, "Hi")],
        [QUESTION, message(1, "Hi"), QUESTION, message(2, "Hi")],
        [QUESTION, message(1, "Hi"), {"type": "function_call", "id": "fc_1"}],
        [{**QUESTION, "content": [{"type": "input_text", "text": " "}]}, message(1, "")],
        [{"odd": 1}],
    ],
)
def test_all_else_is_unfinished(items: list[dict[str, Any]]) -> None:
    assert judge(items, "Hello") == Unfinished()


USER = PromptMessage(role=Role.USER, content="Hello")
ANSWER = PromptMessage(role=Role.ASSISTANT, content="Hi", provider_message_id="msg_1")
FOREIGN = PromptMessage(role=Role.ASSISTANT, content="Hi")


def test_a_turn_begins_after_the_answer_before_it() -> None:
    assert mark_of((USER, ANSWER, USER)) == Mark("msg_1")


@pytest.mark.parametrize("messages", [(USER,), (USER, FOREIGN, USER), (USER, ANSWER, USER, USER)])
def test_where_the_answer_before_is_not_known_there_the_beginning_cannot_be_told(
    messages: tuple[PromptMessage, ...],
) -> None:
    assert mark_of(messages) is None
