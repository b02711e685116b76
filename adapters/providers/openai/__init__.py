"""OpenAI: Conversations and Responses; threads and runs on servers of one's own."""

from __future__ import annotations

from .provider import OpenAIProvider
from .session_view import OpenAIProviderSession

__all__ = ["OpenAIProvider", "OpenAIProviderSession"]
