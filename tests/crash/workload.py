"""What the processes of these tests do: sessions through the public API, and a journal of it.

Before a call that changes something the journal gets a line `{"do": ...}`, after its answer one
`{"done": ...}`, or `{"failed": ...}` with the error. What is done was acknowledged.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import traceback
from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session import (
    Session,
    SessionError,
    SessionManager,
    SessionNotFoundError,
    SQLiteSessionStorage,
    create_session_manager,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from .order import Order

    Work = Callable[[Order], Awaitable[None]]

Step = tuple[str, str]
"""(kind, text): send, system, context, archive, reopen, clear."""


CHANCES = 25


def shim() -> ctypes.CDLL | None:
    """The preloaded library, if it is there."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "shim_arm"):
        return None
    library.shim_hit.restype = ctypes.c_char_p
    return library


class Journal:
    """Whole lines, each one write: a kill leaves a line or none, in the order of the answers."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def say(self, **fields: Any) -> None:
        """Write one line."""
        os.write(self._file, json.dumps(fields).encode() + b"\n")


async def attempt(
    journal: Journal, name: str, step: Step, call: Callable[[], Awaitable[Any]]
) -> Any:
    """Make the call, and tell the journal before and after; None if it failed."""
    kind, text = step
    facts: dict[str, Any] = {"session": name, "text": text}
    journal.say(do=kind, **facts)
    try:
        result = await call()
    except SessionError as error:
        journal.say(
            failed=kind,
            error=type(error).__name__,
            code=getattr(error, "code", ""),
            outcome=getattr(error, "outcome", ""),
            retryable=error.retryable,
            says=str(error),
            **facts,
        )
        return None
    except Exception:  # noqa: BLE001 - whatever it is, it should have been a SessionError
        journal.say(bug=traceback.format_exc(), **facts)
        return None
    if kind in {"send", "system"}:
        facts |= {"seq": result.seq, "content": result.content}
    journal.say(done=kind, **facts)
    return result if result is not None else True


async def perform(journal: Journal, session: Session, step: Step) -> bool:
    """One step of a session; whether it was acknowledged."""
    kind, text = step
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "send": lambda: session.send_message(text),
        "system": lambda: session.send_system_message(text),
        "context": lambda: session.update_context(text=text),
        "archive": session.archive,
        "reopen": session.reopen,
        "clear": session.clear_messages,
    }
    return await attempt(journal, session.session_id, step, calls[kind]) is not None


async def obtain(journal: Journal, manager: SessionManager, name: str) -> Session | None:
    """The session of that name; it is created if it is not there, with some more chances."""
    for _ in range(CHANCES):
        try:
            return await manager.get_session(name)
        except SessionNotFoundError:
            pass
        except SessionError as error:
            journal.say(failed="get", session=name, says=str(error), error=type(error).__name__)
        create = ("create", "")
        session: Session | None = await attempt(
            journal,
            name,
            create,
            lambda: manager.create_session("ann", "mock", "mock-model", session_id=name),
        )
        if session is not None:
            return session
    return None


def manager_for(order: Order) -> SessionManager:
    """As a user makes it."""
    storage = SQLiteSessionStorage(
        order.path,
        enable_wal=order.wal,
        synchronous=order.synchronous,  # type: ignore[arg-type]
    )
    return create_session_manager(storage, idle_seconds=0.05)


def text_of(order: Order, name: str, number: int) -> str:
    """Never twice the same."""
    return f"{name}/{order.label}/{number} ".ljust(order.padding, "x")


def fixed_steps(order: Order, name: str) -> Iterator[Step]:
    """The scenario whose every write and sync is swept."""
    kinds = ("send", "send", "context", "send", "clear", "send", "archive", "reopen", "send")
    for number, kind in enumerate(kinds):
        yield kind, text_of(order, name, number)


def drawn_steps(order: Order, name: str) -> Iterator[Step]:
    """Mostly sends; without end, or `order.calls`."""
    rng = random.Random(f"{order.seed}/{order.label}/{name}")
    kinds, weights = ("send", "system", "context", "clear", "archive"), (85, 4, 8, 1, 2)
    number = 0
    while not order.calls or number < order.calls:
        [kind] = rng.choices(kinds, weights)
        yield kind, text_of(order, name, number)
        if kind == "archive":
            yield "reopen", text_of(order, name, number)
        number += 1


def sent_steps(order: Order, name: str) -> Iterator[Step]:
    """Sends only, `order.calls` of them."""
    return (("send", text_of(order, name, number)) for number in range(order.calls))


async def run_sessions(
    order: Order, journal: Journal, manager: SessionManager, steps: Steps
) -> None:
    """All sessions at once, each one call after the other."""

    async def one(name: str) -> None:
        session = await obtain(journal, manager, name)
        if session is None:
            return
        if session.status == "archived":  # the process before was killed right then
            await perform(journal, session, ("reopen", ""))
        for step in steps(order, name):
            await perform(journal, session, step)

    async with anyio.create_task_group() as group:
        for number in range(order.sessions):
            group.start_soon(one, f"s{number}")


if TYPE_CHECKING:
    Steps = Callable[[Order, str], Iterable[Step]]


async def close(journal: Journal, manager: SessionManager) -> None:
    """The end in good order, and what the shim did."""
    try:
        await manager.aclose()
    except SessionError as error:
        journal.say(failed="close", session="", error=type(error).__name__, says=str(error))
    except Exception:  # noqa: BLE001 - whatever it is, it should have been a SessionError
        journal.say(bug=traceback.format_exc())
    library = shim()
    hit = library.shim_hit().decode() if library else ""
    journal.say(end=True, hit=hit, counted=library.shim_counted() if library else 0)


def work_of(steps: Steps) -> Work:
    """A process that opens, lets all sessions take their steps, and closes."""

    async def work(order: Order) -> None:
        journal = Journal(order.journal)
        manager = manager_for(order)
        await run_sessions(order, journal, manager, steps)
        await close(journal, manager)

    return work


async def in_step(order: Order) -> None:
    """All sessions take each step together, so that every run asks the disk for nearly the same."""
    journal = Journal(order.journal)
    manager = manager_for(order)
    sessions: list[Session] = []

    async def get(name: str) -> None:
        session = await obtain(journal, manager, name)
        if session is not None:
            sessions.append(session)

    names = [f"s{number}" for number in range(order.sessions)]
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(get, name)
    ways = [fixed_steps(order, session.session_id) for session in sessions]
    for steps in zip(*ways, strict=True):
        async with anyio.create_task_group() as group:
            for session, step in zip(sessions, steps, strict=True):
                group.start_soon(perform, journal, session, step)
    await close(journal, manager)


WORKS: dict[str, Work] = {
    "fixed": in_step,
    "drawn": work_of(drawn_steps),
    "sent": work_of(sent_steps),
}
