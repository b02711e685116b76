"""Sessions in message threads: only what is new is sent, and nothing is ever lost with a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ProviderError,
    Session,
    SessionManager,
    SQLiteSessionStorage,
    create_session_manager,
)
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.interfaces import TurnText
from langswarm.core.session.providers import MockProvider

from ...vendors import Answer
from ...vendors.faults import lost, status, truncate
from .test_sessions import MESSAGES, PATIENCE_SECONDS, manager_of, new_session, said

if TYPE_CHECKING:
    from ...vendors import VendorServer


def threaded(vendor: VendorServer, **options: Any) -> SessionManager:
    return manager_of(vendor, allow_threads=True, **options)


def refused(reason: str, code: int = 400) -> Any:
    kind = "not_found_error" if code == 404 else "invalid_request_error"
    details = {"error_code": reason}
    error = {"type": kind, "message": "refused", "details": details}
    return status(code, {"type": "error", "error": error}, {"retry-after-ms": "1"})


def threads(vendor: VendorServer) -> list[Any]:
    """Of each request: how it stands to a thread."""
    fields: list[Any] = [seen.body.get("thread") for seen in vendor.seen(MESSAGES)]
    return [field and field["type"] for field in fields]


async def ask(session: Session, *texts: str) -> list[str]:
    return [(await session.send_message(text)).content for text in texts]


async def test_a_turn_in_a_thread_sends_the_new_message_alone(vendor: VendorServer) -> None:
    vendor.answer = lambda asked: " ".join(text for _, text in asked.messages)
    async with threaded(vendor) as manager:
        session = await new_session(manager, threads=True)
        await session.send_system_message("S")
        first = await session.send_message("1")
        name = session.provider_session_id
        assert await ask(session, "2", "3") == ["S 1 S 1 2", "S 1 S 1 2 S 1 S 1 2 3"]
        assert session.provider_session_id == name == first.provider_message_id
    assert threads(vendor) == ["create", "continue", "continue"]
    assert said(vendor) == [["u:1"], ["u:2"], ["u:3"]]
    assert {"message-threads-2026-08-12"} == {
        seen.headers["anthropic-beta"] for seen in vendor.requests
    }


async def test_a_thread_outlives_the_manager(vendor: VendorServer, tmp_path: Any) -> None:
    for text in ("1", "2"):
        provider = AnthropicProvider("k", base_url=vendor.anthropic_url, allow_threads=True)
        storage = SQLiteSessionStorage(tmp_path / "s.db")
        async with create_session_manager(storage, providers={"anthropic": provider}) as manager:
            if text == "1":
                session = await new_session(manager, threads=True)
            else:
                session = await manager.get_session("s")
            await session.send_message(text)
    assert threads(vendor) == ["create", "continue"]


@pytest.mark.parametrize("how", ["expired", "continued", "changed"])
async def test_where_a_thread_is_gone_the_whole_window_begins_another(
    vendor: VendorServer, how: str
) -> None:
    async with threaded(vendor) as manager:
        session = await new_session(manager, threads=True)
        await session.send_system_message("S")
        await ask(session, "1")
        old = session.provider_session_id
        if how == "expired":
            vendor.state.threads.pass_time(400)
        elif how == "continued":
            vendor.script(refused("thread_already_continued"))
        else:
            vendor.script(refused("thread_fingerprint_mismatch"))
        assert await ask(session, "2", "3") == ["answer to: 2", "answer to: 3"]
        assert session.provider_session_id != old
    assert threads(vendor) == ["create", "continue", "create", "continue"]
    assert said(vendor)[2] == ["u:1", "a:answer to: 1", "u:2"]
    assert vendor.requests[2].body["system"] == "S"


async def test_an_answer_that_was_lost_on_the_way_is_asked_for_again(vendor: VendorServer) -> None:
    """The vendor has gone on meanwhile, so the thread cannot be continued from where it was."""
    async with threaded(vendor, max_retries=2) as manager:
        session = await new_session(manager, threads=True)
        await ask(session, "1")
        vendor.script(lost())
        assert await ask(session, "2") == ["answer to: 2"]
    assert threads(vendor) == ["create", "continue", "continue", "create"]


async def test_a_thread_that_is_being_continued_is_waited_for_a_while(vendor: VendorServer) -> None:
    busy = refused("thread_continue_in_flight")
    async with threaded(vendor, max_retries=2) as manager:
        session = await new_session(manager, threads=True)
        await ask(session, "1")
        vendor.script(busy, busy)
        assert await ask(session, "2") == ["answer to: 2"]
        vendor.script(busy, busy, busy)
        assert await ask(session, "3") == ["answer to: 3"]
    kinds = threads(vendor)
    assert kinds == ["create", *["continue"] * 3, *["continue"] * 3, "create"]


async def test_a_model_without_threads_is_asked_without_them_from_then_on(
    vendor: VendorServer,
) -> None:
    vendor.state.threads.unsupported = ("thinking",)
    async with threaded(vendor) as manager:
        session = await new_session(manager, threads=True)
        assert await ask(session, "1", "2") == ["answer to: 1", "answer to: 2"]
        assert session.provider_session_id == "local_s"
    assert threads(vendor) == ["create", None, None]
    assert said(vendor)[-1] == ["u:1", "a:answer to: 1", "u:2"]
    assert "anthropic-beta" not in vendor.last.headers


@pytest.mark.parametrize("how", ["failed", "stopped", "noted", "rewound"])
async def test_a_thread_that_does_not_hold_the_history_is_never_gone_on_with(
    vendor: VendorServer, how: str
) -> None:
    async with threaded(vendor) as manager:
        session = await new_session(manager, threads=True)
        first = await session.send_message("1")
        if how == "failed":
            vendor.script(truncate(events=4))
            with pytest.raises(ProviderError):
                await session.send_message("lost")
        elif how == "stopped":
            vendor.answer = lambda _: Answer(deltas=["half", " done"])
            vendor.hold(MESSAGES, events=4)
            with anyio.fail_after(PATIENCE_SECONDS):
                async with session.stream_message("stopped") as turn:
                    async for event in turn:
                        if isinstance(event, TurnText):
                            await session.stop()
        elif how == "noted":
            await session.send_system_message("S")
        else:
            await session.send_message("rewound")
            await session.rewind(first)
        await session.send_message("2")
    assert threads(vendor)[-1] == "create"
    before = ["u:1", "a:answer to: 1"]
    if how == "stopped":
        before += ["u:stopped", "a:half"]
    assert said(vendor)[-1] == [*before, "u:2"]


async def test_after_a_refusal_a_new_thread_begins(vendor: VendorServer) -> None:
    async with threaded(vendor) as manager:
        session = await new_session(manager, threads=True)
        vendor.answer = lambda _: Answer(text="No.", finish="refusal")
        refusal = await session.send_message("1")
        assert refusal.finish_reason == "refusal"
        assert session.provider_session_id == "local_s"
        await session.send_message("2")
    assert threads(vendor) == ["create", "create"]


async def test_a_conversation_that_is_full_begins_a_new_thread(vendor: VendorServer) -> None:
    """What the vendor sees is bounded by max_messages, whatever its thread held."""
    seen: list[int] = []

    def answer(asked: Any) -> str:
        seen.append(len(asked.messages))
        return "ok"

    vendor.answer = answer
    async with threaded(vendor) as manager:
        session = await manager.create_session(
            "ada",
            "anthropic",
            "claude-sonnet-5",
            session_config={"max_messages": 6},
            provider_config={"threads": True},
        )
        await ask(session, *map(str, range(12)))
    assert max(seen) <= 6
    assert threads(vendor).count("continue") >= 4


async def test_a_fallback_begins_no_thread(vendor: VendorServer) -> None:
    """Nobody goes on with it."""
    down = MockProvider(error_rate=1.0)
    anthropic = AnthropicProvider("k", base_url=vendor.anthropic_url, allow_threads=True)
    async with create_session_manager(providers={"own": down, "anthropic": anthropic}) as manager:
        config = {"fallbacks": [("anthropic", "claude-sonnet-5", {"threads": True})]}
        session = await manager.create_session("ada", "own", "m", provider_config=config)
        assert await ask(session, "1", "2") == ["answer to: 1", "answer to: 2"]
    assert threads(vendor) == [None, None]
