"""The log: nothing is configured, records name their session and turn, and nobody's words are told.

The loggers are the library's and its SQLite driver's. An HTTP client has loggers of its own.
"""

from __future__ import annotations

import ast
import gc
import io
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import langswarm.core.session as library
import pytest
from langswarm.core.session import (
    ISessionLifecycleHook,
    ISessionMiddleware,
    MessageRefused,
    ProviderError,
    Session,
    SessionError,
    SessionManager,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.hooks import ErrorLogHook
from langswarm.core.session.middleware import LoggingMiddleware
from langswarm.core.session.providers import Completed, MockProvider, TextDelta, fault
from langswarm.core.session.testing import Fault, FaultyStorage

from .helpers import Echo, Gate, Play, Store, new_session, outcome, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langswarm.core.session import SessionContext
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

LOGGER = "langswarm.core.session"
CANARY = "canary-4f1e"
KEY = "sk-canary-key-0123456789abcdef"
SOURCES = sorted(
    path
    for folder in ("actors", "runtime", "adapters", "session")
    for path in (Path(__file__).parents[2] / folder).rglob("*.py")
    if "testing" not in path.parts
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged at any level, as text: message, arguments, extras and tracebacks."""
    written = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.write(f"{self.format(record)}\n{record.__dict__!r}\n")

    handler = Everything()
    loggers = [logging.getLogger(name) for name in (LOGGER, "aiosqlite")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield written
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


def extras(caplog: pytest.LogCaptureFixture, words: str) -> tuple[object, object]:
    """`session_id` and `turn_id` of the one record that has these words."""
    (found,) = [record for record in caplog.records if words in record.getMessage()]
    return found.__dict__["session_id"], found.__dict__.get("turn_id")


class Refusing(ISessionMiddleware):
    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        del session_id, context
        if "refuse" in message.content:
            raise MessageRefused("not this one")
        if "break" in message.content:
            raise RuntimeError("broken")
        return message


class Failing(ISessionLifecycleHook):
    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        del session_id
        raise RuntimeError(f"the hook does not like message {message.seq}")


class TestContents:
    async def test_are_in_no_record_at_any_level(self, store: Store, log: io.StringIO) -> None:
        echo = Echo()
        gate = echo.hold(f"{CANARY} held")
        echo.failing.add(f"{CANARY} fails")
        manager = store.manager(
            echo,
            middleware=[LoggingMiddleware(), Refusing()],
            hooks=[ErrorLogHook(), Failing()],
            idle_seconds=0,
        )
        async with manager:
            session = await live_through_all(manager, gate)
            assert (await manager.verify_storage()).ok
        async with store.manager(Echo()) as manager:
            session = await manager.get_session(session.session_id)
            await session.send_message(f"{CANARY} after the restart")
            await session.delete()
        told = log.getvalue()
        assert "user message of" in told
        assert "the hook does not like" in told
        assert CANARY not in told

    async def test_are_in_no_record_of_a_storage_that_fails(
        self, store: Store, log: io.StringIO
    ) -> None:
        storage = FaultyStorage(store.storage())
        async with create_session_manager(storage, providers={"openai": Echo()}) as manager:
            session = await new_session(manager)
            for trouble in (Fault.FULL, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.RAISES_AFTER):
                storage.fail("commit", trouble)
                await outcome(session.submit(f"{CANARY} {trouble}"))
        assert "outcome of a commit is unknown" in log.getvalue()
        assert CANARY not in log.getvalue()

    async def test_of_a_damaged_file_are_in_no_record(
        self, sqlite: Store, log: io.StringIO
    ) -> None:
        import sqlite3  # noqa: PLC0415 - this one looks inside

        async with sqlite.manager(Echo()) as manager:
            for number in range(3):
                session = await new_session(manager, session_id=f"s{number}")
                await session.send_message(f"{CANARY} {number}")
                await session.update_context({"said": CANARY})
        connection = sqlite3.connect(sqlite.path)
        connection.execute("UPDATE sessions SET status = 'broken' WHERE id = 's0'")
        connection.execute(f"UPDATE session_documents SET context = '{CANARY}' WHERE 1")
        connection.commit()
        connection.close()
        async with sqlite.manager(Echo()) as manager:
            await manager.get_user_sessions("user")
            for number in range(3):
                assert isinstance(await outcome(use(manager, f"s{number}")), SessionError)
        assert "is damaged" in log.getvalue()
        assert CANARY not in log.getvalue()

    async def test_are_logged_where_they_are_asked_for(self, log: io.StringIO) -> None:
        mock = MockProvider(script=[fault("auth")])
        hooks = [ErrorLogHook(details=True)]
        middleware = [LoggingMiddleware(contents=True)]
        async with create_session_manager(
            providers={"mock": mock}, middleware=middleware, hooks=hooks
        ) as manager:
            session = await manager.create_session("u", "mock", "m")
            with pytest.raises(ProviderError):
                await session.send_message(f"{CANARY}\nsecond line")
        assert f"'{CANARY}\\nsecond line'" in log.getvalue()
        assert "Traceback" in log.getvalue()

    async def test_keys_are_in_no_record(self, log: io.StringIO) -> None:
        with pytest.raises(SessionError):
            create_session_manager(providers={"openai": {"api_key": KEY, "tiemout": 1}})
        async with create_session_manager(
            providers={"openai": {"api_key": KEY, "base_url": "http://127.0.0.1:1"}},
            middleware=[LoggingMiddleware(contents=True)],
            hooks=[ErrorLogHook(details=True)],
        ) as manager:
            session = await manager.create_session("u", "openai", "gpt-4")
            assert isinstance(await outcome(session.submit("Hello")), ProviderError)
        assert "the connection to http://127.0.0.1:1 was refused" in log.getvalue()
        assert KEY not in log.getvalue()


async def use(manager: SessionManager, session_id: str) -> None:
    session = await manager.get_session(session_id)
    await session.get_context()
    await session.update_context({"more": 1})


async def live_through_all(manager: SessionManager, gate: Gate) -> Session:
    """What can be said, and what can go wrong with it."""
    session = await new_session(
        manager,
        session_config={"name": CANARY, "tags": [CANARY], "description": CANARY},
        provider_config={"note": CANARY},
    )
    await session.send_system_message(f"{CANARY} be brief")
    await session.send_message(f"{CANARY} hello", metadata={CANARY: CANARY}, idempotency_key="k")
    await session.update_context({CANARY: CANARY})
    for text in ("fails", "refuse", "break"):
        assert isinstance(await outcome(session.submit(f"{CANARY} {text}")), SessionError)
    running = session.submit(f"{CANARY} held")
    queued = session.submit(f"{CANARY} queued", timeout=0.001)
    await gate.reached()
    await session.stop()
    gate.open()
    await outcome(running)
    await outcome(queued)
    await manager.search_sessions(text=CANARY, tags=[CANARY])
    await session.update_config({"name": f"{CANARY} again"})
    await session.archive()
    assert isinstance(await outcome(session.submit(f"{CANARY} too late")), SessionError)
    await session.reopen()
    return session


class TestRecords:
    async def test_of_a_message_name_session_turn_and_user(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, LOGGER):
            async with create_session_manager(middleware=[LoggingMiddleware()]) as manager:
                session = await manager.create_session("ada", "mock", "m", session_id="s")
                await session.send_message("Hello")
        said = [record.__dict__ for record in caplog.records if record.name.endswith("messages")]
        assert [(each["session_id"], each["turn_id"]) for each in said] == [("s", "s/1")] * 2
        assert [each["user_id"] for each in said] == ["ada", "ada"]

    async def test_of_a_hook_that_fails_name_session_and_turn(
        self, memory: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with memory.manager(Echo(), hooks=[Failing()]) as manager:
            session = await new_session(manager, session_id="s")
            await session.send_message("Hello")
        assert extras(caplog, "Failing.on_message_sent' failed") == ("s", "s/1")

    async def test_of_a_guest_that_blocks_name_session_and_turn(
        self, memory: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Blocking(ISessionMiddleware):
            async def process_message(
                self, session_id: str, message: SessionMessage, context: SessionContext
            ) -> SessionMessage:
                del session_id, context
                if message.role == "user":
                    time.sleep(0.02)  # noqa: ASYNC251 - that is the fault
                return message

        manager = memory.manager(Echo(), middleware=[Blocking()], blocking_seconds=0.01)
        async with manager:
            session = await new_session(manager, session_id="s")
            await session.send_message("Hello")
        found = [each for each in caplog.records if "held the event loop" in each.getMessage()]
        assert {each.__dict__["session_id"] for each in found} == {"s"}

    async def test_of_a_provider_that_blocks_name_the_turn(
        self, memory: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Blocking(Play):
            def __init__(self) -> None:
                super().__init__([TextDelta("slow"), Completed()])

            async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
                time.sleep(0.02)  # noqa: ASYNC251 - that is the fault
                async for event in super().stream(request):
                    yield event

        async with memory.manager(Blocking(), blocking_seconds=0.01) as manager:
            session = await new_session(manager, session_id="s")
            await session.send_message("Hello")
        found = [each for each in caplog.records if "held the event loop" in each.getMessage()]
        assert ("s", "s/1") in {
            (each.__dict__["session_id"], each.__dict__.get("turn_id")) for each in found
        }

    async def test_of_a_checkpoint_that_fails_name_session_and_turn(
        self, memory: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        echo = Echo()
        gate = echo.hold("Hello")
        storage = FaultyStorage(memory.storage())
        manager = create_session_manager(
            storage, providers={"openai": echo}, checkpoint_seconds=0.001
        )
        async with manager:
            session = await new_session(manager, session_id="s")
            ticket = session.submit("Hello")
            await gate.reached()
            storage.fail("commit", Fault.FULL)
            await until(lambda: "a checkpoint of session" in caplog.text)
            gate.open()
            await ticket
        assert extras(caplog, "a checkpoint of session s failed") == ("s", "s/1")

    def test_can_be_formatted_with_the_session(self) -> None:
        """As docs/how-to/configure.md has it: records without a session, too."""
        formatter = logging.Formatter(
            "%(session_id)s %(message)s", defaults={"session_id": "-", "turn_id": "-"}
        )
        record = logging.LogRecord(LOGGER, logging.INFO, "", 0, "words", None, None)
        assert formatter.format(record) == "- words"


def check_call(path: Path, node: ast.Call, name: str) -> None:
    assert name not in {"basicConfig", "addHandler", "setLevel", "dictConfig"}, path
    if name == "addFilter":  # takes keys out of what HTTP clients log
        assert path.name == "library_logs.py"
    if name == "getLogger" and isinstance(argument := node.args[0], ast.Constant):
        assert str(argument.value).startswith(LOGGER)


class TestConfiguration:
    def test_is_left_alone(self) -> None:
        """A process of its own: no handler, no level, no filter, whatever the library does."""
        program = """
import asyncio, logging
from langswarm.core.session import create_session_manager
async def main():
    for preset in (None, "development"):
        async with create_session_manager(preset=preset) as manager:
            session = await manager.create_session("u", "mock", "m")
            await session.send_message("Hello")
asyncio.run(main())
names = [name for name in logging.root.manager.loggerDict if name.startswith("langswarm")]
assert names, names
for logger in (logging.root, *map(logging.getLogger, names)):
    assert not logger.handlers, logger
    assert not logger.filters, logger
    assert logger is logging.root or logger.level == logging.NOTSET, logger
    assert logger.propagate and not logger.disabled, logger
assert logging.root.level == logging.WARNING
"""
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_is_touched_by_no_module(self) -> None:
        """Every logger is the library's or named by the caller; nothing else is called on them."""
        for path in SOURCES:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    check_call(path, node, node.func.attr)

    def test_records_are_made_by_no_print(self) -> None:
        own = [path for path in SOURCES if "cli" not in path.parts]
        assert len(own) > 50
        for path in own:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                printed = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
                assert not printed, path


def test_nothing_is_left_behind() -> None:
    """Loggers live for ever: none is made per session or manager."""
    before = set(logging.root.manager.loggerDict)
    for _ in range(3):
        create_session_manager(preset="development")
    gc.collect()
    after = set(logging.root.manager.loggerDict) - before
    assert after <= {f"{LOGGER}.messages", f"{LOGGER}.errors", library.__name__}
