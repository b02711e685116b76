"""Threads and runs, where a server of one's own still has assistants; elsewhere a warning."""

from __future__ import annotations

import warnings
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session.actors.ports import ConversationStarted
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.errors import ProviderError
from langswarm.core.session.providers import TextDelta

from ...vendors.faults import reset, status, truncate
from ...vendors.gates import PATIENCE_SECONDS
from .helpers import KEY, Chat, answer, system, user

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from .helpers import Connect

CONFIG = {"assistant_id": "asst_abc123"}


def said_in(vendor: VendorServer, thread_id: str | None) -> list[tuple[str, str]]:
    assert thread_id is not None
    messages = vendor.state.assistants.by_id[thread_id].messages
    return [(each["role"], each["content"][0]["text"]["value"]) for each in messages]


async def test_turns_of_an_assistant_are_runs_in_one_thread(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, system("Be kind."), thread_metadata={"a": "b"}, **CONFIG)
    end = await chat.ask("Hello")
    assert isinstance(chat.events[0], ConversationStarted)
    assert chat.text == "answer to: Hello"
    assert chat.conversation_id is not None
    assert chat.conversation_id.startswith("thread_")
    assert end.output_tokens == 3
    assert end.metadata["run_id"].startswith("run_")
    assert end.metadata["assistant_id"] == "asst_abc123"
    await chat.ask("Again")
    assert chat.started == []
    assert said_in(vendor, chat.conversation_id) == [
        ("user", "Hello"),
        ("assistant", "answer to: Hello"),
        ("user", "Again"),
        ("assistant", "answer to: Again"),
    ]
    assert vendor.last.body["additional_instructions"] == "Be kind."
    assert await provider.read_metadata(chat.conversation_id, CONFIG) == {
        "thread_id": chat.conversation_id,
        "created_at": vendor.state.assistants.by_id[chat.conversation_id].created_at,
        "metadata": {"a": "b"},
    }
    await provider.delete_conversation(chat.conversation_id)
    await provider.delete_conversation(chat.conversation_id)
    assert vendor.state.assistants.by_id == {}


async def test_a_history_of_any_length_is_in_the_thread_before_the_question(
    vendor: VendorServer,
    connect: Connect,
) -> None:
    provider = connect()
    history = [pair for n in range(20) for pair in (user(f"q{n}"), answer(f"a{n}"))]
    chat = Chat(provider, *history, **CONFIG)
    await chat.ask("Hello")
    said = said_in(vendor, chat.conversation_id)
    assert said[:40] == [(each.role.value, each.content) for each in history]
    assert said[40:] == [("user", "Hello"), ("assistant", "answer to: Hello")]


async def test_a_thread_that_is_gone_is_begun_anew_with_the_window(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, **CONFIG)
    await chat.ask("Hello")
    vendor.state.assistants.by_id.clear()
    await chat.ask("Again")
    assert chat.started == [chat.conversation_id]
    assert len(said_in(vendor, chat.conversation_id)) == 4


@pytest.mark.parametrize("leaves", ["closed", "cancelled"])
async def test_a_run_is_cancelled_when_nobody_listens_any_more(
    vendor: VendorServer, connect: Connect, leaves: str
) -> None:
    provider = connect()
    chat = Chat(provider, **CONFIG)
    gate = vendor.hold("/v1/threads/", method="POST", events=10)
    gate.release()
    await chat.ask("Hello")
    vendor.script(reset(events=50), path="/v1/threads/", method="POST")
    await _leave_early(vendor, chat, leaves)
    assert chat.conversation_id is not None
    runs = vendor.state.assistants.by_id[chat.conversation_id].runs
    assert [run["status"] for run in runs.values()] == ["completed", "cancelled"]


async def _leave_early(vendor: VendorServer, chat: Chat, leaves: str) -> None:
    gate = vendor.hold(f"/v1/threads/{chat.conversation_id}/runs", events=10)
    events = chat.provider.stream(chat.request("Again and again"))
    with anyio.fail_after(PATIENCE_SECONDS), anyio.CancelScope() as scope:
        async with aclosing(events) as closing:
            async for event in closing:
                if isinstance(event, TextDelta):
                    if leaves == "closed":
                        break
                    scope.cancel()
    gate.release()


@pytest.mark.parametrize("fault", [truncate(events=2), truncate(events=9), status(429)])
async def test_a_run_that_is_lost_is_cancelled_and_not_made_twice(
    vendor: VendorServer, connect: Connect, fault: Any
) -> None:
    provider = connect(max_retries=0)
    chat = Chat(provider, **CONFIG)
    await chat.ask("Hello")
    vendor.script(fault, path=f"/v1/threads/{chat.conversation_id}/runs")
    with pytest.raises(ProviderError):
        await chat.ask("Again")
    assert chat.conversation_id is not None
    runs = vendor.state.assistants.by_id[chat.conversation_id].runs.values()
    assert len(runs) <= 2
    assert all(run["status"] in {"completed", "cancelled"} for run in runs)


async def test_a_question_that_may_have_arrived_is_not_added_again(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    chat = Chat(provider, **CONFIG)
    await chat.ask("Hello")
    vendor.script(reset(), path=f"/v1/threads/{chat.conversation_id}/messages")
    with pytest.raises(ProviderError) as caught:
        await chat.ask("Again")
    assert caught.value.code == "connection"
    assert len(vendor.seen(f"/v1/threads/{chat.conversation_id}/messages")) == 1 + 1


def test_with_the_vendors_base_url_an_assistant_is_warned_of_once() -> None:
    provider = OpenAIProvider(KEY)
    with pytest.warns(UserWarning, match=r"2026-08-26.*Conversations API"):
        provider.check_config(CONFIG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        provider.check_config(CONFIG)
        OpenAIProvider(KEY).check_config({})


async def test_with_a_base_url_of_ones_own_nothing_is_warned_of(
    vendor: VendorServer, connect: Connect
) -> None:
    provider = connect()
    provider.check_config(CONFIG)  # warnings are errors here


async def test_with_the_vendors_base_url_an_assistants_turns_are_conversations(
    vendor: VendorServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = connect()
    monkeypatch.setattr(provider, "_is_vendors", True)
    chat = Chat(provider, **CONFIG)
    await chat.ask("Hello")
    assert chat.conversation_id is not None
    assert chat.conversation_id.startswith("conv_")
    assert "assistant_id" not in vendor.last.body
