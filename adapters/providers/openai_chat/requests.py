"""The request to a Chat Completions server, as JSON. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ....actors.model import PromptMessage
    from .options import Options

_PLAIN = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed")


def chat_body(model: str, messages: Iterable[PromptMessage], options: Options) -> dict[str, Any]:
    """The body of a streamed POST /chat/completions: the whole window, system texts as such."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": each.role.value, "content": each.content} for each in messages],
        "stream": True,
    }
    if options.include_usage:
        body["stream_options"] = {"include_usage": True}
    for name in _PLAIN:
        value = getattr(options, name)
        if value is not None:
            body[name] = value
    return dict(options.extra_body) | body
