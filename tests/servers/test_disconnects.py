"""A client that goes away, and one that comes back (G9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .client import ENDS, text_of

if TYPE_CHECKING:
    from .client import Client, Event
    from .processes import Servers

QUESTION = "".join(f"{number} " for number in range(50))
ANSWER = f"Mock response to: {QUESTION}"
SLOW = {"MOCK_CHUNK_SIZE": 2, "MOCK_CHUNK_DELAY_MS": 10}
SLOWER = {"MOCK_CHUNK_SIZE": 2, "MOCK_CHUNK_DELAY_MS": 200}
"""Where the client on a busy machine is slower than what is slow."""


async def test_a_client_who_comes_back_gets_the_whole_text_once(servers: Servers) -> None:
    """By Last-Event-ID, again and again, in mid-turn and after its end."""
    connections = 0
    for pace in (SLOW, SLOWER):
        server = servers.start(**pace)
        async with server.client() as client:
            connections = await come_back_often(client)
        if connections > 3:
            break
        server.kill()
    assert connections > 3


async def come_back_often(client: Client) -> int:
    """How many connections it took to read one turn."""
    session = await client.create()
    await client.begin(session, QUESTION)
    seen: list[Event] = []
    connections = 0
    while not seen or seen[-1].type not in ENDS:
        connections += 1
        after = seen[-1].cursor if seen else None
        async with client.follow(session, after=after) as events:
            taken = 0
            async for event in events:
                seen.append(event)
                taken += 1
                if taken == 10:
                    break
    assert text_of(seen) == ANSWER
    assert [event.type for event in seen].count("started") == 1
    assert seen[-1].type == "completed"
    assert await client.messages(session) == [
        ("user", QUESTION, None),
        ("assistant", ANSWER, "stop"),
    ]
    return connections


async def test_followers_of_one_turn_do_not_disturb_each_other(servers: Servers) -> None:
    async with servers.start(**SLOW).client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
        texts: list[str] = []

        async def follow() -> None:
            texts.append(text_of(await client.events(session)))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(follow)
            async with client.follow(session) as events:
                await anext(events)
        assert texts == [ANSWER] * 10


async def test_a_client_who_leaves_while_he_waits_does_not_stop_the_turn(servers: Servers) -> None:
    async with servers.start(**SLOW).client() as client:
        session = await client.create()
        async with anyio.create_task_group() as group:
            group.start_soon(client.ask, session, QUESTION)
            while not await client.has_turn(session):
                pass
            group.cancel_scope.cancel()
        question, *_ = await client.messages(session)
        assert question == ("user", QUESTION, None)
        assert text_of(await client.events(session)) == ANSWER


async def test_a_stopped_turn_keeps_what_had_arrived(servers: Servers) -> None:
    async with servers.start(MOCK_CHUNK_SIZE=1, MOCK_CHUNK_DELAY_MS=50).client() as client:
        session = await client.create()
        await client.begin(session, QUESTION)
        async with client.follow(session) as events:
            text = ""
            async for event in events:
                text += event.data.get("text", "")
                if len(text) >= 5:
                    break
            assert (await client.post(f"{session}/stop")).json() == {"stopped": True}
            rest = [event async for event in events]
        text += text_of(rest)
        assert rest[-1].type == "interrupted"
        assert rest[-1].data["message"]["content"] == text
        assert ANSWER.startswith(text)
        assert await client.messages(session) == [
            ("user", QUESTION, None),
            ("assistant", text, "interrupted"),
        ]
        assert (await client.post(f"{session}/stop")).json() == {"stopped": False}
