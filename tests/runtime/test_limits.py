"""G11: everything is bounded; beyond a bound a clear error hands the message back. G12: fair."""

from __future__ import annotations

import anyio
import pytest
from langswarm.core.session import (
    CapacityError,
    ConfigurationError,
    InvalidMessageError,
    Limits,
    MailboxFullError,
    create_session_manager,
)
from langswarm.core.session.errors import OverloadError, RuntimeClosedError

from .helpers import (
    PATIENCE_SECONDS,
    Echo,
    Store,
    assert_turns,
    contents,
    new_session,
    outcome,
    outcomes,
    settle,
    supervisor_of,
)


async def test_g11_a_full_mailbox_hands_the_message_back(store: Store) -> None:
    """G11: MailboxFullError at once, retryable, with the content; what was queued runs."""
    provider = Echo()
    gate = provider.hold("running")
    async with store.manager(provider, mailbox_size=3) as manager:
        session = await new_session(manager)
        queued = [session.submit("running")]
        await gate.reached()
        queued += [session.submit(f"{number}") for number in range(3)]
        with pytest.raises(MailboxFullError) as refused:
            _ = session.submit("too much")
        with pytest.raises(MailboxFullError, match="mailbox_size=3") as awaited:
            await session.send_message("too much")
        for error in (refused.value, awaited.value):
            assert isinstance(error, OverloadError)
            assert (error.content, error.retryable) == ("too much", True)
        with pytest.raises(MailboxFullError):
            await session.update_context(a=1)
        gate.open()
        await outcomes(queued)
        await session.send_message("again")
        assert_turns(await session.get_messages(), ["running", "0", "1", "2", "again"])


async def test_g11_sessions_wait_in_line_for_a_live_place_until_the_timeout(store: Store) -> None:
    """G11: CapacityError after queue_timeout_seconds hands the message back; nothing ran."""
    provider = Echo()
    gate = provider.hold("busy")
    async with store.manager(provider, max_live_sessions=1, queue_timeout_seconds=0.05) as manager:
        busy, other = await new_session(manager), await new_session(manager)
        running = busy.submit("busy")
        await gate.reached()
        errors = await outcomes([other.submit("first"), other.submit("second")])
        assert all(isinstance(error, CapacityError) for error in errors)
        assert [error.content for error in errors] == ["first", "second"]
        assert all(error.retryable and error.retry_after_seconds for error in errors)
        assert supervisor_of(manager).statistics().waiting == 0
        gate.open()
        await outcome(running)
        await settle()  # the place is free now, so that nobody has to wait for it
        await other.send_message("third")
        assert_turns(await other.get_messages(), ["third"])


async def test_g12_places_are_given_in_the_order_of_the_line(store: Store) -> None:
    """G12: ten sessions on one live place: first come, first served, none left behind."""
    provider = Echo()
    gate = provider.hold("busy")
    async with store.manager(provider, max_live_sessions=1) as manager:
        busy = await new_session(manager)
        others = [await new_session(manager) for _ in range(10)]
        tickets = [busy.submit("busy")]
        await gate.reached()
        tickets += [session.submit(f"{number}") for number, session in enumerate(others)]
        assert supervisor_of(manager).statistics().waiting == 10
        gate.open()
        await outcomes(tickets)
    assert [prompt[-1] for prompt in provider.prompts()] == [
        "busy",
        *[f"{number}" for number in range(10)],
    ]
    assert provider.most == 1


async def test_g11_a_place_in_line_is_given_back_by_who_leaves_it(store: Store) -> None:
    """G11, G9: a caller cancelled in line leaves nothing behind."""
    provider = Echo()
    gate = provider.hold("busy")
    async with store.manager(provider, max_live_sessions=1) as manager:
        busy, other = await new_session(manager), await new_session(manager)
        running = busy.submit("busy")
        await gate.reached()
        async with anyio.create_task_group() as group:
            group.start_soon(other.send_message, "never")
            await anyio.wait_all_tasks_blocked()
            assert supervisor_of(manager).statistics().waiting == 1
            group.cancel_scope.cancel()
        assert supervisor_of(manager).statistics().waiting == 0
        gate.open()
        await outcome(running)
        assert await other.get_messages() == []


async def test_g11_the_line_itself_is_bounded(store: Store) -> None:
    """G11: beyond max_waiting_sessions the refusal comes at once."""
    provider = Echo()
    gate = provider.hold("busy")
    async with store.manager(provider, max_live_sessions=1, max_waiting_sessions=2) as manager:
        sessions = [await new_session(manager) for _ in range(4)]
        tickets = [sessions[0].submit("busy")]
        await gate.reached()
        tickets += [session.submit("waits") for session in sessions[1:3]]
        with pytest.raises(CapacityError, match="max_waiting_sessions") as refused:
            _ = sessions[3].submit("too much")
        assert refused.value.content == "too much"
        gate.open()
        await outcomes(tickets)
        await sessions[3].send_message("now")


async def test_g11_messages_and_metadata_have_a_size(store: Store) -> None:
    """G11: UTF-8 bytes count, the bound itself is allowed, beyond is refused before the queue."""
    async with store.manager(Echo(), max_message_bytes=100, max_metadata_bytes=100) as manager:
        session = await new_session(manager)
        with pytest.raises(InvalidMessageError, match="100"):
            _ = session.submit("x" * 101)
        with pytest.raises(InvalidMessageError, match="100"):
            await session.send_message("é" * 51)
        with pytest.raises(InvalidMessageError, match="100"):
            await session.send_system_message("x" * 101)
        with pytest.raises(InvalidMessageError, match="100"):
            await session.send_message("x", metadata={"key": "x" * 100})
        assert session.message_count == 0
        await session.send_message("é" * 20, metadata={"key": "x" * 88})
        assert await contents(session) == ["é" * 20, f"answer to {'é' * 20}"]


async def test_g12_a_flooding_session_does_not_starve_another(store: Store) -> None:
    """G12: with 300 messages queued in one session, another is served between its turns."""
    provider = Echo()
    async with store.manager(provider) as manager:
        flooder, other = await new_session(manager), await new_session(manager)
        flood = [flooder.submit(f"flood {number}") for number in range(300)]
        for number in range(5):
            await other.send_message(f"other {number}")
        order = [prompt[-1] for prompt in provider.prompts()]
        assert order.index("other 4") < 30
        await outcomes(flood)
        assert_turns(await flooder.get_messages(), [f"flood {number}" for number in range(300)])


async def test_g12_an_eviction_storm_does_not_starve_sends(store: Store) -> None:
    """G12: while 100 sessions push each other out of 2 places, a send is served in its turn."""
    provider = Echo()
    async with store.manager(provider, max_live_sessions=2, idle_seconds=0.0) as manager:
        sessions = [await new_session(manager) for _ in range(100)]
        tickets = [session.submit("storm") for session in sessions]
        late = sessions[0].submit("late")
        tickets += [session.submit("storm again") for session in sessions]
        await outcome(late)
        order = [prompt[-1] for prompt in provider.prompts()]
        assert order.index("late") <= 102
        await outcomes(tickets)


async def test_idle_sessions_leave_memory_and_cost_no_task(store: Store) -> None:
    """An evicted session leaves no actor, no window and no task; its next call brings it back."""
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        sessions = [await new_session(manager) for _ in range(20)]
        for session in sessions:
            await session.send_message("one")
        statistics = manager.statistics()
        assert statistics is not None
        assert (statistics.supervisor.live, statistics.supervisor.cached_windows) == (0, 0)
        assert statistics.executor.running == 0
        assert [session.message_count for session in sessions] == [2] * 20
        await sessions[0].send_message("two")
        assert_turns(await sessions[0].get_messages(), ["one", "two"])


async def test_a_long_turn_is_not_idle(store: Store) -> None:
    """A session that waits for its provider is busy, however long: it is never evicted."""
    provider = Echo()
    gate = provider.hold("long")
    async with store.manager(provider, max_live_sessions=2, idle_seconds=0.0) as manager:
        session = await new_session(manager)
        ticket = session.submit("long")
        await gate.reached()
        assert not supervisor_of(manager).evict(session.session_id)
        for _ in range(5):
            await (await new_session(manager)).send_message("one")
        assert supervisor_of(manager).live_state(session.session_id) is not None
        gate.open()
        assert (await outcome(ticket)).content == "answer to long"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mailbox_size", 0),
        ("mailbox_size", 1.5),
        ("mailbox_size", True),
        ("idle_seconds", -1),
        ("idle_seconds", float("nan")),
        ("turn_timeout_seconds", "soon"),
        ("turn_timeout_seconds", None),
    ],
)
def test_g11_a_limit_out_of_its_range_names_itself_and_the_value(name: str, value: object) -> None:
    """G11: options are checked one by one."""
    with pytest.raises(ConfigurationError, match=name):
        create_session_manager(**{name: value})  # type: ignore[arg-type]


def test_a_time_is_not_longer_than_a_float() -> None:
    """It would not fail before it is added to one."""
    with pytest.raises(ConfigurationError, match="idle_seconds"):
        create_session_manager(idle_seconds=10**400)
    create_session_manager(idle_seconds=float("inf"))


def test_an_unknown_option_names_the_nearest_one() -> None:
    """A mistyped option is an error that says what was meant."""
    with pytest.raises(ConfigurationError, match="did you mean 'mailbox_size'"):
        create_session_manager(mailbox_sise=5)


def test_every_limit_says_what_happens_beyond_it() -> None:
    """G11: each bound has a text; the documentation's table is made from them."""
    import attrs  # noqa: PLC0415 - for this test alone

    for field in attrs.fields(Limits):
        assert len(field.metadata["what"]) > 10, field.name


async def test_g13_drain_finishes_what_is_queued(store: Store) -> None:
    """G13: aclose() refuses new work with the content handed back and finishes the rest."""
    provider = Echo()
    gate = provider.hold("0")
    manager = store.manager(provider)
    session = await new_session(manager)
    tickets = [session.submit(f"{number}") for number in range(10)]
    await gate.reached()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.aclose)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeClosedError) as refused:
            _ = session.submit("late")
        assert (refused.value.content, refused.value.retryable) == ("late", True)
        with pytest.raises(RuntimeClosedError):
            await new_session(manager)
        gate.open()
    answers = await outcomes(tickets)
    assert [answer.content for answer in answers] == [f"answer to {n}" for n in range(10)]
    assert provider.closed == 1
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        assert_turns(await session.get_messages(), [f"{number}" for number in range(10)])


async def test_g13_the_deadline_interrupts_keeps_the_partial_text_and_hands_back(
    store: Store,
) -> None:
    """G13, G9: at the deadline the running answer is kept and marked, the queue handed back."""
    provider = Echo()
    gate = provider.hold("running")
    manager = store.manager(provider)
    session, waiting = await new_session(manager), await new_session(manager)
    await waiting.send_message("one")
    running, queued = session.submit("running"), session.submit("queued")
    await gate.reached()
    with anyio.fail_after(PATIENCE_SECONDS):
        await manager.aclose(drain_seconds=0)
    interrupted = await outcome(running)
    assert type(interrupted).__name__ == "TurnInterruptedError"
    assert isinstance(interrupted.__cause__, RuntimeClosedError)
    handed_back = await outcome(queued)
    assert isinstance(handed_back, RuntimeClosedError)
    assert handed_back.content == "queued"
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        messages = await session.get_messages()
        assert [(m.content, m.finish_reason) for m in messages] == [
            ("running", None),
            ("answer ", "interrupted"),
        ]
        await session.send_message("next")
        assert provider.prompts() == [["running", "answer ", "next"]]
        assert (await session.get_metrics()).interrupted_turns == 1
        waiting = await manager.get_session(waiting.session_id)
        assert_turns(await waiting.get_messages(), ["one"])


async def test_g13_a_session_in_line_is_handed_back_at_the_deadline(store: Store) -> None:
    """G13: waiting for a live place is no reason to be forgotten."""
    provider = Echo()
    gate = provider.hold("running")
    manager = store.manager(provider, max_live_sessions=1)
    session, other = await new_session(manager), await new_session(manager)
    running, in_line = session.submit("running"), other.submit("in line")
    await gate.reached()
    await manager.aclose(drain_seconds=0)
    error = await outcome(in_line)
    assert isinstance(error, RuntimeClosedError)
    assert error.content == "in line"
    assert isinstance(await outcome(running), Exception)


async def test_g13_nothing_acknowledged_is_lost_when_many_are_cut_off(store: Store) -> None:
    """G13: 60 sessions in every stage at the deadline: answered is stored, the rest is told."""
    provider = Echo()
    for number in range(0, 60, 3):
        provider.hold(f"s{number} 1")
    manager = store.manager(provider, max_live_sessions=40)
    results: dict[str, list[object]] = {}

    async def talk(name: str) -> None:
        try:
            session = await new_session(manager, session_id=name)
        except RuntimeClosedError:
            return
        results[name] = []
        for turn in range(5):
            try:
                results[name].append(await outcome(session.submit(f"{name} {turn}")))
            except RuntimeClosedError:
                return

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(talk, f"s{number}")
        while len(provider.requests) < 60:
            await anyio.lowlevel.checkpoint()
        await manager.aclose(drain_seconds=0)
    async with store.manager(provider) as manager:
        for name, seen in results.items():
            session = await manager.get_session(name)
            messages = await session.get_messages()
            stored = [m.content for m in messages if m.finish_reason == "stop"]
            acknowledged = [getattr(answer, "content", None) for answer in seen]
            kept = [text for text in acknowledged if text and text.startswith("answer")]
            assert stored == kept
            assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
            assert (await session.get_metrics()).total_messages == len(messages)
