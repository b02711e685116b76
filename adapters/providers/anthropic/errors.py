"""What Anthropic calls an error, and what it is here.

The vendor tells its errors apart by `error.type`, and those that a program must act on by
`error.details.error_code`; their wording may change. The one exception is a prompt that is too
long, which is known by its words alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.errors import ProviderError
from ..reading import mapping, name_of
from ..vendor_errors import code_of_status, is_too_long, vendor_error
from .options import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....actors.errors import ProviderCode

_CODES: dict[str, ProviderCode] = {
    "api_error": "overloaded",
    "authentication_error": "auth",
    "billing_error": "auth",
    "conflict_error": "locked",
    "invalid_request_error": "invalid_request",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limit",
    "request_too_large": "context_length",
    "timeout_error": "timeout",
}

IN_FLIGHT = "thread_continue_in_flight"
UNSUPPORTED = "thread_unsupported_request"
BEGIN_AGAIN = frozenset(
    {
        IN_FLIGHT,
        "thread_already_continued",
        "thread_fingerprint_mismatch",
        "thread_not_found",
    }
)
"""A new thread with the whole conversation puts these right."""
_THREAD = "thread_"
_SPENT = "spend_limit"
"""In the word for a limit that no waiting lifts."""


class ThreadError(ProviderError):
    """A thread cannot be gone on with; `reason` is the vendor's word for why."""

    reason: str = ""


def read_error(
    status: int, headers: Mapping[str, str], body: object, name: str = NAME
) -> ProviderError:
    """The error for a response that is none of 2xx."""
    del headers
    if not mapping(mapping(body).get("error")):
        said = body if isinstance(body, str) else ""
        return vendor_error(name, code_of_status(status), said, kind=f"status {status}")
    return _read(mapping(body), code_of_status(status), name)


def read_event_error(data: Mapping[str, Any], name: str = NAME) -> ProviderError:
    """The error for an `error` event in a stream that began well."""
    return _read(data, "overloaded", name)


def _read(body: Mapping[str, Any], otherwise: ProviderCode, name: str) -> ProviderError:
    error = mapping(body.get("error"))
    kind = name_of(error.get("type"), 100) or ""
    reason = name_of(mapping(error.get("details")).get("error_code"), 100) or ""
    said: object = error.get("message")
    code = _CODES.get(kind, otherwise)
    if code == "invalid_request" and isinstance(said, str) and is_too_long(said):
        code = "context_length"
    if not reason.startswith(_THREAD):
        spent = _SPENT in reason
        return vendor_error(
            name, code, said, kind=reason or kind, retryable=False if spent else None
        )
    if reason == IN_FLIGHT:
        code = "locked"
    plain = vendor_error(name, code, said, kind=reason)
    lost = ThreadError(str(plain), code=plain.code, provider=name, retryable=plain.retryable)
    lost.reason = reason
    return lost
