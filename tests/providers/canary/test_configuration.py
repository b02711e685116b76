"""A key that is given in a wrong way, or in a wrong place, does not show in what refuses it."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
from langswarm.core.session import ConfigurationError, SessionManager, create_session_manager
from langswarm.core.session.adapters.http.options import HttpOptions
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider
from langswarm.core.session.providers import build_provider, register_provider, unregister_provider

from .kinds import KINDS
from .looking import GATEWAY_KEY, KEY, assert_hidden, shown_of, shown_of_objects
from .watching import watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ...vendors import VendorServer

PROVIDERS = {
    "openai": (OpenAIProvider, "OPENAI_API_KEY"),
    "openai_chat": (OpenAIChatProvider, "OPENAI_API_KEY"),
    "anthropic": (AnthropicProvider, "ANTHROPIC_API_KEY"),
}
BAD_KEYS = {
    "a line break": f"{KEY}\n{KEY}",
    "a null": f"{KEY}\0",
    "an invisible character": f"{KEY}\u200b{KEY}",
    "an umlaut": f"{KEY}ä",
    "bytes": KEY.encode(),
    "a list": [KEY],
    "too much": KEY * 1_000,
}


def refused(make: Callable[..., object], *given: Any, **named: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(*given, **named)
    assert_hidden(*shown_of(caught.value))
    return caught.value


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("problem", BAD_KEYS)
def test_a_key_that_cannot_be_one_shows_nowhere_however_it_is_given(
    name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = BAD_KEYS[problem]
    made, variable = PROVIDERS[name]
    refused(made, key)
    refused(create_session_manager, providers={name: {"api_key": key}})
    refused(SessionManager, providers={name: {"api_key": key}})
    refused(build_provider, name, {"api_key": key})
    refused(build_provider, name, {"api_key": KEY, "headers": {"x-gateway-token": key}})
    if isinstance(key, str):
        refused(create_session_manager, providers={name: key})
        refused(build_provider, name, key)
        if "\0" not in key:
            monkeypatch.setenv(variable, key)
            refused(made)
            refused(create_session_manager, providers={name: None})


def test_a_manager_that_is_refused_for_another_reason_shows_no_key() -> None:
    for name in PROVIDERS:
        refused(create_session_manager, providers={name: KEY}, no_such_limit=1)
        refused(create_session_manager, "no such storage", providers={name: KEY})
        refused(create_session_manager, providers={name: {"api_key": KEY, "nonsense": 1}})
        refused(create_session_manager, providers={name: {"api_key": KEY, "timeout": "soon"}})
        refused(create_session_manager, providers={name: KEY, "nobody": KEY})
        refused(create_session_manager, providers={"nobody": KEY})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:{key}@example.com/v1",
        "https://{key}@example.com/v1",
        "https://:{key}@127.0.0.1:1/v1",
        "https://example.com:{key}/v1",
        "https://user:pass#{key}@example.com/v1",
        "https://[{key}]/v1",
        "https://example.com/v1?key={key}",
        "https://example.com/v1#{key}",
        "http://user:{key}@example.com/v1",
        "http://example.com/{key}",
        "ftp://user:{key}@example.com",
        "{key}",
        "{key} ",
        " https://{key}@example.com",
    ],
)
def test_a_base_url_that_holds_a_key_is_refused_without_showing_it(url: str) -> None:
    for made, _ in PROVIDERS.values():
        refused(made, KEY, base_url=url.format(key=KEY))


@pytest.mark.parametrize(
    "named",
    [
        {"auth": KEY},
        {"anthropic_version": KEY},
        {"betas": [f"{KEY}\n"]},
        {"betas": KEY},
    ],
)
def test_a_key_in_the_place_of_an_option_of_anthropic_is_refused_without_showing_it(
    named: dict[str, Any],
) -> None:
    refused(AnthropicProvider, KEY, **named)


@pytest.mark.parametrize("made", [OpenAIProvider, OpenAIChatProvider])
@pytest.mark.parametrize("name", ["organization", "project"])
def test_a_key_in_the_place_of_an_account_is_refused_without_showing_it(
    made: Callable[..., object], name: str
) -> None:
    refused(made, KEY, **{name: f"{KEY}\n{KEY}"})


@pytest.mark.parametrize(
    "named",
    [
        {"headers": {f"Authorization: Bearer {KEY}": ""}},
        {"headers": {"authorization": f"Bearer {KEY}\n"}},
        {"headers": {"x-key": KEY * 1_000}},
        {"headers": {"x-key": KEY.encode()}},
        {"headers": [("x-key", KEY)]},
        {"headers": KEY},
        {"http_client": KEY},
        {"http_client": httpx.Client},
        {"http_library": KEY},
        {"timeout": KEY},
        {"max_retries": KEY},
        {"requests_per_minute": KEY},
    ],
)
def test_a_key_in_the_place_of_an_option_is_refused_without_showing_it(
    named: dict[str, Any],
) -> None:
    for made, _ in PROVIDERS.values():
        refused(made, KEY, **named)


def test_a_factory_that_fails_and_is_given_a_key_adds_nothing_that_shows_it() -> None:
    def fails(value: object) -> object:
        del value
        raise ConfigurationError("not today")

    register_provider("canary-test", fails)
    try:
        refused(create_session_manager, providers={"canary-test": KEY})
    finally:
        unregister_provider("canary-test")


# ---------------------------------------------------------------- what is accepted


def test_options_that_hold_a_key_show_it_in_no_copy() -> None:
    options = HttpOptions(
        base_url="https://example.com",
        headers={"authorization": KEY, "x-team": GATEWAY_KEY, "cookie": KEY, "empty": ""},
    )
    shown = [options, attrs.asdict(options), attrs.astuple(options), copy.copy(options)]
    shown += [copy.deepcopy(options), attrs.evolve(options, timeout=1)]
    assert_hidden(*shown_of_objects(*shown), *map(repr, shown), *map(str, shown))
    assert dict(options.headers) == {
        "authorization": KEY,
        "x-team": GATEWAY_KEY,
        "cookie": KEY,
        "empty": "",
    }
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(options)


@pytest.mark.parametrize("name", KINDS)
def test_a_provider_opened_field_by_field_shows_no_key(name: str) -> None:
    kind = KINDS[name]
    more = {} if kind.make is AnthropicProvider else {"organization": KEY, "project": KEY}
    provider = kind.provider("https://example.com/v1", "httpx", **more)
    assert_hidden(*shown_of_objects(provider))


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t"])
@pytest.mark.parametrize("name", KINDS)
async def test_a_key_with_white_space_around_it_is_sent_without(
    name: str, space: str, vendor: VendorServer
) -> None:
    kind = KINDS[name]
    provider = kind.make(
        f"{space}{KEY}{space}", **{"base_url": kind.url(vendor), **dict(kind.options)}
    )
    async with create_session_manager(providers={"p": provider}) as manager:
        session = await manager.create_session("ada", "p", "m", provider_config=kind.config)
        await session.send_message("Hello")
    assert {seen.key for seen in vendor.requests} == {KEY}


# ---------------------------------------------------------------- provider_config is stored


KEYS_OF_USERS: list[dict[str, Any]] = [
    {"api_key": KEY},
    {"apiKey": KEY},
    {"API-KEY": KEY},
    {"openai_api_key": KEY},
    {"authorization": f"Bearer {KEY}"},
    {"Authorization": KEY},
    {"x-api-key": KEY},
    {"token": KEY},
    {"bearer": KEY},
    {"secret": KEY},
    {"password": KEY},
    {"headers": {"Authorization": f"Bearer {KEY}"}},
    {"extra_headers": {"x-api-key": KEY}},
    {"default_headers": {"proxy-authorization": KEY}},
    {"extra_body": {"api_key": KEY}},
    {"extra_body": {"litellm": {"azure": [{"azure_api_key": KEY}]}}},
    {"extra_body": {"headers": {"authorization": [KEY]}}},
    {"extra_body": {"mcp_servers": [{"authorization_token": KEY}]}},
    {"extra_body": {"access_token": KEY}},
    {"fallbacks": [("mock", "m", {"api_key": KEY})]},
    {"fallbacks": [{"provider": "mock", "api_key": KEY}]},
    {"fallbacks": [["mock", "m", {"extra_body": {"auth_token": KEY}}]]},
]


async def test_a_provider_config_with_a_key_in_it_is_refused_and_not_stored(
    vendor: VendorServer, tmp_path: Path
) -> None:
    providers = {name: KINDS[name].provider(KINDS[name].url(vendor), "httpx") for name in KINDS}
    async with watched(tmp_path, providers) as (manager, watch):
        for name, config in product((*providers, "mock"), KEYS_OF_USERS):
            with pytest.raises(ConfigurationError) as caught:
                await manager.create_session("ada", name, "m", provider_config=config)
            assert_hidden(str(caught.value), repr(caught.value.args), repr(vars(caught.value)))
            assert "key" in str(caught.value)
        wrong: Any = KEY
        with pytest.raises(ConfigurationError) as caught:
            await manager.create_session("ada", "mock", "m", provider_config=wrong)
        assert_hidden(str(caught.value))
        await watch.look_around(manager)
    assert vendor.requests == []


async def test_a_key_in_what_is_changed_in_a_session_is_refused_and_not_stored(
    vendor: VendorServer, tmp_path: Path
) -> None:
    providers = {name: KINDS[name].provider(KINDS[name].url(vendor), "httpx") for name in KINDS}
    async with watched(tmp_path, providers) as (manager, watch):
        for name, kind in KINDS.items():
            session = await manager.create_session("ada", name, "m", provider_config=kind.config)
            for config in KEYS_OF_USERS:
                with pytest.raises(ConfigurationError) as caught:
                    session.provider_session.update_provider_config(config)
                assert_hidden(str(caught.value), repr(caught.value.args))
            assert await watch.ask(session, "Hello") is not None
            await watch.look_around(manager, session, session.provider_session)


async def test_the_schema_of_a_tool_may_have_a_field_for_a_password(vendor: VendorServer) -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}, "token": {}}}
    tool = {"type": "function", "function": {"name": "log_in", "parameters": schema}}
    kind = KINDS["chat"]
    provider = kind.provider(kind.url(vendor), "httpx")
    async with create_session_manager(providers={"p": provider}) as manager:
        config = {"extra_body": {"tools": [tool], "prompt_cache_key": "k"}, "max_tokens": 7}
        session = await manager.create_session("ada", "p", "m", provider_config=config)
        await session.send_message("Hello")
    assert vendor.last.body["tools"] == [tool]
