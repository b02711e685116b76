"""A provider_config that cannot be right is refused when the session is made, with the reason."""

from __future__ import annotations

import math
from typing import Any

import pytest
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.adapters.providers.anthropic.options import (
    Options,
    check_options,
    options_of,
)


def check(*, may_thread: Any = True, version: Any = "2023-06-01", **config: Any) -> None:
    check_options(config, version=version, may_thread=may_thread)


def test_every_option_is_taken_and_none_means_not_set() -> None:
    config: dict[str, Any] = {
        "max_tokens": 4096,
        "temperature": 0.3,
        "top_p": 1,
        "top_k": 0,
        "stop": "END",
        "prompt_caching": True,
        "threads": True,
        "conversation_metadata": {"topic": "coding_help", "user_id": "u" * 256},
        "extra_body": {"thinking": {"type": "adaptive"}},
        "fallbacks": ["openai"],
    }
    check(**config)
    check(**dict.fromkeys(config))
    options, left_out = options_of(config, version="2023-06-01")
    assert options.stop == ["END"]
    assert options.conversation_metadata["topic"] == "coding_help"
    assert left_out == []
    assert options_of(dict.fromkeys(config), version="2023-06-01") == (Options(), [])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"temprature": 1}, r"no option 'temprature'; did you mean 'temperature'\?"),
        ({"qqq": 1}, "no option 'qqq'; there are conversation_metadata, extra_body"),
        ({"temperature": 1.5}, "temperature.* from 0 to 1, not 1.5"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "0.3"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens.* from 1 to"),
        ({"max_tokens": 4096.0}, "max_tokens"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 1.01}, "top_p"),
        ({"stop": []}, "stop"),
        ({"stop": [""]}, r"stop'\]\[0\]"),
        ({"stop": ["\ud800"]}, "lone surrogates"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": 5}, "stop"),
        ({"prompt_caching": 1}, "prompt_caching.* True or False"),
        ({"threads": "yes"}, "threads"),
        ({"conversation_metadata": "topic"}, "conversation_metadata"),
        ({"conversation_metadata": {str(n): "" for n in range(17)}}, "at most 16"),
        ({"conversation_metadata": {"k" * 65: ""}}, "64 characters"),
        ({"conversation_metadata": {"k": "v" * 513}}, "512 characters"),
        ({"conversation_metadata": {"k": 5}}, r"\['k'\]"),
        ({"conversation_metadata": {"user_id": "u" * 257}}, "256 characters"),
        ({"extra_body": []}, "extra_body"),
        ({"extra_body": {"model": "x"}}, "may not set 'model'"),
        ({"extra_body": {"temperature": 1}}, "may not set 'temperature'"),
        ({"extra_body": {"x": object()}}, "not JSON"),
        ({"extra_body": {"x": "y" * 300_000}}, "more than 262144 bytes"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_wanted(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check(**config)


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_newer_versions_refuse_sampling_whatever_its_value(name: str) -> None:
    check(**{name: 1})
    for version in ("2026-10-21", "2027-01-01"):
        with pytest.raises(ConfigurationError, match=f"{name}.*anthropic-version {version}"):
            check(version=version, **{name: 1})
        check(version=version, **{name: None})


def test_threads_are_refused_where_they_are_not_known_to_be_kept() -> None:
    with pytest.raises(ConfigurationError, match="allow_threads=True"):
        check(may_thread=False, threads=True)
    check(may_thread=False, threads=False)


def test_a_turn_for_a_session_of_another_provider_takes_what_is_known_and_leaves_out_the_rest() -> (
    None
):
    config = {"seed": 5, "temperature": 0.3, "max_tokens": 9}
    options, left_out = options_of(config, version="2026-10-21")
    assert options == Options(max_tokens=9)
    assert left_out == ["temperature"]
