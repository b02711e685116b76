"""A turn whose answer was lost is looked up in the conversation, never sent again blindly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.errors import ProviderError

from ...vendors.faults import in_stream_error, lost, reset, status, truncate
from .helpers import Chat, provider_for, user

if TYPE_CHECKING:
    from langswarm.core.session.adapters.providers.openai import OpenAIProvider

    from ...vendors import VendorServer
    from ...vendors.faults import Fault

RESPONSES = "/v1/responses"


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
    vendor: VendorServer, session: object, fault: Fault
) -> None:
    provider = provider_for(vendor)
    chat = await session(provider)  # type: ignore[operator]
    before = asked(vendor)
    vendor.script(fault, path=RESPONSES)
    end = await chat.ask("Again")
    assert chat.text == "answer to: Again"
    assert "read_back" not in end.metadata
    assert asked(vendor) - before == 2
    conversation = vendor.state.conversations.by_id[chat.conversation_id]
    said = [each["content"][0]["text"] for each in conversation.items]
    assert said.count("Again") == 1
    await provider.aclose()


@SESSIONS
@pytest.mark.parametrize("by", ["reset", "drop"])
async def test_an_answer_that_was_lost_as_a_whole_is_read_back_and_not_paid_for_twice(
    vendor: VendorServer, session: object, by: str
) -> None:
    provider = provider_for(vendor)
    chat = await session(provider)  # type: ignore[operator]
    before = asked(vendor)
    vendor.script(lost(by=by), path=RESPONSES)  # type: ignore[arg-type]
    end = await chat.ask("Again")
    assert chat.text == "answer to: Again"
    assert asked(vendor) - before == 1
    assert end.metadata["read_back"] is True
    conversation = vendor.state.conversations.by_id[chat.conversation_id]
    assert end.provider_message_id == conversation.items[-1]["id"]
    assert end.provider_session_id == chat.conversation_id
    await chat.ask("And then?")
    assert chat.text == "answer to: And then?"
    await provider.aclose()


@SESSIONS
async def test_the_rest_of_an_answer_that_was_cut_off_is_read_back(
    vendor: VendorServer, session: object
) -> None:
    provider = provider_for(vendor)
    vendor.finishes_aborted = True
    chat = await session(provider)  # type: ignore[operator]
    fault = truncate(events=6)
    vendor.script(fault.__class__(processed=True, actions=fault.actions), path=RESPONSES)
    end = await chat.ask("Again and again")
    assert chat.text == "answer to: Again and again"
    assert len(chat.events) >= 3
    assert end.metadata["read_back"] is True
    assert end.metadata["usage"]["output_tokens"] == 5
    assert end.output_tokens == 5
    await provider.aclose()


async def test_what_was_shown_and_is_not_the_beginning_of_the_answer_stands_as_a_failure(
    vendor: VendorServer,
) -> None:
    provider = provider_for(vendor)
    chat = await resumed(provider)
    fault = truncate(events=6)
    vendor.script(fault.__class__(processed=True, actions=fault.actions), path=RESPONSES)
    gate = vendor.hold("/v1/conversations", method="GET")
    async with anyio.create_task_group() as group:

        async def change() -> None:
            await gate.reached()
            assert chat.conversation_id is not None
            items = vendor.state.conversations.by_id[chat.conversation_id].items
            items[-1]["content"][0]["text"] = "something else"
            gate.release()

        group.start_soon(change)
        with pytest.raises(ProviderError) as caught:
            await chat.ask("Again and again")
    assert caught.value.code == "truncated"
    await provider.aclose()


@SESSIONS
async def test_nothing_is_sent_again_once_text_was_shown(
    vendor: VendorServer, session: object
) -> None:
    provider = provider_for(vendor)
    chat = await session(provider)  # type: ignore[operator]
    before = asked(vendor)
    vendor.script(truncate(events=6), path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert chat.text != ""
    assert (caught.value.code, caught.value.retryable) == ("truncated", True)
    assert asked(vendor) - before == 1
    await provider.aclose()


async def test_a_question_without_an_answer_lets_the_failure_stand(vendor: VendorServer) -> None:
    provider = provider_for(vendor)
    chat = await resumed(provider)
    before = asked(vendor)
    vendor.script(lost(), path=RESPONSES)
    gate = vendor.hold("/v1/conversations", method="GET")
    async with anyio.create_task_group() as group:

        async def cut() -> None:
            await gate.reached()
            assert chat.conversation_id is not None
            vendor.state.conversations.by_id[chat.conversation_id].items.pop()
            gate.release()

        group.start_soon(cut)
        with pytest.raises(ProviderError) as caught:
            await chat.ask("Again")
    assert caught.value.code == "connection"
    assert asked(vendor) - before == 1
    await provider.aclose()


async def test_a_failure_of_the_looking_up_hides_nothing(vendor: VendorServer) -> None:
    provider = provider_for(vendor)
    chat = await resumed(provider)
    vendor.script(truncate(events=6), path=RESPONSES)
    vendor.script(status(403), path="/v1/conversations", method="GET")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "truncated"
    await provider.aclose()


async def test_an_error_within_the_stream_is_sent_again_where_nothing_is_there(
    vendor: VendorServer,
) -> None:
    provider = provider_for(vendor)
    chat = await resumed(provider)
    body = {"type": "error", "code": "server_error", "message": "Oops", "sequence_number": 1}
    vendor.script(in_stream_error(body), path=RESPONSES)
    await chat.ask("Again")
    assert chat.text == "answer to: Again"
    await provider.aclose()


async def test_sending_again_is_bounded(vendor: VendorServer) -> None:
    provider = provider_for(vendor, max_retries=1)
    chat = await resumed(provider)
    before = asked(vendor)
    vendor.script(*[reset() for _ in range(20)], path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "connection"
    assert asked(vendor) - before == 2
    await provider.aclose()


async def test_a_refusal_is_not_looked_up(vendor: VendorServer) -> None:
    provider = provider_for(vendor)
    chat = await resumed(provider)
    vendor.script(status(400), path=RESPONSES)
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "invalid_request"
    assert vendor.seen("/v1/conversations", "GET") == []
    await provider.aclose()
