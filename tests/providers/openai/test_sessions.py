"""Sessions with OpenAI through the whole runtime, against the reference server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    MockProvider,
    ProviderError,
    Session,
    SessionManager,
    create_session_manager,
)
from langswarm.core.session.adapters.providers.openai import uninterrupted
from langswarm.core.session.errors import ConfigurationError

from ...vendors.faults import status, truncate
from ...vendors.gates import PATIENCE_SECONDS

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from .helpers import Connect


def manager_of(connect: Connect, **options: Any) -> SessionManager:
    return create_session_manager(providers={"openai": connect(**options)})


async def new_session(manager: SessionManager, **config: Any) -> Session:
    return await manager.create_session("ada", "openai", "gpt-5", provider_config=config)


async def test_the_guides_session_keeps_its_conversation_and_its_metadata_can_be_read(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(
            manager,
            thread_metadata={"user_type": "premium"},
            temperature=0.7,
            max_tokens=2048,
        )
        first = await session.send_message("Hello!")
        second = await session.send_message("And now?")
        conversation_id = session.provider_session_id
        assert list(vendor.state.conversations.by_id) == [conversation_id]
        thread_metadata = await session.get_provider_metadata()
        assert thread_metadata["metadata"] == {"user_type": "premium"}
        assert thread_metadata["conversation_id"] == conversation_id
    assert (first.content, second.content) == ("answer to: Hello!", "answer to: And now?")
    assert second.provider_message_id is not None
    assert second.provider_metadata["response_id"].startswith("resp_")
    assert len(vendor.last.query) == 0
    await vendor.until(lambda: vendor.open_connections == 0)


async def test_options_of_later_turns_can_be_changed(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager, temperature=0.7)
        session.provider_session.update_provider_config({"temperature": 0.1, "max_tokens": 7})
        await session.send_message("Hello!")
        assert vendor.last.body["temperature"] == 0.1
        assert vendor.last.body["max_output_tokens"] == 7
        session.provider_session.update_provider_config({"temperature": None})
        await session.send_message("Hello!")
        assert "temperature" not in vendor.last.body


async def test_a_wrong_provider_config_is_refused_when_the_session_is_made(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        with pytest.raises(ConfigurationError, match="thread_metadata"):
            await new_session(manager, thread_metadata={"age": 7})
    assert vendor.requests == []


@pytest.mark.parametrize("events", [None, 0, 2, 6])
async def test_a_turn_that_is_stopped_leaves_nothing_behind_and_the_next_one_begins_anew(
    vendor: VendorServer, connect: Connect, events: int | None
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager)
        await session.send_message("Hello")
        old = session.provider_session_id
        gate = vendor.hold("/v1/responses", events=events)
        ticket = session.submit("Tell me a long story")
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        await vendor.until(lambda: vendor.aborted == 1)
        gate.release()
        answer = await session.send_message("Again")
        assert answer.content == "answer to: Again"
        new = session.provider_session_id
        assert new not in {None, old}
        await vendor.until(lambda: list(vendor.state.conversations.by_id) == [new])
        assert vendor.orphaned_items == []
        items = vendor.state.conversations.by_id[str(new)].items
        asked = [each["content"][0]["text"] for each in items]
        assert asked[:2] == ["Hello", "answer to: Hello"]
        assert asked[-2:] == ["Again", "answer to: Again"]
    await connect.close()
    await vendor.until(lambda: vendor.open_connections == 0)


async def test_a_turn_that_is_stopped_while_its_conversation_is_made_leaves_none_behind(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager)
        gate = vendor.hold("/v1/conversations")
        ticket = session.submit("Hello")
        await gate.reached()
        async with anyio.create_task_group() as group:
            group.start_soon(session.stop)
            await anyio.wait_all_tasks_blocked()
            gate.release()
        with pytest.raises(ProviderError):
            await ticket
        assert vendor.seen("/v1/responses") == []
        await vendor.until(lambda: vendor.state.conversations.by_id == {})
        assert vendor.orphaned_items == []
        await session.send_message("Again")
        assert list(vendor.state.conversations.by_id) == [session.provider_session_id]


async def test_a_stop_waits_for_a_conversation_to_be_made_but_not_for_long(
    vendor: VendorServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uninterrupted, "SECONDS", 0.05)
    async with manager_of(connect) as manager:
        session = await new_session(manager)
        gate = vendor.hold("/v1/conversations")
        ticket = session.submit("Hello")
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):  # nobody lets the vendor answer before that
            await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        await vendor.until(lambda: vendor.aborted == 1)
        gate.release()
        await session.send_message("Again")


async def test_a_turn_that_failed_begins_a_new_conversation_when_it_is_tried_again(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager)
        await session.send_message("Hello")
        old = session.provider_session_id
        vendor.script(truncate(events=7), path="/v1/responses")
        with pytest.raises(ProviderError) as caught:
            await session.send_message("Again")
        assert caught.value.code == "truncated"
        answer = await session.retry()
        assert answer.content == "answer to: Again"
        new = session.provider_session_id
        assert new != old
        await vendor.until(lambda: list(vendor.state.conversations.by_id) == [new])
        assert vendor.orphaned_items == []


async def test_a_first_turn_that_fails_leaves_no_conversation_behind(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager)
        vendor.script(status(400), path="/v1/responses")
        with pytest.raises(ProviderError):
            await session.send_message("Hello")
        await session.send_message("Again")
        new = session.provider_session_id
        await vendor.until(lambda: list(vendor.state.conversations.by_id) == [new])
        assert vendor.orphaned_items == []


async def test_a_session_without_state_has_no_conversation(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager, state="local")
        await session.send_message("Hello")
        await session.send_message("Again")
        assert session.provider_session_id is None
        assert await session.get_provider_metadata() == {}
    assert {seen.path for seen in vendor.requests} == {"/v1/responses"}


async def test_an_assistants_run_is_cancelled_when_its_turn_is_stopped(
    vendor: VendorServer, connect: Connect
) -> None:
    async with manager_of(connect) as manager:
        session = await new_session(manager, assistant_id="asst_abc123")
        await session.send_message("Hello")
        old = session.provider_session_id
        assert old is not None
        thread = vendor.state.assistants.by_id[old]
        gate = vendor.hold(f"/v1/threads/{old}/runs", events=10)
        ticket = session.submit("Tell me a long story")
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            # What the server has sent may still be on its way here, the run's id too.
            while not ((turn := session.current_turn) and turn.characters):
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(PATIENCE_SECONDS):
            await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        gate.release()
        assert [run["status"] for run in thread.runs.values()] == ["completed", "cancelled"]
        await session.send_message("Again")
        new = session.provider_session_id
        await vendor.until(lambda: list(vendor.state.assistants.by_id) == [new])


async def test_a_turn_that_stands_in_for_another_provider_keeps_nothing_at_the_vendor(
    vendor: VendorServer, connect: Connect
) -> None:
    """As a fallback: the whole window, `store: false`, no conversation to be deleted again."""

    providers = {"openai": connect(), "down": MockProvider(error_rate=1)}
    async with create_session_manager(providers=providers) as manager:
        session = await manager.create_session(
            "ada", "down", "m", provider_config={"fallbacks": [("openai", "gpt-5")]}
        )
        await session.send_message("One")
        await session.send_message("Two")
    assert [seen.path for seen in vendor.requests] == ["/v1/responses"] * 2
    assert vendor.last.body["store"] is False
    assert "One" in str(vendor.last.body["input"])
    assert not vendor.state.conversations.by_id
