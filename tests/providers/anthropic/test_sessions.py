"""Sessions with Anthropic through the whole runtime, against the reference server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ProviderError,
    Session,
    SessionManager,
    create_session_manager,
)
from langswarm.core.session.adapters.providers.anthropic import (
    AnthropicProvider,
    AnthropicProviderSession,
)
from langswarm.core.session.interfaces import TurnText

from ...vendors import Answer
from ...vendors.faults import in_stream_error, malformed_chunk, reset, status, truncate

if TYPE_CHECKING:
    from ...vendors import VendorServer

KEY = "sk-ant-canary-0123456789abcdef"
MESSAGES = "/v1/messages"
PATIENCE_SECONDS = 40


def manager_of(vendor: VendorServer, **options: Any) -> SessionManager:
    given: dict[str, Any] = {"base_url": vendor.anthropic_url, "max_retries": 0} | options
    return create_session_manager(providers={"anthropic": AnthropicProvider(KEY, **given)})


async def new_session(manager: SessionManager, **config: Any) -> Session:
    return await manager.create_session(
        "ada", "anthropic", "claude-sonnet-5", provider_config=config, session_id="s"
    )


def said(vendor: VendorServer) -> list[list[str]]:
    """The texts of each request's messages."""
    return [
        [f"{each['role'][0]}:{each['content']}" for each in seen.body["messages"]]
        for seen in vendor.seen(MESSAGES)
    ]


# ---------------------------------------------------------------- turns


async def test_turns_send_the_window_and_the_answer_holds_what_the_vendor_told(
    vendor: VendorServer,
) -> None:
    vendor.answer = lambda asked: Answer(
        text=f"answer to: {asked.text}", cached_tokens=7, cache_write_tokens=3, input_tokens=15
    )
    vendor.headers["anthropic-ratelimit-requests-remaining"] = "41"
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        await session.send_system_message("Be brief.")
        await session.send_message("One?")
        answer = await session.send_message("Two?")
        metrics = await session.get_metrics()
    assert answer.content == "answer to: Two?"
    assert answer.finish_reason == "stop"
    assert answer.provider_message_id == answer.provider_metadata["message_id"]
    assert answer.provider_metadata["model"] == "claude-sonnet-5"
    assert answer.provider_metadata["usage"]["cache_read_input_tokens"] == 7
    assert "req_000002" in str(answer.provider_metadata)
    assert "41" in str(answer.provider_metadata)
    assert metrics.total_tokens == 2 * 15 + 2 * 3
    assert said(vendor) == [["u:One?"], ["u:One?", "a:answer to: One?", "u:Two?"]]
    assert {seen.body["system"] for seen in vendor.requests} == {"Be brief."}
    assert {seen.key for seen in vendor.requests} == {KEY}


async def test_without_threads_the_conversation_has_a_name_of_our_own(vendor: VendorServer) -> None:
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        for text in ("One?", "Two?"):
            await session.send_message(text)
            assert session.provider_session_id == "local_s"
        await session.delete()


async def test_text_is_streamed_as_it_comes_and_a_stop_keeps_it(
    vendor: VendorServer, library: str
) -> None:
    """The request behind it is valid: what was said is in it as the user saw it."""
    vendor.answer = lambda _: Answer(deltas=["Once ", "upon ", "a time"], thinking="hm")
    gate = vendor.hold(MESSAGES, events=9)
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
            answer = await session.send_message("Go on.")
        messages = await session.get_messages()
    assert answer.content == "Once upon a time"
    assert [each.content for each in messages[:2]] == ["Tell.", "Once upon "]
    assert said(vendor)[-1] == ["u:Tell.", "a:Once upon ", "u:Go on."]


@pytest.mark.parametrize("events", [1, 4])
async def test_a_stopped_turn_has_the_tokens_that_the_vendor_had_counted(
    vendor: VendorServer, library: str, events: int
) -> None:
    """What went in is told at the beginning, and billed; also where no text had come."""
    vendor.answer = lambda _: Answer(deltas=["Once ", "upon ", "a"], input_tokens=1_000)
    gate = vendor.hold(MESSAGES, events=events)
    async with manager_of(vendor, http_library=library) as manager:
        session = await new_session(manager)
        ticket = session.submit("Tell.")
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            while not tokens_heard(manager):
                await anyio.lowlevel.checkpoint()
        await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        metrics = await session.get_metrics()
    assert metrics.total_tokens >= 1_000


def tokens_heard(manager: SessionManager) -> int:
    """Inside: what the running turn has counted."""
    turns = manager._anchor.host.runtime().supervisor.turns._turns
    return sum(turn._answer.input_tokens for turn in turns)


async def test_an_error_behind_the_counts_is_still_tried_again(vendor: VendorServer) -> None:
    """They are no part of the answer; and what is tried again is not counted twice."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    vendor.answer = lambda _: Answer(text="yes", input_tokens=1_000, output_tokens=5)
    vendor.script(in_stream_error(overloaded, events=1, name="error"))
    async with manager_of(vendor, max_retries=1) as manager:
        session = await new_session(manager)
        assert (await session.send_message("One?")).content == "yes"
        assert (await session.get_metrics()).total_tokens == 1_005
    assert len(vendor.requests) == 2


async def test_a_turn_that_was_stopped_before_any_text_leaves_a_valid_request(
    vendor: VendorServer,
) -> None:
    """Two questions stand side by side then; they are sent as one."""
    vendor.hold(MESSAGES)
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        with anyio.fail_after(PATIENCE_SECONDS):
            async with session.stream_message("Tell.") as turn:
                async for event in turn:
                    if event.type == "started":
                        await vendor.until(lambda: len(vendor.requests) == 1)
                        await session.stop()
            await session.send_message("Now.")
    assert said(vendor)[-1] == ["u:Tell.\n\nNow."]


# ---------------------------------------------------------------- failures


FAULTS = {
    "end of stream": (truncate(events=5), "truncated"),
    "reset": (reset(events=5), "connection"),
    "error event": (
        in_stream_error(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            events=5,
            name="error",
        ),
        "overloaded",
    ),
    "malformed": (malformed_chunk(events=5), "protocol"),
    "529": (
        status(529, {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        "overloaded",
    ),
    "429": (
        status(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "no"}}),
        "rate_limit",
    ),
    "too large": (
        status(413, {"type": "error", "error": {"type": "request_too_large", "message": "no"}}),
        "context_length",
    ),
    "too long": (
        status(
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "prompt is too long: 2 > 1"},
            },
        ),
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
        assert (caught.value.code, caught.value.provider) == (code, "anthropic")
        answer = await session.send_message("Two?")
        history = await session.get_messages()
    assert answer.content == "answer to: Two?"
    assert [each.content for each in history] == ["One?", "Two?", "answer to: Two?"]
    assert said(vendor)[-1] == ["u:Two?"]


async def test_what_fails_before_any_text_is_tried_again_and_later_never(
    vendor: VendorServer,
) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with manager_of(vendor, max_retries=2) as manager:
        session = await new_session(manager)
        vendor.script(
            status(529, overloaded, {"retry-after-ms": "1"}),
            in_stream_error(overloaded, events=2, name="error"),
        )
        assert (await session.send_message("One?")).content == "answer to: One?"
        assert len(vendor.requests) == 3
        vendor.script(in_stream_error(overloaded, events=5, name="error"))
        with pytest.raises(ProviderError) as caught:
            await session.send_message("Two?")
        assert (caught.value.code, caught.value.retryable) == ("overloaded", True)
    assert len(vendor.requests) == 4


async def test_the_key_is_in_no_error(vendor: VendorServer) -> None:
    vendor.state.key = "another"
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError) as caught:
            await session.send_message("One?")
    assert caught.value.code == "auth"
    assert "invalid key" in str(caught.value)
    assert KEY not in str(caught.value)
    assert KEY not in repr(AnthropicProvider(KEY))


# ---------------------------------------------------------------- options


async def test_a_wrong_provider_config_is_refused_before_anything_is_stored(
    vendor: VendorServer,
) -> None:
    async with manager_of(vendor) as manager:
        with pytest.raises(ConfigurationError, match="did you mean 'max_tokens'"):
            await new_session(manager, max_token=5)
        with pytest.raises(ConfigurationError, match="allow_threads"):
            await new_session(manager, threads=True)
        assert await manager.get_user_sessions("ada") == []


async def test_options_can_be_changed_in_a_session(vendor: VendorServer) -> None:
    async with manager_of(vendor) as manager:
        session = await new_session(manager, max_tokens=9, temperature=0.1)
        view = session.provider_session
        assert isinstance(view, AnthropicProviderSession)
        view.update_provider_config({"temperature": 0.7, "stop": "END", "prompt_caching": True})
        await session.send_message("One?")
        changed = vendor.last.body
        view.update_provider_config(
            {"temperature": 0.1, "stop": None, "prompt_caching": None, "max_tokens": None}
        )
        await session.send_message("Two?")
        wrong_ones: list[dict[str, Any]] = [
            {"temperature": 0.5, "max_tokens": 0},
            {"temperature": 0.5, "conversation_metadata": {}},
            {"temperature": 0.5, "threads": True},
            {"temperature": 0.5, "fallbacks": [("mock", "m")]},
        ]
        for wrong in wrong_ones:
            with pytest.raises(ConfigurationError):
                view.update_provider_config(wrong)
        await session.send_message("Three?")
    assert (changed["temperature"], changed["stop_sequences"]) == (0.7, ["END"])
    assert "cache_control" in str(changed["messages"])
    last = vendor.last.body
    assert (last["temperature"], last["max_tokens"]) == (0.1, 4096)
    assert "stop_sequences" not in last
    assert "cache_control" not in str(last["messages"])


async def test_conversation_metadata_stays_with_the_session_and_names_the_user(
    vendor: VendorServer,
) -> None:
    metadata = {"topic": "coding_help", "user_id": "u-1"}
    async with manager_of(vendor) as manager:
        session = await new_session(manager, conversation_metadata=metadata)
        await session.send_message("One?")
        assert await session.get_provider_metadata() == metadata
    assert vendor.last.body["metadata"] == {"user_id": "u-1"}


async def test_tokens_are_counted_as_they_would_be_sent(vendor: VendorServer) -> None:
    async with manager_of(vendor) as manager:
        session = await new_session(manager)
        await session.send_system_message("Be brief.")
        await session.send_message("One two three?")
        view = session.provider_session
        assert isinstance(view, AnthropicProviderSession)
        counted = await view.count_tokens(session.model, await session.get_messages())
        assert counted == 2 + 3 + 5
        assert vendor.last.path == "/v1/messages/count_tokens"
        with pytest.raises(ProviderError, match="nothing to count"):
            await view.count_tokens(session.model, [])
        vendor.script(status(200, {"input_tokens": "many"}))
        with pytest.raises(ProviderError) as caught:
            await view.count_tokens(session.model, await session.get_messages())
        assert caught.value.code == "protocol"


def test_a_provider_is_made_with_what_can_be_right_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    wrong: list[dict[str, Any]] = [
        {},
        {"api_key": ""},
        {"api_key": "k", "anthropic_version": "newest"},
        {"api_key": "k", "auth": "basic"},
        {"api_key": "k", "betas": ["a,b"]},
        {"api_key": "k", "betas": ["x"] * 51},
        {"api_key": "k", "base_url": "http://example.com"},
        {"api_key": "k", "stall_timeout": 0},
        {"api_key": "bad\nkey"},
    ]
    for keywords in wrong:
        with pytest.raises(ConfigurationError):
            AnthropicProvider(**keywords)
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        AnthropicProvider()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    AnthropicProvider().check_config({"threads": True})
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example")
    with pytest.raises(ConfigurationError, match="allow_threads"):
        AnthropicProvider().check_config({"threads": True})
    AnthropicProvider(allow_threads=True).check_config({"threads": True})


async def test_a_base_url_may_hold_the_version_already(vendor: VendorServer) -> None:
    async with manager_of(vendor, base_url=vendor.anthropic_url + "/v1/") as manager:
        session = await new_session(manager)
        await session.send_message("One?")
    assert vendor.last.path == "/v1/messages"
