"""What is sent to OpenAI: pure functions of the request."""

from __future__ import annotations

from typing import Any

from langswarm.core.session.actors.model import Role
from langswarm.core.session.adapters.providers.openai.config import Options
from langswarm.core.session.adapters.providers.openai.requests import (
    conversation_body,
    estimated_tokens,
    further_items,
    response_body,
    run_body,
    thread_body,
)
from langswarm.core.session.providers import PromptMessage, ProviderRequest

SYSTEM = (
    PromptMessage(role=Role.SYSTEM, content="Be kind."),
    PromptMessage(role=Role.SYSTEM, content="Be brief."),
)
WINDOW = (
    PromptMessage(role=Role.USER, content="Hello"),
    PromptMessage(role=Role.ASSISTANT, content="Hi", provider_message_id="msg_1"),
    PromptMessage(role=Role.USER, content="How are you?"),
)
OPTIONS = Options(
    temperature=0.5,
    top_p=0.9,
    max_tokens=100,
    thread_metadata={"a": "b"},
    extra_body={"reasoning": {"effort": "low"}},
)


def request(*messages: PromptMessage) -> ProviderRequest:
    return ProviderRequest(
        session_id="s",
        turn_id="s/1",
        model="gpt-5",
        messages=messages,
        config={},
        provider_session_id=None,
    )


def item(role: str, content: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def test_in_a_conversation_only_the_question_is_sent_and_the_system_texts_each_time() -> None:
    assert response_body(request(*SYSTEM, *WINDOW), OPTIONS, "conv_1") == {
        "model": "gpt-5",
        "stream": True,
        "conversation": "conv_1",
        "input": [item("user", "How are you?")],
        "instructions": "Be kind.\n\nBe brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 100,
        "reasoning": {"effort": "low"},
    }


def test_without_a_conversation_the_whole_window_is_sent_and_nothing_kept() -> None:
    assert response_body(request(*WINDOW), Options()) == {
        "model": "gpt-5",
        "stream": True,
        "store": False,
        "input": [
            item("user", "Hello"),
            item("assistant", "Hi"),
            item("user", "How are you?"),
        ],
    }


def test_a_conversation_begins_with_at_most_20_items_and_the_rest_follow_in_order() -> None:
    history = [PromptMessage(role=Role.USER, content=str(number)) for number in range(45)]
    bodies = [conversation_body(history, OPTIONS), *further_items(history)]
    assert [len(body["items"]) for body in bodies] == [20, 20, 5]
    sent = [each["content"] for body in bodies for each in body["items"]]
    assert sent == [str(number) for number in range(45)]
    assert bodies[0]["metadata"] == {"a": "b"}
    assert all(set(body) == {"items"} for body in bodies[1:])


def test_a_conversation_without_history_and_metadata_is_made_with_nothing() -> None:
    assert conversation_body((), Options()) == {}
    assert further_items(()) == []


def test_a_thread_is_made_with_the_history_and_a_run_adds_the_system_texts() -> None:
    assert thread_body(WINDOW[:2], OPTIONS) == {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
        ],
        "metadata": {"a": "b"},
    }
    options = Options(assistant_id="asst_1", max_tokens=5)
    assert run_body(request(*SYSTEM, *WINDOW), options) == {
        "assistant_id": "asst_1",
        "model": "gpt-5",
        "stream": True,
        "additional_instructions": "Be kind.\n\nBe brief.",
        "max_completion_tokens": 5,
    }


def test_a_request_is_estimated_by_all_that_the_model_reads_and_may_say() -> None:
    long = PromptMessage(role=Role.USER, content="x" * 400)
    assert estimated_tokens(request(long, long), Options(max_tokens=50)) == 250
