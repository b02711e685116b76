"""What the tests of the runtime share: storages that can be opened again, providers on a leash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    IProvider,
    ISessionStorage,
    ProviderError,
    Session,
    SessionError,
    SessionManager,
    SessionMessage,
    SQLiteSessionStorage,
    Ticket,
    create_session_manager,
)
from langswarm.core.session.providers import (
    Completed,
    ProviderEvent,
    ProviderRequest,
    TextDelta,
)
from langswarm.core.session.testing import simulate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from langswarm.core.session.actors.supervisor import Supervisor
    from langswarm.core.session.testing import Backend

PATIENCE_SECONDS = 40
"""How long a test waits for what must happen; never for what must not."""


class Store:
    """One storage under several managers, one after the other: that is what a restart is."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "sessions.db"
        self._memory = InMemorySessionStorage()

    def storage(self) -> ISessionStorage:
        """Memory: the one object. SQLite: a new object on the one file."""
        return self._memory if self.kind == "memory" else SQLiteSessionStorage(self.path)

    def manager(self, provider: IProvider | None = None, **keywords: Any) -> SessionManager:
        """A new manager; `provider` serves under the name of a vendor."""
        if provider is not None:
            keywords["providers"] = {"openai": provider, **keywords.get("providers", {})}
        return create_session_manager(self.storage(), **keywords)


class Gate:
    """Where a turn is held: `entered` says that it is there, `open()` lets it go on."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self._opened = anyio.Event()

    async def passed(self) -> None:
        """Wait here until it is opened."""
        self.entered.set()
        await self._opened.wait()

    def open(self) -> None:
        """Let everything through, now and later."""
        self._opened.set()

    async def reached(self) -> None:
        """Wait until somebody is held here."""
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.entered.wait()


def answer_to(text: str) -> str:
    """What `Echo` answers."""
    return f"answer to {text}"


class Echo(IProvider):
    """Answers `answer to ...` in two pieces; a gate set for a text holds it between the two.

    A text in `failing` ends in a ProviderError instead. It keeps every request and counts the
    turns that run at the same time, in each session and in all.
    """

    def __init__(self) -> None:
        self.requests: list[ProviderRequest] = []
        self.gates: dict[str, Gate] = {}
        self.failing: set[str] = set()
        self.cancelled: list[str] = []
        self.finished: list[str] = []
        self.closed = 0
        self.running: dict[str, int] = {}
        self.most_per_session = 0
        self.most = 0

    def hold(self, text: str) -> Gate:
        """Hold the turn of this text half way."""
        gate = self.gates[text] = Gate()
        return gate

    def prompts(self) -> list[list[str]]:
        """The contents of every request, in the order of the requests."""
        return [[message.content for message in request.messages] for request in self.requests]

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.requests.append(request)
        text = request.messages[-1].content
        running = self.running
        running[request.session_id] = running.get(request.session_id, 0) + 1
        self.most_per_session = max(self.most_per_session, running[request.session_id])
        self.most = max(self.most, sum(running.values()))
        try:
            yield TextDelta("answer ")
            gate = self.gates.get(text)
            if gate is not None:
                await gate.passed()
            else:
                await anyio.lowlevel.checkpoint()
            if text in self.failing:
                raise ProviderError("planted", code="overloaded", retryable=True)  # noqa: TRY301
            yield TextDelta(f"to {text}")
            self.finished.append(text)
        except BaseException:
            self.cancelled.append(text)
            raise
        finally:
            running[request.session_id] -= 1
        yield Completed()

    async def aclose(self) -> None:
        self.closed += 1


class Play(IProvider):
    """Plays one list of events per request; an exception in it is raised. Then it echoes."""

    def __init__(self, *plays: Sequence[object]) -> None:
        self.plays = list(plays)
        self.requests: list[ProviderRequest] = []

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.requests.append(request)
        if not self.plays:
            yield TextDelta(answer_to(request.messages[-1].content))
            yield Completed()
            return
        for event in self.plays.pop(0):
            if isinstance(event, BaseException):
                raise event
            yield event  # type: ignore[misc]  # what is wrong is the point


async def new_session(manager: SessionManager, user_id: str = "user", **keywords: Any) -> Session:
    """A session of the provider that was given to `Store.manager`."""
    return await manager.create_session(user_id, "openai", "gpt-4", **keywords)


def supervisor_of(manager: SessionManager) -> Supervisor:
    """Inside: the control lane."""
    return manager._anchor.host.runtime().supervisor


async def contents(session: Session) -> list[str]:
    """The history as texts."""
    return [message.content for message in await session.get_messages()]


async def outcome(ticket: Awaitable[Any]) -> Any:
    """The result, or the error as a value; whatever is not settled in time fails the test."""
    with anyio.fail_after(PATIENCE_SECONDS):
        try:
            return await ticket
        except SessionError as error:
            return error


async def outcomes(tickets: Iterable[Ticket[Any]]) -> list[Any]:
    """`outcome` of each, in order."""
    return [await outcome(ticket) for ticket in tickets]


def assert_turns(messages: Sequence[SessionMessage], texts: Sequence[str]) -> None:
    """The history is exactly these questions in this order, each beside its own answer."""
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    questions, answers = messages[0::2], messages[1::2]
    assert [message.content for message in questions] == list(texts)
    assert [message.content for message in answers] == [answer_to(text) for text in texts]
    assert all(message.role == "user" for message in questions)
    assert all(message.role == "assistant" for message in answers)
    for question, answer in zip(questions, answers, strict=True):
        assert question.turn_id == answer.turn_id
    assert len({message.message_id for message in messages}) == len(messages)


def on_a_virtual_clock(program: Callable[[], Awaitable[None]]) -> Callable[[Backend], None]:
    """Make a test of it, on each backend, in a time of its own.

    Hours cost nothing there, and a busy machine cannot make a short timeout fire.
    """

    def test(backend: Backend) -> None:
        simulate(program, backend=backend, seed=None)

    test.__doc__ = program.__doc__
    marked: Callable[[Backend], None] = pytest.mark.parametrize("backend", ["asyncio", "trio"])(
        test
    )
    return marked


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it holds; nothing is measured in time."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def settle() -> None:
    """Let everything that can run without outside help run."""
    await anyio.wait_all_tasks_blocked()
