"""The providers, and what one of your own implements."""

from __future__ import annotations

from langswarm.core.session.actors.model import PromptMessage
from langswarm.core.session.actors.ports import (
    Completed,
    IProvider,
    ProviderEvent,
    ProviderRequest,
    ProviderSettings,
    TextDelta,
)
from langswarm.core.session.adapters.providers.mock import (
    MockProvider,
    MockProviderSession,
    fault,
    hang,
    reply,
    truncate,
)
from langswarm.core.session.adapters.providers.native_mock import NativeMockProvider

__all__ = [
    "Completed",
    "IProvider",
    "MockProvider",
    "MockProviderSession",
    "NativeMockProvider",
    "PromptMessage",
    "ProviderEvent",
    "ProviderRequest",
    "ProviderSettings",
    "TextDelta",
    "fault",
    "hang",
    "reply",
    "truncate",
]
