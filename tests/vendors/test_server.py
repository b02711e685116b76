"""The server says what it saw, can be held, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from . import faults, limits
from .gates import PATIENCE_SECONDS, Gate
from .http1 import HttpRequest, RequestParser
from .process import vendor_process
from .sdks import KEY, anthropic_request_of, openai_client, openai_request_of, sent
from .server import vendor_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import VendorServer

BODY = {"model": "m", "input": "hi there"}
STREAM = {**BODY, "stream": True}
PATH = "/v1/responses"


def a_client(vendor: VendorServer) -> httpx.Client:
    return httpx.Client(base_url=vendor.url, trust_env=False, timeout=PATIENCE_SECONDS)


def an_async_client(vendor: VendorServer, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=vendor.url, trust_env=False, timeout=PATIENCE_SECONDS, **options
    )


def test_it_says_what_it_saw(vendor: VendorServer) -> None:
    with a_client(vendor) as client:
        headers = {"Authorization": "Bearer k1", "X-Thing": "Yes"}
        client.post(f"{PATH}?a=1&include[]=x", json=BODY, headers=headers)
        client.get("/v1/unknown", headers={"x-api-key": "k2"})
    first, second = vendor.requests
    assert (first.method, first.path, first.body) == ("POST", PATH, BODY)
    assert first.query == {"a": "1", "include[]": "x"}
    assert (first.headers["x-thing"], first.key, second.key) == ("Yes", "k1", "k2")
    assert (first.outcome, first.status, second.status) == ("answered", 200, 404)
    assert first.connection == second.connection == 1
    assert vendor.seen("/v1/resp") == [first]


def test_idle_connections_can_be_dropped(vendor: VendorServer) -> None:
    with a_client(vendor) as client:
        client.post(PATH, json=BODY)
        vendor.drop_idle()
        vendor.wait_until(lambda: vendor.open_connections == 0)
        assert client.post(PATH, json=BODY).status_code == 200
    assert (vendor.connections, vendor.aborted) == (2, 0)


def test_requests_are_read_however_they_are_cut() -> None:
    first = b"POST /a?x=1 HTTP/1.1\r\nA: 1\r\na: 2\r\ncontent-length: 4\r\n\r\n\r\n\r\n"
    data = first + b"GET /b HTTP/1.1\r\n\r\n"
    for cut in range(len(data) + 1):
        parser = RequestParser()
        found: list[HttpRequest] = []
        for part in (data[:cut], data[cut:]):
            parser.feed(part)
            while (request := parser.next()) is not None:
                found.append(request)
        assert [(each.path, each.content) for each in found] == [("/a", b"\r\n\r\n"), ("/b", b"")]
        assert found[0].headers["a"] == "1, 2"
        assert found[0].query == {"x": "1"}


def test_it_counts_connections(vendor: VendorServer) -> None:
    with a_client(vendor) as client:
        client.post(PATH, json=BODY)
        assert vendor.open_connections == 1
    vendor.wait_until(lambda: vendor.open_connections == 0)
    assert (vendor.connections, vendor.aborted) == (1, 0)


async def test_a_request_can_be_held_before_its_answer(vendor: VendorServer) -> None:
    gate = vendor.hold(PATH)
    answers: list[int] = []
    async with (
        an_async_client(vendor) as client,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append((await client.post(PATH, json=BODY)).status_code)

        tasks.start_soon(ask)
        await gate.reached()
        assert (vendor.last.outcome, answers) == ("open", [])
        gate.release()
    assert answers == [200]


async def test_a_client_that_goes_is_noticed(vendor: VendorServer) -> None:
    gate = vendor.hold(PATH, events=3)
    async with an_async_client(vendor) as client:
        async with client.stream("POST", PATH, json=STREAM):
            await gate.reached()
        await vendor.until(lambda: vendor.aborted == 1)
    assert vendor.last.outcome == "aborted"
    assert vendor.last.events == 3


@pytest.mark.parametrize("finishes", [False, True])
def test_a_turn_may_go_on_without_its_client(vendor: VendorServer, *, finishes: bool) -> None:
    vendor.finishes_aborted = finishes
    with a_client(vendor) as client:
        made = client.post("/v1/conversations").json()["id"]
        gate = vendor.hold(PATH, events=3)
        with client.stream("POST", PATH, json={**STREAM, "conversation": made}):
            gate.wait()
        vendor.wait_until(lambda: vendor.aborted == 1)
    conversation = vendor.state.conversations.by_id[made]
    assert len(conversation.items) == (2 if finishes else 0)
    assert not conversation.busy


def test_waiting_is_bounded(vendor: VendorServer) -> None:
    with pytest.raises(TimeoutError, match="0 requests"):
        vendor.wait_for(1, seconds=0.01)
    with pytest.raises(TimeoutError, match="0 of 1"):
        vendor.hold().wait(seconds=0.01)


def test_it_ends_with_open_connections_and_held_requests() -> None:
    before = set(threading.enumerate())
    with vendor_server() as server:
        server.hold(PATH)
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as line:
            line.sendall(b"POST /v1/responses HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            server.wait_for(1)
            server.__exit__(None, None, None)
    assert set(threading.enumerate()) <= before  # one of a test before may just have ended


def test_what_fails_inside_is_told() -> None:
    def fail(asked: object) -> str:
        raise ZeroDivisionError

    server = vendor_server()
    server.answer = fail
    server.__enter__()
    with a_client(server) as client, pytest.raises(httpx.TransportError):
        client.post(PATH, json=BODY)
    with pytest.raises(RuntimeError, match="itself failed") as told:
        server.__exit__(None, None, None)
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_what_is_no_request_is_told() -> None:
    server = vendor_server().__enter__()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address) as line:
        line.sendall(b"nonsense\r\n\r\n")
        server.wait_until(lambda: server.connections == 1 and server.open_connections == 0)
    with pytest.raises(RuntimeError, match="itself failed"):
        server.__exit__(None, None, None)


async def test_a_hundred_at_once(vendor: VendorServer) -> None:
    answers: list[str] = []
    async with (
        an_async_client(vendor, limits=httpx.Limits(max_connections=None)) as client,
        anyio.create_task_group() as tasks,
    ):
        gate = vendor.hold(PATH)

        async def ask(number: int) -> None:
            response = await client.post(PATH, json={"model": "m", "input": f"{number}"})
            answers.append(response.json()["output"][0]["content"][0]["text"])

        for number in range(100):
            tasks.start_soon(ask, number)
        await vendor.until(lambda: len(vendor.requests) == 100)
        gate.release()
    assert sorted(answers) == sorted(f"answer to: {number}" for number in range(100))


async def test_a_storm_of_cancellations_leaves_nothing_open(vendor: VendorServer) -> None:
    rng = random.Random(7)
    gate = Gate()
    vendor.script(*[faults.hold(gate, events=rng.choice([0, 1, 5])) for _ in range(60)], path=PATH)
    async with (
        an_async_client(vendor) as client,
        anyio.create_task_group() as tasks,
    ):
        made = [(await client.post("/v1/conversations")).json()["id"] for _ in range(60)]
        for conversation in made:
            body = {**STREAM, "conversation": conversation}
            tasks.start_soon(partial(client.post, PATH, json=body))
        await gate.reached(60)
        tasks.cancel_scope.cancel()
    await vendor.until(lambda: vendor.open_connections == 0)
    assert vendor.aborted == 60
    found = vendor.state.conversations.by_id.values()
    assert not any(each.busy or each.items for each in found)


async def test_stop_texts_end_an_answer(vendor: VendorServer) -> None:
    vendor.answer = "one two three"
    with a_client(vendor) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        chat = client.post("/v1/chat/completions", json={**body, "stop": " two"}).json()
        stops = {"max_tokens": 9, "stop_sequences": [" three", " two"]}
        headers = {"anthropic-version": "2023-06-01"}
        message = client.post("/v1/messages", json={**body, **stops}, headers=headers).json()
    assert chat["choices"][0]["message"]["content"] == "one"
    assert message["content"][0]["text"] == "one"
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", " two")


def test_limits_are_told(vendor: VendorServer) -> None:
    vendor.headers = limits.openai_limits(requests_left=0, requests_reset="1s")
    vendor.headers |= limits.anthropic_limits(tokens_left=7)
    with a_client(vendor) as client:
        headers = client.post(PATH, json=BODY).headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["anthropic-ratelimit-tokens-remaining"] == "7"


def test_it_can_be_a_process_of_its_own() -> None:
    with vendor_process(deltas=3, delta_bytes=10) as url:
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
            found = client.post(PATH, json=BODY).json()
        assert found["output"][0]["content"][0]["text"] == " xxxxxxxxx" * 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


CALLS: dict[str, Callable[[Any], Any]] = {
    "conversations": lambda client: client.conversations.create(metadata={"a": "b"}),
    "responses": lambda client: client.responses.create(model="m", input="x", stream=True),
    "chat": lambda client: client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    ),
    "threads": lambda client: client.beta.threads.create(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_what_openai_s_client_sends_is_known(vendor: VendorServer, name: str) -> None:
    theirs = await openai_request_of(vendor, CALLS[name])
    assert theirs.headers["authorization"] == f"Bearer {KEY}"
    assert theirs.headers["accept"] == theirs.headers["content-type"] == "application/json"
    assert ("openai-beta" in theirs.headers) == (name == "threads")
    async with openai_client(vendor, organization="o", project="p") as client:
        await client.conversations.create()
    headers = sent(vendor.last).headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("o", "p")


async def test_what_anthropic_s_client_sends_is_known(vendor: VendorServer) -> None:
    theirs = await anthropic_request_of(
        vendor,
        lambda client: client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        ),
    )
    assert (theirs.method, theirs.path, theirs.query) == ("POST", "/v1/messages", {})
    assert theirs.headers == {
        "accept": "application/json",
        "anthropic-version": "2026-10-21",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
    }


def test_the_server_alone_loads_no_client() -> None:
    code = "import sys, vendors; print(sorted({'openai', 'anthropic', 'httpx'} & set(sys.modules)))"
    folder = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, check=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
