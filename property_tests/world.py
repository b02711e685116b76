"""The simulated world: clients, a process that may die, a disk that does not.

Everything runs in one `simulate()`: the clients and the runtime under one schedule seed, on a
virtual clock. A process that dies is cut off from the disk at that moment and buried in the
background; its callers never hear from it again, and a new one starts on the same disk.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING
from unittest.mock import patch

import anyio
import anyio.lowlevel
from langswarm.core.session.actors.errors import (
    MailboxFullError,
    SessionError,
    SessionQuarantinedError,
    StorageError,
)
from langswarm.core.session.actors.mailbox import TicketState
from langswarm.core.session.actors.wait import current_backend
from langswarm.core.session.runtime import retention

from .calls import Call, Fork, Halt, Outcome, Read, Tidying
from .disk import Disk
from .following import Follower, follow_for
from .guests import Evidence, Witness
from .process import PlannedCrashError, Process
from .program import ADDED, AGAIN, HOOK, PLAIN, TALKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from anyio.abc import TaskGroup
    from langswarm.core.session.runtime.analytics import SessionAnalytics
    from langswarm.core.session.runtime.session import Session

    from .following import View
    from .program import Program, Step

EPOCH_US = 1_800_000_000_000_000


class World:
    """One run of a program; afterwards it holds what the model needs."""

    def __init__(self, program: Program) -> None:
        settings = program.settings
        self.program = program
        self.disk = Disk(settings.faults, settings.latency)
        self.evidence = Evidence()
        self.calls: list[Call] = []
        self.halts: list[Halt] = []
        self.deaths: dict[int, float] = {}
        """By process that was killed: when, on the clock of the loop."""
        self.reads: list[Read] = []
        self.tidyings: list[Tidying] = []
        self.forks: list[Fork] = []
        self.usage: SessionAnalytics | None = None
        self.violations: list[str] = []
        self._followers: dict[tuple[int, str], Follower] = {}
        self._strikes: dict[tuple[int, str], int] = {}
        self._processes = 0
        self._looks = 0
        self._process: Process
        self._up: anyio.Event
        self._graves: TaskGroup
        self._clients: TaskGroup

    @property
    def prompts(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """What the provider was asked with, by user message."""
        return self.evidence.prompts

    def views(self) -> Iterator[View]:
        """What all followers saw."""
        return chain.from_iterable(follower.views for follower in self._followers.values())

    async def run(self) -> None:
        """The program, then a restart in good order, then everything is read once more."""
        self._up = anyio.Event()
        # Of a few sessions, too, the later ones are tidied up long after they were listed.
        with patch.object(retention, "AT_ONCE", 1):
            await self._run()

    async def _run(self) -> None:
        async with anyio.create_task_group() as self._graves:
            await self._boot(create=True)
            self.disk.faulty = True
            async with anyio.create_task_group() as self._clients:
                for number, steps in enumerate(self.program.clients):
                    self._clients.start_soon(self._client, number, steps)
            await self._settle()
            self.disk.faulty = False
            await self._restart(self._stop)
            for session in self._process.sessions:
                await self._read(session)
            last = datetime.fromtimestamp(EPOCH_US / 1e6, tz=UTC) + timedelta(days=1)
            self.usage = await self._process.manager.get_analytics(last - timedelta(30), last)
            await self._process.manager.aclose()
            self.violations += self._process.complaints()
        self.violations += self.disk.violations

    def wall_clock_us(self) -> int:
        """What the runtime takes for the time of day."""
        self._looks += self.program.settings.ticks
        seconds = current_backend().now() - self._processes * self.program.settings.skew
        return EPOCH_US + round(seconds * 1e6) + self._looks

    # ------------------------------------------------------------ processes

    async def _boot(self, *, create: bool = False) -> None:
        process = self._new_process()
        for number in range(self.program.settings.sessions):
            session_id = f"s{number}"
            if create:
                manager = process.manager
                session = await manager.create_session("u", "scripted", "m", session_id=session_id)
            else:
                session = await self._find(process, session_id)
            process.sessions.append(session)
        if await self.disk.store.load_unfinished(1):
            self.violations.append("G5: a turn of the process before is open after the first read")
        self.disk.tell(session.session_id for session in process.sessions)
        self._process = process
        self._up.set()

    async def _find(self, process: Process, session_id: str) -> Session:
        """The storage may fail to open or to read; each fault happens once."""
        for _ in self.program.settings.faults:
            try:
                return await process.manager.get_session(session_id)
            except StorageError:
                continue
        return await process.manager.get_session(session_id)

    def _new_process(self) -> Process:
        self._processes += 1
        witness = Witness(self._processes, self.evidence, self.disk.last_seq)
        return Process(
            self._processes, self.program.settings, self.disk, witness, self.wall_clock_us
        )

    async def _restart(self, end: Callable[[Process], Awaitable[None]]) -> None:
        """One client at a time; who comes second finds the work done."""
        if not self._up.is_set():
            await self._up.wait()
            return
        self._up = anyio.Event()
        await end(self._process)
        await self._boot()

    async def _kill(self, process: Process) -> None:
        process.storage.die()
        self.deaths[process.number] = anyio.current_time()
        self.violations += process.complaints()
        process.witness.violations = []
        for call in self.calls:
            if call.process == process.number and call.outcome is Outcome.OPEN:
                call.outcome = Outcome.DIED
        for scope in process.scopes:
            scope.cancel()
        self._graves.start_soon(partial(process.manager.aclose, drain_seconds=0))

    async def _stop(self, process: Process) -> None:
        await process.manager.aclose()
        await self._stopped(process)

    async def _stop_now(self, process: Process) -> None:
        await process.manager.aclose(drain_seconds=0)
        await self._stopped(process)

    async def _stopped(self, process: Process) -> None:
        await self._settle()
        self.violations += process.complaints()
        if self.program.settings.guests & HOOK:
            self._check_heard(process)

    def _check_heard(self, process: Process) -> None:
        for call in self.calls:
            told = call.process == process.number and call.outcome is Outcome.OK
            # What comes under a key may have been heard in a process before.
            if told and not call.step.key and call.step.verb in {*TALKING, *AGAIN, *ADDED}:
                heard = process.witness.heard.get(call.session_id, [])
                if call.value.seq not in heard:
                    self.violations.append(f"G10: the hook was never told of {call}")

    async def _settle(self) -> None:
        """Every message has an answer sooner or later: a lost one is a deadlock here."""
        for call in self.calls:
            ended = call.process != self._process.number or call.outcome in {
                Outcome.OK,
                Outcome.ERROR,
            }
            if call.ticket is not None and not ended:
                await self._await(call, call.ticket)

    # ------------------------------------------------------------ clients

    async def _client(self, number: int, steps: tuple[Step, ...]) -> None:
        posted: list[Call] = []
        calls = 0
        for place, step in enumerate(steps):
            await self._wait_until_up()
            calls += step.verb in TALKING or step.verb in PLAIN
            if step.verb == "follow":
                await self._watch(number, step)
            elif step.verb == "fork":
                await self._fork(step, f"f{number}.{place}")
            else:
                await self._step(step, f"c{number}.{calls}", posted)

    async def _wait_until_up(self) -> None:
        while not self._up.is_set():
            await self._up.wait()

    async def _step(self, step: Step, name: str, posted: list[Call]) -> None:
        if step.verb in {"gap", "kill", "stop"}:
            await self._pass_time(step)
        elif step.verb == "take":
            if posted and posted[-1].ticket is not None:
                call = posted.pop() if posted[-1].step.key else posted[-1]
                call.withdrawn = call.ticket is not None and call.ticket.withdraw()
        elif step.verb == "read":
            await self._read(self._process.sessions[step.session or 0])
        elif step.verb in {"evict", "crash"}:
            self._strike(step)
        elif step.verb == "tidy":
            await self._tidy(step)
        elif step.verb == "halt":
            await self._halt(self._process.sessions[step.session or 0])
        elif step.verb in TALKING:
            await self._talk(step, f"{step.key or name}:{step.how}", posted)
        elif step.how == "soon":
            self._clients.start_soon(self._change_soon, step, name)
            await anyio.lowlevel.checkpoint()  # the schedule says which of them goes on first
        else:
            await self._change(step, name)
        self._check_bounds()

    async def _pass_time(self, step: Step) -> None:
        await anyio.sleep(step.value or 0.0)
        if step.verb == "kill":
            await self._restart(self._kill)
        elif step.verb == "stop":
            await self._restart(self._stop_now if step.how == "now" else self._stop)

    def _strike(self, step: Step) -> None:
        supervisor, session_id = self._process.supervisor, f"s{step.session}"
        if step.verb == "evict":
            supervisor.evict(session_id)
        elif supervisor.crash(session_id, PlannedCrashError(session_id)):
            place = self._process.number, session_id
            self._strikes[place] = self._strikes.get(place, 0) + 1

    def _call(self, step: Step, content: str) -> tuple[Call, Session]:
        """Number the call. The ticket must be taken before anything is awaited."""
        session_id = f"s{step.session}"
        process = self._process
        call = Call(step, session_id, content, self.disk.written(session_id), process.number)
        if step.timeout is not None and step.verb not in ADDED:
            call.deadline = anyio.current_time() + step.timeout
        self.calls.append(call)
        return call, process.sessions[step.session or 0]

    async def _talk(self, step: Step, content: str, posted: list[Call]) -> None:
        call, session = self._call(step, content)
        actor = self._process.supervisor._actors.get(call.session_id)
        queued = 0 if actor is None else actor.queued
        try:
            key = step.key[:1] or None
            call.ticket = session.submit(content, timeout=step.timeout, idempotency_key=key)
        except SessionError as error:
            call.fail(error)
            self._check_quarantine(call)
            if isinstance(error, MailboxFullError) and queued < self.program.settings.box:
                self.violations.append(f"G11: the mailbox was full with {queued}")
            return
        if step.verb == "post":
            posted.append(call)
        else:
            await self._await(call, call.ticket, step.value)

    async def _change_soon(self, step: Step, name: str) -> None:
        await self._wait_until_up()
        await self._change(step, name)

    async def _change(self, step: Step, name: str) -> None:
        call, session = self._call(step, name)
        patience = step.value if step.verb in {*ADDED, "put", *AGAIN} else None
        await self._await(call, self._change_of(step, name, session), patience)

    def _change_of(self, step: Step, name: str, session: Session) -> Awaitable[object]:
        """The coroutine of the call: it takes its place when it is awaited."""
        number = int(step.value or 0)
        create = partial(self._process.manager.create_session, "u", "scripted", "m")
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "note": lambda: session.send_system_message(name),
            "say": lambda: session.add_message("user", name, timestamp=self._past(step)),
            "reply": lambda: session.add_message("assistant", name, timestamp=self._past(step)),
            "put": lambda: session.update_context({name: 1}),
            "conf": lambda: session.update_config({"max_messages": number or 1}),
            "clear": session.clear_messages,
            "arch": session.archive,
            "open": session.reopen,
            "rew": lambda: session.rewind(number),
            "retry": lambda: session.retry(timeout=step.timeout),
            "again": lambda: session.regenerate(timeout=step.timeout),
            "make": lambda: create(session_id=f"s{step.session}"),
        }
        return calls[step.verb]()

    def _past(self, step: Step) -> datetime | None:
        """When the message was written elsewhere."""
        if step.timeout is None:
            return None
        return datetime.fromtimestamp(self.wall_clock_us() / 1e6 - step.timeout, tz=UTC)

    async def _await(
        self, call: Call, todo: Awaitable[object], cancel_after: float | None = None
    ) -> None:
        """Await it as the caller would; the scope is the caller's life."""
        process = self._process
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            if cancel_after is not None:
                scope.deadline = anyio.current_time() + cancel_after
            try:
                call.succeed(await todo)
            except SessionError as error:
                call.fail(error)
        process.scopes.pop(scope, None)
        self._check_quarantine(call)
        call.told_at = self.disk.written(call.session_id)
        call.header_revision = process.sessions[call.step.session or 0]._record.revision
        if call.outcome is Outcome.OPEN:
            call.outcome = Outcome.CANCELLED
            call.withdrawn = call.ticket is not None and call.ticket.state is TicketState.WITHDRAWN

    async def _halt(self, session: Session) -> None:
        """Stop the turn that runs; what is noted is what the caller was told."""
        process, session_id = self._process, session.session_id
        turn = process.supervisor.turn_of(session_id)
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            stopped = await session.stop()
            if stopped != (turn is not None):
                self.violations.append(f"G9: stop() gave {stopped}, and {turn} ran")
            if turn is not None:
                told_at = self.disk.written(session_id)
                self.halts.append(Halt(session_id, turn.turn_no, told_at))
        process.scopes.pop(scope, None)

    async def _tidy(self, step: Step) -> None:
        process, age = self._process, step.value or 0.0
        names = [session.session_id for session in process.sessions]
        begun_at = {name: self.disk.written(name) for name in names}
        tidying = Tidying(age, step.how == "dry", begun_at, len(self.disk.writes))
        self.tidyings.append(tidying)
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            try:
                tidying.count = await process.manager.cleanup_inactive_sessions(
                    timedelta(seconds=age), dry_run=tidying.is_dry
                )
                tidying.told_at = {name: self.disk.written(name) for name in names}
                tidying.last_write = len(self.disk.writes)
            except SessionError:
                pass  # not an error, because the disk may fail and a crash is its session's
            tidying.latest_us = process.manager._anchor.host.wall_clock_us() - age * 1e6
        process.scopes.pop(scope, None)

    async def _fork(self, step: Step, name: str) -> None:
        process, session_id = self._process, f"s{step.session}"
        at = None if step.value is None else int(step.value)
        begun_at = self.disk.known(session_id)
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            with contextlib.suppress(SessionError):
                await process.sessions[step.session or 0].fork(at, session_id=name)
                if not self.disk.written(name):
                    self.violations.append(f"G3: {step} returned before {name} was stored")
        process.scopes.pop(scope, None)
        self.forks.append(Fork(session_id, name, at, begun_at, self.disk.written(session_id)))

    async def _watch(self, client: int, step: Step) -> None:
        process, session_id = self._process, f"s{step.session}"
        follower = self._followers.setdefault((client, session_id), Follower(session_id, self.disk))
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            session = process.sessions[step.session or 0]
            await follow_for(follower, session, step.how, step.value)
        process.scopes.pop(scope, None)

    async def _read(self, session: Session) -> None:
        process, session_id = self._process, session.session_id
        read = Read(session_id, self.disk.known(session_id))
        with anyio.CancelScope() as scope:
            process.scopes[scope] = None
            try:
                messages = await session.get_messages()
                read.lines = tuple(
                    (message.seq, message.role.value, message.content, message.finish_reason)
                    for message in messages
                )
                context = await session.get_context()
                read.context = (context.version, tuple(context))
                read.total = (await session.get_metrics()).total_messages
                read.ended_at = self.disk.written(session_id)
                self.reads.append(read)
            except SessionError:
                pass  # not an error, because a disk may fail and a process may die under a read
        process.scopes.pop(scope, None)

    def _check_quarantine(self, call: Call) -> None:
        strikes = self._strikes.get((call.process, call.session_id), 0)
        planned = strikes > self.program.settings.restarts
        if isinstance(call.error, SessionQuarantinedError) and not planned:
            self.violations.append(f"G14: quarantined after {strikes} crashes: {call}")

    def _check_bounds(self) -> None:
        settings = self.program.settings
        if not self._up.is_set():
            return
        supervisor = self._process.supervisor
        live = supervisor.statistics().live
        if live > settings.live:
            self.violations.append(
                f"G11: {live} sessions are live, max_live_sessions={settings.live}"
            )
        for actor in supervisor._actors.values():
            if actor.queued > settings.box:
                self.violations.append(f"G11: {actor.queued} messages queued, box={settings.box}")
