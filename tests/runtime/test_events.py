"""G10 and the guide: events and hooks follow commits, hold nobody up, and are isolated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InvalidMessageError,
    MessageRefused,
    ProviderError,
)
from langswarm.core.session.interfaces import (
    ISessionLifecycleHook,
    ISessionMiddleware,
)

from .helpers import (
    PATIENCE_SECONDS,
    Echo,
    Gate,
    Store,
    answer_to,
    assert_turns,
    new_session,
    outcome,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session import SessionManager
    from langswarm.core.session.interfaces import (
        SessionContext,
        SessionEvent,
        SessionMessage,
    )


async def rest(events: AsyncIterator[SessionEvent]) -> list[SessionEvent]:
    """What a closed stream still holds."""
    return [event async for event in events]


async def test_g10_events_follow_the_commits_of_their_session(store: Store) -> None:
    """G10: types in order, revisions never go back, the cursor has no gaps."""
    manager = store.manager(Echo())
    events = manager.session_events()
    async with manager:
        session = await new_session(manager)
        await session.send_message("one")
        await session.send_system_message("rule")
        await session.update_context(a=1)
        await session.update_config({"name": "x"})
        await session.clear_messages()
        await session.archive()
        await session.reopen()
        await session.delete()
    seen = await rest(events)
    assert [event.type for event in seen] == [
        "session_created",
        "message_sent",
        "message_received",
        "message_sent",
        "context_updated",
        "config_updated",
        "messages_cleared",
        "session_archived",
        "session_reopened",
        "session_deleted",
    ]
    assert [event.revision for event in seen] == list(range(1, 11))
    assert [event.cursor for event in seen] == list(range(1, 11))
    assert {event.session_id for event in seen} == {session.session_id}
    assert {event.user_id for event in seen} == {"user"}
    assert all(event.timestamp.utcoffset() is not None for event in seen)
    assert [event.message_preview for event in seen] == [""] * 10


async def test_g10_events_of_many_sessions_follow_the_order_of_each(store: Store) -> None:
    """G10: 20 sessions under load with eviction: per session complete and in order."""
    manager = store.manager(Echo(), max_live_sessions=3, idle_seconds=0.0)
    events = manager.session_events(types=["session_created", "message_sent", "message_received"])
    async with manager:

        async def talk(number: int) -> None:
            session = await new_session(manager, session_id=f"s{number}")
            for turn in range(4):
                await session.send_message(f"{turn}")

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(talk, number)
    by_session: dict[str, list[SessionEvent]] = {}
    for event in await rest(events):
        by_session.setdefault(event.session_id, []).append(event)
    assert len(by_session) == 20
    for seen in by_session.values():
        kinds = ["session_created", *["message_sent", "message_received"] * 4]
        assert [event.type for event in seen] == kinds
        assert [event.revision for event in seen] == list(range(1, 10))


async def test_g10_revisions_never_go_back_whatever_else_is_told(store: Store) -> None:
    """G10: late hook failures, refusals and evictions between do not break the order."""
    gate = Gate()

    class LateFailure(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            await gate.passed()
            raise ValueError("planted")

    class Refusing(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if message.content == "bad":
                raise MessageRefused("no")
            return message

    manager = store.manager(
        Echo(), idle_seconds=0.0, hooks=[LateFailure()], middleware=[Refusing()]
    )
    events = manager.session_events()
    async with manager:
        session = await new_session(manager)
        await session.send_message("one")
        await outcome(session.submit("bad"))
        gate.open()
        await session.send_message("two")
        await outcome(session.submit("bad"))
    seen = await rest(events)
    durable = [event.revision for event in seen if event.revision]
    assert durable == sorted(durable)
    assert [event.cursor for event in seen] == list(range(1, len(seen) + 1))
    errors = [event.error for event in seen if event.type == "session_error"]
    assert len([error for error in errors if isinstance(error, MessageRefused)]) == 2
    assert len([error for error in errors if type(error) is ValueError]) == 2


async def test_g10_a_slow_subscriber_is_told_what_it_missed(store: Store) -> None:
    """G10: its buffer is bounded, the oldest go, one marker counts them; no turn waits."""
    manager = store.manager(Echo(), event_buffer_size=5)
    slow, picky = manager.session_events(), manager.session_events(types=["session_archived"])
    async with manager:
        session = await new_session(manager)
        for number in range(10):
            await session.send_message(f"{number}")
        first = await anext(slow)
        assert (first.type, first.missed) == ("gap", 16)
        kept = [await anext(slow) for _ in range(5)]
        assert [event.cursor for event in kept] == [17, 18, 19, 20, 21]
        await session.send_message("fresh")
        assert (await anext(slow)).cursor == 22
        await session.archive()
        assert (await anext(picky)).type == "session_archived"
    assert [event.type for event in await rest(slow)] == ["message_received", "session_archived"]
    assert await rest(picky) == []


async def test_g10_a_subscriber_that_comes_back_is_told_what_came_meanwhile(store: Store) -> None:
    """G10: `after` goes on behind the last event that was seen, none twice, none missing."""
    manager = store.manager(Echo())
    async with manager:
        first = manager.session_events()
        session = await new_session(manager)
        for number in range(3):
            await session.send_message(f"{number}")
        seen = [await anext(first) for _ in range(3)]
        await first.aclose()
        assert await rest(first) == []
        await session.archive()
        second = manager.session_events(after=seen[-1].cursor)
        third = manager.session_events(after=0, types=["session_archived"])
        nothing = manager.session_events(after=8)
    assert [event.cursor for event in await rest(second)] == [4, 5, 6, 7, 8]
    assert [event.type for event in await rest(third)] == ["session_archived"]
    assert await rest(nothing) == []


async def test_g10_who_comes_back_too_late_finds_a_gap_that_can_be_gone_on_from(
    store: Store,
) -> None:
    """G10: what is kept no more is counted, and the gap's own cursor leads on behind it."""
    manager = store.manager(Echo(), event_buffer_size=4)
    async with manager:
        manager.session_events()
        session = await new_session(manager)
        for number in range(5):
            await session.send_message(f"{number}")
        late = manager.session_events(after=2)
        gap = await anext(late)
        assert (gap.type, gap.missed, gap.cursor) == ("gap", 5, 7)
        again = manager.session_events(after=gap.cursor)
    assert [event.cursor for event in await rest(late)] == [8, 9, 10, 11]
    assert [event.cursor for event in await rest(again)] == [8, 9, 10, 11]


async def test_g10_a_gap_is_gone_on_from_without_a_loss(store: Store) -> None:
    """G10: a slow subscriber that comes back with the cursor of its gap misses nothing more."""
    manager = store.manager(Echo(), event_buffer_size=4)
    async with manager:
        slow = manager.session_events()
        session = await new_session(manager)
        for number in range(3):
            await session.send_message(f"{number}")
        gap = await anext(slow)
        assert (gap.type, gap.missed, gap.cursor) == ("gap", 3, 3)
        again = manager.session_events(after=gap.cursor)
    assert await rest(slow) == await rest(again)


async def test_g10_a_cursor_of_another_process_is_refused(store: Store) -> None:
    """A cursor that this manager never gave out is an error, not a silent loss."""
    manager = store.manager(Echo())
    async with manager:
        manager.session_events()
        await new_session(manager)
        with pytest.raises(ConfigurationError, match="no cursor of this manager"):
            manager.session_events(after=2)
        with pytest.raises(InvalidMessageError, match="after"):
            manager.session_events(after=-1)
        with pytest.raises(ConfigurationError, match="did you mean 'session_created'"):
            manager.session_events(types=["session_creatd"])
        for wrong in ("session_created", 5):
            with pytest.raises(ConfigurationError, match="must be a list"):
                manager.session_events(types=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="no event type"):
            manager.session_events(types=[["session_created"]])  # type: ignore[list-item]


async def test_g10_a_subscriber_gets_the_events_of_one_user_only(store: Store) -> None:
    """`user_id` filters, with the other filters."""
    manager = store.manager(Echo())
    async with manager:
        of_bob = manager.session_events(user_id="bob")
        archived = manager.session_events(user_id="bob", types=["session_archived"])
        for user in ("ada", "bob"):
            session = await manager.create_session(user, "openai", "m")
            await session.send_message("Hello")
            await session.archive()
    assert {event.user_id for event in await rest(of_bob)} == {"bob"}
    assert [event.type for event in await rest(archived)] == ["session_archived"]


async def test_g10_a_subscriber_that_waits_is_woken_and_ends_with_the_manager(
    store: Store,
) -> None:
    """G10: `async for` ends when the manager closes; one that was dropped costs nothing."""
    manager = store.manager(Echo())
    seen: list[str] = []

    async def watch() -> None:
        stream = manager.session_events(session_id="mine")
        seen.extend([event.type async for event in stream])

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        manager.session_events()
        async with manager:
            await new_session(manager, session_id="other")
            session = await new_session(manager, session_id="mine")
            await session.send_message("one")
    assert seen == ["session_created", "message_sent", "message_received"]


async def test_event_previews_are_off_unless_asked_for(memory: Store) -> None:
    """Previews carry the beginning of a message on one line, only with `event_previews=True`."""
    manager = memory.manager(Echo(), event_previews=True)
    events = manager.session_events(types=["message_sent"])
    async with manager:
        await (await new_session(manager)).send_message("a\n b" + "x" * 200)
    [event] = await rest(events)
    assert event.message_preview.startswith("a bxx")
    assert len(event.message_preview) == 80
    with pytest.raises(ConfigurationError, match="session_archived"):
        memory.manager().session_events(types=["session_archivd"])


class Diary(ISessionLifecycleHook):
    """Writes everything down; `slow` holds its first call."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.entries: list[str] = []
        self.errors: list[Exception] = []
        self.gate = gate

    async def note(self, entry: str) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            await gate.passed()
        self.entries.append(entry)

    async def on_session_created(self, session_id: str, user_id: str) -> None:
        await self.note(f"created by {user_id}")

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        await self.note(f"sent {message.content}")
        message.content = "spoiled"

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        await self.note(f"received {message.content}")

    async def on_context_updated(self, session_id: str) -> None:
        await self.note("context")

    async def on_session_archived(self, session_id: str) -> None:
        await self.note("archived")

    async def on_session_deleted(self, session_id: str) -> None:
        await self.note("deleted")

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        self.errors.append(error)


async def test_hooks_are_told_in_commit_order_each_with_a_copy(store: Store) -> None:
    """G15: every method, in the order of the commits, for two hooks in the order added."""
    diary, second = Diary(), Diary()
    async with store.manager(Echo(), hooks=[diary]) as manager:
        manager.add_lifecycle_hook(second)
        session = await new_session(manager)
        await session.send_message("one")
        await session.update_context(a=1)
        await session.send_message("two")
        await session.archive()
        await session.delete()
    expected = [
        "created by user",
        "sent one",
        "received answer to one",
        "context",
        "sent two",
        "received answer to two",
        "archived",
        "deleted",
    ]
    assert diary.entries == expected
    assert second.entries == expected
    assert diary.errors == []


async def test_g15_a_hook_that_hangs_delays_neither_answer_nor_next_turn(store: Store) -> None:
    """G15: it is awaited by nobody; the calls behind it keep their order."""
    gate = Gate()
    diary = Diary(gate)
    async with store.manager(Echo(), hooks=[diary]) as manager:
        session = await new_session(manager)
        for text in ("one", "two", "three"):
            assert (await session.send_message(text)).content == answer_to(text)
        assert diary.entries == []
        await (await new_session(manager)).send_message("neighbour")
        gate.open()
    own = [entry for entry in diary.entries if "neighbour" not in entry]
    assert [entry for entry in own if entry.startswith(("sent", "received"))] == [
        "sent one",
        "received answer to one",
        "sent two",
        "received answer to two",
        "sent three",
        "received answer to three",
    ]


class Odd(BaseException):
    """No Exception."""


@pytest.mark.parametrize("failure", [ValueError("planted"), SystemExit(3), Odd("planted")], ids=str)
async def test_g15_a_hook_that_fails_is_isolated_and_reported(
    store: Store, failure: BaseException
) -> None:
    """G15: other hooks and turns never notice; on_session_error and the event tell."""

    class Failing(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            raise failure

    diary = Diary()
    manager = store.manager(Echo(), hooks=[Failing(), diary])
    events = manager.session_events(types=["session_error"])
    async with manager:
        session = await new_session(manager)
        await session.send_message("one")
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])
    assert diary.entries[1:3] == ["sent one", "received answer to one"]
    assert len(diary.errors) == 2
    assert [event.error for event in await rest(events)] == diary.errors


async def test_g15_a_hook_that_never_ends_is_cancelled_and_reported(store: Store) -> None:
    """G15: at hook_timeout_seconds; what is behind it in the lane goes on."""

    class Hanging(ISessionLifecycleHook):
        async def on_session_created(self, session_id: str, user_id: str) -> None:
            await anyio.sleep_forever()

    diary = Diary()
    async with store.manager(
        Echo(), hooks=[Hanging(), diary], hook_timeout_seconds=0.05
    ) as manager:
        session = await new_session(manager)
        await session.send_message("one")
    assert diary.entries == ["created by user", "sent one", "received answer to one"]
    assert [type(error) for error in diary.errors] == [TimeoutError]


async def test_g13_a_hanging_hook_does_not_hold_up_the_end(store: Store) -> None:
    """G13: aclose() ends soon after its deadline although hooks would hang for an hour."""

    class Hanging(ISessionLifecycleHook):
        async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
            await anyio.sleep_forever()

    manager = store.manager(
        Echo(), hooks=[Hanging()], hook_timeout_seconds=3600, cancel_grace_seconds=0.05
    )
    session = await new_session(manager)
    for number in range(5):
        await session.send_message(f"{number}")
    with anyio.fail_after(PATIENCE_SECONDS):
        await manager.aclose(drain_seconds=0.05)


async def test_g11_the_lane_of_a_session_is_bounded(store: Store) -> None:
    """G11: calls beyond hook_lane_size are dropped and counted; turns do not wait."""
    gate = Gate()
    diary = Diary(gate)
    manager: SessionManager = store.manager(Echo(), hooks=[diary], hook_lane_size=3)
    async with manager:
        session = await new_session(manager)
        for number in range(5):
            await session.send_message(f"{number}")
        assert manager._guests is not None
        assert manager._guests.statistics().dropped_hook_calls == 8
        gate.open()
    assert diary.entries == ["created by user", "sent 0", "received answer to 0"]


async def test_hooks_hear_of_failed_turns_and_refused_messages(store: Store) -> None:
    """on_session_error gets the error that the caller got."""
    provider, diary = Echo(), Diary()
    provider.failing = {"bad"}
    async with store.manager(provider, hooks=[diary]) as manager:
        session = await new_session(manager)
        error = await outcome(session.submit("bad"))
        assert isinstance(error, ProviderError)
    assert diary.errors == [error]
    assert diary.entries == ["created by user", "sent bad"]


async def test_a_hook_may_call_its_own_session(store: Store) -> None:
    """A hook runs after the commit, outside of the turn: its calls queue like everyone's."""

    class Welcome(ISessionLifecycleHook):
        manager: SessionManager
        done = 0

        async def on_session_created(self, session_id: str, user_id: str) -> None:
            session = await self.manager.get_session(session_id)
            await session.send_system_message(f"welcome {user_id}")
            await session.send_message("hello")
            self.done += 1

    welcome = Welcome()
    async with store.manager(Echo(), hooks=[welcome]) as manager:
        welcome.manager = manager
        session = await new_session(manager)
        await until(lambda: welcome.done == 1)
        texts = [message.content for message in await session.get_messages()]
        assert texts == ["welcome user", "hello", "answer to hello"]
