"""Turns that are run again, and histories that branch: nothing is rewritten, all is atomic (G5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import (
    InvalidMessageError,
    ProviderError,
    SessionArchivedError,
    SessionExistsError,
)
from langswarm.core.session.errors import (
    MessageNotFoundError,
    TurnNotFoundError,
    TurnStateError,
)
from langswarm.core.session.providers import Completed, TextDelta

from .helpers import Echo, Play, Store, answer_to, contents, new_session

if TYPE_CHECKING:
    from langswarm.core.session import Session


def saying(*texts: str) -> Play:
    """One answer after the other."""
    return Play(*([TextDelta(text), Completed()] for text in texts))


def prompts(provider: Play) -> list[list[str]]:
    return [[message.content for message in request.messages] for request in provider.requests]


async def facts(session: Session) -> tuple[int, int, int]:
    metrics = await session.get_metrics()
    return session.message_count, metrics.user_messages, metrics.assistant_messages


class TestRetry:
    async def test_runs_a_failed_turn_again_in_its_place(self, store: Store) -> None:
        provider = Play([ProviderError("no", code="overloaded")], [TextDelta("yes"), Completed()])
        async with store.manager(provider) as manager:
            session = await new_session(manager, session_id="s")
            await session.send_system_message("be brief")
            with pytest.raises(ProviderError):
                await session.send_message("why?", metadata={"a": 1})
            answer = await session.retry()
            assert (answer.content, answer.seq, answer.turn_id) == ("yes", 4, "s/2")
            question = (await session.get_messages(role="user"))[0]
            assert (question.content, question.metadata, question.seq) == ("why?", {"a": 1}, 3)
            assert await facts(session) == (3, 2, 1)
        assert prompts(provider) == [["be brief", "why?"], ["be brief", "why?"]]
        async with store.manager(provider) as manager:
            session = await manager.get_session("s")
            assert await contents(session) == ["be brief", "why?", "yes"]

    async def test_runs_an_interrupted_turn_again_without_what_it_had_said(
        self, store: Store
    ) -> None:
        provider = Echo()
        gate = provider.hold("long")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            await session.send_message("before")
            ticket = session.submit("long")
            await gate.reached()
            await session.stop()
            with pytest.raises(ProviderError):
                await ticket
            gate.open()
            assert (await session.retry()).content == answer_to("long")
            expected = ["before", answer_to("before"), "long", answer_to("long")]
            assert await contents(session) == expected
            assert (await session.send_message("after")).content == answer_to("after")
        assert provider.prompts()[-2:] == [expected[:3], [*expected, "after"]]

    async def test_of_a_completed_turn_says_what_to_do(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            with pytest.raises(TurnNotFoundError):
                await session.retry()
            await session.send_message("x")
            with pytest.raises(TurnStateError, match="regenerate"):
                await session.retry()
            assert len(await contents(session)) == 2
            await session.archive()
            with pytest.raises(SessionArchivedError):
                await session.regenerate()

    async def test_may_fail_again_and_again(self, store: Store) -> None:
        no = [ProviderError("no", code="overloaded")]
        provider = Play(no, no, no, [TextDelta("at last"), Completed()])
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            with pytest.raises(ProviderError):
                await session.send_message("x")
            for _ in range(2):
                with pytest.raises(ProviderError):
                    await session.retry()
                assert await contents(session) == ["x"]
            assert (await session.retry()).content == "at last"
            assert await contents(session) == ["x", "at last"]
        assert prompts(provider) == [["x"]] * 4


class TestRegenerate:
    async def test_replaces_the_last_answer(self, store: Store) -> None:
        provider = saying("a", "b", "c")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            await session.send_message("1")
            await session.send_message("2")
            again = await session.regenerate()
            assert (again.content, again.seq) == ("c", 6)
            assert await contents(session) == ["1", "a", "2", "c"]
            assert await facts(session) == (4, 3, 3)
            everything = [event async for event in session.follow(f"{session.session_id}/2")]
            assert everything[-1].type == "completed", "what was replaced can still be followed"
        assert prompts(provider)[1] == prompts(provider)[2] == ["1", "a", "2"]

    async def test_is_in_order_with_sends(self, store: Store) -> None:
        """G1: it acts on the turn that is the last one when its place comes."""
        provider = Echo()
        gate = provider.hold("1")
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            first = session.submit("1")
            second = session.submit("2")
            await gate.reached()
            gate.open()
            assert (await session.regenerate()).content == answer_to("2")
            await first
            await second
            assert await contents(session) == ["1", answer_to("1"), "2", answer_to("2")]


class TestRewind:
    async def test_hides_what_came_after(self, store: Store) -> None:
        provider = saying("a", "b", "c")
        async with store.manager(provider) as manager:
            session = await new_session(manager, session_id="s")
            first = await session.send_message("1")
            await session.send_message("2")
            await session.rewind(first)
            assert await contents(session) == ["1", "a"]
            assert await facts(session) == (2, 2, 2)
            answer = await session.send_message("3")
            assert answer.seq == 6
            assert await contents(session) == ["1", "a", "3", "c"]
        assert prompts(provider)[-1] == ["1", "a", "3"]
        async with store.manager(provider) as manager:
            session = await manager.get_session("s")
            assert await contents(session) == ["1", "a", "3", "c"]
            assert session.message_count == 4

    async def test_takes_a_message_its_id_or_its_number(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            for place in (0, 1, 2, 99):
                session = await new_session(manager)
                await session.send_message("x")
                await session.rewind(place)
                assert len(await contents(session)) == min(place, 2)
            session = await new_session(manager)
            answer = await session.send_message("x")
            await session.rewind(answer.message_id)
            assert len(await contents(session)) == 2
            with pytest.raises(MessageNotFoundError):
                await session.rewind("nobody")
            for wrong in (-1, True, 1.5):
                with pytest.raises(InvalidMessageError):
                    await session.rewind(wrong)  # type: ignore[arg-type]

    async def test_of_the_last_turn_leaves_nothing_to_retry(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            await session.send_message("x")
            await session.rewind(0)
            with pytest.raises(TurnNotFoundError):
                await session.regenerate()

    async def test_counts_over_many_pages_of_messages(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            for number in range(1_200):
                await session.send_system_message(f"{number}")
            await session.rewind(100)
            assert session.message_count == 100
            assert len(await contents(session)) == 100


class TestFork:
    async def test_copies_history_context_and_configs_to_a_session_of_its_own(
        self, store: Store
    ) -> None:
        provider = Echo()
        async with store.manager(provider) as manager:
            session = await new_session(manager, session_config={"name": "n", "max_messages": 50})
            await session.update_context(a=1)
            await session.send_system_message("be brief")
            first = await session.send_message("1", metadata={"m": 1})
            await session.send_message("2")
            fork = await session.fork(first, session_id="fork")
            assert fork.session_id == "fork"
            assert (fork.user_id, fork.provider, fork.model) == ("user", "openai", "gpt-4")
            assert await contents(fork) == ["be brief", "1", answer_to("1")]
            messages = await fork.get_messages()
            assert [m.seq for m in messages] == [1, 2, 3]
            assert messages[1].metadata == {"m": 1}
            originals = {m.message_id for m in await session.get_messages()}
            assert not originals & {m.message_id for m in messages}
            assert dict(await fork.get_context()) == {"a": 1}
            assert await fork.get_config() == {"name": "n", "max_messages": 50}
            assert (await fork.send_message("3")).content == answer_to("3")
            assert len(await contents(session)) == 5, "the original does not change"
            assert await facts(fork) == (5, 2, 2)
        assert provider.prompts()[-1] == ["be brief", "1", answer_to("1"), "3"]

    async def test_is_without_hidden_messages_and_without_a_running_turn(
        self, store: Store
    ) -> None:
        provider = Echo()
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            first = await session.send_message("1")
            await session.send_message("2")
            await session.rewind(first)
            gate = provider.hold("running")
            ticket = session.submit("running")
            await gate.reached()
            fork = await session.fork()
            gate.open()
            await ticket
            assert await contents(fork) == ["1", answer_to("1")]
            assert fork.session_id != session.session_id
            with pytest.raises(SessionExistsError):
                await session.fork(session_id=fork.session_id)

    async def test_of_an_archived_session_can_be_written_to(self, store: Store) -> None:
        async with store.manager(Echo()) as manager:
            session = await new_session(manager)
            await session.send_message("1")
            await session.archive()
            fork = await session.fork()
            assert (await fork.send_message("2")).seq == 4
