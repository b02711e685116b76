"""Other providers that a session's turns are given to while its own cannot answer.

`provider_config={"fallbacks": [("anthropic", "a-model"), ...]}`: in this order, as long as nothing
of the answer has arrived. A fallback sees the whole window and keeps nothing: the session's own
conversation at its provider does not hold such a turn, and is given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs

from .errors import ConfigurationError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .ports import IProvider, ProviderRequest

KEY = "fallbacks"
MAX_FALLBACKS = 10
_PARTS = (2, 3)
_PASSING = frozenset({"overloaded", "rate_limit", "connection", "timeout", "truncated", "protocol"})
_SHARED = ("temperature", "top_p", "max_tokens", "stop")
"""Options that mean the same wherever they are taken; others are a vendor's own."""


@attrs.frozen(kw_only=True)
class Fallback:
    """One of them."""

    provider: str
    model: str
    config: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Its own provider_config; it goes before the options that it takes over."""

    def request(self, request: ProviderRequest, provider: IProvider) -> ProviderRequest:
        """What it is asked, in place of the session's own provider.

        Of the session's own options it takes over those that it knows, within its limits: an
        answer at its default temperature is better than none.
        """
        config = dict(self.config)
        for name in _SHARED:
            if name in request.config and name not in config:
                more = {**config, name: request.config[name]}
                if _takes(provider, more):
                    config = more
        return attrs.evolve(
            request, model=self.model, config=config, provider_session_id=None, is_single=True
        )


def _takes(provider: IProvider, config: Mapping[str, Any]) -> bool:
    try:
        provider.check_config(config)
    except Exception:  # noqa: BLE001 - a guest may say no in any way
        return False
    return True


def fallbacks_of(config: Mapping[str, Any]) -> tuple[Fallback, ...]:
    """Those that a provider_config names. ConfigurationError where they are not understood."""
    given: object = config.get(KEY)
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)):
        raise ConfigurationError(f"{KEY} must be a list of (provider, model), not {given!r}")
    entries = cast("list[object]", given)
    if len(entries) > MAX_FALLBACKS:
        raise ConfigurationError(f"{KEY} has more than {MAX_FALLBACKS} entries")
    return tuple(_fallback(entry, place) for place, entry in enumerate(entries))


def _fallback(entry: object, place: int) -> Fallback:
    if isinstance(entry, (list, tuple)):
        parts = cast("list[object]", entry)
        if len(parts) in _PARTS:
            provider, model, *rest = parts
            config: object = rest[0] if rest else dict[str, Any]()
            named = isinstance(provider, str) and isinstance(model, str) and provider and model
            if named and isinstance(config, dict):
                return Fallback(
                    provider=str(provider),
                    model=str(model),
                    config=cast("dict[str, Any]", config),
                )
    raise ConfigurationError(
        f"{KEY}[{place}] must be (provider, model) or (provider, model, provider_config), "
        f"not {entry!r}"
    )


def check_fallbacks(config: Mapping[str, Any], known: Collection[str]) -> tuple[Fallback, ...]:
    """Those of a new session; each must name a provider that the manager has."""
    fallbacks = fallbacks_of(config)
    for fallback in fallbacks:
        if fallback.provider not in known:
            names = ", ".join(sorted(known))
            raise ConfigurationError(
                f"{KEY} names the provider {fallback.provider!r}, which this manager does not "
                f"have (it has {names}); pass it in providers="
            )
    return fallbacks


def may_fall_back(failure: Exception | None) -> bool:
    """Whether another provider may be able to answer where one failed like this."""
    return isinstance(failure, ProviderError) and failure.code in _PASSING
