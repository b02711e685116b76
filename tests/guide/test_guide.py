"""The guide's sections as it prints them, with the results asserted that it promises.

The mock stands in for the vendors under their names; `test_vendors.py` has the sections about
them. Files go to the working directory, as in the guide; it is a fresh one for each test.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    ISession,
    ISessionStorage,
    MockProvider,
    MockProviderSession,
    SessionContext,
    SessionManager,
    SessionMessage,
    SessionMetrics,
    SQLiteSessionStorage,
    create_session_manager,
    interfaces,
)
from langswarm.core.session import storage as storage_module
from langswarm.core.session.errors import SessionArchivedError

if TYPE_CHECKING:
    from pathlib import Path

VENDORS = ("openai", "anthropic")


def vendors() -> dict[str, MockProvider]:
    """The mock under the names that the guide uses."""
    return {name: MockProvider(name=name) for name in VENDORS}


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_quick_start_simple_session_creation(
    tmp_path: Path,
) -> None:
    """Quick Start: created lazily on SQLite, two turns, the printed history."""
    manager = create_session_manager(storage="sqlite", providers=vendors())
    session = await manager.create_session(user_id="user123", provider="openai", model="gpt-4")
    response = await session.send_message("Hello! How can you help me today?")
    printed = [f"Assistant: {response.content}"]
    response = await session.send_message("What's the weather like?")
    printed.append(f"Assistant: {response.content}")
    messages = await session.get_messages()
    printed += [f"{message.role}: {message.content}" for message in messages]
    assert printed == [
        "Assistant: Mock response to: Hello! How can you help me today?",
        "Assistant: Mock response to: What's the weather like?",
        "user: Hello! How can you help me today?",
        "assistant: Mock response to: Hello! How can you help me today?",
        "user: What's the weather like?",
        "assistant: Mock response to: What's the weather like?",
    ]
    assert (tmp_path / "langswarm-session.db").exists()
    await manager.aclose()


async def test_quick_start_development_setup() -> None:
    """Quick Start: memory and mock, positional arguments, no key."""
    manager = create_session_manager(storage="memory")
    session = await manager.create_session("dev_user", "mock", "mock-model")
    response = await session.send_message("Test message")
    assert response.content == "Mock response to: Test message"
    await manager.aclose()


def test_core_components_are_where_the_guide_imports_them() -> None:
    """Core Components: the names of this version, one object under every path."""
    assert interfaces.SessionMessage is SessionMessage
    assert interfaces.ISession is ISession
    assert storage_module.InMemorySessionStorage is InMemorySessionStorage
    assert storage_module.SQLiteSessionStorage is SQLiteSessionStorage
    assert issubclass(SQLiteSessionStorage, ISessionStorage)
    for public in (SessionContext, SessionMetrics, MockProviderSession, SessionManager):
        assert isinstance(public, type)


async def test_session_lifecycle() -> None:
    """Session Lifecycle: create, send, update the context, archive."""
    manager = create_session_manager(storage="sqlite", providers=vendors())
    session = await manager.create_session("user123", "openai", "gpt-4")
    assert session.session_id
    assert f"Status: {session.status}" == "Status: active"
    response = await session.send_message("Hello!")
    assert response.role == "assistant"
    await session.update_context({"user_preference": "concise_responses"})
    await session.archive()
    assert session.status == "archived"
    with pytest.raises(SessionArchivedError):
        await session.send_message("too late")
    await manager.aclose()


async def test_session_lifecycle_management() -> None:
    """Session Lifecycle Management: configuration, its update, the printed properties."""
    manager = create_session_manager(storage="sqlite", providers=vendors())
    session = await manager.create_session(
        user_id="user123",
        provider="openai",
        model="gpt-4",
        session_config={
            "name": "ML Discussion",
            "description": "Machine learning conversation",
            "tags": ["ml", "education"],
            "max_messages": 100,
        },
    )
    await session.update_config(
        {"name": "Advanced ML Discussion", "tags": ["ml", "advanced", "research"]}
    )
    assert await session.get_config() == {
        "name": "Advanced ML Discussion",
        "description": "Machine learning conversation",
        "tags": ["ml", "advanced", "research"],
        "max_messages": 100,
    }
    assert (f"{session.status}", session.message_count) == ("active", 0)
    assert session.created_at <= session.last_activity
    user_sessions = await manager.get_user_sessions("user123")
    assert [found.session_id for found in user_sessions] == [session.session_id]
    active_sessions = await manager.get_user_sessions(user_id="user123", status="active")
    recent_sessions = await manager.get_user_sessions(
        user_id="user123",
        since=datetime.now() - timedelta(days=7),  # noqa: DTZ005 - as the guide has it
    )
    assert len(active_sessions) == len(recent_sessions) == 1
    await manager.aclose()


async def test_basic_message_operations() -> None:
    """Basic Message Operations: send, system message, the filters, clear."""
    async with create_session_manager(storage="sqlite", providers=vendors()) as manager:
        session = await manager.create_session("user123", "anthropic", "claude-3-sonnet-20240229")
        response = await session.send_message("What is machine learning?")
        assert response.content == "Mock response to: What is machine learning?"
        await session.send_system_message("You are a helpful AI assistant specializing in ML.")
        messages = await session.get_messages()
        assert [message.role for message in messages] == ["user", "assistant", "system"]
        recent_messages = await session.get_messages(limit=10)
        assert recent_messages == messages
        filtered_messages = await session.get_messages(
            role="assistant",
            start_time=datetime.now() - timedelta(hours=1),  # noqa: DTZ005 - as the guide has it
        )
        assert filtered_messages == [response]
        await session.clear_messages()
        assert await session.get_messages() == []


async def test_message_structure() -> None:
    """Message Structure: the guide's fields, on every message."""
    async with create_session_manager() as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        answer = await session.send_message("Hello")
        assert answer.role == "assistant"
        assert answer.content == "Mock response to: Hello"
        assert answer.timestamp.utcoffset() == timedelta(0)
        assert answer.message_id
        assert answer.metadata == {}
        assert answer.provider_message_id is None
        assert answer.provider_metadata == {}


async def test_advanced_message_features() -> None:
    """Advanced Message Features: metadata with a message, and one message in full."""
    metadata = {
        "intent": "data_analysis",
        "priority": "high",
        "user_context": {"role": "data_scientist"},
    }
    async with create_session_manager(storage="sqlite", providers=vendors()) as manager:
        session = await manager.create_session("user123", "openai", "gpt-4")
        await session.send_message("Analyze this data", metadata=metadata)
        message_id = (await session.get_messages())[0].message_id
        message = await session.get_message(message_id)
        assert message.metadata == metadata
        assert message.provider_metadata == {}


async def test_mock_provider() -> None:
    """Mock Provider: predictable, and configurable through the session."""
    async with create_session_manager() as manager:
        mock_session = await manager.create_session(
            user_id="test_user", provider="mock", model="mock-model"
        )
        response = await mock_session.send_message("Test input")
        assert response.content == "Mock response to: Test input"
        mock_session.provider_session.set_response_pattern("custom: {input}")
        response = await mock_session.send_message("Hello")
        assert response.content == "custom: Hello"


async def test_in_memory_storage() -> None:
    """In-Memory Storage: an object of one's own; another one starts empty."""
    memory_storage = InMemorySessionStorage()
    manager = SessionManager(storage=memory_storage)
    session = await manager.create_session("user123", "mock", "mock-model")
    await session.send_message("Hello!")
    await manager.aclose()
    assert memory_storage.statistics().sessions == 1
    async with SessionManager(storage=InMemorySessionStorage()) as other:
        assert await other.get_user_sessions("user123") == []


async def test_sqlite_storage(tmp_path: Path) -> None:
    """SQLite Storage: the guide's keywords; sessions persist; the storage may be closed."""
    for run in range(2):
        sqlite_storage = SQLiteSessionStorage(
            db_path="sessions.db", pool_size=10, max_overflow=20, pool_timeout=30
        )
        manager = SessionManager(storage=sqlite_storage, providers=vendors())
        if run == 0:
            session = await manager.create_session("user123", "openai", "gpt-4")
        else:
            [session] = await manager.get_user_sessions("user123")
        await session.send_message("Hello!")
        assert session.message_count == 2 * (run + 1)
        await manager.aclose()
        await sqlite_storage.close()
    assert (tmp_path / "sessions.db").exists()
    assert not (tmp_path / "sessions.db-wal").exists()


async def test_storage_factory() -> None:
    """Storage Factory Pattern: by name, directly and through the manager's configuration."""
    created = storage_module.StorageFactory.create(
        backend="sqlite",
        config={"db_path": "production_sessions.db", "pool_size": 20, "enable_wal": True},
    )
    assert isinstance(created, SQLiteSessionStorage)
    async with create_session_manager(
        storage="sqlite", storage_config={"db_path": "sessions.db", "pool_size": 15}
    ) as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        assert (await session.send_message("Hello!")).content == "Mock response to: Hello!"


async def test_session_context_management() -> None:
    """Session Context Management: nested values, read back, used for the next message."""
    async with create_session_manager(storage="sqlite", providers=vendors()) as manager:
        session = await manager.create_session("user123", "openai", "gpt-4")
        await session.update_context(
            {
                "user_profile": {
                    "experience_level": "intermediate",
                    "preferred_language": "python",
                    "learning_goals": ["machine_learning", "data_science"],
                },
                "conversation_style": "detailed_explanations",
                "code_examples": True,
            }
        )
        context = await session.get_context()
        user_profile = context.get("user_profile", {})
        assert user_profile["learning_goals"] == ["machine_learning", "data_science"]
        assert context.get("code_examples")
        response = await session.send_message("Explain linear regression with Python code examples")
        assert response.content.endswith("Explain linear regression with Python code examples")


async def test_session_metrics() -> None:
    """Session Metrics: every figure that the guide prints."""
    async with create_session_manager() as manager:
        session = await manager.create_session("user", "mock", "mock-model")
        await session.send_message("Hello")
        metrics = await session.get_metrics()
        assert (metrics.total_messages, metrics.user_messages) == (2, 1)
        assert metrics.assistant_messages == 1
        assert metrics.avg_response_time_ms > 0
        assert metrics.total_tokens == metrics.input_tokens + metrics.output_tokens > 0
        assert metrics.session_duration > timedelta(0)
