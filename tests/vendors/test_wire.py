"""Every body that the server sends is what the vendors' own types describe, strictly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
from openai.types.beta import AssistantStreamEvent, Thread, ThreadDeleted
from openai.types.beta.threads import Message as ThreadMessage
from openai.types.beta.threads import Run
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    ConversationItemList,
)
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from .answers import Answer
from .chat import Dialect
from .gates import PATIENCE_SECONDS
from .values import Json, is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import VendorServer

# What the vendors send and their types leave out.
UNTYPED = {"store"}

ANSWERS = {
    "plain": Answer(text="two words"),
    "empty": Answer(text=""),
    "thought": Answer(text="so", thinking="hm hm", cached_tokens=1),
    "length": Answer(text="so far", finish="length"),
    "filtered": Answer(text="so far", finish="content_filter"),
    "refusal": Answer(text="no", finish="refusal"),
    "failed": Answer(text="so far", finish="failed"),
    "error": Answer(text="so far", finish="error"),
}
OLD = {"anthropic-version": "2023-06-01"}
BETA = {"openai-beta": "assistants=v2"}


def assert_valid(kind: Any, data: object) -> None:
    """`data` is a `kind`: nothing is missing, wrong or dropped, and what is more is known."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    model = adapter.validate_json(json.dumps(data), strict=True)
    again = adapter.dump_python(model, mode="json", by_alias=True, exclude_unset=True)
    assert again == data
    assert set(unknown_fields(model)) <= UNTYPED


def unknown_fields(value: object) -> Iterator[str]:
    """Names that no type knows, wherever they are."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name))
    elif is_array(value):
        for each in value:
            yield from unknown_fields(each)
    elif is_object(value):
        for each in value.values():
            yield from unknown_fields(each)


def test_the_check_sees_what_is_missing_wrong_or_more() -> None:
    good: Json = {"id": "c", "object": "conversation", "created_at": 1, "metadata": {}}
    assert_valid(Conversation, good)
    wrong: list[Json] = [{**good, "created_at": "1"}, {**good, "more": 1}, {"id": "c"}]
    for bad in wrong:
        with pytest.raises((ValueError, AssertionError)):
            assert_valid(Conversation, bad)


@pytest.fixture
def client(vendor: VendorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=vendor.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(params=ANSWERS)
def answer(request: pytest.FixtureRequest, vendor: VendorServer) -> Answer:
    vendor.answer = ANSWERS[request.param]
    return vendor.answer


def events(response: httpx.Response) -> list[tuple[str | None, Any]]:
    """(name, data) of each event."""
    found: list[tuple[str | None, Any]] = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if fields:
            data = fields["data"]
            found.append((fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


def post(client: httpx.Client, path: str, body: Json | None = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.post(path, json=body or {}, headers=named)
    assert response.status_code == 200, response.text
    return response.json()


def test_conversations(client: httpx.Client) -> None:
    items = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    made = post(client, "/v1/conversations", {"metadata": {"a": "b"}, "items": items})
    assert_valid(Conversation, made)
    path = f"/v1/conversations/{made['id']}"
    assert_valid(Conversation, client.get(path).json())
    assert_valid(ConversationItemList, post(client, f"{path}/items", {"items": items}))
    listed = client.get(f"{path}/items").json()
    assert_valid(ConversationItemList, listed)
    item = f"{path}/items/{listed['first_id']}"
    assert_valid(ConversationItem, client.get(item).json())
    assert_valid(Conversation, client.delete(item).json())
    assert_valid(ConversationDeletedResource, client.delete(path).json())


def test_an_empty_list(client: httpx.Client) -> None:
    made = post(client, "/v1/conversations")
    assert_valid(ConversationItemList, client.get(f"/v1/conversations/{made['id']}/items").json())


def test_responses(client: httpx.Client, answer: Answer) -> None:
    made = post(client, "/v1/conversations")
    body = {"model": "m", "input": "x", "conversation": made["id"], "metadata": {"a": "b"}}
    said = post(client, "/v1/responses", body)
    assert_valid(Response, said)
    path = f"/v1/responses/{said['id']}"
    assert_valid(Response, client.get(path).json())
    for item in client.get(f"{path}/input_items").json()["data"]:
        assert_valid(ResponseItem, item)
    listed = client.get(f"/v1/conversations/{made['id']}/items").json()
    assert_valid(ConversationItemList, listed)


def test_streams_of_responses(client: httpx.Client, answer: Answer) -> None:
    body = {"model": "m", "input": "x", "stream": True}
    response = client.post("/v1/responses", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    for number, (name, data) in enumerate(found):
        assert_valid(ResponseStreamEvent, data)
        assert (name, number) == (data["type"], data["sequence_number"])
    end = {
        "length": "response.incomplete",
        "content_filter": "response.incomplete",
        "failed": "response.failed",
        "error": "error",
    }
    assert found[-1][0] == end.get(answer.finish, "response.completed")


def test_chat_completions(client: httpx.Client, answer: Answer) -> None:
    body: Json = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    response = client.post("/v1/chat/completions", json=body)
    if answer.fails:
        assert response.status_code == 500
    else:
        assert_valid(ChatCompletion, response.json())
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    found = events(client.post("/v1/chat/completions", json=body | stream))
    if answer.fails:
        assert "error" in found.pop()[1]
    else:
        assert found.pop() == (None, "[DONE]")
    for name, data in found:
        assert name is None
        assert_valid(ChatCompletionChunk, data)


def test_dialects_are_still_chat_completions(vendor: VendorServer, client: httpx.Client) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    vendor.state.chat = Dialect(ids=False, done=False, null_content=True, usage_always=True)
    for _, data in events(client.post("/v1/chat/completions", json=body)):
        assert_valid(ChatCompletionChunk, data)


def test_messages(client: httpx.Client, answer: Answer) -> None:
    body: Json = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    response = client.post("/v1/messages", json=body, headers=OLD)
    if answer.fails:
        assert response.status_code == 500
        assert_valid(ErrorResponse, response.json())
    else:
        assert_valid(Message, response.json())
    found = events(client.post("/v1/messages", json={**body, "stream": True}, headers=OLD))
    assert found[-1][0] == ("error" if answer.fails else "message_stop")
    for name, data in found:
        assert name == data["type"]
        if name not in {"ping", "error"}:
            assert_valid(RawMessageStreamEvent, data)
    counted = post(client, "/v1/messages/count_tokens", body, **OLD)
    assert_valid(MessageTokensCount, counted)


def test_threads_and_runs(client: httpx.Client, answer: Answer) -> None:
    thread = post(client, "/v1/threads", {"metadata": {"a": "b"}}, **BETA)
    assert_valid(Thread, thread)
    path = f"/v1/threads/{thread['id']}"
    asked = {"role": "user", "content": "x"}
    assert_valid(ThreadMessage, post(client, f"{path}/messages", asked, **BETA))
    body = {"assistant_id": "asst_1", "stream": True}
    found = events(client.post(f"{path}/runs", json=body, headers=BETA))
    assert found.pop() == ("done", "[DONE]")
    for name, data in found:
        assert_valid(AssistantStreamEvent, {"event": name, "data": data})
    for message in client.get(f"{path}/messages", headers=BETA).json()["data"]:
        assert_valid(ThreadMessage, message)
    run = post(client, f"{path}/runs", {"assistant_id": "asst_1"}, **BETA)
    assert_valid(Run, run)
    assert_valid(Run, post(client, f"{path}/runs/{run['id']}/cancel", {}, **BETA))
    assert_valid(ThreadDeleted, client.delete(path, headers=BETA).json())
