"""Anthropic: Messages, and message threads on demand."""

from __future__ import annotations

from .provider import AnthropicProvider
from .view import AnthropicProviderSession

__all__ = ["AnthropicProvider", "AnthropicProviderSession"]
