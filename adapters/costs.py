"""What answers cost, estimated from public price lists, offline (the extra `costs`).

Prices change and lists are late, so nothing here is stored: a session keeps the tokens that its
provider counted, and an estimate is made of them when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

_ALIASES = {"openai_chat": "openai"}
"""Providers of this package whose name is not that of a price list."""


@attrs.frozen(kw_only=True)
class TokenUsage:
    """The tokens of one answer, as its provider counted them; each 0 or more."""

    input_tokens: int = 0
    """All that was sent, cached or not."""
    output_tokens: int = 0
    """All that was written, reasoning too."""
    cached_input_tokens: int = 0
    """Of the input: read from the provider's cache, which is cheaper."""
    cache_write_tokens: int = 0
    """Of the input: written to the provider's cache, which may cost extra."""


def estimate_cost(
    provider: str, model: str, usage: TokenUsage, *, at: datetime | None = None
) -> Decimal | None:
    """US dollars for one answer; None where no price is known.

    That is: an unknown provider or model, counts that contradict each other, or the extra `costs`
    is not installed. The first call loads the price lists: about 0.2 s.

    Args:
        provider: "openai", "anthropic", another id of the price lists, or the base URL of the
            service ("https://openrouter.ai/api/v1").
        model: as the provider was asked for it, or as it named itself.
        usage: the tokens. Give one answer's at a time: prices may depend on the size of a request.
        at: when, aware; prices of that time are taken where they are known. None: now.
    """
    try:
        import genai_prices  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        return None
    place: dict[str, Any] = (
        {"provider_api_url": provider}
        if "://" in provider
        else {"provider_id": _ALIASES.get(provider, provider)}
    )
    try:
        counts = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        priced = genai_prices.calc_price(counts, model, genai_request_timestamp=at, **place)
    except (LookupError, ValueError):
        return None
    return priced.total_price


def usage_of(provider_metadata: Mapping[str, Any]) -> TokenUsage | None:
    """The tokens of one answer, from the `usage` that its vendor told; None: it told none.

    Reads the counts of OpenAI's Responses, of Chat Completions and of Anthropic's Messages; what is
    no count is taken as 0.
    """
    usage = _mapping(provider_metadata.get("usage"))
    written = _count(usage.get("cache_creation_input_tokens"))
    read = _count(usage.get("cache_read_input_tokens"))
    sent = _count(usage.get("input_tokens")) or _count(usage.get("prompt_tokens"))
    said = _count(usage.get("output_tokens")) or _count(usage.get("completion_tokens"))
    details = _mapping(usage.get("input_tokens_details") or usage.get("prompt_tokens_details"))
    if not sent + said + written + read:
        return None
    return TokenUsage(
        input_tokens=sent + written + read,  # the latter two are on top where they are counted
        output_tokens=said,
        cached_input_tokens=read + _count(details.get("cached_tokens")),
        cache_write_tokens=written,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
