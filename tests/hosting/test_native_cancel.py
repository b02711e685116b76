"""Native cancellation: Task.cancel() on callers, and asyncio.run() cancelling every task."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    RuntimeClosedError,
    create_session_manager,
)
from langswarm.core.session.testing import simulate

from ..runtime.helpers import Echo, Store, answer_to, assert_turns, contents, new_session, outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langswarm.core.session import Session, SessionManager, SessionMessage, Ticket
    from langswarm.core.session.testing import Backend

    from ..runtime.helpers import Gate


def test_a_natively_cancelled_caller_in_the_queue_takes_its_message_along(store: Store) -> None:
    """G9: Task.cancel() is as good as a cancel scope."""
    provider = Echo()
    gate = provider.hold("long")

    async def program() -> None:
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            first = asyncio.create_task(session.send_message("long"))
            await gate.reached()
            queued = asyncio.create_task(session.send_message("never"))
            await asyncio.sleep(0)
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
            gate.open()
            assert (await first).content == "answer to long"
            await session.send_message("next")
            assert_turns(await session.get_messages(), ["long", "next"])

    asyncio.run(program())


async def send_until(gate: Gate, session: Session, text: str) -> None:
    """Within a timeout that ends as soon as the turn is at its gate."""

    async def expire() -> None:
        await gate.reached()
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        expiry = asyncio.create_task(expire())
        await session.send_message(text)
    await expiry


def test_a_natively_cancelled_caller_of_a_running_turn_leaves_it_running(store: Store) -> None:
    """G9: Task.cancel(), wait_for and timeout end the wait, and the turn commits."""
    provider = Echo()
    gates = [provider.hold(text) for text in ("cancel", "wait_for", "timeout")]

    async def program() -> None:
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            task = asyncio.create_task(session.send_message("cancel"))
            await gates[0].reached()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gates[0].open()
            await session.update_context(behind=1)
            with pytest.raises(TimeoutError):  # long enough for the turn to begin
                await asyncio.wait_for(session.send_message("wait_for"), 0.2)
            await gates[1].reached()
            gates[1].open()
            await session.update_context(behind=2)
            with pytest.raises(TimeoutError):
                await send_until(gates[2], session, "timeout")
            gates[2].open()
            await session.send_message("next")
            texts = ["cancel", "wait_for", "timeout", "next"]
            assert_turns(await session.get_messages(), texts)

    asyncio.run(program())
    assert provider.cancelled == []


class SlowToClose(InMemorySessionStorage):
    """Takes its time; a close that was cancelled is none."""

    closed = False

    async def close(self) -> None:
        await anyio.sleep(1.0)
        await super().close()
        self.closed = True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_while_the_runtime_is_closing_lets_it_finish(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """G13: asyncio cancels the owner in the middle of its last steps; it goes on with them."""
    storage = SlowToClose()

    async def program() -> None:
        manager = create_session_manager(storage)
        await manager.create_session("ann", "mock", "m")
        del manager  # forgotten, so that it closes in the background
        gc.collect()
        await anyio.sleep(0.5)

    simulate(program, backend=backend, seed=None)
    assert storage.closed
    assert caplog.text == ""


@pytest.mark.parametrize("first_use", ["create", "read", "submit", "many"])
def test_a_manager_whose_owner_was_cancelled_before_its_first_step_begins_anew(
    store: Store, first_use: str
) -> None:
    """All tasks are cancelled in the very tick of the first use, and the loop goes on (G9, G13)."""
    manager = store.manager(Echo())
    handle = asyncio.run(new_session(manager, session_id="before"))
    tickets: list[Ticket[SessionMessage]] = []

    async def use() -> None:
        if first_use == "read":
            await handle.get_messages()
        elif first_use == "submit":
            tickets.append(handle.submit("never"))
            await asyncio.sleep(9)
        else:
            await new_session(manager, session_id="s")

    async def program() -> None:
        users = [asyncio.create_task(use()) for _ in range(3 if first_use == "many" else 1)]
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait(users)
        assert all(task.cancelled() for task in users)
        for ticket in tickets:
            assert isinstance(await outcome(ticket), RuntimeClosedError)
        session = await new_session(manager, session_id="s")
        for each in (session, handle):
            await each.send_message("one")
            assert_turns(await each.get_messages(), ["one"])
        await manager.aclose()

    asyncio.run(program())


async def busy(manager: SessionManager, acknowledged: dict[str, list[str]]) -> None:
    """Ten sessions that create, send and update without an end."""

    async def talk(number: int) -> None:
        name = f"s{number}"
        session = await new_session(manager, session_id=name)
        acknowledged[name] = []
        turn = 0
        while True:
            await session.send_message(f"{turn}")
            acknowledged[name].append(f"{turn}")
            await session.update_context(turn=turn)
            turn += 1

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(talk, number)


async def assert_nothing_lost(manager: SessionManager, acknowledged: dict[str, list[str]]) -> None:
    """Every acknowledged turn is there once; nothing is open; every session goes on."""
    async with manager:
        for name, texts in acknowledged.items():
            session = await manager.get_session(name)
            messages = await session.get_messages()
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
            answers = [m.content for m in messages if m.finish_reason == "stop"]
            assert answers[: len(texts)] == [answer_to(text) for text in texts]
            assert len(answers) <= len(texts) + 1
            assert (await session.get_metrics()).total_messages == len(messages)
            context = await session.get_context()
            assert context.version >= len(texts) - 1
            last = await session.send_message("next")
            assert last.content == "answer to next"


def storm(store: Store, steps: int, end: Callable[[], Awaitable[None]], backend: str) -> None:
    """Let the busy sessions run for so many steps of the loop, end it, and look."""
    acknowledged: dict[str, list[str]] = {}

    async def program() -> None:
        manager = store.manager(Echo(), max_live_sessions=6, cancel_grace_seconds=20)
        async with anyio.create_task_group() as group:
            group.start_soon(busy, manager, acknowledged)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            await end()
            group.cancel_scope.cancel()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it is left busy on purpose
        try:
            anyio.run(program, backend=backend)
        except BaseException as error:
            if not _is_planted(error):
                raise
    after = store.manager(Echo())
    anyio.run(assert_nothing_lost, after, acknowledged, backend=backend)


class Planted(Exception):  # noqa: N818 - the end, not an error
    """Ends the program."""


def _is_planted(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_is_planted(inner) for inner in group.exceptions)
    return isinstance(error, (Planted, asyncio.CancelledError))


async def raises() -> None:
    raise Planted


async def returns() -> None:
    """The main function ends as if nothing was."""


async def cancels_all_tasks() -> None:
    """What asyncio.run() does at the end, and some servers in the middle."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


STEPS = [*range(4, 40, 3), 60, 100, 171, 300]


@pytest.mark.parametrize("end", [returns, raises], ids=lambda end: end.__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_loop_may_end_at_any_moment(
    kind: str, backend: str, end: Callable[[], Awaitable[None]], tmp_path: Any
) -> None:
    """G3, G4, G13: turns in every stage when the loop ends: nothing acknowledged is lost."""
    for steps in STEPS:
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        storm(Store(kind, folder), steps, end, backend)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_task_may_be_cancelled_at_any_moment(kind: str, tmp_path: Any) -> None:
    """G3, G4, G13: all tasks of the loop cancelled natively, the runtime's own among them."""
    for steps in STEPS:
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        storm(Store(kind, folder), steps, cancels_all_tasks, "asyncio")


def test_tasks_cancelled_in_mid_turn_are_interrupted_with_their_partial_text(store: Store) -> None:
    """G9, G13: asyncio's end of the loop is an interruption like any other."""
    provider = Echo()
    gate = provider.hold("long")
    sessions: list[Session] = []

    async def program() -> None:
        session = await new_session(store.manager(provider, cancel_grace_seconds=20))
        sessions.append(session)
        ticket = session.submit("long")
        await gate.reached()
        await cancels_all_tasks()
        await outcome(ticket)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it is left busy on purpose
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(program())

    async def look() -> None:
        async with store.manager(provider) as manager:
            session = await manager.get_session(sessions[0].session_id)
            assert await contents(session) == ["long", "answer "]
            await session.send_message("next")

    asyncio.run(look())
