"""The demo's three parts, each of which runs in a process of its own.

Every user is a task that waits for each answer before going on, as people do. There are more
users than sessions may be live, so that sessions leave memory and come back all the time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
from langswarm.core.session import (
    IProvider,
    MockProvider,
    ProviderError,
    Role,
    Session,
    SessionError,
    SessionManager,
)
from langswarm.core.session.cli.conversations import User, read_conversations, users_of
from langswarm.core.session.cli.verify import difference_of
from langswarm.core.session.providers import PromptMessage, ProviderEvent, ProviderRequest
from langswarm.core.session.runtime.host import RuntimeStatistics

Emit = Callable[[dict[str, Any]], None]
"""Takes a message for the process that shows the progress; JSON values only."""

_CHUNK = 40
_QUEUE_SECONDS = 600.0
_PROGRESS_SECONDS = 0.05


class Part(StrEnum):
    """What a process is started for."""

    FIRST = "first"
    SECOND = "second"
    VERIFY = "verify"


@attrs.frozen(kw_only=True)
class Job:
    """All that a process must know."""

    part: Part
    input_file: Path
    users: int
    max_live: int
    idle_ms: float
    backend: str
    database: Path


@attrs.frozen(kw_only=True)
class Replayed:
    """What came out of one half."""

    seconds: float
    turn_ms: list[float]
    most_live: int
    evicted: int
    rehydrated: int
    commits: int
    writes: int
    failures: list[str]


@attrs.frozen(kw_only=True)
class Verified:
    """What came out of the verification."""

    sessions: int
    messages: int
    differences: list[str]


class ReplayProvider(IProvider):
    """The mock provider, told by the input what to answer; it streams in small chunks.

    It also checks what it is asked: the prompt is the whole conversation up to here, also in a
    session that was evicted or comes from another process.
    """

    def __init__(self, users: list[User]) -> None:
        self._conversations = {user.session_id: user.conversation for user in users}
        self._mock = MockProvider(response_pattern="{input}", chunk_size=_CHUNK)

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer with what the input has for this turn."""
        conversation = self._conversations[request.session_id]
        turn_no = int(request.turn_id.rpartition("/")[2])
        turns_before = 2 * (turn_no - 1)
        start = 0 if conversation.system is None else 1
        wanted = conversation.history()[: start + turns_before + 1]
        if [(message.role, message.content) for message in request.messages] != wanted:
            raise ProviderError(
                f"the prompt of turn {turn_no} is not the conversation up to here",
                code="invalid_request",
                provider="demo",
            )
        answer = conversation.turns[turn_no - 1].assistant
        echo = attrs.evolve(request, messages=(PromptMessage(role=Role.USER, content=answer),))
        answering = cast("AsyncGenerator[ProviderEvent, None]", self._mock.stream(echo))
        async with contextlib.aclosing(answering) as events:
            async for event in events:
                yield event


class Progress:
    """Tells how far it is, not more often than anybody can see."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._done = 0
        self._next = 0.0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            self._emit({"done": self._done})


async def work(job: Job, emit: Emit) -> None:
    """Do the job; the last message is {"result": ...}, the fields of Replayed or Verified."""
    users = users_of(read_conversations(job.input_file), job.users)
    manager = SessionManager(
        "sqlite",
        storage_config={"db_path": job.database},
        providers={"mock": ReplayProvider(users)},
        max_live_sessions=job.max_live,
        idle_seconds=job.idle_ms / 1000,
        queue_timeout_seconds=_QUEUE_SECONDS,
    )
    result: Replayed | Verified
    async with manager:
        if job.part is Part.VERIFY:
            result = await _verify(manager, users, Progress(emit))
        else:
            replay = _Replay(manager, Progress(emit), second=job.part is Part.SECOND)
            result = await replay.run(users)
    emit({"result": attrs.asdict(result)})


class _Replay:
    """One half of all conversations."""

    def __init__(self, manager: SessionManager, progress: Progress, *, second: bool) -> None:
        self._manager = manager
        self._progress = progress
        self._second = second
        self._turn_ms: list[float] = []
        self._failures: list[str] = []
        self._most_live = 0
        self._created = 0

    async def run(self, users: list[User]) -> Replayed:
        started = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for user in users:
                tasks.start_soon(self._converse, user)
        seconds = time.perf_counter() - started
        statistics = self._statistics()
        return Replayed(
            seconds=seconds,
            turn_ms=self._turn_ms,
            most_live=self._most_live,
            evicted=statistics.supervisor.evictions,
            rehydrated=statistics.supervisor.activations - self._created,
            commits=statistics.storage.batches,
            writes=statistics.storage.writes,
            failures=self._failures,
        )

    async def _converse(self, user: User) -> None:
        try:
            session = await (self._go_on(user) if self._second else self._begin(user))
            context = user.conversation.context_of(second=self._second)
            if context:
                await session.update_context(context)
            half = user.conversation.half
            turns = user.conversation.turns
            for turn in turns[half:] if self._second else turns[:half]:
                await self._say(session, turn.user)
        except SessionError as error:
            self._failures.append(f"session {user.session_id!r}: {type(error).__name__}: {error}")

    async def _begin(self, user: User) -> Session:
        session = await self._manager.create_session(
            user.user_id,
            "mock",
            "replay",
            session_id=user.session_id,
            session_config={"max_messages": 2 * len(user.conversation.turns)},
        )
        self._created += 1
        if user.conversation.system is not None:
            await session.send_system_message(user.conversation.system)
        return session

    async def _go_on(self, user: User) -> Session:
        return await self._manager.get_session(user.session_id, user_id=user.user_id)

    async def _say(self, session: Session, text: str) -> None:
        started = time.perf_counter()
        await session.send_message(text)
        self._turn_ms.append(1000 * (time.perf_counter() - started))
        self._most_live = max(self._most_live, self._statistics().supervisor.live)
        self._progress.step()

    def _statistics(self) -> RuntimeStatistics:
        statistics = self._manager.statistics()
        assert statistics is not None  # noqa: S101 - it is in use
        return statistics


async def _verify(manager: SessionManager, users: list[User], progress: Progress) -> Verified:
    sessions, messages = 0, 0
    differences: list[str] = []
    for user in users:
        difference = await difference_of(manager, user)
        if difference is None:
            sessions += 1
            messages += len(user.conversation.history())
        else:
            differences.append(f"session {user.session_id!r}: {difference}")
        progress.step()
    return Verified(sessions=sessions, messages=messages, differences=differences)
