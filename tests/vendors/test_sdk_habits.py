"""What the vendors' own clients do when things go wrong: what ours is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from . import faults
from .sdks import anthropic_client, openai_client

if TYPE_CHECKING:
    from .faults import Fault
    from .server import VendorServer

# Their iterators leave generators behind when a stream ends early; trio says so.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
HI: Any = [{"role": "user", "content": "hi there"}]
NOW = {"retry_after_ms": "1"}
LOCKED = {"error": {"message": "busy", "type": "x", "param": None, "code": "conversation_locked"}}


async def asked(vendor: VendorServer, name: str) -> int:
    """How many requests a call makes; what it raises is left at that."""
    before = len(vendor.requests)
    try:
        if name == "openai":
            async with openai_client(vendor, max_retries=2) as client:
                await client.responses.create(model="m", input="x")
        else:
            async with anthropic_client(vendor, max_retries=2) as other:
                await other.messages.create(model="m", max_tokens=9, messages=HI)
    except (openai.OpenAIError, anthropic.AnthropicError):
        pass
    return len(vendor.requests) - before


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_two_retries_of_these_statuses(vendor: VendorServer, name: str, status: int) -> None:
    vendor.script(*faults.storm(status, 9, **NOW))
    assert await asked(vendor, name) == 3
    counts = [seen.headers["x-stainless-retry-count"] for seen in vendor.requests]
    assert counts == ["0", "1", "2"]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (faults.status(400, headers={"retry-after-ms": "1"}), 1),
        (faults.status(400, headers={"retry-after-ms": "1", "x-should-retry": "true"}), 3),
        (faults.status(503, headers={"retry-after-ms": "1", "x-should-retry": "false"}), 1),
        (faults.status(400, LOCKED), 1),
    ],
    ids=["invalid", "told to", "told not to", "locked"],
)
async def test_the_server_s_word_goes_first(
    vendor: VendorServer, name: str, fault: Fault, requests: int
) -> None:
    vendor.script(*[fault] * 9)
    assert await asked(vendor, name) == requests


async def test_openai_s_waits_two_minutes_at_most(vendor: VendorServer) -> None:
    vendor.script(faults.status(429, headers={"retry-after": "121"}))
    assert await asked(vendor, "openai") == 1


async def test_redirects_are_followed(vendor: VendorServer) -> None:
    vendor.script(faults.redirect(f"{vendor.url}/v1/elsewhere"), path="/v1/responses")
    assert await asked(vendor, "openai") == 2
    assert vendor.last.key is not None


async def test_a_stream_that_was_cut_looks_like_an_answer(vendor: VendorServer) -> None:
    vendor.script(faults.truncate(events=6))
    async with openai_client(vendor) as client:
        responses = await client.responses.create(model="m", input="a b c", stream=True)
        assert [event.type async for event in responses][-1] == "response.output_text.delta"
        vendor.script(faults.truncate(events=3))
        chat = await client.chat.completions.create(model="m", messages=HI, stream=True)
        assert [chunk.choices[0].finish_reason async for chunk in chat] == [None] * 3
    vendor.script(faults.truncate(events=5))
    async with (
        anthropic_client(vendor) as other,
        other.messages.stream(model="m", max_tokens=9, messages=HI) as stream,
    ):
        final = await stream.get_final_message()
    assert final.stop_reason is None
    assert final.content[0].type == "text"
    assert final.content[0].text == "answer to:"


async def test_what_is_malformed_raises_no_error_of_theirs(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        for fault in (faults.malformed_chunk(), faults.bad_utf8()):
            vendor.script(fault)
            stream = await client.responses.create(model="m", input="x", stream=True)
            with pytest.raises(ValueError, match=r"Expecting value|invalid start byte"):
                [event async for event in stream]
        vendor.script(faults.html())
        said: object = await client.responses.create(model="m", input="x")
        assert isinstance(said, str)


async def test_nothing_is_repeated_once_a_stream_has_begun(vendor: VendorServer) -> None:
    vendor.script(faults.drop(events=5))
    async with openai_client(vendor, max_retries=2) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        with pytest.raises(openai.APIConnectionError):
            [event async for event in stream]
    assert len(vendor.requests) == 1
