"""Fallbacks: another provider answers while the session's own cannot, and the message says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    ProviderError,
    SessionError,
    create_session_manager,
)
from langswarm.core.session.providers import (
    Completed,
    IProvider,
    NativeMockProvider,
    ProviderRequest,
    TextDelta,
    Usage,
    hang,
)
from langswarm.core.session.testing import SimulatedDisk, SimulatedStorage

from .helpers import Play, Store, contents, new_session, on_a_virtual_clock, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.actors.errors import ProviderCode
    from langswarm.core.session.providers import ProviderEvent, ProviderSettings

DOWN: tuple[ProviderCode, ...] = (
    "overloaded",
    "rate_limit",
    "connection",
    "timeout",
    "truncated",
    "protocol",
)
FINAL: tuple[ProviderCode, ...] = ("auth", "invalid_request", "context_length", "refused")


class Other(IProvider):
    """A fallback that knows what it was asked."""

    def __init__(self) -> None:
        self.requests: list[ProviderRequest] = []
        self.checked: list[Mapping[str, Any]] = []

    def check_config(self, config: Mapping[str, Any]) -> None:
        self.checked.append(config)
        if "wrong" in config:
            raise ConfigurationError("there is no 'wrong'")

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self.requests.append(request)
        yield TextDelta("from the other")
        yield Completed(input_tokens=3, output_tokens=4, metadata={"request_id": "r1"})


def failing(code: ProviderCode) -> ProviderError:
    return ProviderError("planted", code=code, provider="openai", retryable=True)


async def session_of(manager: SessionManager, *fallbacks: object, **config: Any) -> Session:
    return await new_session(manager, provider_config={**config, "fallbacks": list(fallbacks)})


@pytest.mark.parametrize("code", DOWN)
async def test_a_fallback_answers_where_the_provider_cannot(
    store: Store, code: ProviderCode
) -> None:
    """It sees the whole window, its own model, and the options that all share."""
    own, other = Play([failing(code)], [failing(code)]), Other()
    async with store.manager(own, providers={"other": other}) as manager:
        session = await session_of(
            manager, ("other", "big", {"seed": 7}), temperature=0.5, user="mine alone"
        )
        await session.send_message("one")
        answer = await session.send_message("two")
    assert answer.content == "from the other"
    assert answer.provider_metadata == {
        "request_id": "r1",
        "fallback": {
            "provider": "other",
            "model": "big",
            "instead_of": "openai",
            "because": code,
        },
    }
    asked = other.requests[-1]
    assert [message.content for message in asked.messages] == ["one", "from the other", "two"]
    assert (asked.model, asked.provider_session_id, asked.is_single) == ("big", None, True)
    assert asked.config == {"temperature": 0.5, "seed": 7}


@pytest.mark.parametrize("code", FINAL)
async def test_an_error_that_is_the_callers_own_goes_to_the_caller(
    store: Store, code: ProviderCode
) -> None:
    """Another provider would not make a wrong request right."""
    other = Other()
    async with store.manager(Play([failing(code)]), providers={"other": other}) as manager:
        session = await session_of(manager, ("other", "big"))
        with pytest.raises(ProviderError) as caught:
            await session.send_message("one")
    assert caught.value.code == code
    assert other.requests == []


async def test_nobody_falls_back_once_text_has_arrived(store: Store) -> None:
    """The user has seen a part of that answer; another one would contradict it."""
    other = Other()
    own = Play([TextDelta("I beg"), failing("overloaded")])
    async with store.manager(own, providers={"other": other}) as manager:
        session = await session_of(manager, ("other", "big"))
        with pytest.raises(ProviderError):
            await session.send_message("one")
    assert other.requests == []


async def test_fallbacks_are_asked_in_order_and_the_providers_own_error_is_told(
    store: Store,
) -> None:
    """When all fail the caller hears of the session's own provider, and in notes of the others."""
    first, second = Play([failing("connection")]), Play([failing("auth")])
    async with store.manager(
        Play([failing("overloaded")]), providers={"first": first, "second": second}
    ) as manager:
        session = await session_of(manager, ("first", "a"), ("second", "b"))
        with pytest.raises(ProviderError) as caught:
            await session.send_message("one")
    assert (caught.value.code, caught.value.provider) == ("overloaded", "openai")
    notes = getattr(caught.value, "__notes__", [])
    assert [note.split(":")[0] for note in notes] == [
        "the fallback first/a failed too",
        "the fallback second/b failed too",
    ]
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_a_fallbacks_partial_answer_ends_the_line(store: Store) -> None:
    """The second is not asked after the first has begun to speak and failed."""
    first = Play([TextDelta("well"), failing("overloaded")])
    second = Other()
    async with store.manager(
        Play([failing("overloaded")]), providers={"first": first, "second": second}
    ) as manager:
        session = await session_of(manager, ("first", "a"), ("second", "b"))
        with pytest.raises(ProviderError):
            await session.send_message("one")
    assert second.requests == []


async def test_the_providers_own_conversation_is_given_up_after_a_fallback(store: Store) -> None:
    """It does not hold that turn; the next one begins a conversation with the whole history."""

    class Down(NativeMockProvider):
        is_down = False

        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            if self.is_down:
                raise failing("overloaded")
            events: Any = super().stream(request)
            async for event in events:
                yield event

    own = Down()
    async with store.manager(own, providers={"other": Other()}) as manager:
        session = await session_of(manager, ("other", "big"))
        await session.send_message("1")
        old = session.provider_session_id
        own.is_down = True
        await session.send_message("2")
        own.is_down = False
        await session.send_message("3")
        new = session.provider_session_id
        assert new not in {None, old}
        assert own.conversations[new or ""] == await contents(session)
        await until(lambda: list(own.conversations) == [new])


@on_a_virtual_clock
async def test_a_conversation_that_a_fallback_made_is_deleted_there() -> None:
    """Nobody goes on with it. Not while it is still in use, even if others are deleted then."""
    other = NativeMockProvider()
    providers = {"own": Play(*[[failing("overloaded")]] * 3), "other": other}
    manager = create_session_manager(providers=providers)
    host = manager._anchor.host
    host.wall_clock_us = lambda: 1_800_000_000_000_000 + round(anyio.current_time() * 1e6)
    async with manager:
        config = {"fallbacks": [("other", "big", {"response_delay_ms": 50_000})]}
        slow = await manager.create_session("ada", "own", "m", provider_config=config)
        ticket = slow.submit("1")
        await until(lambda: bool(other.conversations))
        native = await manager.create_session("ada", "other", "m")
        await native.send_message("a")
        await native.regenerate()  # gives a conversation up
        await anyio.sleep(5)
        assert len(other.conversations) == 2
        await slow.stop()
        with pytest.raises(ProviderError):
            await ticket
        assert slow.provider_session_id is None
        await anyio.sleep(700)
        assert list(other.conversations) == [native.provider_session_id]


@pytest.mark.parametrize(
    ("fallbacks", "words"),
    [
        ("other", "list of"),
        ([("other",)], r"fallbacks\[0\]"),
        ([("other", "")], r"fallbacks\[0\]"),
        ([("other", "m", "c")], r"fallbacks\[0\]"),
        ([("other", "m"), 7], r"fallbacks\[1\]"),
        ([("nobody", "m")], "'nobody', which this manager does not have"),
        ([("other", "m")] * 11, "more than 10"),
        ([("other", "m", {"wrong": 1})], "no 'wrong'"),
    ],
)
async def test_fallbacks_are_checked_when_the_session_is_created(
    store: Store, fallbacks: object, words: str
) -> None:
    """A wrong one is an error at once, not in the night when it is needed."""
    async with store.manager(Play(), providers={"other": Other()}) as manager:
        with pytest.raises(ConfigurationError, match=words):
            await new_session(manager, provider_config={"fallbacks": fallbacks})


async def test_a_fallback_that_the_manager_lost_is_passed_over(store: Store) -> None:
    """After a restart with fewer providers the others still answer."""
    other = Other()
    async with store.manager(Play(), providers={"gone": Other(), "other": other}) as manager:
        session = await session_of(manager, ("gone", "a"), ("other", "b"))
        name = session.session_id
        await session.send_message("one")
    own = Play([failing("overloaded")])
    async with store.manager(own, providers={"other": other}) as manager:
        session = await manager.get_session(name)
        assert (await session.send_message("two")).content == "from the other"


async def test_a_fallback_takes_over_the_options_that_it_knows(store: Store) -> None:
    """One that it refuses, or not together with its own, is left out: it answers all the same."""

    class Strict(Other):
        def check_config(self, config: Mapping[str, Any]) -> None:
            if config.get("temperature", 0) > 1 or {"max_tokens", "most"} <= config.keys():
                raise ConfigurationError("no")

    other = Strict()
    async with store.manager(Play([failing("overloaded")]), providers={"other": other}) as manager:
        session = await session_of(
            manager,
            ("other", "big", {"most": 5, "top_p": 0.1}),
            temperature=1.5,
            max_tokens=5,
            top_p=0.9,
            stop=["END"],
        )
        assert (await session.send_message("one")).content == "from the other"
    assert other.requests[-1].config == {"most": 5, "top_p": 0.1, "stop": ["END"]}


async def test_fallbacks_that_are_not_understood_any_more_are_none(store: Store) -> None:
    """Set by a provider's own controls, for example: the turn fails as it would without any."""

    class Meddling(Play):
        def session_view(self, settings: ProviderSettings) -> object:
            return settings

    async with store.manager(Meddling([failing("overloaded")])) as manager:
        session = await new_session(manager)
        session.provider_session.set("fallbacks", "anything")
        with pytest.raises(ProviderError) as caught:
            await session.send_message("one")
        assert caught.value.code == "overloaded"
        assert "there is no fallback" in getattr(caught.value, "__notes__", [""])[0]
        assert (await session.send_message("two")).content == "answer to two"


@on_a_virtual_clock
async def test_a_conversation_that_a_fallback_made_is_deleted_after_a_kill_too() -> None:
    """It is stored as soon as it is told."""
    disk = SimulatedDisk()
    storage = SimulatedStorage(disk)
    other = NativeMockProvider(script=[hang()])
    providers = {"own": Play([failing("overloaded")]), "other": other}
    manager = create_session_manager(storage, providers=providers)
    host = manager._anchor.host
    host.wall_clock_us = lambda: 1_800_000_000_000_000 + round(anyio.current_time() * 1e6)
    config = {"fallbacks": [("other", "big")]}
    session = await manager.create_session("ada", "own", "m", provider_config=config)
    ticket = session.submit("1")
    await until(lambda: bool(other.conversations))
    await anyio.sleep(0.1)
    storage.die()
    await manager.aclose(drain_seconds=0)
    with pytest.raises(SessionError):
        await ticket
    successor = create_session_manager(SimulatedStorage(disk), providers=providers)
    host = successor._anchor.host
    host.wall_clock_us = lambda: 1_800_000_000_000_000 + round(anyio.current_time() * 1e6)
    async with successor:
        await (await successor.get_session(session.session_id)).get_metrics()
        await anyio.sleep(1_000)
        assert not other.conversations


async def test_usage_does_not_keep_a_fallback_from_answering(store: Store) -> None:
    """It is no part of an answer."""
    own, other = Play([Usage(input_tokens=5), failing("overloaded")]), Other()
    async with store.manager(own, providers={"other": other}) as manager:
        session = await session_of(manager, ("other", "big"))
        assert (await session.send_message("one")).content == "from the other"
