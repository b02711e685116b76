"""Messages that were written elsewhere are added without a turn, in their place among the sends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session import (
    ISessionLifecycleHook,
    SessionMessage,
)
from langswarm.core.session.errors import (
    IdempotencyConflictError,
    InvalidMessageError,
    SessionArchivedError,
)
from langswarm.core.session.providers import NativeMockProvider

from .helpers import Echo, contents, new_session, outcomes

if TYPE_CHECKING:
    from .helpers import Store

LONG_AGO = datetime(2020, 1, 1, 12, 30, tzinfo=UTC)


async def test_any_role_is_added_with_its_time_and_metadata(store: Store) -> None:
    """What is given comes back, after a restart too; the counters know it by its role."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        for number, role in enumerate(("assistant", "user", "user", "system")):
            added = await session.add_message(
                role, f"text {number}", timestamp=LONG_AGO, metadata={"number": number}
            )
            assert (added.role, added.content, added.seq) == (role, f"text {number}", number + 1)
            assert (added.timestamp, added.metadata) == (LONG_AGO, {"number": number})
            assert (added.turn_id, added.finish_reason) == (None, None)
        metrics = await session.get_metrics()
        assert (metrics.user_messages, metrics.assistant_messages) == (2, 1)
        assert (metrics.system_messages, metrics.completed_turns) == (1, 0)
        before = await session.get_messages()
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session.session_id)
        assert await session.get_messages() == before
        assert session.message_count == 4


async def test_the_order_is_that_of_the_calls_whatever_the_times_say(store: Store) -> None:
    """Times that fall, and sends in between: `seq` rises by one each."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        first = session.submit("sent first")
        await session.add_message("user", "older", timestamp=LONG_AGO)
        await session.add_message("assistant", "oldest", timestamp=LONG_AGO - timedelta(days=1))
        await first
        await session.send_message("sent last")
        messages = await session.get_messages()
        assert [message.seq for message in messages] == [1, 2, 3, 4, 5, 6]
        assert [message.content for message in messages] == [
            "sent first",
            "answer to sent first",
            "older",
            "oldest",
            "sent last",
            "answer to sent last",
        ]


async def test_a_naive_time_is_local_and_an_aware_one_is_kept(memory: Store) -> None:
    """Both arrive as the same moment in UTC."""
    local = datetime(2024, 5, 6, 7, 8, 9)  # noqa: DTZ001 - naive is the point
    aware = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        assert (await session.add_message("user", "a", timestamp=local)).timestamp == (
            local.astimezone()
        )
        found = await session.add_message("user", "b", timestamp=aware)
        assert found.timestamp == aware
        assert found.timestamp.utcoffset() == timedelta(0)


async def test_the_next_prompt_has_what_was_added_and_is_valid(store: Store) -> None:
    """Evicted or not, the window begins with a user message and leaves blank texts out."""
    echo = Echo()
    wanted = ["rules", "first question", "second question", "its answer", "now"]
    for idle_seconds in (300.0, 0.0):
        async with store.manager(echo, idle_seconds=idle_seconds) as manager:
            session = await new_session(manager)
            await session.add_message("assistant", "nobody asked")
            await session.add_message("user", "first question")
            await session.add_message("user", "second question")
            await session.add_message("assistant", "")
            await session.add_message("assistant", "its answer", timestamp=LONG_AGO)
            await session.add_message("system", "rules")
            await session.send_message("now")
            assert echo.prompts()[-1] == wanted


async def test_a_turn_before_it_can_still_be_retried(store: Store) -> None:
    """What was added behind a turn stays where it is."""
    echo = Echo()
    echo.failing.add("question")
    async with store.manager(echo) as manager:
        session = await new_session(manager)
        [error] = await outcomes([session.submit("question")])
        assert error.code == "overloaded"
        await session.add_message("assistant", "an apology from elsewhere")
        echo.failing.clear()
        assert (await session.retry()).content == "answer to question"
        assert await contents(session) == [
            "an apology from elsewhere",
            "question",
            "answer to question",
        ]


async def test_a_conversation_at_the_provider_is_started_afresh(store: Store) -> None:
    """It does not hold what was added, so the next turn replays the history."""
    native = NativeMockProvider()
    async with store.manager(native) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        before = session.provider_session_id
        await session.send_message("two")
        assert session.provider_session_id == before
        await session.add_message("user", "from elsewhere")
        await session.send_message("three")
        assert session.provider_session_id != before


async def test_a_repetition_under_a_key_adds_nothing(store: Store) -> None:
    """G7, also after a restart; another text, role or time under the key is an error."""
    given: dict[str, Any] = {"timestamp": LONG_AGO, "idempotency_key": "k"}
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        first = await session.add_message("user", "once", **given)
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session.session_id)
        assert await session.add_message("user", "once", **given) == first
        later: dict[str, Any] = {**given, "timestamp": LONG_AGO + timedelta(seconds=1)}
        for role, content, keywords in (
            ("assistant", "once", given),
            ("user", "other", given),
            ("user", "once", later),
        ):
            with pytest.raises(IdempotencyConflictError):
                await session.add_message(role, content, **keywords)
        assert session.message_count == 1


@pytest.mark.parametrize(
    ("role", "content", "keywords"),
    [
        ("robot", "text", {}),
        (None, "text", {}),
        ("user", None, {}),
        ("user", "\ud83d", {}),
        ("user", "x" * 101, {}),
        ("user", "text", {"timestamp": "2020-01-01"}),
        ("user", "text", {"timestamp": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}),
        ("user", "text", {"metadata": {"a": {1}}}),
    ],
)
async def test_what_cannot_be_stored_is_refused_and_nothing_is_added(
    role: Any, content: Any, keywords: dict[str, Any], memory: Store
) -> None:
    """Each wrong value is an InvalidMessageError."""
    async with memory.manager(max_message_bytes=100) as manager:
        session = await manager.create_session("ada", "mock", "m")
        with pytest.raises(InvalidMessageError):
            await session.add_message(role, content, **keywords)
        assert session.message_count == 0


async def test_an_archived_session_takes_none(memory: Store) -> None:
    """G8 holds for it as for a send."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.archive()
        with pytest.raises(SessionArchivedError):
            await session.add_message("user", "too late")


async def test_events_and_hooks_tell_it_by_its_role(memory: Store) -> None:
    """An answer was received, everything else was sent; middleware and provider are not asked."""
    told: list[tuple[str, str]] = []

    class Hook(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            told.append(("sent", message.content))

        async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
            told.append(("received", message.content))

    async with memory.manager(hooks=[Hook()]) as manager:
        session = await manager.create_session("ada", "mock", "m")
        events = manager.session_events(types=["message_sent", "message_received"])
        for role in ("user", "assistant", "system"):
            await session.add_message(role, role)
        kinds = [(await anext(events)).type for _ in range(3)]
    assert kinds == ["message_sent", "message_received", "message_sent"]
    assert told == [("sent", "user"), ("received", "assistant"), ("sent", "system")]


async def test_the_figures_of_the_day_count_it_on_the_day_it_is_added(memory: Store) -> None:
    """Usage is what this runtime stored, not what was said elsewhere long ago."""
    async with memory.manager() as manager:
        session = await manager.create_session("ada", "mock", "m")
        await session.add_message("assistant", "old", timestamp=LONG_AGO)
        found = await manager.get_analytics(start_date=datetime.now(UTC) - timedelta(days=1))
        assert (found.total_sessions, found.assistant_messages) == (1, 1)
