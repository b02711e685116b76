"""A turn whose answer was lost is looked up in the conversation, never sent again blindly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.adapters.providers.openai import reading_back
from langswarm.core.session.errors import ProviderError

from ...vendors.faults import in_stream_error, lost, raw, reset, stall, status, truncate
from .helpers import Chat, user
from .streams import Json, message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langswarm.core.session.adapters.providers.openai import OpenAIProvider

    from ...vendors import VendorServer
    from ...vendors.faults import Fault
    from .helpers import Connect

    Begin = Callable[[OpenAIProvider], Awaitable[Chat]]

RESPONSES = "/v1/responses"


QUESTION: Json = {
    "type": "message",
    "id": "msg_q",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Again"}],
}


def listed(*items: Json) -> Fault:
    """A list of items, in place of what the conversation holds."""
    return raw(json.dumps({"object": "list", "data": items, "has_more": False}).encode())


def asked(vendor: VendorServer) -> int:
    """How often a response was asked for."""
    return len(vendor.seen(RESPONSES, "POST"))


async def resumed(provider: OpenAIProvider) -> Chat:
    """A session in its second turn."""
    chat = Chat(provider)
    await chat.ask("Hello")
    return chat


async def fresh(provider: OpenAIProvider) -> Chat:
    """A session with a history that begins a conversation."""
    return Chat(provider, *(user(f"m{number}") for number in range(3)))


async def long(provider: OpenAIProvider) -> Chat:
    """As `fresh`, with more history than a conversation is made with."""
    return Chat(provider, *(user(f"m{number}") for number in range(45)))


SESSIONS = pytest.mark.parametrize("session", [resumed, fresh, long])


@SESSIONS
@pytest.mark.parametrize("fault", [reset(), status(500), status(503), truncate(events=0)])
async def test_what_did_not_arrive_is_sent_again(
    vendor: VendorServer, connect: Connect, session: Begin, fault: Fault
) -> None:
    provider = connect()
    chat = await session(provider)
    before = asked(vendor)
    vendor.script(fault, path=RESPONSES)
    end = await chat.ask("Again")
    assert chat.text == "answer to: Again"
    assert "read_back" not in end.metadata
    assert asked(vendor) - before == 2
    conversation = vendor.state.conversations.by_id[str(chat.conversation_id)]
    said = [each["content"][0]["text"] for each in conversation.items]
    assert said.count("Again") == 1


@SESSIONS
@pytest.mark.parametrize("by", ["reset", "drop"])
async def test_an_answer_that_was_lost_as_a_whole_is_read_back_and_not_paid_for_twice(
    vendor: VendorServer, connect: Connect, session: Begin, by: str
) -> None:
    provider = connect()
    chat = await session(provider)
    before = asked(vendor)
    vendor.script(lost(by=by), path=RESPONSES)  # type: ignore[arg-type]
    end = await chat.ask("Again")
    assert chat.text == "answer to: Again"
    assert asked(vendor) - before == 1
    assert end.metadata["read_back"] is True
    conversation = vendor.state.conversations.by_id[str(chat.conversation_id)]
    assert end.provider_message_id == conversation.items[-1]["id"]
    assert end.provider_session_id == chat.conversation_id
    await chat.ask("And then?")
    assert chat.text == "answer to: And then?"


@SESSIONS
async def test_the_rest_of_an_answer_that_was_cut_off_is_read_back(
    vendor: VendorServer, connect: Connect, session: Begin
) -> None:
    provider = connect()
    vendor.finishes_aborted = True
    chat = await session(provider)
    fault = truncate(events=6)
    vendor.script(fault.__class__(processed=True, actions=fault.actions), path=RESPONSES)
    end = await chat.ask("Again and again")
    assert chat.text == "answer to: Again and again"
    assert len(chat.events) >= 3
    assert end.metadata["read_back"] is True
    assert end.metadata["usage"]["output_tokens"] == 5
    assert end.output_tokens == 5


async def test_what_was_shown_and_is_not_the_beginning_of_the_answer_stands_as_a_failure(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = await resumed(provider)
    vendor.script(truncate(events=6), path=RESPONSES)
    vendor.script(listed(QUESTION, message(7, "something else")), path="/v1/conversations")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "truncated"


@SESSIONS
async def test_nothing_is_sent_again_once_text_was_shown(
    vendor: VendorServer, connect: Connect, session: Begin
) -> None:
    provider = connect()
    chat = await session(provider)
    before = asked(vendor)
    vendor.script(truncate(events=6), path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert chat.text != ""
    assert (caught.value.code, caught.value.retryable) == ("truncated", True)
    assert asked(vendor) - before == 1


@pytest.mark.parametrize(
    "items",
    [
        (QUESTION,),
        (QUESTION, {**message(7, "answer to: A"), "status": "in_progress"}),
        (QUESTION, QUESTION, message(7, "answer to: Again")),
    ],
)
async def test_a_question_without_a_whole_answer_lets_the_failure_stand(
    vendor: VendorServer, connect: Connect, items: tuple[Json, ...]
) -> None:
    provider = connect()
    chat = await resumed(provider)
    before = asked(vendor)
    vendor.script(lost(), path=RESPONSES)
    vendor.script(listed(*items), path="/v1/conversations")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "connection"
    assert asked(vendor) - before == 1


async def test_the_answer_to_the_same_question_before_is_not_this_turns_answer(
    vendor: VendorServer, connect: Connect
) -> None:
    """Some servers list a conversation from its beginning, whatever they are asked for."""
    provider = connect()
    chat = await resumed(provider)
    conversation = vendor.state.conversations.by_id[str(chat.conversation_id)]
    vendor.script(reset(), path=RESPONSES)
    vendor.script(listed(*conversation.items), path="/v1/conversations", method="GET")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Hello")
    assert caught.value.code == "connection"
    assert chat.text == ""


async def test_a_failure_of_the_looking_up_hides_nothing(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = await resumed(provider)
    vendor.script(truncate(events=6), path=RESPONSES)
    vendor.script(status(403), path="/v1/conversations", method="GET")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "truncated"


async def test_looking_up_takes_a_bounded_time(
    vendor: VendorServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_back, "SECONDS", 0.05)
    provider = connect()
    chat = await resumed(provider)
    vendor.script(lost(), path=RESPONSES)
    vendor.script(stall(), path="/v1/conversations", method="GET")
    with anyio.fail_after(5), pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "connection"


async def test_an_error_within_the_stream_is_sent_again_where_nothing_is_there(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    chat = await resumed(provider)
    body = {"type": "error", "code": "server_error", "message": "Oops", "sequence_number": 1}
    vendor.script(in_stream_error(body), path=RESPONSES)
    await chat.ask("Again")
    assert chat.text == "answer to: Again"


async def test_sending_again_is_bounded_whatever_the_failures_are(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect(max_retries=2)
    chat = await resumed(provider)
    before = asked(vendor)
    soon = status(429, headers={"retry-after-ms": "1"})
    vendor.script(*[soon, reset()] * 10, path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "rate_limit"
    assert asked(vendor) - before == 3


async def test_a_refusal_is_not_looked_up(vendor: VendorServer, connect: Connect) -> None:
    provider = connect()
    chat = await resumed(provider)
    vendor.script(status(400), path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "invalid_request"
    assert vendor.seen("/v1/conversations", "GET") == []
