"""SIGTERM, SIGKILL, and a second process on the same file (G3, G4, G5, G13)."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from .client import text_of

if TYPE_CHECKING:
    from pathlib import Path

    from .processes import Servers

QUESTION = "".join(f"{number} " for number in range(30))
ANSWER = f"Mock response to: {QUESTION}"
TURN = [("user", QUESTION, None), ("assistant", ANSWER, "stop")]
SLOW = {"MOCK_CHUNK_SIZE": 2, "MOCK_CHUNK_DELAY_MS": 20}


def stored_of_open_turn(path: Path) -> str:
    """The text so far that a kill would leave."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        query = "SELECT coalesce(max(partial_text), '') FROM turns WHERE state = 'open'"
        text: str = connection.execute(query).fetchone()[0]
        return text


async def test_sigterm_lets_a_followed_turn_finish(servers: Servers) -> None:
    server = servers.start(**SLOW)
    async with server.client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
        async with client.follow(session) as events:
            first = [await anext(events), await anext(events)]
            server.terminate()
            rest = [event async for event in events]
        assert rest[-1].type == "completed"
        assert text_of(first + rest) == ANSWER
    assert server.wait() == servers.app.exit_code


async def test_sigterm_lets_a_turn_finish_that_nobody_follows(servers: Servers) -> None:
    """The next process goes on with the history."""
    server = servers.start(**SLOW)
    async with server.client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
    server.terminate()
    assert server.wait() == servers.app.exit_code
    async with servers.start().client() as client:
        assert await client.messages(session) == TURN
        assert text_of(await client.events(session)) == ANSWER
        await client.answer(session, "And then?")
        assert len(await client.messages(session)) == 4


async def test_sigterm_interrupts_what_does_not_finish_and_keeps_its_text(servers: Servers) -> None:
    server = servers.start(SESSIONS_DRAIN_SECONDS=0.1, MOCK_CHUNK_SIZE=1, MOCK_CHUNK_DELAY_MS=300)
    async with server.client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
        async with client.follow(session) as events:
            await anext(events)
            cursor = (await anext(events)).cursor
    server.terminate()
    assert server.wait() == servers.app.exit_code
    async with servers.start().client() as client:
        question, (role, partial, reason) = await client.messages(session)
        assert question == ("user", QUESTION, None)
        assert (role, reason) == ("assistant", "interrupted")
        assert ANSWER.startswith(partial)
        rest = await client.events(session, after=cursor)
        assert rest[-1].type == "interrupted"
        assert ANSWER[0] + text_of(rest) == partial


async def test_sigterm_cuts_the_stream_of_a_turn_that_does_not_end(servers: Servers) -> None:
    """After the server's grace; the turn then has its own time to drain."""
    server = servers.start(
        grace_seconds=1, SESSIONS_DRAIN_SECONDS=0.1, MOCK_CHUNK_SIZE=1, MOCK_CHUNK_DELAY_MS=300
    )
    async with server.client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
        async with client.follow(session) as events:
            seen = [await anext(events), await anext(events)]
            server.terminate()
            with suppress(httpx.RemoteProtocolError):
                async for event in events:
                    seen.append(event)  # noqa: PERF401 - the line breaks in the middle
        assert seen[-1].type == "text_delta"
    server.expects_clean_log = False  # uvicorn shows where it cut
    assert server.wait() == servers.app.exit_code
    async with servers.start().client() as client:
        rest = await client.events(session, after=seen[-1].cursor)
        assert rest[-1].type == "interrupted"
        assert text_of(seen + rest) == rest[-1].data["message"]["content"]


async def test_sigkill_leaves_an_interrupted_turn_with_what_was_stored_of_it(
    servers: Servers,
) -> None:
    """A follower goes on where it was, or is told the end: what it saw is a prefix or more."""
    server = servers.start(
        SESSIONS_CHECKPOINT_SECONDS=0.05, MOCK_CHUNK_SIZE=1, MOCK_CHUNK_DELAY_MS=50
    )
    async with server.client() as client:
        session = await client.create()
        await client.answer(session, "First")
        await client.begin(session, QUESTION)
        with anyio.fail_after(60):
            async with client.follow(session) as events:
                event = await anext(events)
                text = ""
                while len(stored_of_open_turn(servers.path)) < 5 or len(text) < 5:
                    event = await anext(events)
                    text += event.data.get("text", "")
                server.kill()
                with pytest.raises(httpx.TransportError):
                    [each async for each in events]
    async with servers.start().client() as client:
        *first, question, (role, partial, reason) = await client.messages(session)
        assert len(first) == 2
        assert question == ("user", QUESTION, None)
        assert (role, reason) == ("assistant", "interrupted")
        assert len(partial) >= 5
        assert ANSWER.startswith(partial)
        rest = await client.events(session, after=event.cursor)
        assert rest[-1].type == "interrupted"
        # It saw what was not stored, or more was stored than it had read.
        assert (text + text_of(rest)).startswith(partial)
        assert partial.startswith(text) or len(rest) == 1
        await client.answer(session, "Next")
        assert len(await client.messages(session)) == 6


async def test_a_second_process_on_the_same_file_does_not_start(servers: Servers) -> None:
    """It says why; the first one goes on."""
    async with servers.start().client() as client:
        session = await client.create()
        second = servers.begin()
        assert second.wait() == servers.app.failed_start
        assert "sessions.db is in use by process" in second.text
        await client.answer(session, "Hello")


async def test_a_history_goes_on_through_restarts(servers: Servers) -> None:
    path = ""
    for number in range(3):
        server = servers.start()
        async with server.client() as client:
            path = path or await client.create()
            await client.answer(path, f"{number}")
            seqs = [each["seq"] for each in (await client.get(f"{path}/messages")).json()]
            assert seqs == list(range(1, 2 * number + 3))
            assert all(one + 1 == other for one, other in pairwise(seqs))
        server.terminate()
        assert server.wait() == servers.app.exit_code
