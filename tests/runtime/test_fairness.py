"""G12, G15: nobody waits longer than a step of each ahead; who holds the loop is named."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from langswarm.core.session import ConfigurationError, SessionMessage, create_session_manager

from .helpers import Echo, Store, answer_to, contents, new_session, outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest


async def test_g12_a_flooded_session_yields_its_live_place_after_each_turn(store: Store) -> None:
    """G12: with one live place, a newcomer runs after the turn in progress, not after the flood."""
    provider = Echo()
    gate = provider.hold("flood 0")
    manager = store.manager(provider, max_live_sessions=1, mailbox_size=1_000)
    async with manager:
        flooded, other = await new_session(manager), await new_session(manager)
        flood = [flooded.submit(f"flood {n}") for n in range(50)]
        await gate.reached()
        newcomer = other.submit("newcomer")
        gate.open()
        assert (await newcomer).content == answer_to("newcomer")
        for ticket in flood:
            await ticket
        order = [prompt[-1] for prompt in provider.prompts()]
        assert order == ["flood 0", "newcomer", *(f"flood {n}" for n in range(1, 50))]
        assert (await contents(flooded))[::2] == [f"flood {n}" for n in range(50)]


class Blocking:
    """A middleware that calls something synchronous and slow."""

    async def process_message(
        self, session_id: str, message: SessionMessage, context: Mapping[str, object]
    ) -> SessionMessage:
        del session_id, context
        if message.role == "user":
            time.sleep(0.03)  # noqa: ASYNC251 - the fault that is planted
        return message


async def test_g15_a_guest_that_holds_the_event_loop_is_named_and_counted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """G15: the log names session and guest; the turn itself goes on."""
    manager = store.manager(Echo(), middleware=[Blocking()], blocking_seconds=0.01)
    async with manager:
        session = await new_session(manager)
        await session.send_message("one")
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.supervisor.blocked_loop >= 1
    told = [record for record in caplog.records if "held the event loop" in record.message]
    assert any(
        session.session_id in record.message and "a middleware" in record.message for record in told
    )


async def test_g2_a_second_manager_on_the_same_storage_object_is_refused(store: Store) -> None:
    """G2: two managers would close each other's turns; the second is told, the first goes on."""
    storage = store.storage()
    first = create_session_manager(storage, providers={"openai": Echo()})
    second = create_session_manager(storage, providers={"openai": Echo()})
    async with first:
        session = await new_session(first)
        assert isinstance(await outcome(second.get_session("any")), ConfigurationError)
        await session.send_message("one")
    async with second:
        again = await second.get_session(session.session_id)
        assert await contents(again) == ["one", answer_to("one")]
