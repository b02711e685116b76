"""What a provider_config may say to OpenAI: checked at once, each value, each name."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.actors.errors import ConfigurationError, ProviderError
from langswarm.core.session.actors.ports import ProviderSettings
from langswarm.core.session.adapters.providers.openai.config import (
    TABLE,
    Options,
    check_options,
    options_of,
)
from langswarm.core.session.adapters.providers.openai.session_view import OpenAIProviderSession


class Settings(ProviderSettings):
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def set(self, name: str, value: Any) -> None:
        self.values[name] = value


FULL: dict[str, Any] = {
    "assistant_id": "asst_abc123",
    "extra_body": {"reasoning": {"effort": "low"}},
    "max_tokens": 2048,
    "state": "native",
    "temperature": 0.7,
    "thread_metadata": {"user_type": "premium"},
    "top_p": 1,
}


def test_every_option_of_the_table_is_taken_over() -> None:
    assert set(FULL) == set(TABLE)
    assert check_options(FULL) == Options(**FULL)


def test_none_leaves_an_option_to_the_vendor() -> None:
    assert check_options(dict.fromkeys(FULL)) == Options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.1),
        ("temperature", "warm"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("state", "cloud"),
        ("assistant_id", ""),
        ("assistant_id", 7),
        ("thread_metadata", ["user_type"]),
        ("thread_metadata", {"age": 7}),
        ("thread_metadata", {7: "age"}),
        ("thread_metadata", {"k" * 65: "v"}),
        ("thread_metadata", {"k": "v" * 513}),
        ("thread_metadata", {str(number): "v" for number in range(17)}),
        ("extra_body", "reasoning"),
        ("extra_body", {"reasoning": object()}),
        ("extra_body", {"user": float("inf")}),
    ],
)
def test_a_wrong_value_is_refused_and_its_option_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        check_options({name: value})


def test_metadata_may_be_as_large_as_the_vendor_takes_it() -> None:
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    assert check_options({"thread_metadata": metadata}).thread_metadata == metadata


@pytest.mark.parametrize(
    "name",
    ["input", "conversation", "stream", "store", "model", "instructions", "previous_response_id"],
)
def test_an_extra_body_may_not_replace_what_the_runtime_sets(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        check_options({"extra_body": {name: "x"}})


def test_an_unknown_name_is_refused_and_the_nearest_one_named() -> None:
    with pytest.raises(ConfigurationError, match="'temperature'"):
        check_options({"temprature": 1})


def test_texts_that_end_an_answer_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="openai_chat"):
        check_options({"stop": ["\n"]})


def test_an_assistant_and_no_state_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="assistant_id"):
        check_options({"assistant_id": "asst_1", "state": "local"})


def test_in_a_turn_what_other_providers_share_and_the_runtime_keeps_is_passed_over() -> None:
    config = {"temperature": 1, "stop": ["x"], "fallbacks": [["a", "b"]], "mock_script": []}
    assert options_of(config) == Options(temperature=1)


def test_in_a_turn_a_wrong_value_is_an_invalid_request() -> None:
    with pytest.raises(ProviderError) as caught:
        options_of({"temperature": "warm"})
    assert caught.value.code == "invalid_request"


def test_a_session_changes_options_of_its_next_turns() -> None:
    settings = Settings()
    OpenAIProviderSession(settings).update_provider_config({"temperature": 0.1, "top_p": None})
    assert settings.values == {"temperature": 0.1, "top_p": None}


@pytest.mark.parametrize("name", ["thread_metadata", "assistant_id", "state"])
def test_what_a_conversation_is_made_with_cannot_be_changed(name: str) -> None:
    settings = Settings()
    with pytest.raises(ConfigurationError, match="made with it"):
        OpenAIProviderSession(settings).update_provider_config({"top_p": 1, name: None})
    assert settings.values == {}


def test_a_wrong_change_changes_nothing() -> None:
    settings = Settings()
    with pytest.raises(ConfigurationError, match="temperature"):
        OpenAIProviderSession(settings).update_provider_config({"top_p": 1, "temperature": 9})
    assert settings.values == {}
