"""Chat Completions: OpenAI's, and every server that speaks like it."""

from __future__ import annotations

from .provider import OpenAIChatProvider
from .view import OpenAIChatProviderSession

__all__ = ["OpenAIChatProvider", "OpenAIChatProviderSession"]
