"""What Chat Completions servers call an error, and what it is here.

The form is OpenAI's, `{"error": {"message", "type", "param", "code"}}`; others put a number into
`code`, leave the outer object out, send a text, or a list with one of these.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from ..reading import items, mapping, name_of
from ..vendor_errors import code_of_status, is_too_long, vendor_error
from .options import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....actors.errors import ProviderCode, ProviderError

_CODES: dict[str, ProviderCode] = {
    "access_terminated": "auth",
    "authentication_error": "auth",
    "billing_hard_limit_reached": "rate_limit",
    "content_filter": "refused",
    "content_policy_violation": "refused",
    "context_length_exceeded": "context_length",
    "conversation_locked": "locked",
    "exceed_context_size_error": "context_length",
    "insufficient_quota": "rate_limit",
    "invalid_api_key": "auth",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "request_too_large": "context_length",
    "server_error": "overloaded",
    "string_above_max_length": "context_length",
    "timeout_error": "timeout",
    "unavailable_error": "overloaded",
}
"""By `code`, then by `type`."""
_LASTING = frozenset({"billing_hard_limit_reached", "insufficient_quota"})
"""Of these, a limit that no waiting lifts."""
_UNCLEAR = "invalid_request_error"
"""A `type` that goes with many a status, which then says more."""
_HTTP = range(400, 600)


def error_in(value: object) -> object:
    """The error that a chunk of a stream is or holds; None: it is none."""
    if isinstance(value, list):
        found = map(_error_in, map(mapping, cast("list[object]", value)))
        return next((each for each in found if each is not None), None)
    return _error_in(mapping(value))


def _error_in(chunk: Mapping[str, Any]) -> object:
    if chunk.get("error"):
        return chunk["error"]
    if chunk.get("object") == "error" or chunk.get("type") == "error":
        return chunk
    for choice in map(mapping, items(chunk.get("choices"))):
        if choice.get("error"):
            return choice["error"]
    if "choices" not in chunk and isinstance(chunk.get("detail"), str):
        return chunk
    return None


def read_error(
    status: int, headers: Mapping[str, str], body: object, name: str = NAME
) -> ProviderError:
    """The error for a response that is none of 2xx."""
    del headers
    found = error_in(body)
    if found is None:
        found = body or None
    return _read(found, status, name)


def read_stream_error(said: object, name: str = NAME) -> ProviderError:
    """The error for what a stream that began well says: a JSON value, or its text."""
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            return _read(said, None, name)
        said = error_in(said) or said
    return _read(said, None, name)


def _read(error: object, status: int | None, name: str) -> ProviderError:
    fields = mapping(error)
    said: Any = error
    if fields:
        said = fields.get("message") or fields.get("detail") or fields.get("error") or error
    code, kind = _code(fields, status)
    if code in {"invalid_request", "overloaded"} and isinstance(said, str) and is_too_long(said):
        code = "context_length"
    lasting = kind in _LASTING
    if not kind and status is not None:
        kind = f"status {status}"
    return vendor_error(name, code, said, kind=kind, retryable=False if lasting else None)


def _code(fields: Mapping[str, Any], status: int | None) -> tuple[ProviderCode, str]:
    """(our code, the vendor's word for it)."""
    word = ""
    for field in ("code", "type"):
        value = fields.get(field)
        kind = name_of(value, 100)
        if kind in _CODES:
            return _CODES[kind], kind
        number = int(kind) if kind and kind.isdecimal() else value
        if isinstance(number, int) and number in _HTTP:
            status = status or number
            word = word or f"status {number}"
        word = word or kind or ""
    if status is not None:
        return code_of_status(status), word
    return "invalid_request" if word == _UNCLEAR else "overloaded", word
