"""G15: a guest that does not give the event loop back is reported while it holds it."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session.actors import watch
from langswarm.core.session.actors.watch import BlockingReport, Watched
from langswarm.core.session.interfaces import ISessionMiddleware

from .helpers import PATIENCE_SECONDS, Echo, Store, new_session, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langswarm.core.session.interfaces import SessionContext, SessionMessage


class Listener(logging.Handler):
    """Hears of a record in whatever thread it is made."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.heard = threading.Event()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.records.append(record)
            self.heard.set()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener("still does")
    logger = logging.getLogger("langswarm.core.session")
    logger.addHandler(listener)
    yield listener
    logger.removeHandler(listener)


async def test_g15_a_guest_that_holds_the_loop_for_ever_is_named_while_it_does(
    memory: Store, listener: Listener
) -> None:
    """With its session and the line where it stands; once, not again and again."""

    class Endless(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if message.role == "user":
                self.stand_here()
            return message

        def stand_here(self) -> None:
            assert listener.heard.wait(PATIENCE_SECONDS), "nobody was told"
            time.sleep(0.1)  # time enough for a second report

    manager = memory.manager(Echo(), middleware=[Endless()], blocking_seconds=0.002)
    async with manager:
        session = await new_session(manager)
        await session.send_message("Hello, secret")
    (first,) = listener.records
    assert getattr(first, "session_id") == session.session_id  # noqa: B009 - an extra
    assert "stand_here" in first.getMessage()
    assert "secret" not in first.getMessage()
    assert first.levelno == logging.ERROR


async def test_g15_a_guest_that_gives_the_loop_back_is_never_told_to_hold_it(
    memory: Store, listener: Listener
) -> None:
    """However long it takes: many short steps are no long one."""

    class Patient(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            for _ in range(20):
                await anyio.sleep(0.01)
            return message

    manager = memory.manager(Echo(), middleware=[Patient()], blocking_seconds=2.0)
    async with manager:
        session = await new_session(manager)
        await session.send_message("Hello")
    assert listener.records == []


async def test_the_watching_thread_is_there_only_while_guests_are_called() -> None:
    """It ends by itself, and comes back with the next call."""

    async def guest() -> None:
        await anyio.lowlevel.checkpoint()

    report = BlockingReport(time.monotonic, 0.001)
    for _ in range(3):
        await Watched(guest(), report, "a guest", "s")
        await until(lambda: not watch._watchdog.is_running)
        assert not report.is_watched


async def test_no_step_is_left_unwatched_when_the_thread_is_about_to_go() -> None:
    """A guest that is called just then finds itself watched, or makes a new thread."""

    async def guest() -> None:
        await anyio.lowlevel.checkpoint()

    report = BlockingReport(time.monotonic, 0.0001)
    for _ in range(300):
        await Watched(guest(), report, "a guest", "s")
        assert watch._watchdog.is_running or not report.is_watched
        await anyio.sleep(0.001)


async def test_the_watching_thread_keeps_no_runtime_alive() -> None:
    """Managers that were forgotten are gone, also while others go on."""

    async def guest() -> None:
        await anyio.lowlevel.checkpoint()

    goes_on, gone = BlockingReport(time.monotonic, 0.001), list[weakref.ref[BlockingReport]]()
    for _ in range(50):
        forgotten = BlockingReport(time.monotonic, 0.001)
        await Watched(guest(), forgotten, "a guest", "s")
        await Watched(guest(), goes_on, "a guest", "s")
        gone.append(weakref.ref(forgotten))
        del forgotten
    gc.collect()
    await until(lambda: not any(ref() for ref in gone))
