"""Sessions behind FastAPI, on asyncio.

    SESSIONS_DB=sessions.db MOCK_CHUNK_DELAY_MS=200 \
        uvicorn --app-dir examples fastapi_app:app --timeout-graceful-shutdown 30

One worker: one process owns the SQLite file. After SIGTERM requests may go on for 30 seconds; then
they are cut, and the turns drain. In another terminal:

    curl -X POST localhost:8000/sessions
    curl -X POST localhost:8000/sessions/ID/messages -H 'Content-Type: application/json' \
        -H 'Prefer: respond-async' -d '{"content": "Tell me a story"}'
    curl -N localhost:8000/sessions/ID/stream

`X-User` stands for what your authentication knows of the caller.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from langswarm.core.session import Session, SessionError, SessionManager
from serving import (
    MODEL,
    PROVIDER,
    ServerSentEvents,
    error_response,
    manager_from_environment,
    message_body,
    start_turn,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """One manager for the whole life of the process.

    It opens the storage before the first request. After the last one it lets the turns that still
    run finish (SESSIONS_DRAIN_SECONDS), and closes the storage.
    """
    async with manager_from_environment() as manager:
        app.state.manager = manager
        yield


app = FastAPI(title="Sessions", lifespan=lifespan)


def manager_of(request: Request) -> SessionManager:
    """The manager, as a dependency."""
    manager: SessionManager = request.app.state.manager
    return manager


async def session_of(
    session_id: str,
    manager: Annotated[SessionManager, Depends(manager_of)],
    x_user: Annotated[str, Header()] = "anonymous",
) -> Session:
    """The session of the path. That of somebody else is not found."""
    return await manager.get_session(session_id, user_id=x_user)


Managed = Annotated[SessionManager, Depends(manager_of)]
OfPath = Annotated[Session, Depends(session_of)]


@app.exception_handler(SessionError)
async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Every error of the runtime as HTTP."""
    assert isinstance(error, SessionError)
    body, status, headers = error_response(error)
    return JSONResponse(body, status, headers)


@app.post("/sessions", status_code=201)
async def create(
    manager: Managed, x_user: Annotated[str, Header()] = "anonymous"
) -> dict[str, str]:
    session = await manager.create_session(x_user, PROVIDER, MODEL)
    return {"session_id": session.session_id}


@app.post("/sessions/{session_id}/messages")
async def send(
    session: OfPath,
    content: Annotated[str, Body(embed=True)],
    prefer: Annotated[str, Header()] = "",
    idempotency_key: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """The answer; or at once the turn, for those who follow it: Prefer: respond-async.

    A client that leaves does not stop the turn. One that sends again with the same Idempotency-Key
    gets the same turn.
    """
    if "respond-async" in prefer:
        return JSONResponse(await start_turn(session, content, idempotency_key), 202)
    answer = await session.send_message(content, idempotency_key=idempotency_key)
    return JSONResponse(message_body(answer))


@app.get("/sessions/{session_id}/messages")
async def history(
    session: OfPath, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[dict[str, Any]]:
    return [message_body(message) for message in await session.get_messages(limit)]


@app.get("/sessions/{session_id}/stream")
async def stream(
    session: OfPath,
    turn_id: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The events of a turn: the one that runs, else the last one; from the beginning or a cursor.

    An EventSource sends Last-Event-ID by itself when it connects again.
    """
    events = ServerSentEvents(session.follow(turn_id, after=last_event_id))
    if not await events.begin():
        return Response(status_code=204)
    return StreamingResponse(events, headers=events.HEADERS, media_type="text/event-stream")


@app.post("/sessions/{session_id}/stop")
async def stop(session: OfPath) -> dict[str, bool]:
    """Interrupt the turn that runs; what has arrived of its answer stays in the history."""
    return {"stopped": await session.stop()}


@app.get("/health")
async def health(manager: Managed) -> JSONResponse:
    status = (await manager.health()).status
    return JSONResponse({"status": status}, 503 if status == "failed" else 200)
