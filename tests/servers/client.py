"""A client of the example applications, as a browser would be one."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

ENDS = {"completed", "failed", "interrupted"}
COMMENT = "comment"


@attrs.frozen
class Event:
    """One server-sent event, or a comment."""

    type: str
    cursor: str = ""
    data: dict[str, Any] = attrs.field(factory=dict[str, Any])


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "text_delta")


class Client(httpx.AsyncClient):
    def __init__(self, url: str) -> None:
        # A connection per request: a server may close an idle one just when it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        super().__init__(base_url=url, timeout=60, limits=limits, trust_env=False)

    async def create(self) -> str:
        """A new session's path."""
        response = await self.post("/sessions")
        assert response.status_code == 201
        return f"/sessions/{response.json()['session_id']}"

    async def ask(self, session: str, content: str, **headers: str) -> httpx.Response:
        return await self.post(f"{session}/messages", json={"content": content}, headers=headers)

    async def answer(self, session: str, content: str) -> dict[str, Any]:
        response = await self.ask(session, content)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def begin(self, session: str, content: str) -> str:
        """The id of a turn that has begun."""
        response = await self.ask(session, content, Prefer="respond-async")
        assert response.status_code == 202, response.text
        turn_id: str = response.json()["turn_id"]
        return turn_id

    async def messages(self, session: str) -> list[tuple[str, str, str | None]]:
        response = await self.get(f"{session}/messages")
        assert response.status_code == 200
        return [(each["role"], each["content"], each["finish_reason"]) for each in response.json()]

    @asynccontextmanager
    async def follow(
        self, session: str, *, turn_id: str | None = None, after: str | None = None
    ) -> AsyncGenerator[AsyncIterator[Event], None]:
        """The events of a turn; leave the block to disconnect."""
        headers = {} if after is None else {"Last-Event-ID": after}
        params = {} if turn_id is None else {"turn_id": turn_id}
        async with self.stream(
            "GET", f"{session}/stream", params=params, headers=headers
        ) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
            events = _events(response)
            try:
                yield events
            finally:
                await events.aclose()

    async def has_turn(self, session: str) -> bool:
        """Whether a turn of it has begun."""
        async with self.stream("GET", f"{session}/stream") as response:
            return response.status_code == 200

    async def events(self, session: str, after: str | None = None) -> list[Event]:
        """All of a turn's events, to the end of the response."""
        async with self.follow(session, after=after) as events:
            return [event async for event in events]


async def _events(response: httpx.Response) -> AsyncGenerator[Event, None]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Event(COMMENT)
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}
