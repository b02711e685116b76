"""Sessions with Chat Completions servers through the whole runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ProviderError,
    Session,
    SessionManager,
    create_session_manager,
)
from langswarm.core.session.adapters.providers.openai_chat import (
    OpenAIChatProvider,
    OpenAIChatProviderSession,
)
from langswarm.core.session.interfaces import TurnText

from ...vendors import Answer
from ...vendors.chat import Dialect
from ...vendors.faults import drop, in_stream_error, malformed_chunk, raw, reset, status, truncate

if TYPE_CHECKING:
    from ...vendors import VendorServer

KEY = "sk-canary-0123456789abcdef"
CHAT = "/v1/chat/completions"
PATIENCE_SECONDS = 40


def manager_of(vendor: VendorServer, key: str | None = KEY, **options: Any) -> SessionManager:
    given: dict[str, Any] = {"base_url": vendor.openai_url, "max_retries": 0} | options
    return create_session_manager(providers={"local": OpenAIChatProvider(key, **given)})


async def new_session(manager: SessionManager, **config: Any) -> Session:
    return await manager.create_session("ada", "local", "llama", provider_config=config)


def said(vendor: VendorServer) -> list[list[str]]:
    """The texts of each request's messages."""
    return [
        [f"{each['role'][0]}:{each['content']}" for each in seen.body["messages"]]
        for seen in vendor.seen(CHAT)
    ]


async def test_turns_send_the_window_and_the_answer_holds_what_the_server_told(
    vendor: VendorServer,
) -> None:
    vendor.headers["x-ratelimit-remaining-requests"] = "41"
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        await session.send_system_message("Be brief.")
        await session.send_message("One?")
        answer = await session.send_message("Two?")
        metrics = await session.get_metrics()
        assert session.provider_session_id is None
    assert (answer.content, answer.finish_reason) == ("answer to: Two?", "stop")
    told = answer.provider_metadata
    assert answer.provider_message_id == told["response_id"]
    assert told["model"] == "llama"
    assert told["system_fingerprint"] == "fp_reference"
    assert told["request_id"] == "req_000002"
    assert told["usage"]["total_tokens"] == 7 + 3
    assert "41" in str(told["rate_limits"])
    assert metrics.total_tokens == (3 + 3) + (7 + 3)
    assert said(vendor) == [
        ["s:Be brief.", "u:One?"],
        ["s:Be brief.", "u:One?", "a:answer to: One?", "u:Two?"],
    ]


DIALECTS = {
    "OpenAI": Dialect(),
    "vLLM": Dialect(reasoning_field="reasoning_content", usage_always=True),
    "Ollama": Dialect(ids=True, usage=False, reasoning_field="reasoning"),
    "llama.cpp": Dialect(role_first=True, null_content=True, usage_always=True),
    "OpenRouter": Dialect(keepalives=True, reasoning_field="reasoning"),
    "the barest": Dialect(usage=False, done=False, ids=False, role_first=False),
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_dialect_gives_the_same_answer(vendor: VendorServer, dialect: str) -> None:
    vendor.state.chat = DIALECTS[dialect]
    vendor.answer = lambda _: Answer(text="Forty two.", thinking="hm")
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        answer = await session.send_message("What?")
    assert (answer.content, answer.finish_reason) == ("Forty two.", "stop")


async def test_a_server_that_does_not_stream_gives_the_same_answer(vendor: VendorServer) -> None:
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        body = (
            b'{"id":"chatcmpl-9","model":"llama","choices":[{"index":0,"message":{"role":'
            b'"assistant","content":"Forty two."},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":5,"completion_tokens":2}}'
        )
        vendor.script(raw(body, "application/json; charset=utf-8"))
        answer = await session.send_message("What?")
        assert (answer.content, answer.token_count) == ("Forty two.", 2)
        vendor.script(raw(body[:90]), raw(b"<html>", "text/html"), raw(b"{}"))
        for code in ("protocol", "protocol", "truncated"):
            with pytest.raises(ProviderError) as caught:
                await session.send_message("What?")
            assert caught.value.code == code


async def test_text_is_streamed_as_it_comes_and_a_stop_keeps_it(
    vendor: VendorServer, library: str
) -> None:
    """The request behind it is valid: what was said is in it as the user saw it."""
    vendor.answer = lambda _: Answer(deltas=["Once ", "upon ", "a time"])
    gate = vendor.hold(CHAT, events=3)
    async with manager_of(vendor, http_library=library) as manager:
        session = await new_session(manager)
        heard = ended = ""
        with anyio.fail_after(PATIENCE_SECONDS):
            async with session.stream_message("Tell.") as turn:
                async for event in turn:
                    if isinstance(event, TurnText):
                        heard += event.text
                    if heard == "Once upon ":
                        await session.stop()
                    ended = event.type
            assert ended == "interrupted"
            await vendor.until(lambda: vendor.aborted == 1)
            gate.release()
            await session.send_message("Go on.")
    assert said(vendor)[-1] == ["u:Tell.", "a:Once upon ", "u:Go on."]


FAULTS = {
    "end of stream": (truncate(events=3), "truncated"),
    "reset": (reset(events=3), "connection"),
    "error object": (
        in_stream_error({"error": {"message": "no", "code": 429}}, events=3),
        "rate_limit",
    ),
    "malformed": (malformed_chunk(events=3), "protocol"),
    "loading": (status(503, {"error": {"message": "Loading model", "code": 503}}), "overloaded"),
    "no model": (status(404, {"error": "model 'llama' not found"}), "not_found"),
    "too long": (
        status(400, {"error": {"message": "no", "code": "context_length_exceeded"}}),
        "context_length",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_fault_is_an_error_and_never_a_short_answer(
    vendor: VendorServer, library: str, kind: str
) -> None:
    fault, code = FAULTS[kind]
    async with manager_of(vendor, http_library=library) as manager:
        session = await new_session(manager)
        vendor.script(fault)
        with pytest.raises(ProviderError) as caught:
            await session.send_message("One?")
        assert (caught.value.code, caught.value.provider) == (code, "openai_chat")
        await session.send_message("Two?")
        history = await session.get_messages()
    assert [each.content for each in history] == ["One?", "Two?", "answer to: Two?"]
    assert said(vendor)[-1] == ["u:Two?"]


@pytest.mark.parametrize("how", ["reset", "drop"])
async def test_an_answer_that_is_complete_stays_so_if_the_connection_breaks_then(
    vendor: VendorServer, library: str, how: str
) -> None:
    """Some servers never end their body in order; role, three words and the finish_reason came."""
    break_off = {"reset": reset, "drop": drop}[how]
    async with manager_of(vendor, http_library=library) as manager:
        session = await new_session(manager)
        vendor.script(break_off(events=4), break_off(events=5))
        with pytest.raises(ProviderError):
            await session.send_message("One?")
        answer = await session.send_message("Two?")
    assert (answer.content, answer.finish_reason) == ("answer to: Two?", "stop")
    assert len(vendor.requests) == 2


async def test_what_fails_before_any_text_is_tried_again(vendor: VendorServer) -> None:
    vendor.script(status(503), reset())
    async with manager_of(vendor, max_retries=2) as manager:
        session = await new_session(manager)
        answer = await session.send_message("One?")
    assert answer.content == "answer to: One?"
    assert len(vendor.requests) == 3


async def test_options_can_be_changed_in_a_session(vendor: VendorServer) -> None:
    async with manager_of(vendor) as manager:
        session = await new_session(manager, max_tokens=9)
        view = session.provider_session
        assert isinstance(view, OpenAIChatProviderSession)
        view.update_provider_config(
            {"temperature": 0.7, "max_tokens": None, "include_usage": False}
        )
        with pytest.raises(ConfigurationError):
            view.update_provider_config({"temperature": 0.1, "seed": "x"})
        await session.send_message("One?")
        with pytest.raises(ConfigurationError, match="did you mean 'max_tokens'"):
            await new_session(manager, max_token=5)
    assert vendor.last.body["temperature"] == 0.7
    assert vendor.last.body.keys().isdisjoint({"max_tokens", "stream_options"})


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_server_of_ones_own_needs_no_key(
    vendor: VendorServer, monkeypatch: pytest.MonkeyPatch, slash: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with manager_of(vendor, None, base_url=vendor.openai_url + slash) as manager:
        session = await new_session(manager)
        await session.send_message("One?")
    assert vendor.last.path == CHAT
    assert "authorization" not in vendor.last.headers


async def test_a_key_of_openais_goes_to_no_other_server(
    vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENAI_API_KEY is for OpenAI, and for the server that OPENAI_BASE_URL names beside it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with manager_of(vendor, None) as manager:
        await (await new_session(manager)).send_message("One?")
    assert "authorization" not in vendor.last.headers
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.openai_url)
    async with manager_of(vendor, None, base_url=None) as manager:
        await (await new_session(manager)).send_message("One?")
    assert vendor.last.key == KEY


def test_a_provider_is_made_with_what_can_be_right_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    wrong: list[dict[str, Any]] = [
        {},
        {"api_key": ""},
        {"base_url": "http://example.com/v1"},
        {"api_key": "k", "base_url": "http://[bad"},
        {"api_key": "k", "base_url": 5},
        {"api_key": "k", "stall_timeout": 0},
        {"api_key": "k", "organization": "a\nb"},
    ]
    for keywords in wrong:
        with pytest.raises(ConfigurationError):
            OpenAIChatProvider(**keywords)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIChatProvider()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    OpenAIChatProvider()
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY not in repr(vars(OpenAIChatProvider()))


async def test_the_key_is_in_no_error(vendor: VendorServer) -> None:
    vendor.state.key = "another"
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError, match="Incorrect API key") as caught:
            await session.send_message("One?")
    assert caught.value.code == "auth"
    assert KEY not in str(caught.value)
