"""The scripted provider does what its script says, and tells what it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import ProviderError, create_session_manager
from langswarm.core.session.providers import Completed, ProviderRequest, TextDelta
from langswarm.core.session.testing import Backend, ScriptedProvider, ScriptedTurn, simulate

if TYPE_CHECKING:
    from langswarm.core.session.providers import ProviderEvent

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)


def test_a_text_comes_in_as_many_pieces_as_wanted() -> None:
    assert ScriptedTurn(text="abcdefg", chunks=3).pieces() == ["ab", "cd", "efg"]
    assert ScriptedTurn(text="ab", chunks=9).pieces() == ["a", "b"]
    assert ScriptedTurn(text="", chunks=3).pieces() == []


@both
def test_each_turn_ends_as_scripted(backend: Backend) -> None:
    provider = ScriptedProvider(
        [
            "plain",
            ScriptedTurn(text="slow", latency_seconds=2.0, chunks=3, chunk_seconds=0.5),
            ScriptedTurn(end=ProviderError("no", code="refused")),
            ScriptedTurn(text="half", end=ValueError("a bug")),
            ScriptedTurn(text="cut", end="truncate"),
            ScriptedTurn(text="for ever", end="hang"),
        ]
    )
    told: list[str] = []

    async def main() -> None:
        async with create_session_manager(
            providers={"scripted": provider}, turn_timeout_seconds=60.0
        ) as manager:
            session = await manager.create_session("ada", "scripted", "m", session_id="s")
            for number in range(7):
                try:
                    told.append((await session.send_message(f"question {number}")).content)
                except ProviderError as error:
                    told.append(error.code)

    result = simulate(main, backend=backend, seed=3)
    assert told == ["plain", "slow", "refused", "internal", "truncated", "timeout", "internal"]
    assert result.virtual_seconds == pytest.approx(3.0 + 60.0, abs=0.01)
    assert [request.messages[-1].content for request in provider.requests] == [
        f"question {number}" for number in range(7)
    ]
    assert not provider.running
    assert provider.violations == []


@both
def test_a_function_answers_by_the_request(backend: Backend) -> None:
    provider = ScriptedProvider(
        lambda request: ScriptedTurn(
            text=f"{request.model} {len(request.messages)}",
            input_tokens=3,
            output_tokens=4,
            provider_session_id="theirs",
        )
    )

    async def main() -> tuple[str, str | None]:
        async with create_session_manager(providers={"scripted": provider}) as manager:
            session = await manager.create_session("ada", "scripted", "a model")
            answer = await session.send_message("hello")
            return answer.content, session.provider_session_id

    assert simulate(main, backend=backend, seed=3).value == ("a model 1", "theirs")


@both
def test_two_turns_of_a_session_at_once_are_noticed(backend: Backend) -> None:
    provider = ScriptedProvider(lambda _: "answer")
    request = ProviderRequest(
        session_id="s", turn_id="s/1", model="m", messages=(), config={}, provider_session_id=None
    )
    events: list[ProviderEvent] = []

    async def ask() -> None:
        events.extend([event async for event in provider.stream(request)])

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)

    simulate(main, backend=backend, seed=3)
    assert provider.violations == ["G2: s has two turns at once"]
    assert events.count(TextDelta("answer")) == 2
    assert sum(isinstance(event, Completed) for event in events) == 2


def test_what_cannot_be_scripted_is_named() -> None:
    end: Any = "compelte"
    with pytest.raises(ValueError, match=r"end='compelte': .*'complete', 'truncate', 'hang'"):
        ScriptedTurn(text="abc", end=end)
    with pytest.raises(ValueError, match="chunks=0"):
        ScriptedTurn(text="abc", chunks=0)
    with pytest.raises(TypeError, match=r"the text 'hello'; give a list of answers, \['hello'\]"):
        ScriptedProvider("hello")


@both
def test_a_script_that_returns_no_turn_is_named(backend: Backend) -> None:
    def forgotten(_request: ProviderRequest) -> Any: ...

    async def main() -> None:
        provider = ScriptedProvider(forgotten)
        async with create_session_manager(providers={"scripted": provider}) as manager:
            session = await manager.create_session("ada", "scripted", "m")
            await session.send_message("question")

    with pytest.raises(ProviderError) as caught:
        simulate(main, backend=backend, seed=1)
    assert "the script has None for a request" in repr(caught.value.__cause__)
