"""The headers that tell a vendor's rate limits: `server.headers = openai_limits(...)`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def openai_limits(
    *,
    requests: int = 500,
    requests_left: int = 499,
    requests_reset: str = "120ms",
    tokens: int = 30_000,
    tokens_left: int = 29_000,
    tokens_reset: str = "6m0s",
) -> dict[str, str]:
    """Times until a reset like `1s`, `6m0s`, `120ms`."""
    found: dict[str, str] = {}
    told = {
        "requests": (requests, requests_left, requests_reset),
        "tokens": (tokens, tokens_left, tokens_reset),
    }
    for kind, (limit, left, reset) in told.items():
        found[f"x-ratelimit-limit-{kind}"] = str(limit)
        found[f"x-ratelimit-remaining-{kind}"] = str(left)
        found[f"x-ratelimit-reset-{kind}"] = reset
    return found


def anthropic_limits(
    *,
    requests: int = 50,
    requests_left: int = 49,
    tokens: int = 30_000,
    tokens_left: int = 29_000,
    reset_seconds: float = 1.0,
) -> dict[str, str]:
    """Times of a reset as RFC 3339 has them, in whole seconds, UTC."""
    reset = datetime.now(UTC) + timedelta(seconds=reset_seconds)
    told = {
        "requests": (requests, requests_left),
        "tokens": (tokens, tokens_left),
        "input-tokens": (tokens, tokens_left),
        "output-tokens": (tokens, tokens_left),
    }
    found: dict[str, str] = {}
    for kind, (limit, left) in told.items():
        found[f"anthropic-ratelimit-{kind}-limit"] = str(limit)
        found[f"anthropic-ratelimit-{kind}-remaining"] = str(left)
        found[f"anthropic-ratelimit-{kind}-reset"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
    return found
