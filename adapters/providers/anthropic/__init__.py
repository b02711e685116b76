"""Anthropic: Messages, and message threads on demand."""
