"""The example applications over HTTP: answers, streams, errors by class."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.providers import fault

from .client import COMMENT, text_of

if TYPE_CHECKING:
    import httpx

    from .client import Client
    from .processes import Servers

USERS = 500


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["type"]


async def test_a_message_is_answered_and_both_are_in_the_history(servers: Servers) -> None:
    async with servers.start().client() as client:
        session = await client.create()
        answer = await client.answer(session, "Hello")
        assert (answer["role"], answer["content"]) == ("assistant", "Mock response to: Hello")
        assert await client.messages(session) == [
            ("user", "Hello", None),
            ("assistant", "Mock response to: Hello", "stop"),
        ]


async def test_a_turn_is_streamed_and_told_again_after_its_end(servers: Servers) -> None:
    async with servers.start(MOCK_CHUNK_DELAY_MS=5, MOCK_CHUNK_SIZE=4).client() as client:
        session = await client.create()
        turn_id = await client.begin(session, "Hello")
        live = await client.events(session)
        assert [live[0].type, live[-2].type, live[-1].type] == ["started", "usage", "completed"]
        assert text_of(live) == live[-1].data["message"]["content"] == "Mock response to: Hello"
        assert {event.data["turn_id"] for event in live} == {turn_id}
        await client.answer(session, "And then?")
        async with client.follow(session, turn_id=turn_id) as again:
            assert text_of([event async for event in again]) == text_of(live)
        over = await client.get(f"{session}/stream", headers={"Last-Event-ID": live[-1].cursor})
        assert over.status_code == 204, "an EventSource stops connecting again"


async def test_a_request_that_is_sent_again_with_its_key_is_the_same_turn(
    servers: Servers,
) -> None:
    """G7: also with Prefer: respond-async, and for another process."""
    key = {"Idempotency-Key": "k"}
    server = servers.start()
    async with server.client() as client:
        session = await client.create()
        first = await client.ask(session, "Hello", **key)
        assert (await client.ask(session, "Hello", **key)).json() == first.json()
        server.terminate()
        server.wait()
    async with servers.start().client() as client:
        later = await client.ask(session, "Hello", Prefer="respond-async", **key)
        assert (later.status_code, later.json()) == (202, {"turn_id": first.json()["turn_id"]})
        other = await client.ask(session, "Good bye", **key)
        assert refusal(other) == (422, "IdempotencyConflictError")
        assert len(await client.messages(session)) == 2


async def test_silence_is_filled_with_comments_and_no_event_is_lost(servers: Servers) -> None:
    """Each comment is a wait for the next event that was given up."""
    question = "".join(f"{number} " for number in range(60))
    comments = 0
    for silence_ms in (50, 2_000):  # on a slow machine a short one leaves no time for many
        server = servers.start(
            KEEP_ALIVE_SECONDS=0.002,
            MOCK_CHUNK_DELAY_MS=5,
            MOCK_CHUNK_SIZE=1,
            MOCK_RESPONSE_DELAY_MS=silence_ms,
        )
        async with server.client() as client:
            session = await client.create()
            await client.begin(session, question)
            events = await client.events(session)
            assert text_of(events) == f"Mock response to: {question}"
        comments = [event.type for event in events].count(COMMENT)
        if comments > 50:
            break
        server.kill()
    assert comments > 50


async def test_errors_are_told_apart_by_their_class(servers: Servers) -> None:
    storage = {"db_path": str(servers.path)}
    async with create_session_manager("sqlite", storage_config=storage) as manager:
        for name in ("archived", "refused"):
            script = {"script": [fault("rate_limit", "no more today", retry_after_seconds=7)]}
            await manager.create_session(
                "anonymous", "mock", "m", session_id=name, provider_config=script
            )
        await (await manager.get_session("archived")).archive()
    async with servers.start().client() as client:
        session = await client.create()
        assert refusal(await client.ask("/sessions/none", "x")) == (404, "SessionNotFoundError")
        foreign = await client.ask(session, "x", **{"X-User": "eve"})
        assert refusal(foreign) == (404, "SessionNotFoundError")
        assert refusal(await client.get(f"{session}/stream")) == (404, "TurnNotFoundError")
        assert refusal(await client.ask(session, "")) == (422, "InvalidMessageError")
        assert (await client.post(f"{session}/messages", json={"text": "x"})).status_code == 422
        cursor = await client.get(f"{session}/stream", headers={"Last-Event-ID": "soon"})
        assert refusal(cursor) == (422, "ConfigurationError")
        archived = await client.ask("/sessions/archived", "x")
        assert refusal(archived) == (409, "SessionArchivedError")
        failed = await client.ask("/sessions/refused", "x")
        assert refusal(failed) == (502, "ProviderError")
        assert failed.json()["error"] == {
            "type": "ProviderError",
            "code": "rate_limit",
            "message": "Bad Gateway",
            "retryable": True,
            "retry_after_seconds": 7,
        }
        assert await client.messages(session) == []


async def test_a_full_disk_is_503_and_the_history_stays_readable(servers: Servers) -> None:
    async with servers.start(file_bytes_max=1_000_000).client() as client:
        session = await client.create()
        await client.answer(session, "small")
        refused = await client.ask(session, "x" * 2_000_000)
        assert refusal(refused) == (503, "StorageError")
        assert int(refused.headers["Retry-After"]) >= 1
        assert str(servers.path) not in refused.text
        assert [content for _, content, _ in await client.messages(session)] == [
            "small",
            "Mock response to: small",
        ]


async def test_a_full_mailbox_is_429_with_retry_after(servers: Servers) -> None:
    server = servers.start(SESSIONS_MAILBOX_SIZE=1, MOCK_RESPONSE_DELAY_MS=600_000)
    async with server.client() as client:
        session = await client.create()
        await client.begin(session, "runs")
        answers: list[httpx.Response] = []
        three_refused = anyio.Event()

        async def send(content: str) -> None:
            answers.append(await client.ask(session, content))
            if len(answers) == 3:
                three_refused.set()

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(send, f"{number}")
            await three_refused.wait()
            assert [refusal(each) for each in answers] == [(429, "MailboxFullError")] * 3
            assert all(int(each.headers["Retry-After"]) >= 1 for each in answers)
            group.cancel_scope.cancel()
        assert (await client.post(f"{session}/stop")).json() == {"stopped": True}


async def test_no_live_place_is_429_with_retry_after(servers: Servers) -> None:
    server = servers.start(
        SESSIONS_MAX_LIVE_SESSIONS=1,
        SESSIONS_QUEUE_TIMEOUT_SECONDS=0.1,
        MOCK_RESPONSE_DELAY_MS=600_000,
    )
    async with server.client() as client:
        session, other = await client.create(), await client.create()
        await client.begin(session, "runs")
        refused = await client.ask(other, "x")
        assert refusal(refused) == (429, "CapacityError")
        assert int(refused.headers["Retry-After"]) >= 1
        await client.post(f"{session}/stop")
        await client.begin(other, "x")
        await client.post(f"{other}/stop")


@pytest.mark.timeout(120)
async def test_500_users_at_once_are_all_answered(servers: Servers) -> None:
    """Each gets the answer to his own question, in a session that holds nothing else."""
    right: list[bool] = []
    server = servers.start(MOCK_RESPONSE_DELAY_MS=50)

    async def use(client: Client, number: int) -> None:
        session = await client.create()
        question, expected = f"user {number}", f"Mock response to: user {number}"
        answer = await client.answer(session, question)
        history = await client.messages(session)
        right.append(
            answer["content"] == expected
            and history == [("user", question, None), ("assistant", expected, "stop")]
        )

    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        for first in range(0, USERS, 25):  # a client gets slow with many connections
            client = await stack.enter_async_context(server.client())
            for number in range(first, first + 25):
                group.start_soon(use, client, number)
    assert right == [True] * USERS
