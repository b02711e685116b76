"""What a sweep's programs share: a whole runtime, two sessions, and what must hold in the end.

All sends to the session "s" go through `send_message`, all to its neighbour "n" through a
`SendRecorder`: tickets are compared within a session.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs
from langswarm.core.session import (
    ISessionLifecycleHook,
    ISessionMiddleware,
    ISessionStorage,
    ProviderError,
    Session,
    SessionContext,
    SessionError,
    SessionManager,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.interfaces import Backup, KeyRotation, Verification
from langswarm.core.session.testing import (
    ScriptedProvider,
    ScriptedTurn,
    SendRecorder,
    Sent,
    SimulatedDisk,
    SimulatedStorage,
    Told,
    ordering_violations,
    told_by,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from anyio.abc import TaskGroup
    from langswarm.core.session.providers import ProviderRequest
    from langswarm.core.session.testing import Faults

    from .profile import Situation

    Send = Callable[[str], Awaitable[SessionMessage]]

RUNNING_SECONDS = 0.1


class Storage(SimulatedStorage):
    """With the maintenance that a storage of files has."""

    async def optimize(self) -> None:
        await self._enter("optimize")

    async def backup(self, path: str | os.PathLike[str]) -> Backup:
        await self._enter("backup")
        return Backup(path=str(path), size_bytes=0)

    async def verify(self) -> Verification:
        await self._enter("verify")
        return Verification()

    async def rotate_keys(self) -> KeyRotation:
        await self._enter("rotate_keys")
        return KeyRotation(
            key_id="a", records=0, unreadable=0, keys_in_use=("a",), plain_remains=False
        )


class Middleware(ISessionMiddleware):
    """Gives way once per message."""

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        await anyio.lowlevel.checkpoint()
        return message


class Hook(ISessionLifecycleHook):
    """Gives way at each call."""

    async def on_session_created(self, session_id: str, user_id: str) -> None:
        await anyio.lowlevel.checkpoint()

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        await anyio.lowlevel.checkpoint()

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        await anyio.lowlevel.checkpoint()

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        await anyio.lowlevel.checkpoint()


def answers() -> Callable[[ProviderRequest], ScriptedTurn]:
    """What is asked once more; "running" takes its time, "failing" fails for the first time."""
    failed: set[str] = set()

    def answer(request: ProviderRequest) -> ScriptedTurn:
        question = request.messages[-1].content
        if question.startswith("failing") and question not in failed:
            failed.add(question)
            return ScriptedTurn(end=ProviderError("planned", code="overloaded", retryable=True))
        latency = RUNNING_SECONDS if question.startswith("running") else 0.0
        return ScriptedTurn(text=f"re: {question}", chunks=2, latency_seconds=latency)

    return answer


@attrs.define
class World:
    """One run."""

    situation: Situation
    faults: Faults | None = None
    disk: SimulatedDisk = attrs.field(factory=SimulatedDisk)
    provider: ScriptedProvider = attrs.field(factory=lambda: ScriptedProvider(answers()))
    recorder: SendRecorder = attrs.field(factory=SendRecorder)
    sent: list[Sent] = attrs.field(factory=list[Sent])
    problems: list[str] = attrs.field(factory=list[str])
    calls: int = 0
    unchecked: set[str] = attrs.field(factory=set[str])
    """Sessions whose history does not tell all that was sent, or cannot be read."""
    conflicts: bool = False
    """Whether a session is created that may be there: the write is refused, the actor reloads."""
    managers: list[SessionManager] = attrs.field(factory=list[SessionManager])
    sessions: dict[str, Session] = attrs.field(factory=dict[str, Session])
    background: TaskGroup = attrs.field(init=False)

    # ------------------------------------------------------------ processes

    @property
    def manager(self) -> SessionManager:
        return self.managers[-1]

    def start(self) -> None:
        """A process; only in the first one leaves fail."""
        storage: ISessionStorage = Storage(self.disk)
        provider, middleware, hook = self.provider, Middleware(), Hook()
        faults = self.faults if not self.managers else None
        manager = create_session_manager(
            storage if faults is None else faults.storage(storage),
            providers={"scripted": provider if faults is None else faults.provider(provider)},
            middleware=[middleware if faults is None else faults.middleware(middleware)],
            hooks=[hook if faults is None else faults.hook(hook)],
            idle_seconds=0.0 if self.situation == "evicted" else 300.0,
        )
        self.managers.append(manager)

    async def stop(self) -> None:
        """In good order, and nothing of it is left."""
        await self.manager.aclose()
        statistics = self.manager.statistics()
        if statistics is None:
            return
        left = {
            "crashed tasks": statistics.executor.crashed,
            "running tasks": statistics.executor.running,
            "running turns": statistics.supervisor.running_turns,
            "sessions in line": statistics.supervisor.waiting,
            "waiting writes": statistics.storage.waiting_writes,
            "waiting loads": statistics.storage.waiting_loads,
        }
        if self.faults is None:
            left["abandoned turns"] = statistics.supervisor.abandoned_turns
            left["quarantines"] = statistics.supervisor.quarantines
        if self.faults is None and not self.conflicts:
            left["restarts"] = statistics.supervisor.restarts
            left["failed writes"] = statistics.storage.failed_writes
        self.problems += [f"{count} {what} at the end" for what, count in left.items() if count]

    # ------------------------------------------------------------ sends

    def text(self, what: str) -> str:
        """A text that was not used yet."""
        self.calls += 1
        return f"{what} {self.calls}"

    async def send(self, text: str) -> SessionMessage:
        """By `send_message`, to the session "s"."""
        session = self.sessions["s"]
        place = len(self.sent)
        self.sent.append(Sent(session_id="s", ticket=place, text=text, began=anyio.current_time()))
        told, content = Told.UNKNOWN, None
        try:
            message = await session.send_message(text)
            told, content = Told.ANSWERED, message.content
            return message
        except SessionError as error:
            told = told_by(error)
            raise
        finally:
            self.sent[place] = replace(
                self.sent[place], ended=anyio.current_time(), told=told, answer=content
            )

    async def send_to_neighbour(self, text: str) -> SessionMessage:
        return await self.recorder.send(self.sessions["n"], text)

    # ------------------------------------------------------------ before and after

    async def begin(self, group: TaskGroup) -> None:
        """Two sessions with a turn each; "busy": each has one more running, and one queued."""
        self.background = group
        self.start()
        for name in ("s", "n"):
            await self.create(name)
        await self.send(self.text("before"))
        await self.send_to_neighbour(self.text("before"))
        if self.situation == "busy":
            for what in ("running", "queued"):
                self.soon(self.send, what)
                self.soon(self.send_to_neighbour, what)
                await anyio.sleep(RUNNING_SECONDS / 4)

    async def create(self, name: str) -> None:
        manager = self.manager
        session = await manager.create_session("ada", "scripted", "m", session_id=name)
        self.sessions[name] = session

    async def find(self, name: str) -> None:
        self.sessions[name] = await self.manager.get_session(name)

    def soon(self, send: Send, what: str) -> None:
        """Send in the background; a call under test may close the manager meanwhile."""

        async def quietly(text: str) -> None:
            with contextlib.suppress(SessionError):
                await send(text)

        self.background.start_soon(quietly, self.text(what))

    async def afterwards(self) -> None:
        """Whatever was cancelled or has failed, the runtime works."""
        await self.send_to_neighbour(self.text("afterwards"))
        if "s" not in self.unchecked:
            await self.send(self.text("afterwards"))

    async def end(self) -> None:
        """What was there before a restart is there after it, and agrees with what callers know."""
        names = [name for name in ("s", "n") if name not in self.unchecked]
        before = {name: await self._history(name) for name in names}
        await self.restart()
        after = {name: await self._history(name) for name in names}
        await self.stop()
        for name in names:
            if _lines(before[name]) != _lines(after[name]):
                lines = f"{_lines(before[name])}, then {_lines(after[name])}"
                self.problems.append(f"G4: a restart changed {name!r}: {lines}")
        sent = [call for call in (*self.sent, *self.recorder.sent) if call.session_id in names]
        self.problems += ordering_violations(sent, after)
        self.problems += self.disk.violations + self.provider.violations
        if await self.disk.store.load_unfinished(1):
            self.problems.append("G5: a turn is open after the end")

    async def restart(self) -> None:
        """A new process on the same disk."""
        await self.stop()
        self.start()
        await self.find_sessions()

    async def find_sessions(self) -> None:
        """The handles of this process."""
        for name in sorted({"s", "n"} - self.unchecked):
            await self.find(name)

    async def _history(self, name: str) -> list[SessionMessage]:
        return await self.sessions[name].get_messages()


def _lines(history: Sequence[SessionMessage]) -> list[tuple[int, str, str]]:
    return [(message.seq, message.role.value, message.content) for message in history]
