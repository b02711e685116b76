"""Chat Completions as OpenAI's client reads them, and the dialects of compatible servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from .answers import Answer
from .chat import Dialect
from .sdks import openai_client

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

    from .server import VendorServer

# Their iterator leaves generators behind when it sees [DONE]; trio says so.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


async def chunks(vendor: VendorServer, **options: Any) -> list[ChatCompletionChunk]:
    async with openai_client(vendor) as client:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hi there"}],
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
        return [chunk async for chunk in stream]


def text_of(found: list[ChatCompletionChunk]) -> str:
    return "".join(each.choices[0].delta.content or "" for each in found if each.choices)


async def test_an_answer_is_whole(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        said = await client.chat.completions.create(
            model="m",
            messages=[{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}],
        )
    assert said.choices[0].message.content == "answer to: hi"
    assert said.choices[0].finish_reason == "stop"
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (2, 3)


async def test_a_stream_ends_with_its_usage(vendor: VendorServer) -> None:
    found = await chunks(vendor)
    assert text_of(found) == "answer to: hi there"
    assert found[-2].choices[0].finish_reason == "stop"
    assert found[-1].choices == []
    assert found[-1].usage is not None
    assert vendor.last.body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "dialect",
    [
        Dialect(keepalives=True),
        Dialect(usage=False),
        Dialect(usage_always=True),
        Dialect(done=False),
        Dialect(ids=False),
        Dialect(role_first=False),
        Dialect(null_content=True, reasoning_field="reasoning_content"),
    ],
    ids=["keepalives", "no usage", "usage", "no done", "no ids", "no role", "null content"],
)
async def test_in_every_dialect_the_text_is_the_same(
    vendor: VendorServer, dialect: Dialect
) -> None:
    vendor.state.chat = dialect
    vendor.answer = Answer(text="the text", thinking="a thought")
    assert text_of(await chunks(vendor)) == "the text"


@pytest.mark.parametrize(("finish", "told"), [("length", "length"), ("refusal", "stop")])
async def test_the_finish_reason_is_told(vendor: VendorServer, finish: str, told: str) -> None:
    vendor.answer = Answer(text="so far", finish=finish)
    found = await chunks(vendor)
    assert found[-2].choices[0].finish_reason == told
    refused = "".join(each.choices[0].delta.refusal or "" for each in found[:-1])
    assert refused == ("so far" if finish == "refusal" else "")


async def test_an_error_may_come_in_a_stream_that_began_well(vendor: VendorServer) -> None:
    vendor.answer = Answer(text="so far", finish="failed", error="No more.")
    with pytest.raises(openai.APIError, match=r"No more\."):
        await chunks(vendor)
