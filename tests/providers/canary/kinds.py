"""Every provider, made with keys that are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider

from ...vendors import Gate
from ...vendors.faults import Fault, hold
from .looking import GATEWAY_KEY, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langswarm.core.session.providers import IProvider

    from ...vendors import VendorServer


@attrs.frozen(kw_only=True)
class Kind:
    """A way to be answered: a provider and a session's config, and how the key is shown."""

    name: str
    make: Callable[..., IProvider]
    path: str
    """Of the requests for answers."""
    before: int = 0
    """Other requests to that path that a turn in a new conversation makes before."""
    place: str | None = None
    """Where conversations are made, at a vendor that keeps them."""
    header: str = "authorization"
    config: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def provider(self, base_url: str, library: str, **options: Any) -> IProvider:
        given: dict[str, Any] = {
            "base_url": base_url,
            "http_library": library,
            "headers": {"x-gateway-token": GATEWAY_KEY},
            "max_retries": 0,
            "breaker_failures": 0,
            "stall_timeout": 40.0,
            "queue_timeout": 40.0,
        }
        return self.make(KEY, **(given | dict(self.options) | options))

    def script(self, vendor: VendorServer, fault: Fault) -> None:
        """The fault happens to the request for the next answer."""
        vendor.script(*[Fault()] * self.before, fault, path=self.path, method="POST")

    def hold(self, vendor: VendorServer, events: int | None) -> Gate:
        """The request for the next answer is held."""
        gate = Gate()
        self.hold_at(gate, vendor, events)
        return gate

    def hold_at(self, gate: Gate, vendor: VendorServer, events: int | None) -> None:
        """The same, at a gate that there is."""
        self.script(vendor, hold(gate, events=events))

    def url(self, vendor: VendorServer) -> str:
        return vendor.anthropic_url if self.make is AnthropicProvider else vendor.openai_url


_ANTHROPIC: dict[str, Any] = {"make": AnthropicProvider, "path": "/v1/messages"}

KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="native", make=OpenAIProvider, path="/v1/responses", place="/v1/conversations"),
        Kind(name="local", make=OpenAIProvider, path="/v1/responses", config={"state": "local"}),
        Kind(
            name="assistants",
            make=OpenAIProvider,
            path="/v1/threads/",
            before=1,
            place="/v1/threads",
            config={"assistant_id": "asst_1"},
        ),
        Kind(name="chat", make=OpenAIChatProvider, path="/v1/chat/completions"),
        Kind(name="anthropic", header="x-api-key", **_ANTHROPIC),
        Kind(name="bearer", options={"auth": "bearer"}, **_ANTHROPIC),
        Kind(
            name="threads",
            header="x-api-key",
            options={"allow_threads": True},
            config={"threads": True},
            **_ANTHROPIC,
        ),
    )
}
