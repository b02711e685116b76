"""The requests to the Messages API, as JSON. Pure functions.

Anthropic takes system texts in a field of their own, and a conversation that begins with the user
and alternates. Tokens that many requests begin with are cached at the vendor where a breakpoint
(`cache_control`) says so: with `prompt_caching` there is one on the last message, which the next
turn begins with, one on the user's message before it, where the turn before had its last, and one
on the system text, which other sessions may share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ....actors.model import Role
from ....actors.prompt import merge_adjacent, split_system

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ....actors.model import PromptMessage
    from .options import Options

MAX_BREAKPOINTS = 4
"""Of `cache_control` in one request, those of an `extra_body` included."""
_EPHEMERAL = {"type": "ephemeral"}
_PREVIOUS_QUESTION = -3

COUNTED = frozenset(
    {"cache_control", "mcp_servers", "output_config", "speed", "thinking", "tool_choice", "tools"}
)
"""Of an `extra_body`, what the endpoint that counts tokens takes too."""


def message_body(
    model: str,
    messages: Iterable[PromptMessage],
    options: Options,
    thread: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The body of a streamed POST /v1/messages.

    `thread` is the field of that name. Of a thread that is continued the vendor has all but the
    last message, the system texts too: nothing else is sent then.
    """
    body: dict[str, Any] = {"model": model, "max_tokens": options.max_tokens}
    continues = thread is not None and thread["type"] == "continue"
    body |= _prompt(list(messages)[-1:] if continues else messages, options)
    body["stream"] = True
    if options.stop is not None:
        body["stop_sequences"] = options.stop
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(options, name)
        if value is not None:
            body[name] = value
    user_id = options.conversation_metadata.get("user_id")
    if user_id:
        body["metadata"] = {"user_id": user_id}
    if thread is not None:
        body["thread"] = dict(thread)
    extra = dict(options.extra_body)
    if continues:
        extra.pop("tools", None)  # the thread has them, and refuses them
    return extra | body


def count_body(model: str, messages: Iterable[PromptMessage], options: Options) -> dict[str, Any]:
    """The body of POST /v1/messages/count_tokens."""
    extra = {name: value for name, value in options.extra_body.items() if name in COUNTED}
    return extra | {"model": model} | _prompt(messages, options)


def _prompt(messages: Iterable[PromptMessage], options: Options) -> dict[str, Any]:
    """The fields `messages` and, where there are any, `system`."""
    system, conversation = split_system(messages)
    said = [
        {"role": message.role.value, "content": message.content}
        for message in merge_adjacent(_from_the_user_on(conversation))
    ]
    prompt: dict[str, Any] = {"messages": said}
    if system:
        prompt["system"] = "\n\n".join(system)
    if options.prompt_caching:
        _mark(prompt, MAX_BREAKPOINTS - _breakpoints(options.extra_body))
    return prompt


def _from_the_user_on(conversation: Sequence[PromptMessage]) -> Sequence[PromptMessage]:
    for place, message in enumerate(conversation):
        if message.role is Role.USER:
            return conversation[place:]
    return ()


def _mark(prompt: dict[str, Any], left: int) -> None:
    """Set breakpoints, the most useful ones first, while any are left."""
    said: list[dict[str, Any]] = prompt["messages"]
    places = [(said[-1], "content")] if said else []
    if "system" in prompt:
        places.append((prompt, "system"))
    if len(said) >= -_PREVIOUS_QUESTION:
        places.append((said[_PREVIOUS_QUESTION], "content"))
    for holder, field in places[: max(0, left)]:
        holder[field] = [{"type": "text", "text": holder[field], "cache_control": _EPHEMERAL}]


def _breakpoints(value: object) -> int:
    """How many objects in a JSON value have a `cache_control`."""
    found = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            fields = cast("dict[str, object]", item)
            found += fields.get("cache_control") is not None
            stack.extend(fields.values())
        elif isinstance(item, list | tuple):
            stack.extend(cast("Sequence[object]", item))
    return found
