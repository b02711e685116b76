"""Conversations are deleted with all their items, in bounded calls, and nothing else ever is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session.adapters.providers.openai import conversations
from langswarm.core.session.errors import ProviderError

from ...vendors.conversations import Conversation, stored_items
from ...vendors.faults import raw, stall
from ...vendors.gates import PATIENCE_SECONDS
from .helpers import Chat

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from .helpers import Connect


async def begun(vendor: VendorServer, chat: Chat, items: int = 0) -> Conversation:
    """A conversation of a turn and so many items more."""
    await chat.ask("Hello")
    found = vendor.state.conversations.by_id[str(chat.conversation_id)]
    more = [{"role": "user", "content": str(number)} for number in range(items)]
    found.items += stored_items(vendor.state.ids, more)
    return found


async def test_thousands_of_items_are_deleted_some_at_a_time(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    conversation = await begun(vendor, Chat(provider), 1_000)
    with anyio.fail_after(PATIENCE_SECONDS):
        await provider.delete_conversation(conversation.id)
    assert vendor.state.conversations.by_id == {}
    assert vendor.orphaned_items == []
    assert vendor.connections <= conversations.DELETIONS_AT_ONCE


@pytest.mark.parametrize(("stalled", "code"), [(1, "interrupted"), (8, "timeout")])
async def test_a_call_ends_in_time_and_says_whether_the_next_one_has_less_to_do(
    vendor: VendorServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    stalled: int,
    code: str,
) -> None:
    provider = connect()
    conversation = await begun(vendor, Chat(provider), 50)
    items = f"/v1/conversations/{conversation.id}/items/"
    codes: list[str] = []
    for seconds in (0.5, 2.5, 12.5):  # a slow machine deletes nothing in the first of these
        vendor.script(*[stall()] * stalled, path=items)
        with monkeypatch.context() as patch, anyio.fail_after(PATIENCE_SECONDS):
            patch.setattr(conversations, "DELETION_SECONDS", seconds)
            with pytest.raises(ProviderError, match="goes on from there") as caught:
                await provider.delete_conversation(conversation.id)
        codes.append(caught.value.code)
        vendor.clear_scripts()
        if code in codes:
            break
    assert codes[-1] == code
    await provider.delete_conversation(conversation.id)
    assert vendor.state.conversations.by_id == {}
    assert vendor.orphaned_items == []


async def test_a_server_that_does_not_delete_is_not_asked_for_ever(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider)
    await chat.ask("Hello")
    path = f"/v1/conversations/{chat.conversation_id}/items/"
    vendor.script(*[raw(b"{}")] * 1_000, path=path, method="DELETE")
    with pytest.raises(ProviderError, match="that were deleted"):
        await provider.delete_conversation(str(chat.conversation_id))
    assert len(vendor.seen(path, "DELETE")) == 2


HOSTILE = [
    "",
    ".",
    "..",
    "../files",
    "../../files/f",
    "conv_x?y",
    "conv_x#y",
    "a/b",
    "a\\b",
    "%2e%2e",
]


@pytest.mark.parametrize("name", [*HOSTILE, "conv_x\r\nx: y", "\u202e", "a b", "\ud800"])
async def test_an_id_that_leads_elsewhere_is_never_asked_for(
    vendor: VendorServer, connect: Connect, name: str
) -> None:
    """Whoever can write to the storage has not the rights of the key."""
    provider = connect()
    for prefix in ("", "thread_"):
        with pytest.raises(ProviderError) as caught:
            await provider.read_metadata(prefix + name, {})
        assert (caught.value.code, str(caught.value).isprintable()) == ("not_found", True)
        await provider.delete_conversation(prefix + name)
        if not (prefix and set(name) <= {"."}):
            assert vendor.requests == []
        vendor.requests.clear()


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_item_whose_id_leads_elsewhere_is_not_deleted(
    vendor: VendorServer, connect: Connect, name: str
) -> None:
    provider = connect()
    chat = Chat(provider)
    await chat.ask("Hello")
    item = {"type": "message", "id": name}
    content = json.dumps({"data": [item], "has_more": False}).encode()
    vendor.script(raw(content), path="/v1/conversations", method="GET")
    with pytest.raises(ProviderError, match="no id of anything") as caught:
        await provider.delete_conversation(str(chat.conversation_id))
    assert caught.value.code == "invalid_request"
    assert vendor.seen(method="DELETE") == []


async def test_a_conversation_under_a_name_that_is_none_is_begun_anew(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider)
    chat.conversation_id = "../../files"
    await chat.ask("Hello")
    assert list(vendor.state.conversations.by_id) == [chat.conversation_id]
    assert {seen.path for seen in vendor.requests} == {"/v1/conversations", "/v1/responses"}
