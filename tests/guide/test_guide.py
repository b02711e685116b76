"""Every Python block of the guide runs as it is printed, with the results that the guide promises.

The text itself is executed, from `tests/data/guide.md`, on asyncio and on trio. What a block takes
for granted is given to it: a manager or a session of the blocks before, names that it does not
import, helpers that the guide leaves to its reader. A local server stands in for the vendors; where
they are comes from the environment. `test_vendors.py` looks closer at what they are asked.

One block is not run: it shows V1. Where a block's guests call methods that the guide leaves out, it
is their errors that are isolated, and the turns go on.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import anyio
import langswarm.core.session as public
import pytest
from langswarm.core.session import (
    ISessionLifecycleHook,
    ISessionMiddleware,
    MockProviderSession,
    Session,
    SessionManager,
    SessionMessage,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.errors import (
    SessionArchivedError,
    SessionNotFoundError,
)
from langswarm.v1.session import V1SessionManager
from langswarm.v1.session.manager import V1Session

from ..vendors.fixtures import vendor
from .blocks import Run, blocks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..vendors import VendorServer

__all__ = ["vendor"]

KEYS = {"openai": "your_openai_api_key", "anthropic": "your_anthropic_api_key"}
V1_FILE = Path(__file__).parents[1] / "data" / "v1_sessions.db"
NOT_RUN = "V1 Session Usage (Complex)"

run_by: dict[str, str] = {}
"""The test of each block."""


def block(heading: str) -> Callable[[Callable[..., Awaitable[None]]], Any]:
    """Mark a test as that of the block under a heading; it is given the heading's `Run`."""

    def mark(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        assert heading not in run_by
        run_by[heading] = test.__name__
        return test

    return mark


@pytest.fixture(autouse=True)
def _vendors_are_here(
    vendor: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", vendor.anthropic_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEYS["openai"])
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEYS["anthropic"])


@pytest.fixture
def run() -> Run:
    """Names that most blocks take for granted."""
    return Run(
        create_session_manager=create_session_manager,
        SessionManager=SessionManager,
        SessionMessage=SessionMessage,
        SessionContext=public.SessionContext,
        SessionNotFoundError=SessionNotFoundError,
        datetime=datetime,
        timedelta=timedelta,
        os=os,
    )


async def with_manager(run: Run) -> SessionManager:
    """A manager of the blocks before."""
    manager = create_session_manager(storage="sqlite")
    run.names["manager"] = manager
    return manager


async def with_session(run: Run) -> Session:
    """And its session."""
    manager = await with_manager(run)
    session = await manager.create_session("user123", "openai", "gpt-4")
    run.names["session"] = session
    return session


def test_every_block_is_run_but_the_one_of_v1() -> None:
    """28 blocks, one of which is about the program before this one."""
    assert len(blocks()) == 28
    assert set(blocks()) - set(run_by) == {NOT_RUN}
    assert set(run_by) <= set(blocks())


# ---------------------------------------------------------------- quick start


@block("Simple Session Creation")
async def test_simple_session_creation(run: Run, vendor: VendorServer) -> None:
    """On SQLite, started lazily: two turns, the printed history."""
    await run.block("Simple Session Creation")
    assert run.printed == [
        "Assistant: answer to: Hello! How can you help me today?",
        "Assistant: answer to: What's the weather like?",
        "user: Hello! How can you help me today?",
        "assistant: answer to: Hello! How can you help me today?",
        "user: What's the weather like?",
        "assistant: answer to: What's the weather like?",
    ]
    assert {seen.key for seen in vendor.requests} == {KEYS["openai"]}
    assert Path("langswarm-session.db").exists()
    await run.close()


@block("Development Setup with In-Memory Storage")
async def test_development_setup(run: Run) -> None:
    """Memory and mock, positional arguments, no key."""
    run.names["create_session_manager"] = create_session_manager
    await run.block("Development Setup with In-Memory Storage")
    assert run.printed == ["Mock response: Mock response to: Test message"]
    await run.close()


@block("Core Components")
async def test_core_components(run: Run) -> None:
    """Every name is there, and one object under every path."""
    await run.block("Core Components")
    for name in ("SessionManager", "ISession", "ISessionStorage", "SessionMetrics"):
        assert run.names[name] is getattr(public, name)
        assert isinstance(run.names[name], type)
    for name in ("ISession", "SessionMessage", "SessionContext", "SessionMetrics"):
        assert run.names[name] is getattr(public.interfaces, name)
    for name in ("InMemorySessionStorage", "SQLiteSessionStorage"):
        assert issubclass(run.names[name], run.ISessionStorage)
    assert run.MockProviderSession is MockProviderSession


@block("Session Lifecycle")
async def test_session_lifecycle(run: Run) -> None:
    """Create, send, update the context, archive, clean up."""
    await run.block("Session Lifecycle")
    assert run.printed == [f"Session ID: {run.session.session_id}", "Status: active"]
    assert run.response.content == "answer to: Hello!"
    assert await run.session.get_context() == {"user_preference": "concise_responses"}
    assert run.session.status == "archived"
    with pytest.raises(SessionArchivedError):
        await run.session.send_message("too late")
    await run.close()


# ---------------------------------------------------------------- messages


@block("Basic Message Operations")
async def test_basic_message_operations(run: Run) -> None:
    """Send, system message, the filters, clear."""
    session = await with_session(run)
    await run.block("Basic Message Operations")
    assert [message.role for message in run.messages] == ["user", "assistant", "system"]
    assert run.messages[1] == run.response
    assert run.messages[2].content.startswith("You are a helpful AI assistant")
    assert run.recent_messages == run.messages
    assert run.filtered_messages == [run.response]
    assert await session.get_messages() == []
    await run.close()


@block("Message Structure")
async def test_message_structure(run: Run) -> None:
    """The guide's fields are on every message, in this order."""
    run.names |= {"dataclass": dataclass, "field": field, "Optional": Optional}
    run.names |= {"Any": Any, "Dict": dict}
    await run.block("Message Structure")
    session = await with_session(run)
    answer = await session.send_message("Hello")
    names = [each.name for each in fields(run.SessionMessage)]
    values = [getattr(answer, name) for name in names]
    assert names[:2] == ["role", "content"]
    assert values[:2] == ["assistant", "answer to: Hello"]
    assert answer.timestamp.utcoffset() == timedelta(0)
    copy = SessionMessage(*values)
    assert [getattr(copy, name) for name in names] == values
    plain = run.SessionMessage("user", "x", datetime.now(UTC), "id")
    assert (plain.metadata, plain.provider_message_id, plain.provider_metadata) == ({}, None, {})
    await run.close()


@block("Advanced Message Features")
async def test_advanced_message_features(run: Run) -> None:
    """Metadata with a message, one message in full, and the conversation as data."""
    session = await with_session(run)
    run.names["message_id"] = f"{session.session_id}/1"
    await run.block("Advanced Message Features")
    metadata = {
        "intent": "data_analysis",
        "priority": "high",
        "user_context": {"role": "data_scientist"},
    }
    assert run.printed == [f"Metadata: {metadata}", "Provider metadata: {}"]
    assert [each["role"] for each in run.conversation_data["messages"]] == ["user", "assistant"]
    assert run.conversation_data["messages"][0]["metadata"] == metadata
    again = await run.manager.import_conversation(run.conversation_data)
    assert [each.content for each in await again.get_messages()] == [
        each.content for each in await session.get_messages()
    ]
    await run.close()


# ---------------------------------------------------------------- providers


@block("OpenAI Provider (Native Threads)")
async def test_openai_provider(run: Run) -> None:
    """An assistant on a server of one's own, its thread and the thread's metadata."""
    await with_manager(run)
    await run.block("OpenAI Provider (Native Threads)")
    thread_id = run.openai_session.provider_session_id
    assert thread_id.startswith("thread_")
    assert run.printed == [f"Thread ID: {thread_id}", f"Thread metadata: {run.thread_metadata}"]
    assert run.thread_metadata["metadata"] == {"user_type": "premium"}
    assert run.response.content == "answer to: Hello!"
    await run.close()


@block("Anthropic Provider (Conversations)")
async def test_anthropic_provider(run: Run) -> None:
    """Its options, its answer, its conversation's id."""
    await with_manager(run)
    await run.block("Anthropic Provider (Conversations)")
    assert run.response.content == "answer to: Help me with Python!"
    name = run.anthropic_session.provider_session_id
    assert name
    assert run.printed == [f"Conversation ID: {name}"]
    await run.close()


@block("Mock Provider (Development/Testing)")
async def test_mock_provider(run: Run) -> None:
    """Predictable, and configurable through the session."""
    await with_manager(run)
    await run.block("Mock Provider (Development/Testing)")
    assert run.printed == [
        "Mock response: Mock response to: Test input",
        "Custom response: custom: Hello",
    ]
    await run.close()


# ---------------------------------------------------------------- storages


@block("In-Memory Storage (Development)")
async def test_in_memory_storage(run: Run) -> None:
    """An object of one's own; another one starts empty."""
    await run.block("In-Memory Storage (Development)")
    assert run.session.message_count == 2
    await run.close()
    assert run.memory_storage.statistics().sessions == 1
    async with SessionManager(storage=run.InMemorySessionStorage()) as other:
        assert await other.get_user_sessions("user123") == []


@block("SQLite Storage (Production)")
async def test_sqlite_storage(run: Run) -> None:
    """The guide's keywords; sessions persist; the storage is closed cleanly."""
    for run_no in range(1, 3):
        await run.block("SQLite Storage (Production)")
        await run.close()
        assert not Path("sessions.db-wal").exists()
        async with SessionManager(storage=SQLiteSessionStorage(db_path="sessions.db")) as manager:
            found = await manager.get_user_sessions("user123")
            assert [session.message_count for session in found] == [2] * run_no


@block("Storage Factory Pattern")
async def test_storage_factory(run: Run) -> None:
    """By name, directly and through the manager's configuration."""
    await run.block("Storage Factory Pattern")
    assert isinstance(run.storage, SQLiteSessionStorage)
    session = await run.manager.create_session("user", "mock", "mock-model")
    assert (await session.send_message("Hello!")).content == "Mock response to: Hello!"
    await run.close()
    assert Path("sessions.db").exists()


# ---------------------------------------------------------------- sessions


@block("Session Lifecycle Management")
async def test_session_lifecycle_management(run: Run) -> None:
    """Full configuration, its update, the printed properties."""
    await with_manager(run)
    await run.block("Session Lifecycle Management")
    config = await run.session.get_config()
    assert config.pop("auto_archive_after") == timedelta(days=7)
    assert config == {
        "name": "Advanced ML Discussion",
        "description": "Machine learning conversation",
        "tags": ["ml", "advanced", "research"],
        "max_messages": 100,
    }
    assert run.printed == [
        "Status: active",
        "Message count: 0",
        f"Created: {run.session.created_at}",
        f"Last activity: {run.session.last_activity}",
    ]
    assert run.session.created_at < run.session.last_activity
    await run.close()


@block("Multi-User Session Management")
async def test_multi_user_session_management(run: Run) -> None:
    """A user's sessions, by status, time and tags; nobody else's."""
    manager = await with_manager(run)
    tagged = await manager.create_session(
        "user123", "mock", "m", session_config={"tags": ["ml", "education"]}
    )
    archived = await manager.create_session("user123", "mock", "m")
    await archived.archive()
    await manager.create_session("user456", "mock", "m", session_config={"tags": ["ml"]})
    await run.block("Multi-User Session Management")
    assert run.printed == ["User has 2 sessions"]
    assert [each.session_id for each in run.active_sessions] == [tagged.session_id]
    assert {each.session_id for each in run.recent_sessions} == {
        tagged.session_id,
        archived.session_id,
    }
    assert [each.session_id for each in run.ml_sessions] == [tagged.session_id]
    await run.close()


@block("Session Context Management")
async def test_session_context_management(run: Run) -> None:
    """Nested values, read back, used for the next message."""
    await with_session(run)
    await run.block("Session Context Management")
    assert run.user_profile["learning_goals"] == ["machine_learning", "data_science"]
    assert run.context["conversation_style"] == "detailed_explanations"
    assert run.response.content == "answer to: Explain linear regression with Python code examples"
    await run.close()


# ---------------------------------------------------------------- figures


@block("Session Metrics")
async def test_session_metrics(run: Run) -> None:
    """Every figure that is printed."""
    session = await with_session(run)
    await session.send_message("Hello")
    await run.block("Session Metrics")
    metrics = run.metrics
    assert run.printed == [
        "Total messages: 2",
        "User messages: 1",
        "Assistant messages: 1",
        f"Average response time: {metrics.avg_response_time_ms}ms",
        f"Total tokens used: {metrics.total_tokens}",
        f"Session duration: {metrics.session_duration}",
    ]
    assert metrics.avg_response_time_ms > 0
    assert metrics.total_tokens > 0
    assert metrics.session_duration > timedelta(0)
    await run.close()


@block("Usage Analytics")
async def test_usage_analytics(run: Run) -> None:
    """Of the last 30 days, over all users."""
    session = await with_session(run)
    await session.send_message("Hello")
    await run.manager.create_session("user456", "mock", "mock-model")
    await run.block("Usage Analytics")
    assert run.printed == [
        "Total sessions: 2",
        "Active users: 2",
        "Messages per session: 1.0",
        "Popular models: {'gpt-4': 1}",
        "Provider distribution: {'openai': 1}",
    ]
    await run.close()


@block("Real-Time Monitoring")
async def test_real_time_monitoring(run: Run, anyio_backend_name: str) -> None:
    """Events are printed as they come; started in the background as each event loop does it."""
    run.names["manager"] = create_session_manager(event_previews=True)

    def without_start(source: str) -> str:
        body, start = source.split("# Start monitoring in background")
        assert "asyncio.create_task(monitor_sessions())" in start
        return body

    async def use() -> None:
        session = await run.manager.create_session("ada", "mock", "m")
        await session.send_message("Hello")
        await session.archive()
        while len(run.printed) < 3:
            await anyio.lowlevel.checkpoint()
        assert run.printed == [
            f"New session: {session.session_id}",
            f"Message in {session.session_id}: Hello",
            f"Session archived: {session.session_id}",
        ]

    with anyio.fail_after(20):
        if anyio_backend_name == "asyncio":
            await run.block("Real-Time Monitoring")
            await anyio.wait_all_tasks_blocked()
            await use()
            await run.close()
            await anyio.wait_all_tasks_blocked()
            return
        await run.block("Real-Time Monitoring", without_start)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.monitor_sessions)
            await anyio.wait_all_tasks_blocked()
            await use()
            await run.close()


# ---------------------------------------------------------------- guests


@block("Middleware System")
async def test_middleware_system(run: Run) -> None:
    """Both process every message, in the order in which they were added."""
    await with_manager(run)
    await run.block("Middleware System")
    session_id = run.session.session_id
    assert run.printed == [
        f"[{session_id}] user: Hello!...",
        f"[{session_id}] assistant: answer to: Hello!...",
    ]
    assert issubclass(run.FilterMiddleware, ISessionMiddleware)

    def without_42(_: object, content: str) -> str:
        return content.replace("42", "[x]")

    setattr(run.names["FilterMiddleware"], "filter_sensitive_data", without_42)  # noqa: B010
    answer = await run.session.send_message("The answer is 42")
    assert answer.content == "answer to: The answer is [x]"
    await run.close()


@block("Lifecycle Hooks")
async def test_lifecycle_hooks(run: Run) -> None:
    """They call methods that the guide leaves out: what that raises harms no session."""
    manager = await with_manager(run)
    await run.block("Lifecycle Hooks")
    session = await manager.create_session("user123", "mock", "m")
    assert (await session.send_message("Hello")).content == "Mock response to: Hello"
    await session.archive()
    await run.close()
    assert run.printed == [
        f"Session created: {session.session_id} for user user123",
        f"Session archived: {session.session_id}",
    ]


@block("Session Cleanup and Maintenance")
async def test_session_cleanup_and_maintenance(run: Run) -> None:
    """The configuration's keys, the clean-ups by hand, and the storage's optimisation."""
    await run.block("Session Cleanup and Maintenance")
    session = await run.manager.create_session("user123", "mock", "m")
    assert await run.manager.cleanup_inactive_sessions(days=30) == 0
    assert session.status == "active"
    assert await run.manager.cleanup_inactive_sessions(days=0) == 1
    assert (await run.manager.get_session(session.session_id)).status == "archived"
    assert await run.manager.cleanup_archived_sessions(days=0) == 1
    with pytest.raises(SessionNotFoundError):
        await run.manager.get_session(session.session_id)
    assert await run.manager.cleanup_deleted_sessions(days=0) == 1
    await run.close()


# ---------------------------------------------------------------- from V1


@block("V2 Session Usage (Simple)")
async def test_v2_session_usage(run: Run) -> None:
    """The simple way."""
    run.names["api_key"] = KEYS["openai"]
    await run.block("V2 Session Usage (Simple)")
    assert run.response.content == "answer to: Hello!"
    assert run.messages[1] == run.response
    await run.close()


@block("Migration Strategy")
async def test_migration_strategy(run: Run) -> None:
    """A bridge that looks here first and moves V1's sessions over, with their histories."""
    shutil.copy(V1_FILE, "langswarm_sessions.db")
    await run.block("Migration Strategy")
    bridge = run.HybridSessionManager()
    old = [V1SessionManager().get_session(name) for name in V1SessionManager().list_sessions()]
    moved = [each for each in old if each.provider == "mock" and each.get_messages()]
    assert len(moved) >= 2
    for v1_session in moved:
        session = await bridge.get_session(v1_session.session_id)
        assert isinstance(session, Session)
        assert (session.user_id, session.model) == (v1_session.user_id, v1_session.model)
        assert [
            (message.role, message.content, message.timestamp)
            for message in await session.get_messages()
        ] == [
            (message.role, message.content, message.timestamp)
            for message in v1_session.get_messages()
        ]
        assert await bridge.get_session(session.session_id) is not None
        count = len(v1_session.get_messages())
        assert (await session.send_message("Still there?")).seq == count + 2
    await bridge.v2_manager.aclose()
    other = run.HybridSessionManager(migrate_to_v2=False)
    assert isinstance(await other.get_session(moved[0].session_id), V1Session)
    await other.v2_manager.aclose()


# ---------------------------------------------------------------- presets


@block("Development Configuration")
async def test_development_configuration(run: Run) -> None:
    """Memory and the mock, without a key and without rate limits."""
    run.names["create_session_manager"] = create_session_manager
    await run.block("Development Configuration")
    session = await run.dev_manager.create_session("ada", "mock", "m")
    for number in range(30):
        answer = await session.send_message(str(number))
        assert answer.content == f"Mock response to: {number}"
    await run.close()
    assert list(Path().iterdir()) == []


@block("Production Configuration")
async def test_production_configuration(
    run: Run, vendor: VendorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SQLite with backups and real providers, their keys from the environment."""
    run.names["create_session_manager"] = create_session_manager
    monkeypatch.setenv("OPENAI_API_KEY", "key-1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-2")
    path = tmp_path / "sessions.db"
    await run.block(
        "Production Configuration", lambda text: text.replace("/data/sessions.db", str(path))
    )
    for name, model in (("openai", "gpt-4"), ("anthropic", "claude-3-sonnet-20240229")):
        session = await run.prod_manager.create_session("ada", name, model)
        assert (await session.send_message("Hello")).content == "answer to: Hello"
    assert {seen.key for seen in vendor.requests} == {"key-1", "key-2"}
    assert run.prod_manager.preset is not None
    await run.close()
    assert path.exists()


@block("Custom Configuration")
async def test_custom_configuration(run: Run) -> None:
    """Guests of one's own, a file of one's own, ages for the clean-up."""
    seen: list[str] = []

    class Guest(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: public.SessionContext
        ) -> SessionMessage:
            seen.append(f"{type(self).__name__} {message.role.value}")
            return message

    class Hook(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            seen.append(type(self).__name__)

    names = ("LoggingMiddleware", "SecurityMiddleware", "AnalyticsMiddleware")
    run.names |= {name: type(name, (Guest,), {}) for name in names}
    run.names |= {name: type(name, (Hook,), {}) for name in ("MetricsHook", "AlertingHook")}
    run.names |= {"openai_api_key": KEYS["openai"], "anthropic_api_key": KEYS["anthropic"]}
    run.names["create_session_manager"] = create_session_manager
    await run.block("Custom Configuration")
    session = await run.custom_manager.create_session("ada", "openai", "gpt-4")
    assert (await session.send_message("Hello")).content == "answer to: Hello"
    await run.close()
    guests = [f"{name} {role}" for role in ("user", "assistant") for name in names]
    assert [each for each in seen if "Hook" not in each] == guests
    assert [each for each in seen if "Hook" in each] == ["MetricsHook", "AlertingHook"]
    assert Path("custom_sessions.db").exists()
