"""G9, G15: whatever a provider does, its turn ends with a typed error and the session goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import IProvider, ProviderError, create_session_manager
from langswarm.core.session.errors import (
    ProviderTimeoutError,
    SessionQuarantinedError,
)
from langswarm.core.session.providers import (
    Completed,
    ProviderEvent,
    ProviderRequest,
    TextDelta,
)

from .helpers import (
    Echo,
    Gate,
    Play,
    Store,
    assert_turns,
    contents,
    new_session,
    on_a_virtual_clock,
    outcome,
    supervisor_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


class Odd(BaseException):
    """No Exception."""


class Unspeakable(Exception):  # noqa: N818 - it is what it is
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


FAULTS: dict[str, tuple[Sequence[object], str]] = {
    "provider error": ([ProviderError("planted", code="overloaded")], "overloaded"),
    "late provider error": (
        [TextDelta("half"), ProviderError("planted", code="rate_limit")],
        "rate_limit",
    ),
    "value error": ([ValueError("planted")], "internal"),
    "late value error": ([TextDelta("half"), ValueError("planted")], "internal"),
    "base exception": ([Odd("planted")], "internal"),
    "exit": ([SystemExit(3)], "internal"),
    "late exit": ([TextDelta("half"), SystemExit(3)], "internal"),
    "cancelled error of its own": ([asyncio.CancelledError()], "internal"),
    "generator exit": ([GeneratorExit()], "internal"),
    "unspeakable": ([Unspeakable()], "internal"),
    "surrogate in the error": ([ProviderError("bad \ud800", code="auth")], "auth"),
    "a list as code": ([ProviderError("x", code=["y"])], "internal"),  # type: ignore[arg-type]
    "truncated": ([TextDelta("half")], "truncated"),
    "nothing at all": ([], "truncated"),
    "wrong event": ([TextDelta("half"), "text"], "internal"),
    "no text": ([TextDelta(b"half")], "internal"),  # type: ignore[arg-type]
    "surrogate": ([TextDelta("half \ud800"), Completed()], "internal"),
    "tokens as text": ([Completed(input_tokens="many")], "internal"),  # type: ignore[arg-type]
    "huge tokens": ([Completed(input_tokens=2**70)], "internal"),
    "negative tokens": ([Completed(output_tokens=-1)], "internal"),
    "surrogate in the reason": ([Completed(finish_reason="\ud800")], "internal"),
    "reason of bytes": ([Completed(finish_reason=b"x")], "internal"),  # type: ignore[arg-type]
    "huge reason": ([Completed(finish_reason="x" * 1_000_000)], "internal"),
    "surrogate in the id": ([Completed(provider_message_id="\ud800")], "internal"),
    "number as id": ([Completed(provider_session_id=5)], "internal"),  # type: ignore[arg-type]
    "metadata is no JSON": ([Completed(metadata={"x": float("nan")})], "internal"),
    "metadata is no mapping": ([Completed(metadata=[1])], "internal"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_g15_a_provider_that_fails_fails_its_turn_only(store: Store, fault: str) -> None:
    """G15: a ProviderError of a stable code; no crash; the history is whole; the next one runs."""
    events, code = FAULTS[fault]
    provider = Play(events)
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        error = await outcome(session.submit("spoiled"))
        assert isinstance(error, ProviderError)
        assert (error.code, error.provider) in {(code, "openai"), (code, "")}
        [question] = await session.get_messages()
        assert (question.content, question.finish_reason) == ("spoiled", "failed")
        assert (await session.send_message("fine")).content == "answer to fine"
        metrics = await session.get_metrics()
        assert (metrics.failed_turns, metrics.completed_turns) == (1, 1)
        statistics = supervisor_of(manager).statistics()
        assert (statistics.restarts, statistics.quarantines) == (0, 0)
        assert [message.content for message in provider.requests[1].messages] == ["fine"]
        before = await session.get_messages()
    async with store.manager(provider) as manager:
        session = await manager.get_session(session.session_id)
        assert await session.get_messages() == before
        assert await contents(session) == ["spoiled", "fine", "answer to fine"]
        assert [message.seq for message in before] == [1, 2, 3]


class Endless(IProvider):
    """Never stops talking, with pauses in which it can be cancelled."""

    def __init__(self) -> None:
        self.pieces = 0
        self.closed = False

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        try:
            while True:
                self.pieces += 1
                yield TextDelta("x" * 100)
                await anyio.lowlevel.checkpoint()
        finally:
            self.closed = True


async def test_g11_an_endless_answer_ends_at_max_message_bytes(store: Store) -> None:
    """G11: what a provider sends is bounded; beyond, the turn fails and the stream is closed."""
    provider = Endless()
    async with store.manager(provider, max_message_bytes=1_000) as manager:
        session = await new_session(manager)
        error = await outcome(session.submit("go"))
        assert isinstance(error, ProviderError)
        assert "max_message_bytes" in str(error)
        assert (provider.pieces, provider.closed) == (11, True)
        assert await contents(session) == ["go"]


async def test_g11_deltas_that_say_nothing_take_no_memory(memory: Store) -> None:
    """Millions of them may come within the time of a turn."""
    gate = Gate()

    class Silent(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            for _ in range(100_000):
                yield TextDelta("")
            yield TextDelta("x")
            await gate.passed()
            yield Completed()

    async with memory.manager(Silent(), blocking_seconds=60) as manager:
        session = await new_session(manager)
        ticket = session.submit("q")
        await gate.reached()
        [turn] = supervisor_of(manager).turns._turns
        assert len(turn.transcript._parts) == 1
        gate.open()
        assert (await ticket).content == "x"


async def test_g11_a_stopped_answer_is_within_max_message_bytes(memory: Store) -> None:
    """Bytes, as everywhere; not characters."""

    class Wide(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            for _ in range(100):
                yield TextDelta("€" * 10)
            await anyio.sleep_forever()

    async with memory.manager(Wide(), max_message_bytes=2_000) as manager:
        session = await new_session(manager)
        with pytest.raises(ProviderError, match="max_message_bytes=2000"):
            await session.send_message("q")


async def test_g15_plain_calls_of_a_provider_fail_its_turn_only(store: Store) -> None:
    """Those beside `stream`, and one that is written as an async function."""

    class Wrong(Play):
        def holds_conversation(self, config: Mapping[str, object]) -> bool:
            raise KeyError("planted")

    class NoGenerator(IProvider):
        async def stream(self, request: ProviderRequest) -> None:  # type: ignore[override]
            return None

    for provider, words in ((Wrong(), "planted"), (NoGenerator(), "async for")):
        async with store.manager(provider) as manager:
            session = await new_session(manager)
            with pytest.raises(ProviderError, match=words) as caught:
                await session.send_message("q")
            assert caught.value.code == "internal"
            assert supervisor_of(manager).statistics().restarts == 0


@on_a_virtual_clock
async def test_g15_a_provider_that_hangs_is_cancelled_at_the_turn_timeout() -> None:
    """G15: ProviderTimeoutError, a TimeoutError too; neighbours are answered meanwhile."""
    provider = Echo()
    provider.hold("hang")
    async with create_session_manager(
        providers={"openai": provider}, turn_timeout_seconds=60
    ) as manager:
        session, neighbour = await new_session(manager), await new_session(manager)
        begun = anyio.current_time()
        stuck = session.submit("hang")
        await provider.gates["hang"].entered.wait()
        await neighbour.send_message("one")
        with pytest.raises(ProviderTimeoutError, match="turn_timeout_seconds=60") as caught:
            await stuck
        assert anyio.current_time() - begun == pytest.approx(60)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.retryable
        assert provider.cancelled == ["hang"]
        await session.send_message("next")
        assert [m.finish_reason for m in await session.get_messages()] == ["failed", None, "stop"]
        assert supervisor_of(manager).statistics().abandoned_turns == 0


class Stubborn(IProvider):
    """Ignores its cancellation until it is let go, and then says something late."""

    def __init__(self) -> None:
        self.let_go = anyio.Event()
        self.ended = anyio.Event()

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        text = request.messages[-1].content
        yield TextDelta(f"answer to {text}")
        if text == "stuck":
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
            self.ended.set()
            yield TextDelta(" late")
        yield Completed()


@on_a_virtual_clock
async def test_g15_a_provider_that_ignores_its_cancellation_is_abandoned() -> None:
    """G15: the turn is closed without it, its session rests, its late word is dropped."""
    provider = Stubborn()
    async with create_session_manager(
        providers={"openai": provider},
        turn_timeout_seconds=60,
        cancel_grace_seconds=5,
        quarantine_seconds=3600,
    ) as manager:
        session, neighbour = await new_session(manager), await new_session(manager)
        begun = anyio.current_time()
        with pytest.raises(ProviderTimeoutError):
            await session.send_message("stuck")
        assert anyio.current_time() - begun == pytest.approx(65)
        with pytest.raises(SessionQuarantinedError) as caught:
            await session.send_message("again")
        assert caught.value.retryable
        assert caught.value.retry_after_seconds == pytest.approx(3600)
        statistics = supervisor_of(manager).statistics()
        assert (statistics.abandoned_turns, statistics.quarantined) == (1, 1)
        before = await session.get_messages()
        assert [(m.content, m.finish_reason) for m in before] == [("stuck", "failed")]
        await neighbour.send_message("fine")
        provider.let_go.set()
        await provider.ended.wait()
        await anyio.sleep(3600)
        assert await session.get_messages() == before
        assert_turns(await neighbour.get_messages(), ["fine"])
        assert (await session.send_message("rested")).content == "answer to rested"


async def test_g15_a_failed_turn_is_left_out_of_the_next_prompt(store: Store) -> None:
    """G9: the next provider request is valid: the failed question is marked and left out."""
    provider = Echo()
    provider.failing = {"bad"}
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert isinstance(await outcome(session.submit("bad")), ProviderError)
        await session.send_message("two")
        assert provider.prompts()[-1] == ["one", "answer to one", "two"]
        marks = [(m.content, m.finish_reason) for m in await session.get_messages(role="user")]
        assert marks == [("one", None), ("bad", "failed"), ("two", None)]


async def test_the_window_is_bounded_by_max_messages_and_begins_with_a_user(store: Store) -> None:
    """G11: the provider sees at most max_messages of the history, system messages besides."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager, session_config={"max_messages": 4})
        await session.send_system_message("rule")
        for number in range(5):
            await session.send_message(f"{number}")
        assert len(await session.get_messages()) == 11
    expected = [
        ["rule", "0"],
        ["rule", "0", "answer to 0", "1"],
        ["rule", "1", "answer to 1", "2"],
        ["rule", "2", "answer to 2", "3"],
        ["rule", "3", "answer to 3", "4"],
    ]
    assert provider.prompts() == expected
    for request in provider.requests:
        roles = [message.role for message in request.messages]
        assert roles[:2] == ["system", "user"]
        assert roles[-1] == "user"


async def test_the_default_window_holds_a_hundred_messages(memory: Store) -> None:
    """Message 101: the history keeps everything, the provider gets the newest hundred at most."""
    provider = Echo()
    async with memory.manager(provider) as manager:
        session = await new_session(manager)
        for number in range(60):
            await session.send_message(f"{number}")
        assert_turns(await session.get_messages(), [f"{number}" for number in range(60)])
    last = provider.prompts()[-1]
    assert (len(last), last[0], last[-1]) == (99, "10", "59")


async def test_a_clean_turn_hands_the_providers_own_conversation_on(store: Store) -> None:
    """The provider's session id goes with the next request, unless something came between."""
    said = [TextDelta("yes"), Completed(provider_session_id="conv_1")]
    provider = Play(said, said, [ValueError("planted")], said, said)
    async with store.manager(provider, idle_seconds=0.0) as manager:
        session = await new_session(manager)
        for _ in range(5):
            await outcome(session.submit("hello"))
        await session.send_system_message("rule")
        await session.send_message("hello")
    given = [request.provider_session_id for request in provider.requests]
    assert given == [None, "conv_1", "conv_1", None, "conv_1", None]


async def test_the_provider_is_asked_with_the_sessions_own_facts(store: Store) -> None:
    """Ids, model and config of the request are those of the session and the turn."""
    provider = Echo()
    async with store.manager(provider) as manager:
        session = await new_session(manager, provider_config={"temperature": 0.2})
        answer = await session.send_message("one")
        [request] = provider.requests
        assert request.session_id == session.session_id
        assert request.turn_id == answer.turn_id
        assert request.model == "gpt-4"
        assert request.config == {"temperature": 0.2}


async def test_g15_a_provider_that_is_cancelled_from_its_own_inside_fails_its_turn_only(
    store: Store,
) -> None:
    """G15: a cancel scope of the provider's own, cancelled by itself, is not an interruption."""

    class Scoped(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            yield TextDelta(f"answer to {request.messages[-1].content}")
            yield Completed()

    async with store.manager(Scoped()) as manager:
        session = await new_session(manager)
        await session.send_message("one")
        assert_turns(await session.get_messages(), ["one"])


async def test_a_sessions_provider_may_be_missing_and_come_back(store: Store) -> None:
    """A session of a provider that this manager lacks is readable; sends say what is missing."""
    async with store.manager(Echo()) as manager:
        session_id = (await new_session(manager)).session_id
    async with store.manager() as manager:
        session = await manager.get_session(session_id)
        error = await outcome(session.submit("one"))
        assert "openai" in str(error)
        assert isinstance(error, ValueError)
        assert await session.get_messages() == []
    async with store.manager(Echo()) as manager:
        session = await manager.get_session(session_id)
        await session.send_message("one")
        assert_turns(await session.get_messages(), ["one"])


async def test_many_providers_turns_run_at_the_same_time(store: Store) -> None:
    """Turns of different sessions overlap: one hanging session holds up nobody."""
    provider = Echo()
    gates = [provider.hold(f"{number}") for number in range(20)]
    async with store.manager(provider) as manager:
        sessions = [await new_session(manager) for _ in range(20)]
        tickets = [session.submit(f"{number}") for number, session in enumerate(sessions)]
        await until(lambda: provider.most == 20)
        for gate in gates:
            gate.open()
        for ticket in tickets:
            await ticket
    assert provider.most_per_session == 1
