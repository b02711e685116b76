"""What is sent is what the vendor's own client sends for the same call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ...vendors.sdks import KEY, Sent, openai_request_of, sent
from .helpers import Chat, answer, system, user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...vendors import VendorServer
    from .helpers import Connect


def item(role: str, content: str) -> Any:
    return {"type": "message", "role": role, "content": content}


async def check(
    vendor: VendorServer, number: int, call: Callable[[Any], Awaitable[object]]
) -> None:
    """Our request of that number is theirs."""
    ours = without_accept(sent(vendor.requests[number]))
    theirs = without_accept(await openai_request_of(vendor, call, api_key=KEY))
    assert ours == theirs


def without_accept(sent: Sent) -> Sent:
    """Theirs accepts JSON, also where it asks for events."""
    headers = {name: value for name, value in sent.headers.items() if name != "accept"}
    return attrs.evolve(sent, headers=headers)


async def test_a_conversation_and_a_response_in_it(vendor: VendorServer, connect: Connect) -> None:
    provider = connect(api_key=KEY)
    chat = Chat(
        provider,
        system("Be kind."),
        user("Hello"),
        answer("Hi"),
        temperature=0.7,
        top_p=0.9,
        max_tokens=2048,
        thread_metadata={"user_type": "premium"},
        extra_body={"reasoning": {"effort": "low"}},
    )
    await chat.ask("How are you?")
    conversation_id = str(chat.conversation_id)
    await check(
        vendor,
        0,
        lambda client: client.conversations.create(
            items=[item("user", "Hello"), item("assistant", "Hi")],
            metadata={"user_type": "premium"},
        ),
    )
    await check(
        vendor,
        1,
        lambda client: client.responses.create(
            model="gpt-5",
            conversation=conversation_id,
            input=[item("user", "How are you?")],
            instructions="Be kind.",
            temperature=0.7,
            top_p=0.9,
            max_output_tokens=2048,
            reasoning={"effort": "low"},
            stream=True,
        ),
    )


async def test_a_response_without_state(vendor: VendorServer, connect: Connect) -> None:
    provider = connect(api_key=KEY)
    await Chat(provider, user("Hello"), answer("Hi"), state="local").ask("How are you?")
    await check(
        vendor,
        0,
        lambda client: client.responses.create(
            model="gpt-5",
            input=[item("user", "Hello"), item("assistant", "Hi"), item("user", "How are you?")],
            store=False,
            stream=True,
        ),
    )


async def test_looking_up_and_deleting(vendor: VendorServer, connect: Connect) -> None:
    provider = connect(api_key=KEY)
    chat = Chat(provider)
    await chat.ask("Hello")
    conversation_id = str(chat.conversation_id)
    await provider.read_metadata(conversation_id, {})
    await check(vendor, 2, lambda client: client.conversations.retrieve(conversation_id))
    before = len(vendor.requests)
    items = [str(each["id"]) for each in vendor.state.conversations.by_id[conversation_id].items]
    await provider.delete_conversation(conversation_id)
    ours = [sent(seen) for seen in vendor.requests[before:]]
    assert [(each.method, each.path) for each in ours] == [
        ("GET", f"/v1/conversations/{conversation_id}/items"),
        *(("DELETE", f"/v1/conversations/{conversation_id}/items/{each}") for each in items),
        ("GET", f"/v1/conversations/{conversation_id}/items"),
        ("DELETE", f"/v1/conversations/{conversation_id}"),
    ]
    assert ours[0].query == {"limit": "100", "order": "asc"}


async def test_threads_messages_and_runs(vendor: VendorServer, connect: Connect) -> None:
    provider = connect(api_key=KEY)
    chat = Chat(
        provider,
        system("Be kind."),
        user("Hello"),
        answer("Hi"),
        assistant_id="asst_1",
        thread_metadata={"a": "b"},
        temperature=0.7,
        max_tokens=2048,
    )
    await chat.ask("How are you?")
    thread_id = str(chat.conversation_id)
    await check(
        vendor,
        0,
        lambda client: client.beta.threads.create(
            messages=[
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
            ],
            metadata={"a": "b"},
        ),
    )
    await check(
        vendor,
        1,
        lambda client: client.beta.threads.messages.create(
            thread_id, role="user", content="How are you?"
        ),
    )
    await check(
        vendor,
        2,
        lambda client: client.beta.threads.runs.create(
            thread_id,
            assistant_id="asst_1",
            model="gpt-5",
            additional_instructions="Be kind.",
            temperature=0.7,
            max_completion_tokens=2048,
            stream=True,
        ),
    )
