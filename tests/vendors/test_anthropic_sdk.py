"""The vendor's own client understands what the server says, on asyncio and on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from .answers import Answer
from .sdks import anthropic_client
from .threads import BETA

if TYPE_CHECKING:
    from .server import VendorServer

HI: Any = [{"role": "user", "content": "hi there"}]
# Their iterators leave generators behind when an error ends a stream; trio says so.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
OLD = {"anthropic-version": "2023-06-01"}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def test_an_answer_is_whole_or_streamed_and_says_the_same(vendor: VendorServer) -> None:
    async with anthropic_client(vendor) as client:
        said = await client.messages.create(model="m", max_tokens=9, messages=HI, system="be")
        assert said.content[0].type == "text"
        assert said.content[0].text == "answer to: hi there"
        assert (said.stop_reason, said.usage.input_tokens) == ("end_turn", 3)
        async with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
    assert texts == ["answer", " to:", " hi", " there"]
    assert final.content[0].type == "text"
    assert final.content[0].text == "answer to: hi there"
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 4)


async def test_thinking_comes_before_the_text(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="so", thinking="hm")
    async with (
        anthropic_client(vendor) as client,
        client.messages.stream(model="m", max_tokens=9, messages=HI) as stream,
    ):
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_use"),
        ("pause_turn", "pause_turn"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
    ],
)
async def test_every_stop_reason_is_told(vendor: VendorServer, finish: str, reason: str) -> None:
    vendor.answer = Answer(text="so far", finish=finish)
    async with anthropic_client(vendor) as client:
        said = await client.messages.create(model="m", max_tokens=9, messages=HI)
        async with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            final = await stream.get_final_message()
    assert said.stop_reason == final.stop_reason == reason


async def test_input_is_what_was_read_written_and_neither(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="x", input_tokens=10, cached_tokens=5, cache_write_tokens=3)
    async with anthropic_client(vendor) as client:
        usage = (await client.messages.create(model="m", max_tokens=9, messages=HI)).usage
    assert usage.input_tokens == 2
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 3)


async def test_tokens_are_counted(vendor: VendorServer) -> None:
    async with anthropic_client(vendor) as client:
        found = await client.messages.count_tokens(model="m", messages=HI, system="be brief")
    assert found.input_tokens == 4


async def test_an_error_may_come_after_http_200(vendor: VendorServer) -> None:
    vendor.answer = Answer(
        text="so far", finish="failed", error_code="overloaded_error", error="Overloaded"
    )
    async with anthropic_client(vendor) as client:
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            async with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
                await stream.get_final_message()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message"),
        ({"messages": HI * 2}, "roles must alternate"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": " "}]}, "non-whitespace"),
        ({"messages": [{"role": "system", "content": "x"}]}, "Input should be"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"model": None}, "model: Field required"),
        ({"temperature": 1.0}, "temperature"),
        ({"top_k": 1}, "top_k"),
        (
            {
                "system": [
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
                ]
                * 5
            },
            "maximum of 4",
        ),
    ],
)
async def test_a_request_that_is_not_right_is_refused(
    vendor: VendorServer, changed: dict[str, Any], said: str
) -> None:
    given = {"model": "m", "max_tokens": 9, "messages": HI} | changed
    body = {name: value for name, value in given.items() if value is not None}
    async with anthropic_client(vendor) as client:
        with pytest.raises(anthropic.BadRequestError, match=said):
            await client.post("/v1/messages", body=body, cast_to=anthropic.types.Message)


async def test_the_older_version_takes_a_temperature(vendor: VendorServer) -> None:
    async with anthropic_client(vendor, default_headers=OLD) as client:
        extra = {"temperature": 0.5}
        await client.messages.create(model="m", max_tokens=9, messages=HI, extra_body=extra)
    assert vendor.last.body["temperature"] == 0.5


async def test_neighbours_of_one_role_can_be_allowed(vendor: VendorServer) -> None:
    vendor.state.messages.roles_must_alternate = False
    async with anthropic_client(vendor) as client:
        await client.messages.create(model="m", max_tokens=9, messages=HI * 2)


class TestThreads:
    """Their helper sends what is new, and all of it anew when a thread is gone."""

    async def test_each_turn_sends_only_what_is_new(self, vendor: VendorServer) -> None:
        vendor.answer = lambda asked: " ".join(text for _, text in asked.messages)
        async with anthropic_client(vendor) as client:
            thread = client.beta.messages.thread(model="m", max_tokens=99, system="be")
            await thread.send(user("one"))
            said = await thread.send(user("two"))
        assert said.content[0].type == "text"
        assert said.content[0].text == "be one be one two"
        first, second = vendor.seen("/v1/messages")
        assert first.body["thread"] == {"type": "create"}
        assert second.body["thread"]["type"] == "continue"
        assert [each["content"] for each in second.body["messages"]] == ["two"]
        assert "system" not in second.body
        assert BETA in second.headers["anthropic-beta"]

    async def test_a_lost_thread_is_created_anew(self, vendor: VendorServer) -> None:
        async with anthropic_client(vendor) as client:
            thread = client.beta.messages.thread(model="m", max_tokens=99)
            await thread.send(user("one"))
            vendor.state.threads.pass_time(301)
            await thread.send(user("two"))
        last = vendor.last.body
        assert last["thread"] == {"type": "create"}
        assert len(last["messages"]) == 3

    async def test_a_thread_may_be_impossible(self, vendor: VendorServer) -> None:
        vendor.state.threads.unsupported = ("citations",)
        async with anthropic_client(vendor) as client:
            thread = client.beta.messages.thread(
                model="m", max_tokens=99, unsupported_request_behavior="continue_unthreaded"
            )
            await thread.send(user("one"))
        assert "thread" not in vendor.last.body

    async def test_a_reply_is_continued_once(self, vendor: VendorServer) -> None:
        async with anthropic_client(vendor) as client:
            create: Any = client.beta.messages.create
            given: Any = {"model": "m", "max_tokens": 99, "messages": HI, "betas": [BETA]}
            first = await create(**given, thread={"type": "create"})
            again: Any = {"type": "continue", "previous_message_id": first.id}
            await create(**given, thread=again)
            with pytest.raises(anthropic.BadRequestError, match="thread_already_continued"):
                await create(**given, thread=again)

    async def test_two_at_once_cannot_continue_it(self, vendor: VendorServer) -> None:
        async with anthropic_client(vendor) as client:
            create: Any = client.beta.messages.create
            given: Any = {"model": "m", "max_tokens": 99, "messages": HI, "betas": [BETA]}
            first = await create(**given, thread={"type": "create"})
            again: Any = {"type": "continue", "previous_message_id": first.id}
            gate = vendor.hold("/v1/messages", events=1)
            stream = await create(**given, thread=again, stream=True)
            await gate.reached()
            with pytest.raises(anthropic.BadRequestError, match="thread_continue_in_flight"):
                await create(**given, thread=again)
            gate.release()
            assert [event.type async for event in stream][-1] == "message_stop"

    async def test_without_the_beta_header_there_are_none(self, vendor: VendorServer) -> None:
        extra = {"thread": {"type": "create"}}
        async with anthropic_client(vendor) as client:
            with pytest.raises(anthropic.BadRequestError, match="thread: Extra inputs"):
                await client.messages.create(model="m", max_tokens=9, messages=HI, extra_body=extra)

    async def test_a_proxy_may_not_heed_the_field(self, vendor: VendorServer) -> None:
        vendor.state.threads.ignored = True
        async with anthropic_client(vendor) as client:
            thread = client.beta.messages.thread(model="m", max_tokens=99)
            await thread.send(user("one"))
            said = await thread.send(user("two"))
        assert said.usage.input_tokens == 1
