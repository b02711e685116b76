"""Tokens that a provider has counted are kept, however its turn ends; none is counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ISessionMiddleware,
    ProviderError,
    SessionContext,
    SessionMessage,
)
from langswarm.core.session.errors import MiddlewareError
from langswarm.core.session.providers import Completed, TextDelta, Usage

from .helpers import Play, Store, new_session, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session import Session
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

TOLD = Usage(input_tokens=100, output_tokens=1)
DOWN = ProviderError("planted", code="overloaded", provider="openai", retryable=True)


class Hanging(Play):
    """Says what it is told to, then nothing more."""

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        async for event in super().stream(request):
            yield event
        await anyio.sleep_forever()


async def tokens_of(session: Session) -> int:
    return (await session.get_metrics()).total_tokens


@pytest.mark.parametrize("text", ["", "some text"])
async def test_a_stopped_turn_keeps_the_tokens_so_far(store: Store, text: str) -> None:
    """The vendor bills what went in, also where it was stopped before it said anything."""
    provider = Hanging([Usage(input_tokens=90), TOLD, TextDelta(text)])
    async with store.manager(provider) as manager:
        session = await new_session(manager, session_id="s")
        ticket = session.submit("x")
        await until(lambda: bool(provider.requests))
        await anyio.wait_all_tasks_blocked()
        await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        assert await tokens_of(session) == 101
        answers = [each for each in await session.get_messages() if each.role == "assistant"]
        assert [each.token_count for each in answers] == ([1] if text else [])
    async with store.manager(provider) as manager:
        assert await tokens_of(await manager.get_session("s")) == 101


async def test_a_failed_turn_keeps_the_tokens_so_far(store: Store) -> None:
    async with store.manager(Play([TOLD, TextDelta("x"), DOWN])) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError):
            await session.send_message("x")
        assert await tokens_of(session) == 101


async def test_the_last_word_of_a_provider_counts_and_nothing_is_added_up(store: Store) -> None:
    last = Completed(input_tokens=100, output_tokens=20)
    async with store.manager(Play([TOLD, TextDelta("x"), TOLD, last])) as manager:
        session = await new_session(manager)
        assert (await session.send_message("x")).token_count == 20
        assert await tokens_of(session) == 120


@pytest.mark.parametrize("ends", ["raises", "hangs", "too large"])
async def test_an_answer_that_middleware_takes_away_was_paid_for(store: Store, ends: str) -> None:
    class Refusing(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if message.role == "assistant":
                if ends == "raises":
                    raise ValueError("no")
                if ends == "hangs":
                    await anyio.sleep_forever()
                message.content = "x" * 5_000_000
            return message

    play = Play([TextDelta("x"), Completed(input_tokens=100, output_tokens=20)])
    async with store.manager(
        play, middleware=[Refusing()], middleware_timeout_seconds=0.05
    ) as manager:
        session = await new_session(manager)
        with pytest.raises((MiddlewareError, ValueError)):
            await session.send_message("x")
        assert await tokens_of(session) == 120


async def test_a_fallbacks_tokens_are_its_own(store: Store) -> None:
    """What the session's provider had counted before it gave up is not added to them."""
    other = Play([TextDelta("yes"), Completed(input_tokens=7, output_tokens=3)])
    async with store.manager(Play([TOLD, DOWN]), providers={"other": other}) as manager:
        session = await new_session(manager, provider_config={"fallbacks": [("other", "m")]})
        await session.send_message("x")
        assert await tokens_of(session) == 10


async def test_a_stopped_fallbacks_answer_says_who_said_it(store: Store) -> None:
    other = Hanging([TOLD, TextDelta("half")])
    async with store.manager(Play([DOWN]), providers={"other": other}) as manager:
        session = await new_session(manager, provider_config={"fallbacks": [("other", "m")]})
        ticket = session.submit("x")
        await until(lambda: bool((turn := session.current_turn) and turn.characters))
        await session.stop()
        with pytest.raises(ProviderError):
            await ticket
        answer = (await session.get_messages())[-1]
        assert (answer.content, answer.token_count) == ("half", 1)
        assert answer.provider_metadata["fallback"]["provider"] == "other"


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "7", 2**53])
async def test_a_count_that_is_none_is_an_error(store: Store, wrong: Any) -> None:
    async with store.manager(Play([Usage(input_tokens=wrong)])) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError, match="input_tokens") as caught:
            await session.send_message("x")
        assert caught.value.code == "internal"
