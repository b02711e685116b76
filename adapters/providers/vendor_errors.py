"""The texts of vendors' errors: what happened, what the vendor said, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...actors.errors import ProviderError
from .reading import vendor_text

if TYPE_CHECKING:
    from ...actors.errors import ProviderCode

RETRYABLE: frozenset[ProviderCode] = frozenset(
    {"rate_limit", "overloaded", "locked", "timeout", "connection", "truncated"}
)
ADVICE: dict[ProviderCode, str] = {
    "auth": "check the key, what it may do, and the account's billing",
    "rate_limit": "send less for now, or ask the vendor for a higher limit",
    "overloaded": "send it again later",
    "context_length": "send less: lower max_messages, or clear the history",
    "invalid_request": "check the model and the provider_config",
    "not_found": "check the model's name and base_url",
    "locked": "send it again in a moment",
    "timeout": "send it again",
    "refused": "ask for something else",
}
_BY_STATUS: dict[int, ProviderCode] = {
    400: "invalid_request",
    401: "auth",
    402: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    409: "locked",
    413: "context_length",
    422: "invalid_request",
    429: "rate_limit",
    504: "timeout",
}
_SERVER_ERRORS = 500

TOO_LONG = (
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "context length exceeded",
    "context_length_exceeded",
    "exceeds the available context size",
    "exceed_context_size",
    "exceeds the context window",
    "exceeds the model's context",
    "input is too long",
    "maximum prompt length",
    "reduce the length of the messages",
)
"""What vendors say, in lower case, when the prompt does not fit; not all have a code for it."""


def code_of_status(status: int) -> ProviderCode:
    """What a status says where nothing more is known."""
    code = _BY_STATUS.get(status)
    if code is None:
        code = "overloaded" if status >= _SERVER_ERRORS else "invalid_request"
    return code


def is_too_long(said: str) -> bool:
    """Whether an error text says that the prompt does not fit."""
    low = said.lower()
    return any(words in low for words in TOO_LONG)


def vendor_error(
    name: str, code: ProviderCode, said: object, *, kind: str = "", retryable: bool | None = None
) -> ProviderError:
    """The error for what a vendor said; `kind` is what it calls the error itself."""
    text = vendor_text(said) if said else "no reason given"
    called = f" ({kind})" if kind else ""
    advice = ADVICE.get(code)
    return ProviderError(
        f"the service of the provider {name!r} answered with an error{called}: {text}"
        + (f"; {advice}" if advice else ""),
        code=code,
        provider=name,
        retryable=code in RETRYABLE if retryable is None else retryable,
    )
