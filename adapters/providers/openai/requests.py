"""The requests to OpenAI, as JSON. Pure functions.

System texts are no items of a conversation: they go with every request as `instructions`, which do
not carry over from one response to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.prompt import split_system

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ....actors.model import PromptMessage
    from ....actors.ports import ProviderRequest
    from .config import Options

ITEMS_PER_CALL = 20
"""What a conversation takes at once."""
MESSAGES_PER_THREAD = 32
"""What a thread is made with at most; the rest follows one by one."""
_CHARACTERS_PER_TOKEN = 4

Json = dict[str, Any]


def conversation_body(history: Sequence[PromptMessage], options: Options) -> Json:
    """The body of POST /conversations: the first items of the history, and the metadata."""
    body: Json = {}
    if history:
        body["items"] = items_of(history[:ITEMS_PER_CALL])
    if options.thread_metadata:
        body["metadata"] = dict(options.thread_metadata)
    return body


def further_items(history: Sequence[PromptMessage]) -> list[Json]:
    """The bodies of POST /conversations/{id}/items: what a conversation was not made with."""
    return [
        {"items": items_of(history[start : start + ITEMS_PER_CALL])}
        for start in range(ITEMS_PER_CALL, len(history), ITEMS_PER_CALL)
    ]


def items_of(messages: Iterable[PromptMessage]) -> list[Json]:
    """Messages as items."""
    return [
        {"type": "message", "role": message.role.value, "content": message.content}
        for message in messages
    ]


def response_body(
    request: ProviderRequest, options: Options, conversation_id: str | None = None
) -> Json:
    """The body of a streamed POST /responses.

    In a conversation only the question is new; without one the whole window is sent, and nothing
    is kept.
    """
    system, window = split_system(request.messages)
    body: Json = {"model": request.model, "stream": True}
    if conversation_id is None:
        body |= {"input": items_of(window), "store": False}
    else:
        body |= {"input": items_of(window[-1:]), "conversation": conversation_id}
    if system:
        body["instructions"] = "\n\n".join(system)
    return dict(options.extra_body) | body | _sampling(options, "max_output_tokens")


def thread_body(history: Sequence[PromptMessage], options: Options) -> Json:
    """The body of POST /threads."""
    body: Json = {}
    if history:
        body["messages"] = [message_body(each) for each in history[:MESSAGES_PER_THREAD]]
    if options.thread_metadata:
        body["metadata"] = dict(options.thread_metadata)
    return body


def message_body(message: PromptMessage) -> Json:
    """The body of POST /threads/{id}/messages."""
    return {"role": message.role.value, "content": message.content}


def run_body(request: ProviderRequest, options: Options) -> Json:
    """The body of a streamed POST /threads/{id}/runs.

    The system texts are added to the instructions that the assistant has.
    """
    system, _ = split_system(request.messages)
    body: Json = {
        "assistant_id": options.assistant_id,
        "model": request.model,
        "stream": True,
    }
    if system:
        body["additional_instructions"] = "\n\n".join(system)
    return dict(options.extra_body) | body | _sampling(options, "max_completion_tokens")


def _sampling(options: Options, most_tokens: str) -> Json:
    given = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        most_tokens: options.max_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}


def estimated_tokens(request: ProviderRequest, options: Options) -> int:
    """About what the request costs: in a conversation the window is read again each time."""
    said = sum(len(message.content) for message in request.messages)
    return said // _CHARACTERS_PER_TOKEN + (options.max_tokens or 0)
