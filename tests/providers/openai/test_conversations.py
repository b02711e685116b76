"""Turns in the vendor's conversations: begun, gone on with, begun anew, read and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session.actors.ports import ConversationStarted
from langswarm.core.session.errors import ProviderError

from ...vendors.faults import status
from .helpers import Chat, answer, system, user

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from .helpers import Connect


def items_of(vendor: VendorServer, conversation_id: str | None) -> list[tuple[str, str]]:
    """What the vendor has of a conversation."""
    assert conversation_id is not None
    conversation = vendor.state.conversations.by_id[conversation_id]
    return [(each["role"], each["content"][0]["text"]) for each in conversation.items]


async def test_a_turn_begins_a_conversation_and_the_next_one_goes_on_with_it(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    chat = Chat(provider, thread_metadata={"user_type": "premium"})
    first = await chat.ask("Hello")
    assert isinstance(chat.events[0], ConversationStarted)
    assert chat.started == [chat.conversation_id]
    assert chat.text == "answer to: Hello"
    assert first.provider_message_id is not None
    assert first.provider_message_id.startswith("msg_")
    await chat.ask("And now?")
    assert chat.started == []
    assert [(seen.method, seen.path) for seen in vendor.seen()] == [
        ("POST", "/v1/conversations"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/responses"),
    ]
    assert vendor.last.body["input"] == [{"type": "message", "role": "user", "content": "And now?"}]
    assert items_of(vendor, chat.conversation_id) == [
        ("user", "Hello"),
        ("assistant", "answer to: Hello"),
        ("user", "And now?"),
        ("assistant", "answer to: And now?"),
    ]
    assert vendor.seen()[0].body == {"metadata": {"user_type": "premium"}}


async def test_a_history_of_any_length_is_in_the_conversation_before_the_question(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    history = [pair for n in range(30) for pair in (user(f"q{n}"), answer(f"a{n}"))]
    chat = Chat(provider, system("Be kind."), *history)
    await chat.ask("Hello")
    items = items_of(vendor, chat.conversation_id)
    assert items[:60] == [(each.role.value, each.content) for each in history]
    assert items[60:] == [("user", "Hello"), ("assistant", "answer to: Hello")]
    sizes = [len(seen.body["items"]) for seen in vendor.seen("/v1/conversations")]
    assert sizes == [20, 20, 20]
    assert vendor.last.body["instructions"] == "Be kind."


async def test_a_conversation_is_told_before_anything_else_can_fail(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    history = [user(str(number)) for number in range(25)]
    vendor.script(status(400), path="/v1/conversations/")
    chat = Chat(provider, *history)
    with pytest.raises(ProviderError):
        await chat.ask("Hello")
    assert list(vendor.state.conversations.by_id) == chat.started == [chat.conversation_id]


async def test_a_conversation_that_is_gone_is_begun_anew_with_the_window(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    chat = Chat(provider)
    await chat.ask("Hello")
    gone = chat.conversation_id
    vendor.state.conversations.by_id.clear()
    await chat.ask("Again")
    assert chat.started == [chat.conversation_id] != [gone]
    assert items_of(vendor, chat.conversation_id) == [
        ("user", "Hello"),
        ("assistant", "answer to: Hello"),
        ("user", "Again"),
        ("assistant", "answer to: Again"),
    ]


async def test_a_model_that_is_not_found_does_not_cost_the_conversation(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    chat = Chat(provider)
    await chat.ask("Hello")
    error = {"error": {"message": "No such model", "type": "x", "code": "model_not_found"}}
    vendor.script(status(404, error), path="/v1/responses")
    with pytest.raises(ProviderError, match="No such model") as caught:
        await chat.ask("Again")
    assert caught.value.code == "not_found"
    assert len(vendor.state.conversations.by_id) == 1


async def test_a_locked_conversation_is_waited_for_but_not_for_ever(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider)
    await chat.ask("Hello")
    locked = {"error": {"message": "busy", "type": "x", "code": "conversation_locked"}}
    vendor.script(status(400, locked, {"retry-after-ms": "1"}), path="/v1/responses")
    await chat.ask("Again")
    assert chat.text == "answer to: Again"
    always = [status(400, locked, {"retry-after-ms": "1"}) for _ in range(10)]
    vendor.script(*always, path="/v1/responses")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Once more")
    assert (caught.value.code, caught.value.retryable) == ("locked", True)
    assert vendor.faults_left == 10 - 3


async def test_without_state_the_window_is_sent_each_time_and_nothing_is_kept(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    chat = Chat(provider, system("Be kind."), state="local")
    await chat.ask("Hello")
    end = await chat.ask("Again")
    assert end.provider_session_id is None
    assert vendor.state.conversations.by_id == {}
    assert vendor.state.responses.by_id == {}
    assert [each["content"] for each in vendor.last.body["input"]] == [
        "Hello",
        "answer to: Hello",
        "Again",
    ]
    assert not provider.holds_conversation(chat.config)
    assert provider.holds_conversation({})


async def test_the_end_tells_the_request_the_limits_and_what_it_cost(
    vendor: VendorServer, connect: Connect
) -> None:
    vendor.headers = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "1s",
    }
    provider = connect()
    end = await Chat(provider).ask("Hello")
    assert end.output_tokens == 3
    metadata: dict[str, Any] = dict(end.metadata)
    assert metadata["response_id"].startswith("resp_")
    assert metadata["request_id"].startswith("req_")
    assert metadata["status"] == "completed"
    assert metadata["model"] == "gpt-5"
    assert metadata["service_tier"] == "default"
    assert metadata["usage"]["output_tokens"] == 3
    assert "99" in str(metadata["rate_limits"])


async def test_the_metadata_of_a_conversation_can_be_read(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, thread_metadata={"user_type": "premium"})
    assert await provider.read_metadata(None, chat.config) == {}
    await chat.ask("Hello")
    assert chat.conversation_id is not None
    conversation = vendor.state.conversations.by_id[chat.conversation_id]
    assert await provider.read_metadata(chat.conversation_id, chat.config) == {
        "conversation_id": chat.conversation_id,
        "created_at": conversation.created_at,
        "metadata": {"user_type": "premium"},
    }
    with pytest.raises(ProviderError) as caught:
        await provider.read_metadata("conv_gone", chat.config)
    assert caught.value.code == "not_found"


async def test_a_conversation_is_deleted_with_every_item(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, *(user(str(number)) for number in range(130)))
    await chat.ask("Hello")
    assert chat.conversation_id is not None
    await provider.delete_conversation(chat.conversation_id)
    assert vendor.state.conversations.by_id == {}
    assert vendor.orphaned_items == []
    await provider.delete_conversation(chat.conversation_id)


async def test_a_deletion_that_failed_half_way_goes_on_where_it_was(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, *(user(str(number)) for number in range(10)))
    await chat.ask("Hello")
    assert chat.conversation_id is not None
    items = vendor.state.conversations.by_id[chat.conversation_id].items
    vendor.script(
        status(404), path=f"/v1/conversations/{chat.conversation_id}/items/{items[0]['id']}"
    )
    vendor.script(
        status(403), path=f"/v1/conversations/{chat.conversation_id}/items/{items[5]['id']}"
    )
    with pytest.raises(ProviderError):
        await provider.delete_conversation(chat.conversation_id)
    assert vendor.orphaned_items == []
    assert items[0]["id"]
    assert 1 <= len(items) < 12
    await provider.delete_conversation(chat.conversation_id)
    assert vendor.orphaned_items == []
    assert vendor.state.conversations.by_id == {}


async def test_a_server_without_conversations_says_what_to_use(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    vendor.script(status(404), path="/v1/conversations")
    with pytest.raises(ProviderError, match="'state': 'local'") as caught:
        await Chat(provider).ask("Hello")
    assert caught.value.code == "not_found"
