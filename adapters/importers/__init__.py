"""Readers of old files: LangSwarm V1 and 0.1.0, openai-agents, JSON. They only read."""

from __future__ import annotations

from .sources import Source, open_source
from .values import ImportedMessage, ImportedSession, Skipped, SourceFormat

__all__ = [
    "ImportedMessage",
    "ImportedSession",
    "Skipped",
    "Source",
    "SourceFormat",
    "open_source",
]
