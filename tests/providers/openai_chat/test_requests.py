"""What is sent to a Chat Completions server, and what a provider_config may hold."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.adapters.providers.openai_chat.options import (
    Options,
    check_options,
    options_of,
)
from langswarm.core.session.adapters.providers.openai_chat.requests import chat_body

WINDOW = (
    PromptMessage(role=Role.SYSTEM, content="Be brief."),
    PromptMessage(role=Role.USER, content="1"),
    PromptMessage(role=Role.USER, content="2"),
    PromptMessage(role=Role.ASSISTANT, content="3"),
    PromptMessage(role=Role.USER, content="4"),
)


def test_the_whole_window_is_sent_as_it_is() -> None:
    assert chat_body("gpt", WINDOW, Options()) == {
        "model": "gpt",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1"},
            {"role": "user", "content": "2"},
            {"role": "assistant", "content": "3"},
            {"role": "user", "content": "4"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_each_option_has_its_field() -> None:
    config: dict[str, Any] = {
        "temperature": 0,
        "top_p": 1.0,
        "max_tokens": 7,
        "stop": "END",
        "seed": -5,
        "extra_body": {"top_k": 40, "provider": {"order": ["x"]}},
        "include_usage": False,
        "fallbacks": [],
    }
    check_options(config)
    check_options(dict.fromkeys(config))
    made = chat_body("gpt", (), options_of(config))
    assert made == {
        "model": "gpt",
        "messages": [],
        "stream": True,
        "temperature": 0,
        "top_p": 1.0,
        "max_tokens": 7,
        "stop": ["END"],
        "seed": -5,
        "top_k": 40,
        "provider": {"order": ["x"]},
    }
    assert chat_body("gpt", (), Options(max_completion_tokens=3))["max_completion_tokens"] == 3


def test_an_extra_body_never_replaces_what_the_runtime_sets() -> None:
    extra: dict[str, Any] = {
        "model": "other",
        "stream": False,
        "messages": [],
        "stream_options": None,
    }
    assert chat_body("gpt", WINDOW, Options(extra_body=extra)) == chat_body(
        "gpt", WINDOW, Options()
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_token": 1}, r"no option 'max_token'; did you mean 'max_tokens'\?"),
        ({"top_k": 1}, "extra_body"),
        ({"temperature": 2.1}, "from 0 to 2"),
        ({"seed": 1.0}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"include_usage": 0}, "include_usage"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "'max_tokens' and 'max_completion_tokens'"),
        ({"extra_body": {"n": 2}}, "may not set 'n'"),
        ({"extra_body": {"stream_options": {}}}, "may not set 'stream_options'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_wanted(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_options(config)


def test_a_turn_for_a_session_of_another_provider_takes_what_is_known() -> None:
    assert options_of({"prompt_caching": True, "temperature": 1}) == Options(temperature=1)
