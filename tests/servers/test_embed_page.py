"""The applications of docs/how-to/embed.md answer, each on the event loops of its framework."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from ..docs.blocks import Program, programs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

APPLICATIONS = [
    program
    for program in programs()
    if program.file == "docs/how-to/embed.md" and "\napp = " in program.source
]
BACKENDS = {"litestar": ["asyncio"], "quart_trio": ["trio"]}  # the others run on both


def cases() -> list[Any]:
    found: list[Any] = []
    for program in APPLICATIONS:
        names = [name for name in ("fastapi", *BACKENDS) if f"from {name} " in program.source]
        name = names[0] if names else "starlette"
        found += [
            pytest.param(program, backend, id=f"{name}-{backend}")
            for backend in BACKENDS.get(name, ["asyncio", "trio"])
        ]
    return found


@asynccontextmanager
async def lifespan_of(app: Any) -> AsyncGenerator[dict[str, Any], None]:
    """What a server does around the requests; gives the state for them."""
    state: dict[str, Any] = {}
    to_app, from_server = anyio.create_memory_object_stream[dict[str, Any]](1)
    to_server, from_app = anyio.create_memory_object_stream[dict[str, Any]](1)
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    with to_app, from_server, to_server, from_app:
        async with anyio.create_task_group() as group:
            group.start_soon(app, scope, from_server.receive, to_server.send)
            await to_app.send({"type": "lifespan.startup"})
            assert (await from_app.receive())["type"] == "lifespan.startup.complete"
            yield state
            await to_app.send({"type": "lifespan.shutdown"})
            assert (await from_app.receive())["type"] == "lifespan.shutdown.complete"


async def converse(app: Any) -> None:
    async with lifespan_of(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            session_id = (await client.post("/sessions")).json()["session_id"]
            answer = await client.post(
                f"/sessions/{session_id}/messages", json={"content": "Hello"}
            )
            assert answer.json() == {"content": "Mock response to: Hello"}


def test_the_page_shows_four_frameworks() -> None:
    assert len(APPLICATIONS) == 4


@pytest.mark.parametrize(("program", "backend"), cases())
def test_an_application_of_the_page_answers(
    program: Program, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # where frameworks look up annotations
    exec(compile(program.source, program.file, "exec", dont_inherit=True), vars(page))  # noqa: S102
    anyio.run(converse, page.app, backend=backend)
    assert (tmp_path / "langswarm-session.db").exists()
