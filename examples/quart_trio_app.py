"""Sessions behind Quart, on trio.

    SESSIONS_DB=sessions.db MOCK_CHUNK_DELAY_MS=200 python examples/quart_trio_app.py

Then, in another terminal:

    curl -X POST localhost:8000/sessions
    curl -X POST localhost:8000/sessions/ID/messages -H 'Content-Type: application/json' \
        -H 'Prefer: respond-async' -d '{"content": "Tell me a story"}'
    curl -N localhost:8000/sessions/ID/stream

`X-User` stands for what your authentication knows of the caller. BIND is the address to listen on.

It starts Hypercorn itself. The command `hypercorn --worker-class trio` puts a process in front,
which alone reacts to SIGTERM; with `--workers 0` nothing does, and the server does not drain.
"""

import os
import signal
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]
from langswarm.core.session import InvalidMessageError, Session, SessionError, SessionManager
from quart import Response, current_app, request
from quart_trio import QuartTrio
from serving import (
    MODEL,
    PROVIDER,
    ServerSentEvents,
    error_response,
    manager_from_environment,
    message_body,
    start_turn,
)

app = QuartTrio(__name__)


@app.while_serving
async def lifespan() -> AsyncGenerator[None, None]:
    """One manager for the whole life of the process.

    It opens the storage before the first request. After the last one it lets the turns that still
    run finish (SESSIONS_DRAIN_SECONDS), and closes the storage.
    """
    async with manager_from_environment() as manager:
        app.extensions["sessions"] = manager
        yield


def sessions() -> SessionManager:
    """The manager."""
    manager: SessionManager = current_app.extensions["sessions"]
    return manager


def user() -> str:
    """Who asks."""
    return request.headers.get("X-User", "anonymous")


async def session_of(session_id: str) -> Session:
    """The session of the path. That of somebody else is not found."""
    return await sessions().get_session(session_id, user_id=user())


@app.errorhandler(SessionError)
async def refuse(error: SessionError) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Every error of the runtime as HTTP."""
    return error_response(error)


@app.post("/sessions")
async def create() -> tuple[dict[str, str], int]:
    session = await sessions().create_session(user(), PROVIDER, MODEL)
    return {"session_id": session.session_id}, 201


@app.post("/sessions/<session_id>/messages")
async def send(session_id: str) -> tuple[dict[str, Any], int]:
    """The answer; or at once the turn, for those who follow it: Prefer: respond-async.

    A client that leaves does not stop the turn. One that sends again with the same Idempotency-Key
    gets the same turn.
    """
    session = await session_of(session_id)
    match await request.get_json():
        case {"content": str(content)}:
            pass
        case _:
            raise InvalidMessageError('send {"content": "a text"}')
    key = request.headers.get("Idempotency-Key")
    if "respond-async" in request.headers.get("Prefer", ""):
        return await start_turn(session, content, key), 202
    return message_body(await session.send_message(content, idempotency_key=key)), 200


@app.get("/sessions/<session_id>/messages")
async def history(session_id: str) -> list[dict[str, Any]]:
    session = await session_of(session_id)
    limit = min(request.args.get("limit", 100, type=int), 1000)
    return [message_body(message) for message in await session.get_messages(limit)]


@app.get("/sessions/<session_id>/stream")
async def stream(session_id: str) -> Response:
    """The events of a turn: the one that runs, else the last one; from the beginning or a cursor.

    An EventSource sends Last-Event-ID by itself when it connects again.
    """
    session = await session_of(session_id)
    turn = session.follow(request.args.get("turn_id"), after=request.headers.get("Last-Event-ID"))
    events = ServerSentEvents(turn)
    if not await events.begin():
        return Response("", 204)
    response = Response(events, headers=events.HEADERS, content_type="text/event-stream")
    response.timeout = None  # Quart's own limit for a response is one minute
    return response


@app.post("/sessions/<session_id>/stop")
async def stop(session_id: str) -> dict[str, bool]:
    """Interrupt the turn that runs; what has arrived of its answer stays in the history."""
    session = await session_of(session_id)
    return {"stopped": await session.stop()}


@app.get("/health")
async def health() -> tuple[dict[str, str], int]:
    status = (await sessions().health()).status
    return {"status": status}, 503 if status == "failed" else 200


async def told_to_stop() -> None:
    """Until SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await anext(aiter(signals))


if __name__ == "__main__":
    config = Config.from_mapping(
        bind=os.environ.get("BIND", "127.0.0.1:8000"),
        # How long requests may go on; then they are cut, and the turns drain.
        graceful_timeout=float(os.environ.get("GRACE_SECONDS", "30")),
        # Connections that wait to be accepted: of a larger burst of clients some are reset.
        backlog=1_000,
        shutdown_timeout=60,  # longer than SESSIONS_DRAIN_SECONDS
    )
    trio.run(partial(serve, app, config, shutdown_trigger=told_to_stop))
