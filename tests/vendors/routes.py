"""Which handler answers which method and path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import assistants, chat, conversations, messages, responses
from .replies import anthropic_error, openai_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replies import Reply
    from .state import Call

    Handler = Callable[[Call], Reply]

_ID = "([^/]+)"
_CONVERSATION = f"/v1/conversations/{_ID}"
_RESPONSE = f"/v1/responses/{_ID}"
_THREAD = f"/v1/threads/{_ID}"

_TABLE: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/conversations", conversations.create),
    ("GET", _CONVERSATION, conversations.retrieve),
    ("POST", _CONVERSATION, conversations.update),
    ("DELETE", _CONVERSATION, conversations.delete),
    ("POST", f"{_CONVERSATION}/items", conversations.create_items),
    ("GET", f"{_CONVERSATION}/items", conversations.list_items),
    ("GET", f"{_CONVERSATION}/items/{_ID}", conversations.retrieve_item),
    ("DELETE", f"{_CONVERSATION}/items/{_ID}", conversations.delete_item),
    ("POST", "/v1/responses", responses.create),
    ("GET", _RESPONSE, responses.retrieve),
    ("DELETE", _RESPONSE, responses.delete),
    ("POST", f"{_RESPONSE}/cancel", responses.cancel),
    ("GET", f"{_RESPONSE}/input_items", responses.input_items),
    ("POST", "/v1/chat/completions", chat.create),
    ("POST", "/v1/threads", assistants.create),
    ("GET", _THREAD, assistants.retrieve),
    ("POST", _THREAD, assistants.update),
    ("DELETE", _THREAD, assistants.delete),
    ("POST", f"{_THREAD}/messages", assistants.create_message),
    ("GET", f"{_THREAD}/messages", assistants.list_messages),
    ("POST", f"{_THREAD}/runs", assistants.create_run),
    ("GET", f"{_THREAD}/runs/{_ID}", assistants.retrieve_run),
    ("POST", f"{_THREAD}/runs/{_ID}/cancel", assistants.cancel_run),
    ("POST", "/v1/messages", messages.create),
    ("POST", "/v1/messages/count_tokens", messages.count_tokens),
]
_ROUTES = [(method, re.compile(pattern), handler) for method, pattern, handler in _TABLE]


def reply_to(call: Call) -> Reply:
    """The answer of the handler that is meant. Raises VendorError."""
    seen = call.seen
    call.check_key()
    for method, pattern, handler in _ROUTES:
        if method == seen.method and (found := pattern.fullmatch(seen.path)):
            if method == "POST" and seen.content and not isinstance(seen.body, dict):
                raise _unreadable(call)
            call.arguments = found.groups()
            return handler(call)
    if call.is_anthropic:
        raise anthropic_error(404, "not_found_error", "Not found")
    raise openai_error(404, f"Invalid URL ({seen.method} {seen.path})")


def _unreadable(call: Call) -> Exception:
    message = "We could not parse the JSON body of your request."
    if call.is_anthropic:
        return anthropic_error(400, "invalid_request_error", message)
    return openai_error(400, message)
