"""The vendor's own client understands what the server says, on asyncio and on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from .answers import Answer
from .sdks import openai_client

if TYPE_CHECKING:
    from openai.types.responses import ResponseStreamEvent

    from .server import VendorServer


async def test_a_conversation_is_made_read_changed_and_deleted(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        made = await client.conversations.create(metadata={"topic": "demo"})
        assert made.id.startswith("conv_")
        assert (await client.conversations.retrieve(made.id)).metadata == {"topic": "demo"}
        changed = await client.conversations.update(made.id, metadata={"topic": "other"})
        assert changed.metadata == {"topic": "other"}
        assert (await client.conversations.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(made.id)


async def test_items_are_added_paged_and_deleted(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        made = await client.conversations.create(items=[{"role": "user", "content": "one"}])
        added = await client.conversations.items.create(
            made.id,
            items=[
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
            ],
        )
        assert [item.id for item in added.data] == [added.first_id, added.last_id]
        pages = client.conversations.items.list(made.id, order="asc", limit=2)
        ids = [item.id or "" async for item in pages]
        assert len(ids) == 3
        assert [seen.query.get("after") for seen in vendor.seen(method="GET")] == [None, ids[1]]
        newest = await client.conversations.items.list(made.id, limit=1)
        assert [item.id for item in newest.data] == ids[2:]
        assert newest.has_more
        item = await client.conversations.items.retrieve(ids[0], conversation_id=made.id)
        assert item.type == "message"
        for item_id in ids[:2]:
            await client.conversations.items.delete(item_id, conversation_id=made.id)
        await client.conversations.delete(made.id)
        assert [item["id"] for item in vendor.orphaned_items] == ids[2:]


async def test_a_response_is_whole_or_streamed_and_says_the_same(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        whole = await client.responses.create(model="m", input="hello there", instructions="be")
        assert whole.output_text == "answer to: hello there"
        assert whole.status == "completed"
        assert whole.usage is not None
        assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 4)
        stream = await client.responses.create(model="m", input="hello there", stream=True)
        events: list[ResponseStreamEvent] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["answer", " to:", " hello", " there"]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "answer to: hello there"


async def test_a_response_reads_and_extends_its_conversation(vendor: VendorServer) -> None:
    vendor.answer = lambda asked: f"{len(asked.messages)}"
    async with openai_client(vendor) as client:
        made = await client.conversations.create()
        first = await client.responses.create(model="m", input="x", conversation=made.id)
        said = await client.responses.create(model="m", input="x", conversation={"id": made.id})
        assert (first.output_text, said.output_text) == ("1", "3")
        assert said.conversation is not None
        assert said.conversation.id == made.id
        items = [item async for item in client.conversations.items.list(made.id, order="asc")]
        assert len(items) == 4
        ids = {item.id for item in items}
        assert said.output[0].id in ids


async def test_a_response_follows_another(vendor: VendorServer) -> None:
    vendor.answer = lambda asked: " ".join(text for _, text in asked.messages)
    async with openai_client(vendor) as client:
        first = await client.responses.create(model="m", input="one")
        then = await client.responses.create(model="m", input="two", previous_response_id=first.id)
        assert then.output_text == "one one two"
        items = await client.responses.input_items.list(then.id)
        assert len(items.data) == 1
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="m", input="x", previous_response_id=first.id)
        assert refused.value.code == "previous_response_not_found"


async def test_what_is_not_to_be_stored_is_not(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        said = await client.responses.create(model="m", input="one", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(said.id)


async def test_a_busy_conversation_is_locked_until_its_answer_is_over(
    vendor: VendorServer,
) -> None:
    gate = vendor.hold("/v1/responses", events=1)
    async with openai_client(vendor) as client:
        made = await client.conversations.create()
        stream = await client.responses.create(
            model="m", input="x", conversation=made.id, stream=True
        )
        await gate.reached()
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="m", input="y", conversation=made.id)
        assert refused.value.code == "conversation_locked"
        gate.release()
        assert [event.type async for event in stream][-1] == "response.completed"
        await client.responses.create(model="m", input="y", conversation=made.id)


async def test_a_conversation_and_a_response_exclude_each_other(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        made = await client.conversations.create()
        said = await client.responses.create(model="m", input="x")
        with pytest.raises(openai.BadRequestError, match="Mutually exclusive"):
            await client.responses.create(
                model="m", input="x", conversation=made.id, previous_response_id=said.id
            )


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{n}": "v" for n in range(17)},
        {"k" * 65: "v"},
        {"k": "v" * 513},
    ],
    ids=["pairs", "key", "value"],
)
async def test_metadata_beyond_its_limits_is_refused(
    vendor: VendorServer, metadata: dict[str, str]
) -> None:
    async with openai_client(vendor) as client:
        with pytest.raises(openai.BadRequestError):
            await client.conversations.create(metadata=metadata)
        at_the_limit = {"k" * 64 + "": "v" * 512} | {f"k{n}": "v" for n in range(15)}
        await client.conversations.create(metadata=at_the_limit)


async def test_more_than_20_items_at_once_are_refused(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        many: Any = [{"role": "user", "content": "x"}] * 21
        with pytest.raises(openai.BadRequestError):
            await client.conversations.create(items=many)


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_an_answer_that_is_cut_is_incomplete(
    vendor: VendorServer, finish: str, reason: str
) -> None:
    vendor.answer = Answer(text="so far", finish=finish)
    async with openai_client(vendor) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == "so far"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == reason


async def test_max_output_tokens_cut_the_answer(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        said = await client.responses.create(model="m", input="a b c", max_output_tokens=3)
    assert (said.status, said.output_text) == ("incomplete", "answer to: a")


async def test_an_answer_may_fail_after_it_began(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="so far", finish="failed", error="No more.")
    async with openai_client(vendor) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        events = [event async for event in stream]
    assert "response.output_text.delta" in {event.type for event in events}
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "No more."


async def test_a_refusal_is_no_text(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="I cannot.", finish="refusal")
    async with openai_client(vendor) as client:
        said = await client.responses.create(model="m", input="x")
        stream = await client.responses.create(model="m", input="x", stream=True)
        deltas = [e.delta async for e in stream if e.type == "response.refusal.delta"]
    assert said.output_text == ""
    assert "".join(deltas) == "I cannot."


async def test_usage_tells_cached_and_reasoning_tokens(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="four", thinking="a b c", input_tokens=9, cached_tokens=8)
    async with openai_client(vendor) as client:
        said = await client.responses.create(model="m", input="x")
    assert [item.type for item in said.output] == ["reasoning", "message"]
    assert said.usage is not None
    assert said.usage.input_tokens_details.cached_tokens == 8
    assert said.usage.output_tokens_details.reasoning_tokens == 3
    assert said.usage.total_tokens == 13


async def test_a_background_response_waits_and_can_be_cancelled(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        first = await client.responses.create(model="m", input="x", background=True)
        assert first.status == "queued"
        assert (await client.responses.retrieve(first.id)).status == "completed"
        second = await client.responses.create(model="m", input="x", background=True)
        assert (await client.responses.cancel(second.id)).status == "cancelled"
        said = await client.responses.create(model="m", input="x")
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel(said.id)


async def test_a_wrong_key_is_refused_and_said_aloud(vendor: VendorServer) -> None:
    vendor.state.key = "right"
    async with openai_client(vendor, api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="sk-wrong"):
            await client.responses.create(model="m", input="x")
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="m", messages=[])
    assert vendor.last.key == "sk-wrong"
