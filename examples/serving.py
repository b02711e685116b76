"""What every web server that embeds sessions needs, whatever its framework.

Settings from the environment, errors as HTTP, and turns as server-sent events. `fastapi_app.py` and
`quart_trio_app.py` put routes around it; so would Starlette or Litestar.

    SESSIONS_DB          the SQLite file; empty: in memory
    SESSIONS_PROVIDER    the provider of new sessions; default mock
    SESSIONS_MODEL       the model of new sessions
    SESSIONS_...         any other limit by its name: SESSIONS_MAILBOX_SIZE=100
    MOCK_...             what the mock does: MOCK_CHUNK_SIZE=4, MOCK_CHUNK_DELAY_MS=20
    KEEP_ALIVE_SECONDS   the longest silence of a stream; default 15
"""

from __future__ import annotations

import json
import logging
import math
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import anyio
import attrs
from langswarm.core.session import (
    ConfigurationError,
    InvalidMessageError,
    Limits,
    MessageRefused,
    MockProvider,
    ProviderError,
    RuntimeClosedError,
    SessionArchivedError,
    SessionNotFoundError,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.errors import (
    IdempotencyConflictError,
    OverloadError,
    SessionQuarantinedError,
    TurnInterruptedError,
    TurnNotFoundError,
)
from langswarm.core.session.interfaces import (
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
    TurnText,
    TurnUsage,
)

if TYPE_CHECKING:
    from langswarm.core.session import Session, SessionError, SessionManager, SessionMessage
    from langswarm.core.session.interfaces import TurnStream

PROVIDER = os.environ.get("SESSIONS_PROVIDER", "mock")
MODEL = os.environ.get("SESSIONS_MODEL", "mock-model")

log = logging.getLogger(__name__)


# -------------------------------------------------------- settings


def manager_from_environment() -> SessionManager:
    """The manager that the environment describes. A wrong value is a ConfigurationError."""
    path = os.environ.get("SESSIONS_DB")
    mock = MockProvider(
        response_delay_ms=float(os.environ.get("MOCK_RESPONSE_DELAY_MS", "0")),
        chunk_size=int(os.environ.get("MOCK_CHUNK_SIZE", "16")),
        chunk_delay_ms=float(os.environ.get("MOCK_CHUNK_DELAY_MS", "0")),
    )
    limits: dict[str, Any] = {}
    for field in attrs.fields(Limits):
        value = os.environ.get(f"SESSIONS_{field.name.upper()}")
        if value is not None:
            limits[field.name] = int(value) if isinstance(field.default, int) else float(value)
    return create_session_manager(
        "sqlite" if path else "memory",
        storage_config={"db_path": path} if path else None,
        providers={PROVIDER: mock if PROVIDER == "mock" else None},
        **limits,
    )


# -------------------------------------------------------- errors

STATUS: dict[type[SessionError], HTTPStatus] = {
    SessionNotFoundError: HTTPStatus.NOT_FOUND,
    TurnNotFoundError: HTTPStatus.NOT_FOUND,
    InvalidMessageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyConflictError: HTTPStatus.UNPROCESSABLE_ENTITY,
    MessageRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConfigurationError: HTTPStatus.UNPROCESSABLE_ENTITY,  # no cursor
    SessionArchivedError: HTTPStatus.CONFLICT,
    TurnInterruptedError: HTTPStatus.CONFLICT,  # somebody stopped it; the history has the rest
    OverloadError: HTTPStatus.TOO_MANY_REQUESTS,
    SessionQuarantinedError: HTTPStatus.SERVICE_UNAVAILABLE,
    RuntimeClosedError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    ProviderError: HTTPStatus.BAD_GATEWAY,
}


def status_of(error: SessionError) -> HTTPStatus:
    """By the nearest class of the table."""
    known = (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return next(known, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_body(error: SessionError) -> dict[str, Any]:
    """An error as JSON. The text of the server's own troubles is for its log alone."""
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s: %s", type(error).__name__, error)
    return {
        "type": type(error).__name__,
        "code": getattr(error, "code", None),
        "message": str(error) if status < HTTPStatus.INTERNAL_SERVER_ERROR else status.phrase,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after_seconds,
    }


def error_response(error: SessionError) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Body, status and headers of the response to a request that failed."""
    status, headers = status_of(error), dict[str, str]()
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds or 1))
    return {"error": error_body(error)}, status, headers


# -------------------------------------------------------- messages and turns


def message_body(message: SessionMessage) -> dict[str, Any]:
    """A message as JSON."""
    return {
        "message_id": message.message_id,
        "turn_id": message.turn_id,
        "seq": message.seq,
        "role": message.role,
        "content": message.content,
        "finish_reason": message.finish_reason,
    }


async def start_turn(session: Session, content: str, key: str | None) -> dict[str, Any]:
    """Send a message and wait for no more than the begin of its turn, which then goes on."""
    turn = session.stream_message(content, idempotency_key=key)
    first = await anext(turn)
    if isinstance(first, TurnFailed):
        raise first.error
    return {"turn_id": turn.turn_id}


class ServerSentEvents:
    """A turn as the body of a text/event-stream: an asynchronous iterator of bytes.

    After `keep_alive_seconds` without an event it gives a comment line, so no proxy closes the
    connection. It holds nothing that has to be closed: a server may drop it at any point.
    """

    HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # noqa: RUF012 - constant
    KEEP_ALIVE_SECONDS = float(os.environ.get("KEEP_ALIVE_SECONDS", "15"))

    def __init__(self, turn: TurnStream) -> None:
        self._turn = turn
        self._first: bytes | None = None

    async def begin(self) -> bool:
        """Look for the first event, so that an error can still be a status; False: none comes.

        Answer 204 to that: it tells a browser's EventSource not to connect again.
        """
        try:
            self._first = await anext(self)
        except StopAsyncIteration:
            return False
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        with anyio.move_on_after(self.KEEP_ALIVE_SECONDS):
            return _frame(await anext(self._turn))
        return b": keep-alive\n\n"


def _frame(event: TurnEvent) -> bytes:
    data = json.dumps({"turn_id": event.turn_id, **_data(event)})
    return f"id: {event.cursor}\nevent: {event.type}\ndata: {data}\n\n".encode()


def _data(event: TurnEvent) -> dict[str, Any]:
    match event:
        case TurnStarted() | TurnCompleted():
            return {"message": message_body(event.message)}
        case TurnText():
            return {"text": event.text}
        case TurnUsage():
            return {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
        case TurnInterrupted():
            partial = None if event.message is None else message_body(event.message)
            return {"message": partial, "error": error_body(event.error)}
        case TurnFailed():
            return {"error": error_body(event.error)}
        case _:
            return {}
