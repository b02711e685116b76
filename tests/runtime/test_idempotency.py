"""G7: the same key and payload are done once, however often and whenever they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ProviderError,
    SessionArchivedError,
    SessionNotFoundError,
)
from langswarm.core.session.errors import IdempotencyConflictError, TurnNotFoundError

from .helpers import Echo, Store, answer_to, contents, new_session, outcome

if TYPE_CHECKING:
    from langswarm.core.session import Session


async def test_fifty_sends_under_one_key_at_once_are_one_turn_and_fifty_equal_results(
    store: Store,
) -> None:
    provider = Echo()
    results: list[Any] = []

    async def send(session: Session) -> None:
        results.append(await session.send_message("one", idempotency_key="k"))

    async with store.manager(provider) as manager:
        session = await new_session(manager)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(send, session)
        assert len(results) == 50
        assert all(result == results[0] for result in results)
        assert await contents(session) == ["one", answer_to("one")]
    assert len(provider.requests) == 1


async def test_a_key_that_was_used_gives_the_first_result_also_after_a_restart(
    store: Store,
) -> None:
    """Whatever came after it."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager, session_id="s")
        first = await session.send_message("one", metadata={"a": 1}, idempotency_key="k")
        await session.send_message("two")
        again = await session.send_message("one", metadata={"a": 1}, idempotency_key="k")
        assert again == first
    async with store.manager(provider) as manager:
        session = await manager.get_session("s")
        assert await session.send_message("one", metadata={"a": 1}, idempotency_key="k") == first
        ticket = session.submit("one", metadata={"a": 1}, idempotency_key="k")
        assert await ticket == first
        async with session.stream_message("one", metadata={"a": 1}, idempotency_key="k") as turn:
            events = [event.type async for event in turn]
        assert events == ["started", "text_delta", "completed"]
        assert turn.message == first
        assert len(await session.get_messages()) == 4
    assert len(provider.requests) == 2


async def test_another_payload_under_the_key_is_an_error(store: Store) -> None:
    """While the first one waits, while it runs, and ever after."""
    provider = Echo()
    gate = provider.hold("one")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        first = session.submit("one", idempotency_key="k")
        others = [
            session.submit(content, metadata=metadata, idempotency_key="k")
            for content, metadata in (("two", None), ("one", {"a": 1}), ("three", None))
        ]
        await gate.reached()
        others.append(session.submit("two", idempotency_key="k"))
        again = session.submit("one", idempotency_key="k")
        gate.open()
        for ticket in others:
            assert isinstance(await outcome(ticket), IdempotencyConflictError)
        assert await again == await first
        with pytest.raises(IdempotencyConflictError):
            await session.send_message("two", idempotency_key="k")
        assert await contents(session) == ["one", answer_to("one")]


async def test_keys_belong_to_session_and_method(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        one, two = await new_session(manager), await new_session(manager)
        for session in (one, two):
            await session.send_message("x", idempotency_key="k")
            await session.send_system_message("x", idempotency_key="k")
            await session.update_context(x=1, idempotency_key="k")
            assert await contents(session) == ["x", answer_to("x"), "x"]


async def test_a_failure_that_may_pass_is_run_again_and_a_final_one_is_told_again(
    store: Store,
) -> None:
    """In the place of the turn that failed: the history has the question once."""
    provider = Echo()
    provider.failing = {"busy"}
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        for _ in range(2):
            with pytest.raises(ProviderError, match="planted"):
                await session.send_message("busy", idempotency_key="k")
        provider.failing = set()
        answer = await session.send_message("busy", idempotency_key="k")
        assert await session.send_message("busy", idempotency_key="k") == answer
        assert await contents(session) == ["busy", answer_to("busy")]
        assert session.message_count == 2


async def test_an_interrupted_turn_is_run_again_unless_the_conversation_went_on(
    store: Store,
) -> None:
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        for _ in range(2):
            gate = provider.hold("long")
            ticket = session.submit("long", idempotency_key="k")
            await gate.reached()
            await session.stop()
            assert isinstance(await outcome(ticket), ProviderError)
        del provider.gates["long"]
        await session.send_message("next")
        error = await outcome(session.submit("long", idempotency_key="k"))
        assert isinstance(error, ProviderError)
        assert error.code == "interrupted"
        assert await contents(session) == ["long", "answer ", "next", answer_to("next")]


async def test_it_is_looked_up_before_the_status(store: Store) -> None:
    """What was done was done, also if the session is archived since."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        answer = await session.send_message("x", idempotency_key="k")
        await session.archive()
        assert await session.send_message("x", idempotency_key="k") == answer
        with pytest.raises(SessionArchivedError):
            await session.send_message("y", idempotency_key="other")


async def test_a_result_that_was_cleared_is_an_error_and_not_a_second_turn(store: Store) -> None:
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        await session.send_message("x", idempotency_key="k")
        await session.send_system_message("y", idempotency_key="k")
        await session.clear_messages()
        for call in (session.send_message, session.send_system_message):
            content = "x" if call == session.send_message else "y"
            with pytest.raises(TurnNotFoundError):
                await call(content, idempotency_key="k")
        assert await contents(session) == []
    assert len(provider.requests) == 1


async def test_updates_and_system_messages_are_done_once(store: Store) -> None:
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        system = [await session.send_system_message("s", idempotency_key="k") for _ in range(3)]
        assert system[0] == system[1] == system[2]
        assert await contents(session) == ["s"]
        await session.update_context({"a": 1}, idempotency_key="k")
        await session.update_context(a=2)
        context = await session.update_context({"a": 1}, idempotency_key="k")
        assert (dict(context), context.version) == ({"a": 2}, 2)
        with pytest.raises(IdempotencyConflictError):
            await session.update_context({"a": 1}, replace=True, idempotency_key="k")


async def test_creations_under_one_key_are_one_session(store: Store) -> None:
    """Fifty at once, later, and after a restart; another user's key is another's."""
    ids: set[str] = set()

    async with store.manager(Echo()) as manager:

        async def create() -> None:
            session = await new_session(manager, idempotency_key="k")
            ids.add(session.session_id)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(create)
        [session_id] = ids
        await (await manager.get_session(session_id)).send_message("hello")
        with pytest.raises(IdempotencyConflictError):
            await manager.create_session("user", "openai", "other", idempotency_key="k")
        other = await new_session(manager, "somebody else", idempotency_key="k")
        assert other.session_id != session_id
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, idempotency_key="k")
        assert session.session_id == session_id
        assert session.message_count == 2
        assert len(await manager.get_user_sessions("user")) == 1
        await session.delete()
        with pytest.raises(SessionNotFoundError):
            await new_session(manager, idempotency_key="k")


async def test_a_shared_message_is_taken_back_by_the_last_who_waits(store: Store) -> None:
    provider = Echo()
    gate = provider.hold("first")
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        _ = session.submit("first")
        await gate.reached()
        one = session.submit("x", idempotency_key="k")
        two = session.submit("x", idempotency_key="k")
        assert not one.withdraw()
        assert two.withdraw()
        async with anyio.create_task_group() as group:
            stays = session.submit("y", idempotency_key="l")
            with anyio.CancelScope() as scope:
                group.start_soon(outcome, stays)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await session.send_message("y", idempotency_key="l")
            gate.open()
        sent = [m.content for m in await session.get_messages(role="user")]
        assert sent == ["first", "y"]


@pytest.mark.parametrize("key", ["", "x" * 201, 5, "\ud800"])
async def test_a_key_that_is_none_is_refused(key: Any) -> None:
    """It could not be stored."""
    from langswarm.core.session import create_session_manager  # noqa: PLC0415

    async with create_session_manager() as manager:
        with pytest.raises(ConfigurationError, match="idempotency_key"):
            await manager.create_session("u", "mock", "m", idempotency_key=key)
        session = await manager.create_session("u", "mock", "m")
        with pytest.raises(ConfigurationError, match="idempotency_key"):
            _ = session.submit("x", idempotency_key=key)
