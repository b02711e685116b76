"""The guide's sections on OpenAI and Anthropic, against a local server that speaks their APIs.

The keys are given as the guide prints them; only where the vendors are comes from the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import (
    AnthropicProviderSession,
    OpenAIProviderSession,
    SessionManager,
    SQLiteSessionStorage,
    create_session_manager,
)

from ..vendors.fixtures import vendor

if TYPE_CHECKING:
    from pathlib import Path

    from ..vendors import VendorServer

__all__ = ["vendor"]

KEYS = {"openai": "your_openai_api_key", "anthropic": "your_anthropic_api_key"}


@pytest.fixture(autouse=True)
def _vendors_are_here(
    vendor: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", vendor.anthropic_url)


async def test_quick_start_with_a_real_provider(vendor: VendorServer) -> None:
    """Quick Start: a session of OpenAI on SQLite, two turns, the printed history."""
    manager = create_session_manager(storage="sqlite", providers=KEYS)
    session = await manager.create_session(user_id="user123", provider="openai", model="gpt-4")
    response = await session.send_message("Hello! How can you help me today?")
    assert f"Assistant: {response.content}" == (
        "Assistant: answer to: Hello! How can you help me today?"
    )
    response = await session.send_message("What's the weather like?")
    assert response.content == "answer to: What's the weather like?"
    lines = [f"{message.role}: {message.content}" for message in await session.get_messages()]
    assert lines == [
        "user: Hello! How can you help me today?",
        "assistant: answer to: Hello! How can you help me today?",
        "user: What's the weather like?",
        "assistant: answer to: What's the weather like?",
    ]
    assert {seen.key for seen in vendor.requests} == {KEYS["openai"]}
    await manager.aclose()


async def test_openai_provider_native_threads(vendor: VendorServer) -> None:
    """OpenAI Provider (Native Threads): an assistant on a server of one's own, its thread named."""
    manager = create_session_manager(storage="memory", providers=KEYS)
    openai_session = await manager.create_session(
        user_id="user123",
        provider="openai",
        model="gpt-4",
        provider_config={
            "thread_metadata": {"user_type": "premium"},
            "assistant_id": "asst_abc123",
            "temperature": 0.7,
            "max_tokens": 2048,
        },
    )
    response = await openai_session.send_message("Hello!")
    assert response.content == "answer to: Hello!"
    assert f"Thread ID: {openai_session.provider_session_id}".startswith("Thread ID: thread_")
    thread_metadata = await openai_session.get_provider_metadata()
    assert thread_metadata["thread_id"] == openai_session.provider_session_id
    assert thread_metadata["metadata"] == {"user_type": "premium"}
    assert isinstance(openai_session.provider_session, OpenAIProviderSession)
    [run] = [seen for seen in vendor.requests if seen.path.endswith("/runs")]
    assert run.body["assistant_id"] == "asst_abc123"
    assert run.body["temperature"] == 0.7
    await manager.aclose()


async def test_openai_provider_native_conversations(vendor: VendorServer) -> None:
    """The same without an assistant: the successor of threads, one conversation for all turns."""
    manager = create_session_manager(storage="memory", providers=KEYS)
    openai_session = await manager.create_session(
        user_id="user123",
        provider="openai",
        model="gpt-4",
        provider_config={
            "thread_metadata": {"user_type": "premium"},
            "temperature": 0.7,
            "max_tokens": 2048,
        },
    )
    await openai_session.send_message("Hello!")
    name = openai_session.provider_session_id
    assert f"Thread ID: {name}".startswith("Thread ID: conv_")
    await openai_session.send_message("And now?")
    assert openai_session.provider_session_id == name
    metadata = await openai_session.get_provider_metadata()
    assert (metadata["conversation_id"], metadata["metadata"]) == (name, {"user_type": "premium"})
    first, second = [seen.body for seen in vendor.requests if seen.path == "/v1/responses"]
    assert first["conversation"] == second["conversation"] == name
    assert (second["temperature"], second["max_output_tokens"]) == (0.7, 2048)
    assert "And now?" in str(second["input"])
    assert "Hello!" not in str(second["input"]), "the vendor keeps what was said"
    await manager.aclose()


async def test_anthropic_provider_conversations(vendor: VendorServer) -> None:
    """Anthropic Provider (Conversations): its options, its answer, its metadata."""
    manager = create_session_manager(storage="memory", providers=KEYS)
    anthropic_session = await manager.create_session(
        user_id="user456",
        provider="anthropic",
        model="claude-3-sonnet-20240229",
        provider_config={
            "temperature": 0.3,
            "max_tokens": 4096,
            "conversation_metadata": {"topic": "coding_help"},
        },
    )
    response = await anthropic_session.send_message("Help me with Python!")
    assert response.content == "answer to: Help me with Python!"
    name = anthropic_session.provider_session_id
    assert f"Conversation ID: {name}".startswith("Conversation ID: local_"), "made here"
    assert await anthropic_session.get_provider_metadata() == {"topic": "coding_help"}
    assert isinstance(anthropic_session.provider_session, AnthropicProviderSession)
    [seen] = vendor.requests
    assert (seen.path, seen.key) == ("/v1/messages", KEYS["anthropic"])
    assert seen.body["model"] == "claude-3-sonnet-20240229"
    assert (seen.body["temperature"], seen.body["max_tokens"]) == (0.3, 4096)
    await manager.aclose()


async def test_sqlite_storage_with_a_real_provider() -> None:
    """SQLite Storage: the session persists, and its conversation is gone on with."""
    options = {"db_path": "sessions.db", "pool_size": 10, "max_overflow": 20, "pool_timeout": 30}
    storage = SQLiteSessionStorage(**options)  # type: ignore[arg-type]
    async with SessionManager(storage=storage, providers=KEYS) as manager:
        session = await manager.create_session("user123", "openai", "gpt-4")
        await session.send_message("Hello!")
        name = session.provider_session_id
    again = SQLiteSessionStorage(db_path="sessions.db")
    async with SessionManager(storage=again, providers=KEYS) as manager:
        [session] = await manager.get_user_sessions("user123")
        assert (await session.send_message("Still there?")).content == "answer to: Still there?"
        assert session.provider_session_id == name


async def test_keys_from_the_environment(
    vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None as a provider's value: OPENAI_API_KEY and ANTHROPIC_API_KEY."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-2")
    providers = {"openai": None, "anthropic": None}
    async with create_session_manager(providers=providers) as manager:
        for name in providers:
            session = await manager.create_session("ada", name, "a-model")
            await session.send_message("Hello")
    assert {seen.key for seen in vendor.requests} == {"key-1", "key-2"}
