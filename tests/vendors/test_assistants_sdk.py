"""Threads and runs as OpenAI's client knows them still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from .answers import Answer
from .sdks import openai_client

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from .server import VendorServer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    # Their iterator leaves generators behind when it sees [DONE]; trio says so.
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
]


def threads_of(client: AsyncOpenAI) -> Any:
    """Untyped: type checkers report every use of what is deprecated."""
    return client.beta.threads


async def thread_of(client: AsyncOpenAI, *texts: str) -> str:
    thread: Any = await threads_of(client).create(metadata={"a": "b"})
    for text in texts:
        await threads_of(client).messages.create(thread.id, role="user", content=text)
    thread_id: str = thread.id
    return thread_id


async def test_a_run_is_streamed(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi there")
        stream = await threads_of(client).runs.create(thread, assistant_id="asst_1", stream=True)
        events = [event async for event in stream]
        said = await threads_of(client).messages.list(thread)
    kinds = [event.event for event in events]
    assert kinds[:3] == ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
    assert kinds[-1] == "thread.run.completed"
    assert kinds.count("thread.message.delta") == 4
    last = events[-1]
    assert last.event == "thread.run.completed"
    assert last.data.usage is not None
    assert last.data.usage.total_tokens == 6
    content = said.data[0].content[0]
    assert content.type == "text"
    assert content.text.value == "answer to: hi there"


async def test_a_run_without_a_stream_is_asked_for(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi")
        run = await threads_of(client).runs.create(thread, assistant_id="asst_1")
        assert run.status == "queued"
        done = await threads_of(client).runs.retrieve(run.id, thread_id=thread)
        assert done.status == "completed"


async def test_a_run_that_is_left_stays_in_the_way_until_it_is_cancelled(
    vendor: VendorServer,
) -> None:
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi")
        gate = vendor.hold(f"/v1/threads/{thread}/runs", events=3)
        stream = await threads_of(client).runs.create(thread, assistant_id="asst_1", stream=True)
        await gate.reached()
        await stream.close()
        await vendor.until(lambda: vendor.aborted == 1)
        with pytest.raises(openai.BadRequestError, match="already has an active run"):
            await threads_of(client).messages.create(thread, role="user", content="more")
        run = vendor.state.assistants.by_id[thread].active_run
        assert run is not None
        await threads_of(client).runs.cancel(run["id"], thread_id=thread)
        await threads_of(client).messages.create(thread, role="user", content="more")


async def test_a_run_that_is_cancelled_says_so(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi")
        gate = vendor.hold(f"/v1/threads/{thread}/runs", events=8)
        stream = await threads_of(client).runs.create(thread, assistant_id="asst_1", stream=True)
        await gate.reached()
        run = vendor.state.assistants.by_id[thread].active_run
        assert run is not None
        await threads_of(client).runs.cancel(run["id"], thread_id=thread)
        gate.release()
        kinds = [event.event async for event in stream]
    assert len(kinds) == 9
    assert kinds[-1] == "thread.run.cancelled"


@pytest.mark.parametrize(
    ("finish", "told"),
    [("failed", "thread.run.failed"), ("length", "thread.run.incomplete")],
)
async def test_a_run_may_not_complete(vendor: VendorServer, finish: str, told: str) -> None:
    vendor.answer = Answer(text="so far", finish=finish)
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi")
        stream = await threads_of(client).runs.create(thread, assistant_id="asst_1", stream=True)
        kinds = [event.event async for event in stream]
    assert kinds[-1] == told


async def test_a_thread_is_read_changed_and_deleted(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        thread = await thread_of(client)
        assert (await threads_of(client).retrieve(thread)).metadata == {"a": "b"}
        await threads_of(client).update(thread, metadata={"c": "d"})
        assert (await threads_of(client).retrieve(thread)).metadata == {"c": "d"}
        assert (await threads_of(client).delete(thread)).deleted
        with pytest.raises(openai.NotFoundError):
            await threads_of(client).retrieve(thread)


async def test_since_the_shut_down_nothing_is_there(vendor: VendorServer) -> None:
    vendor.state.assistants.shut_down = True
    async with openai_client(vendor) as client:
        with pytest.raises(openai.NotFoundError):
            await threads_of(client).create()


async def test_an_unknown_assistant_is_told(vendor: VendorServer) -> None:
    vendor.state.assistants.unknown.add("asst_x")
    async with openai_client(vendor) as client:
        thread = await thread_of(client, "hi")
        with pytest.raises(openai.NotFoundError, match="asst_x"):
            await threads_of(client).runs.create(thread, assistant_id="asst_x")


async def test_without_the_beta_header_it_is_refused(vendor: VendorServer) -> None:
    async with openai_client(vendor) as client:
        with pytest.raises(openai.BadRequestError, match="OpenAI-Beta"):
            await threads_of(client).create(extra_headers={"OpenAI-Beta": "assistants=v1"})
