"""What answers cost, estimated from public price lists, offline (the extra `costs`).

Nothing of it is stored: prices change, and the lists are late. A message keeps the tokens that its
vendor counted, and an estimate is made of them when you ask.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
from anyio import to_thread
from langswarm.core.session.adapters.costs import TokenUsage, estimate_cost, usage_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langswarm.core.session.runtime.session import Session
    from langswarm.core.session.runtime.views import SessionMessage

__all__ = [
    "SessionCost",
    "TokenUsage",
    "estimate_cost",
    "estimate_message_cost",
    "estimate_session_cost",
]

_PAGE = 500


@attrs.frozen(kw_only=True)
class SessionCost:
    """What the answers of a session cost, as far as that is known."""

    usd: Decimal
    """US dollars for the answers that have a price."""
    priced_answers: int
    unpriced_answers: int
    """Answers in the history without a price, or without counts: stopped ones, for example."""
    unpriced_tokens: int
    """Of all tokens that the session has used, those that `usd` does not hold.

    They were of answers without a price, or of answers that were replaced, cleared or lost.
    """


def estimate_message_cost(
    message: SessionMessage,
    *,
    provider: str,
    model: str,
    places: Mapping[str, str] | None = None,
) -> Decimal | None:
    """US dollars for one answer, at the prices of its time; None where no price is known.

    Args:
        message: an answer, as `send_message` and `get_messages` return it.
        provider: `session.provider`; where a fallback answered, that counts.
        model: `session.model`; the model that the vendor named itself goes before it.
        places: for providers under a name of your own, or at a base_url of their own: where their
            prices are listed, by the provider's name: an id of the price lists ("azure"), or the
            service's base URL. "openai", "openai_chat" and "anthropic" are known.
    """
    usage = usage_of(message.provider_metadata)
    if usage is None:
        return None
    fallback: Mapping[str, Any] = message.provider_metadata.get("fallback") or {}
    provider = fallback.get("provider", provider)
    asked = fallback.get("model", model)
    place = (places or {}).get(provider, provider)
    for name in (message.provider_metadata.get("model"), asked):
        if isinstance(name, str) and name:
            cost = estimate_cost(place, name, usage, at=message.timestamp)
            if cost is not None:
                return cost
    return None


async def estimate_session_cost(
    session: Session, *, places: Mapping[str, str] | None = None
) -> SessionCost:
    """What the answers in a session's history cost, each at the prices of its time.

    The work is done in a thread; `places` is that of `estimate_message_cost`.
    """
    usd, tokens, priced, unpriced = Decimal(0), 0, 0, 0
    before: int | None = None
    while True:
        page = await session.get_messages(_PAGE, role="assistant", before=before)
        costs = await to_thread.run_sync(_costs_of, session, page, places)
        for message, cost in zip(page, costs, strict=True):
            if cost is None:
                unpriced += 1
                continue
            usd += cost
            priced += 1
            usage = usage_of(message.provider_metadata) or TokenUsage()
            tokens += usage.input_tokens + usage.output_tokens
        if len(page) < _PAGE:
            break
        before = page[0].seq
    used = (await session.get_metrics()).total_tokens
    return SessionCost(
        usd=usd,
        priced_answers=priced,
        unpriced_answers=unpriced,
        unpriced_tokens=max(0, used - tokens),
    )


def _costs_of(
    session: Session, messages: Sequence[SessionMessage], places: Mapping[str, str] | None
) -> list[Decimal | None]:
    return [
        estimate_message_cost(
            message, provider=session.provider, model=session.model, places=places
        )
        for message in messages
    ]
