"""The eleven ways in which LangSwarm 0.1.0 was measured to lose data without an exception."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    ProviderError,
    SessionExistsError,
    SessionManager,
    SQLiteSessionStorage,
    StorageError,
    create_session_manager,
)
from langswarm.core.session.errors import ProviderTimeoutError

from .helpers import Echo, Store, assert_turns, contents, new_session, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def test_loss_1_the_first_message_right_after_create(store: Store) -> None:
    """The first message, sent at once and from several sessions at once, is stored."""
    async with store.manager(Echo()) as manager:

        async def begin(number: int) -> None:
            session = await new_session(manager, session_id=f"s{number}")
            await session.send_message("first")

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(begin, number)
    async with store.manager(Echo()) as manager:
        for number in range(20):
            session = await manager.get_session(f"s{number}")
            assert_turns(await session.get_messages(), ["first"])


async def test_loss_2_any_message_after_a_restart(store: Store) -> None:
    """What is sent in the second and the third run is there in the next one."""
    texts: list[str] = []
    for run in range(4):
        async with store.manager(Echo()) as manager:
            if run == 0:
                session = await new_session(manager, session_id="s")
            session = await manager.get_session("s")
            assert_turns(await session.get_messages(), texts)
            for number in range(3):
                await session.send_message(f"{run} {number}")
                texts.append(f"{run} {number}")


@pytest.fixture
def locker(sqlite: Store) -> Iterator[sqlite3.Connection]:
    """Another program that opens the same database."""
    connection = sqlite3.connect(sqlite.path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


async def test_loss_3_a_locked_database_is_an_error_and_not_a_shrug(
    sqlite: Store, locker: sqlite3.Connection
) -> None:
    """Locked for longer than pool_timeout: StorageError, retryable, nothing half stored."""
    provider = Echo()
    storage = SQLiteSessionStorage(sqlite.path, pool_timeout=0.05)
    async with create_session_manager(storage, providers={"openai": provider}) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        locker.execute("BEGIN IMMEDIATE")
        error = await outcome(session.submit("two"))
        assert isinstance(error, StorageError)
        assert (error.code, error.retryable, error.outcome) == ("busy", True, "failed")
        assert await contents(session) == ["one", "answer to one"]
        locker.execute("ROLLBACK")
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])
    assert [prompt[-1] for prompt in provider.prompts()] == ["one", "two"]


async def test_loss_3_a_database_that_is_locked_for_a_while_is_waited_for(
    sqlite: Store, locker: sqlite3.Connection
) -> None:
    """Locked for less than pool_timeout: the send takes longer and is stored."""
    async with sqlite.manager(Echo()) as manager:
        session = await new_session(manager)
        locker.execute("BEGIN IMMEDIATE")
        ticket = session.submit("one")
        answers: list[str] = []

        async def wait() -> None:
            answers.append((await outcome(ticket)).content)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.1)
            assert answers == []
            locker.execute("ROLLBACK")
        assert answers == ["answer to one"]
        assert_turns(await session.get_messages(), ["one"])


async def test_loss_4_a_limited_read_before_a_send(store: Store) -> None:
    """get_messages(limit=1) neither trims the history nor what the provider gets."""
    provider = Echo()
    async with store.manager(provider, idle_seconds=0.0) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert len(await session.get_messages(limit=1)) == 1
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])
    assert provider.prompts()[-1] == ["one", "answer to one", "two"]


async def test_loss_5_message_101(store: Store) -> None:
    """max_messages bounds what the provider sees; the history is never trimmed."""
    texts = [f"{number}" for number in range(60)]
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager, session_config={"max_messages": 10})
        for text in texts:
            await session.send_message(text)
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session.session_id)
        assert_turns(await session.get_messages(), texts)
        assert session.message_count == 120


async def test_loss_6_a_create_with_an_existing_id(store: Store) -> None:
    """It is refused, and the session that has the id keeps everything."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, session_id="mine")
        await session.send_message("one")
        with pytest.raises(SessionExistsError):
            await new_session(manager, session_id="mine")
        assert_turns(await session.get_messages(), ["one"])


async def test_loss_7_two_managers_on_one_file(sqlite: Store) -> None:
    """The second one is refused with the reason; closed in turn, each sees the other's work."""
    first = sqlite.manager(Echo())
    session = await new_session(first, session_id="s")
    await session.send_message("one")
    second = sqlite.manager(Echo())
    with pytest.raises(StorageError) as refused:
        await second.get_session("s")
    assert refused.value.code == "busy"
    assert "this process" in str(refused.value)
    await first.aclose()
    session = await second.get_session("s")
    await session.send_message("two")
    assert_turns(await session.get_messages(), ["one", "two"])
    await second.aclose()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones by process")
async def test_loss_8_the_order_after_a_reload_under_another_time_zone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order is by seq; times are UTC whatever the zone of the process was."""
    texts: list[str] = []
    times: list[object] = []
    try:
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            async with store.manager(Echo()) as manager:
                if not texts:
                    await new_session(manager, session_id="s")
                session = await manager.get_session("s")
                messages = await session.get_messages()
                assert_turns(messages, texts)
                assert [message.timestamp for message in messages] == times
                await session.send_message(zone)
                texts.append(zone)
                times = [message.timestamp for message in await session.get_messages()]
                assert times == sorted(times, key=str)
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_loss_9_a_file_of_version_1_at_the_default_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of another program or version is refused and left as it is, byte by byte."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "langswarm-session.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sessions (session_id TEXT PRIMARY KEY, data TEXT)")
        connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT)")
        connection.execute("INSERT INTO messages (content) VALUES ('precious')")
    connection.close()
    before = path.read_bytes()
    manager = create_session_manager("sqlite", providers={"openai": Echo()})
    with pytest.raises(StorageError) as refused:
        await new_session(manager)
    assert refused.value.code == "foreign"
    await manager.aclose()
    assert path.read_bytes() == before


async def test_loss_10_a_provider_error_or_timeout(store: Store) -> None:
    """The caller gets the error; the question stays, marked; the session goes on."""
    provider = Echo()
    provider.failing = {"fails"}
    provider.hold("hangs")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert isinstance(await outcome(session.submit("fails")), ProviderError)
    async with store.manager(provider, turn_timeout_seconds=0.2) as manager:
        session = await manager.get_session(session.session_id)
        assert isinstance(await outcome(session.submit("hangs")), ProviderTimeoutError)
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        await session.send_message("two")
        messages = await session.get_messages()
        assert [(m.content, m.finish_reason) for m in messages] == [
            ("one", None),
            ("answer to one", "stop"),
            ("fails", "failed"),
            ("hangs", "failed"),
            ("two", None),
            ("answer to two", "stop"),
        ]
    assert provider.prompts()[-1] == ["one", "answer to one", "two"]


async def test_loss_11_a_caller_that_changes_what_it_was_given(store: Store) -> None:
    """Returned objects are copies: changing them changes neither memory nor storage."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        answer = await session.send_message("one", metadata={"list": [1]})
        history = await session.get_messages()
        answer.content = history[0].content = "spoiled"
        history[0].metadata["list"].append(2)
        history.clear()
        await session.send_message("two")
    manager_of_the_same: SessionManager = store.manager(Echo())
    async with manager_of_the_same as manager:
        session = await manager.get_session(session.session_id)
        messages = await session.get_messages()
        assert_turns(messages, ["one", "two"])
        assert messages[0].metadata == {"list": [1]}
