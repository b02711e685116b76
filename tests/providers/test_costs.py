"""Costs are estimated from price lists, offline, and never guessed."""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session import IProvider, MockProvider, costs, create_session_manager
from langswarm.core.session.adapters.costs import usage_of
from langswarm.core.session.costs import (
    SessionCost,
    TokenUsage,
    estimate_cost,
    estimate_message_cost,
    estimate_session_cost,
)
from langswarm.core.session.providers import Completed, TextDelta, fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any, NoReturn

    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

AT = datetime(2026, 1, 1, tzinfo=UTC)
MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a price was looked up in the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_input_and_output_have_their_prices() -> None:
    usage = TokenUsage(input_tokens=MILLION, output_tokens=MILLION)
    cost = estimate_cost("openai", "gpt-4o", usage, at=AT)
    assert cost == Decimal("12.5")


def test_tokens_from_the_cache_are_part_of_the_input_and_cheaper() -> None:
    whole = estimate_cost("openai", "gpt-4o", TokenUsage(input_tokens=MILLION), at=AT)
    cached = TokenUsage(input_tokens=MILLION, cached_input_tokens=MILLION)
    assert whole == Decimal("2.5")
    assert estimate_cost("openai", "gpt-4o", cached, at=AT) == Decimal("1.25")


def test_tokens_written_to_the_cache_cost_extra() -> None:
    plain = TokenUsage(input_tokens=1_000)
    written = TokenUsage(input_tokens=1_000, cache_write_tokens=1_000)
    model = "claude-sonnet-4-5"
    before = estimate_cost("anthropic", model, plain, at=AT)
    after = estimate_cost("anthropic", model, written, at=AT)
    assert before is not None
    assert after == before * Decimal("1.25")


def test_chat_completions_have_the_prices_of_their_vendor() -> None:
    usage = TokenUsage(input_tokens=MILLION)
    assert estimate_cost("openai_chat", "gpt-4o", usage, at=AT) == Decimal("2.5")


def test_a_service_is_known_by_its_url() -> None:
    usage = TokenUsage(input_tokens=1_000, output_tokens=100)
    url = "https://openrouter.ai/api/v1"
    assert estimate_cost(url, "openai/gpt-4o", usage, at=AT) == Decimal("0.0035")


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("openai", "no-such-model", TokenUsage(input_tokens=1)),
        ("openai", "claude-sonnet-4-5", TokenUsage(input_tokens=1)),
        ("openai", "", TokenUsage(input_tokens=1)),
        ("mock", "mock-model", TokenUsage(input_tokens=1)),
        ("", "gpt-4o", TokenUsage(input_tokens=1)),
        ("http://127.0.0.1:8000/v1", "gpt-4o", TokenUsage(input_tokens=1)),
        ("openai", "gpt-4o", TokenUsage(input_tokens=1, cached_input_tokens=2)),
        ("openai", "gpt-4o", TokenUsage(input_tokens=-1)),
    ],
)
def test_what_has_no_price_has_no_estimate(provider: str, model: str, usage: TokenUsage) -> None:
    assert estimate_cost(provider, model, usage, at=AT) is None


def test_without_the_extra_there_is_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert estimate_cost("openai", "gpt-4o", TokenUsage(input_tokens=1), at=AT) is None


class TestUsage:
    """What vendors tell, each in its own way."""

    def test_of_responses(self) -> None:
        usage = {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 60},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 120,
        }
        assert usage_of({"usage": usage}) == TokenUsage(
            input_tokens=100, output_tokens=20, cached_input_tokens=60
        )

    def test_of_chat_completions(self) -> None:
        usage = {
            "prompt_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens": 20,
        }
        assert usage_of({"usage": usage}) == TokenUsage(
            input_tokens=100, output_tokens=20, cached_input_tokens=60
        )

    def test_of_messages_where_the_cache_is_counted_apart(self) -> None:
        usage = {
            "input_tokens": 10,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 60,
            "output_tokens": 20,
        }
        assert usage_of({"usage": usage}) == TokenUsage(
            input_tokens=100, output_tokens=20, cached_input_tokens=60, cache_write_tokens=30
        )

    @pytest.mark.parametrize("odd", [None, "7", [7], {}, {"input_tokens": 0}, {"a": 1}])
    def test_of_who_tells_none(self, odd: object) -> None:
        assert usage_of({"usage": odd}) is None
        assert usage_of({}) is None

    @pytest.mark.parametrize("odd", [None, -1, 1.5, "7", True, [7], {"a": 1}])
    def test_what_is_no_count_is_none(self, odd: object) -> None:
        usage = {"input_tokens": odd, "output_tokens": 7, "input_tokens_details": odd}
        assert usage_of({"usage": usage}) == TokenUsage(output_tokens=7)


class Vendor(IProvider):
    """Tells what it was told to tell."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        yield TextDelta("Hello")
        yield Completed(input_tokens=MILLION, output_tokens=MILLION, metadata={**self.metadata})


COUNTS = {"usage": {"input_tokens": MILLION, "output_tokens": MILLION}}


class TestSessions:
    async def test_the_cost_of_a_session_is_that_of_its_answers(self) -> None:
        vendor = Vendor({**COUNTS, "model": "gpt-4o-2024-08-06"})
        async with create_session_manager(providers={"openai": vendor}) as manager:
            session = await manager.create_session("ada", "openai", "gpt-4o")
            for _ in range(3):
                await session.send_message("Hello")
            assert await estimate_session_cost(session) == SessionCost(
                usd=Decimal("37.5"), priced_answers=3, unpriced_answers=0, unpriced_tokens=0
            )

    async def test_it_is_summed_over_all_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(costs, "_PAGE", 2)
        async with create_session_manager(providers={"openai": Vendor(COUNTS)}) as manager:
            session = await manager.create_session("ada", "openai", "gpt-4o")
            for _ in range(4):
                await session.send_message("Hello")
            assert (await estimate_session_cost(session)).usd == Decimal(50)

    async def test_what_has_no_price_is_counted(self) -> None:
        vendor = Vendor(COUNTS)
        async with create_session_manager(providers={"openai": vendor}) as manager:
            session = await manager.create_session("ada", "openai", "gpt-4o")
            await session.send_message("Hello")
            vendor.metadata = {}
            await session.send_message("Hello")
            assert await estimate_session_cost(session) == SessionCost(
                usd=Decimal("12.5"),
                priced_answers=1,
                unpriced_answers=1,
                unpriced_tokens=2 * MILLION,
            )
            await session.clear_messages()
            assert await estimate_session_cost(session) == SessionCost(
                usd=Decimal(0),
                priced_answers=0,
                unpriced_answers=0,
                unpriced_tokens=4 * MILLION,
            )

    async def test_a_provider_of_your_own_has_its_prices_where_you_say(self) -> None:
        async with create_session_manager(providers={"mine": Vendor(COUNTS)}) as manager:
            session = await manager.create_session("ada", "mine", "openai/gpt-4o")
            answer = await session.send_message("Hello")
            assert estimate_message_cost(answer, provider="mine", model=session.model) is None
            places = {"mine": "https://openrouter.ai/api/v1"}
            assert (await estimate_session_cost(session, places=places)).usd == Decimal("12.5")

    async def test_an_answer_of_a_fallback_has_the_fallbacks_price(self) -> None:
        mock = MockProvider(script=[fault("overloaded")])
        providers = {"first": mock, "openai": Vendor(COUNTS)}
        async with create_session_manager(providers=providers) as manager:
            session = await manager.create_session(
                "ada", "first", "gpt-4", provider_config={"fallbacks": [("openai", "gpt-4o")]}
            )
            answer = await session.send_message("Hello")
            cost = estimate_message_cost(answer, provider="first", model="gpt-4")
            assert cost == Decimal("12.5")
