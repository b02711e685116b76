"""Costs are estimated from price lists, offline, and never guessed."""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session.adapters.costs import TokenUsage, estimate_cost, usage_of

if TYPE_CHECKING:
    from typing import NoReturn

AT = datetime(2026, 1, 1, tzinfo=UTC)
MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a price was looked up in the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


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


@pytest.mark.parametrize("odd", [None, -1, 1.5, "7", True, [7]])
def test_what_a_vendor_says_of_its_cache_is_a_count_or_nothing(odd: object) -> None:
    metadata = {"cached_input_tokens": odd, "cache_write_tokens": 7}
    usage = usage_of(input_tokens=10, output_tokens=20, provider_metadata=metadata)
    assert usage == TokenUsage(input_tokens=10, output_tokens=20, cache_write_tokens=7)
