"""One manager, several event loops: one after another, on either backend, never two at once."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.wait import current_backend
from langswarm.core.session.errors import RuntimeClosedError

from ..runtime.helpers import (
    PATIENCE_SECONDS,
    Echo,
    Store,
    answer_to,
    assert_turns,
    contents,
    new_session,
    outcome,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langswarm.core.session import Session, SessionManager


def run(backend: str, program: Callable[[], Awaitable[Any]]) -> Any:
    """One whole life of an event loop."""
    return anyio.run(program, backend=backend)


@pytest.mark.parametrize(
    "backends",
    [
        ("asyncio", "asyncio", "asyncio"),
        ("trio", "trio"),
        ("asyncio", "trio", "asyncio"),
        ("trio", "asyncio", "trio"),
    ],
    ids="-".join,
)
def test_one_manager_and_one_handle_on_one_loop_after_another(
    store: Store, backends: tuple[str, ...]
) -> None:
    """Hosting: used on another loop later, it binds anew; nobody has to close in between."""
    manager = store.manager(Echo())
    session: Session | None = None
    texts: list[str] = []

    async def program() -> None:
        nonlocal session
        if session is None:
            session = await new_session(manager)
        text = f"message {len(texts)}"
        answer = await session.send_message(text)
        texts.append(text)
        assert answer.content == answer_to(text)
        found = await manager.get_session(session.session_id)
        assert_turns(await found.get_messages(), texts)

    for backend in backends:
        run(backend, program)
    run("asyncio", manager.aclose)
    with pytest.raises(RuntimeClosedError):
        run("asyncio", program)


@pytest.mark.parametrize("second", ["asyncio", "trio"])
@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_a_loop_that_ended_in_mid_turn_leaves_an_interrupted_turn(
    store: Store, first: str, second: str
) -> None:
    """Hosting, G5: the next loop finds the partial text and goes on."""
    provider = Echo()
    gate = provider.hold("long")
    manager = store.manager(provider, cancel_grace_seconds=20)

    async def leave_busy() -> Session:
        session = await new_session(manager)
        _ = session.submit("long")
        _ = session.submit("queued")
        await gate.reached()
        return session

    with pytest.warns(ResourceWarning, match="1 busy"):
        session: Session = run(first, leave_busy)

    async def go_on() -> None:
        await session.send_message("next")
        assert await contents(session) == ["long", "answer ", "next", "answer to next"]
        await manager.aclose()

    run(second, go_on)


async def hello(manager: SessionManager) -> None:
    await new_session(manager)


@pytest.mark.parametrize("second", ["asyncio", "trio"])
@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_two_loops_at_once_are_refused_and_the_first_goes_on(
    store: Store, first: str, second: str
) -> None:
    """Hosting: RuntimeError that names the way out; nothing of the first is touched."""
    manager = store.manager(Echo())
    started, go_on = threading.Event(), threading.Event()
    seen: list[Any] = []

    async def first_program() -> None:
        session = await new_session(manager)
        await session.send_message("one")
        seen.append(session)
        started.set()
        await anyio.to_thread.run_sync(go_on.wait)
        await session.send_message("two")
        seen.append(await contents(session))
        await manager.aclose()

    thread = threading.Thread(target=run, args=(first, first_program))
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        session: Session = seen[0]
        with pytest.raises(RuntimeError, match="one manager per event loop"):
            run(second, lambda: hello(manager))
        with pytest.raises(RuntimeError, match="one manager per event loop"):
            run(second, lambda: session.send_message("intruder"))
        with pytest.raises(RuntimeError, match="one manager per event loop"):
            run(second, session.get_messages)
    finally:
        go_on.set()
        thread.join(PATIENCE_SECONDS)
    assert seen[1] == ["one", "answer to one", "two", "answer to two"]


def test_a_loop_that_died_without_a_word_is_replaced(store: Store) -> None:
    """Hosting: closed without cancelling its tasks: what was acknowledged is there."""
    provider = Echo()
    gate = provider.hold("long")
    manager = store.manager(provider)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # it complains of its own tasks

    async def leave_busy() -> Session:
        session = await new_session(manager)
        await session.send_message("one")
        _ = session.submit("long")
        await gate.reached()
        return session

    session = loop.run_until_complete(leave_busy())
    loop.close()

    async def go_on() -> None:
        await session.send_message("two")
        assert (await contents(session))[:2] == ["one", "answer to one"]
        assert (await contents(session))[-2:] == ["two", "answer to two"]
        assert (await session.get_metrics()).interrupted_turns == 1
        await manager.aclose()

    asyncio.run(go_on())
    del loop
    gc.collect()


def test_outside_of_a_loop_the_error_says_what_is_missing(store: Store) -> None:
    """Hosting: making is plain, using needs a loop."""
    manager = store.manager(Echo())
    sessions: list[Session] = []

    async def program() -> None:
        sessions.append(await new_session(manager))

    run("asyncio", program)
    with pytest.raises(RuntimeError, match="event loop"):
        _ = sessions[0].submit("one")
    run("asyncio", manager.aclose)


def test_closing_from_another_loop_closes(store: Store) -> None:
    """Hosting: aclose() on a later loop, when the first is gone: done, and closed for good."""
    manager = store.manager(Echo())
    run("trio", lambda: hello(manager))
    run("asyncio", manager.aclose)
    run("trio", manager.aclose)
    with pytest.raises(RuntimeClosedError):
        run("trio", lambda: hello(manager))


def guest_run(program: Callable[[], Awaitable[Any]], beside: Callable[[], Awaitable[Any]]) -> Any:
    """Run a trio program as a guest of an asyncio loop, with something beside it on asyncio."""

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            program,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        task = asyncio.ensure_future(beside())
        result = await done
        await task
        return result.unwrap()

    return asyncio.run(host())


async def nothing() -> None:
    pass


def test_in_trio_guest_mode_it_runs_on_trio(store: Store) -> None:
    """Hosting: inside a guest run trio is the loop, whatever hosts it."""
    manager = store.manager(Echo())

    async def program() -> int:
        async with manager:
            session = await new_session(manager)
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(session.send_message, f"{number}")
            runtime = manager._anchor.host.runtime()
            assert runtime.backend.name == "trio"
            return len(await session.get_messages())

    assert guest_run(program, nothing) == 10


def test_in_trio_guest_mode_a_forgotten_aclose_is_silent(store: Store) -> None:
    """Hosting: the guest's end winds the runtime down."""
    manager = store.manager(Echo())

    async def program() -> str:
        session = await new_session(manager)
        return (await session.send_message("one")).content

    assert guest_run(program, nothing) == "answer to one"
    run("asyncio", manager.aclose)


def test_beside_a_guest_run_each_side_has_its_own_manager(store: Store) -> None:
    """Hosting: the host's asyncio and the guest's trio at once, each with a manager of its own."""
    guests, hosts = store.manager(Echo()), create_session_manager(providers={"openai": Echo()})

    async def program(manager: SessionManager) -> str:
        async with manager:
            session = await new_session(manager)
            for number in range(5):
                await session.send_message(f"{number}")
            return manager._anchor.host.runtime().backend.name

    async def on_asyncio() -> None:
        assert await program(hosts) == "asyncio"

    assert guest_run(lambda: program(guests), on_asyncio) == "trio"


def test_beside_a_guest_run_one_manager_for_both_is_refused(memory: Store) -> None:
    """Hosting: used from the other side of a guest run: RuntimeError, and no wrecked loop."""
    guests, hosts = memory.manager(Echo()), create_session_manager(providers={"openai": Echo()})
    guest_ready, host_ready, host_done = (threading.Event() for _ in range(3))
    errors: list[str] = []

    async def refused(manager: SessionManager) -> None:
        try:
            await new_session(manager)
        except RuntimeError as error:
            errors.append(str(error))

    async def on_trio() -> None:
        await new_session(guests)
        guest_ready.set()
        while not host_ready.is_set():  # noqa: ASYNC110 - no event crosses the two
            await trio.sleep(0.001)
        await refused(hosts)
        while not host_done.is_set():  # noqa: ASYNC110 - no event crosses the two
            await trio.sleep(0.001)
        await guests.aclose()

    async def on_asyncio() -> None:
        await new_session(hosts)
        host_ready.set()
        while not guest_ready.is_set():  # noqa: ASYNC110 - no event crosses the two
            await asyncio.sleep(0.001)
        await refused(guests)
        host_done.set()
        await hosts.aclose()

    guest_run(on_trio, on_asyncio)
    assert len(errors) == 2
    assert all("one manager per event loop" in error for error in errors)


def test_outcomes_are_settled_when_the_loop_ends(store: Store) -> None:
    """Hosting: after the end of its loop no ticket is left without an outcome."""
    provider = Echo()
    gate = provider.hold("long")
    manager = store.manager(provider, cancel_grace_seconds=20)

    async def leave_busy() -> list[Any]:
        session = await new_session(manager)
        tickets = [session.submit("long"), session.submit("queued")]
        await gate.reached()
        return tickets

    with pytest.warns(ResourceWarning, match="1 busy"):
        tickets = run("asyncio", leave_busy)

    async def look() -> list[Any]:
        return [await outcome(ticket) for ticket in tickets]

    interrupted, handed_back = run("trio", look)
    assert type(interrupted).__name__ == "TurnInterruptedError"
    assert isinstance(handed_back, RuntimeClosedError)
    assert handed_back.content == "queued"
    run("asyncio", manager.aclose)


@pytest.mark.parametrize("so_far", [{}, {"lowlevel": object()}])
def test_a_loop_starts_while_another_thread_still_loads_trio(
    monkeypatch: pytest.MonkeyPatch, so_far: dict[str, Any]
) -> None:
    """Two threads, each with a loop and a manager of its own, may begin at the same moment."""
    half_loaded = ModuleType("trio")
    vars(half_loaded).update(so_far)

    async def program() -> None:
        monkeypatch.setitem(sys.modules, "trio", half_loaded)
        assert current_backend().name == "asyncio"

    asyncio.run(program())
