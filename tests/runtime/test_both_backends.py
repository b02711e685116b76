"""G16: the same tickets and the same provider script give the same log on asyncio and on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import SessionError, create_session_manager
from langswarm.core.session.adapters.providers.mock import fault, reply, truncate
from langswarm.core.session.testing import simulate

from .helpers import Echo, Store, new_session, outcome, supervisor_of

if TYPE_CHECKING:
    from pathlib import Path

    from langswarm.core.session.testing import Backend


async def conversation(store: Store) -> list[Any]:
    """Sends, faults, updates, a crash, evictions, a clear and a restart; returns all it saw."""
    log: list[Any] = []
    script = [
        "scripted",
        fault("overloaded", after_chunks=1),
        reply(chunks=["a", "b"], finish_reason="length"),
        truncate("cut"),
    ]
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        events = manager.session_events()
        session = await manager.create_session("user", "mock", "mock", session_id="s")
        session.provider_session.set_script(script)
        tickets = [session.submit(f"message {number}") for number in range(8)]
        await session.update_context(a=1)
        assert tickets[-1].withdraw() is False
        for ticket in tickets:
            result = await outcome(ticket)
            log.append(
                (type(result).__name__, str(result))
                if isinstance(result, SessionError)
                else (result.seq, result.content, result.turn_id, result.finish_reason)
            )
        supervisor_of(manager).crash("s", ValueError("planted"))
        await session.send_system_message("rule")
        await session.clear_messages()
        await session.send_message("after")
        await session.archive()
    log.append([(event.type, event.revision, event.cursor) async for event in events])
    async with store.manager(Echo()) as manager:
        session = await manager.get_session("s")
        log.append(
            [
                (m.seq, m.role, m.content, m.message_id, m.turn_id, m.finish_reason, m.token_count)
                for m in await session.get_messages()
            ]
        )
        metrics = await session.get_metrics()
        log.append((metrics.total_messages, metrics.failed_turns, metrics.total_tokens))
        log.append((session.status, session.message_count, dict(await session.get_context())))
    return log


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_g16_one_log_on_both_backends(kind: str, tmp_path: Path) -> None:
    """G16: results, errors, events, history and figures are equal to the last letter."""
    logs: list[object] = []
    for backend in ("asyncio", "trio"):
        folder = tmp_path / backend
        folder.mkdir()
        logs.append(anyio.run(conversation, Store(kind, folder), backend=backend))
    assert logs[0] == logs[1]


def test_g16_one_log_on_both_storages(tmp_path: Path) -> None:
    """G16: memory and SQLite cannot be told apart either."""
    logs: list[object] = []
    for kind in ("memory", "sqlite"):
        folder = tmp_path / kind
        folder.mkdir()
        logs.append(anyio.run(conversation, Store(kind, folder)))
    assert logs[0] == logs[1]


@pytest.mark.parametrize("seed", range(6))
def test_g16_history_follows_the_tickets_in_every_schedule(seed: int) -> None:
    """G1, G16: under random schedules of both backends, seq order is ticket order."""

    async def program() -> list[tuple[str, list[str], list[str]]]:
        tickets: dict[str, list[str]] = {}
        async with create_session_manager(
            max_live_sessions=2, idle_seconds=0.0, providers={"openai": Echo()}
        ) as manager:
            for number in range(3):
                await new_session(manager, session_id=f"s{number}")

            async def send(number: int) -> None:
                session_id = f"s{number % 3}"
                session = await manager.get_session(session_id)
                ticket = session.submit(f"{number}")
                tickets.setdefault(session_id, []).append(f"{number}")
                if number % 5 == 0:
                    await anyio.sleep(0.001 * number)
                await ticket

            async with anyio.create_task_group() as group:
                for number in range(18):
                    group.start_soon(send, number)
            found: list[tuple[str, list[str], list[str]]] = []
            for session_id, texts in sorted(tickets.items()):
                session = await manager.get_session(session_id)
                messages = await session.get_messages()
                asked = [message.content for message in messages[0::2]]
                answered = [message.content for message in messages[1::2]]
                found.append((session_id, texts, asked))
                assert answered == [f"answer to {text}" for text in asked]
            return found

    backends: tuple[Backend, ...] = ("asyncio", "trio")
    for backend in backends:
        for _, texts, asked in simulate(program, backend=backend, seed=seed).value:
            assert asked == texts
