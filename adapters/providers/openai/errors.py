"""What OpenAI calls an error, and what it is here: for answers, streams, responses and runs.

`error.code` tells most, `error.type` some, the status the rest. Of the wording only that of a
prompt that is too long is looked at, since not every server has a code for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..reading import mapping, name_of
from ..vendor_errors import code_of_status, is_too_long, vendor_error
from .config import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....actors.errors import ProviderCode, ProviderError

_CODES: dict[str, ProviderCode] = {
    "account_deactivated": "auth",
    "billing_hard_limit_reached": "rate_limit",
    "billing_not_active": "auth",
    "bio_policy": "refused",
    "content_filter": "refused",
    "content_policy_violation": "refused",
    "context_length_exceeded": "context_length",
    "conversation_locked": "locked",
    "cyber_policy": "refused",
    "image_content_policy_violation": "refused",
    "insufficient_quota": "rate_limit",
    "invalid_api_key": "auth",
    "invalid_prompt": "refused",
    "misalignment_policy_violation": "refused",
    "model_not_found": "not_found",
    "overloaded": "overloaded",
    "rate_limit_exceeded": "rate_limit",
    "server_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "string_above_max_length": "context_length",
    "unsupported_country_region_territory": "auth",
    "vector_store_timeout": "timeout",
}
_TYPES: dict[str, ProviderCode] = {
    "authentication_error": "auth",
    "insufficient_quota": "rate_limit",
    "permission_error": "auth",
    "rate_limit_error": "rate_limit",
    "server_error": "overloaded",
}
_SPENT = frozenset({"billing_hard_limit_reached", "insufficient_quota"})
_SPENT_ADVICE = "; the account has nothing left to spend: add credit, or raise its limit"


def read_error(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """The error for a response that is none of 2xx."""
    del headers
    otherwise = code_of_status(status)
    error = mapping(mapping(body).get("error"))
    if error:
        return error_of(error, otherwise, kind=f"status {status}")
    said = mapping(body).get("error") or mapping(body).get("message") or mapping(body).get("detail")
    if isinstance(body, str):
        said = body
    return vendor_error(NAME, otherwise, said, kind=f"status {status}")


def error_of(
    error: Mapping[str, Any], otherwise: ProviderCode = "overloaded", *, kind: str = ""
) -> ProviderError:
    """The error for an `error` object; `otherwise` where neither its code nor its type is known."""
    name = name_of(error.get("code"), 100) or ""
    type_ = name_of(error.get("type"), 100) or ""
    said: object = error.get("message")
    code = _CODES.get(name) or _TYPES.get(type_) or otherwise
    if code == "invalid_request" and isinstance(said, str) and is_too_long(said):
        code = "context_length"
    parameter = name_of(error.get("param"), 100)
    shown = [name or type_ or kind, f"parameter {parameter}" if parameter else ""]
    called = ", ".join(each for each in shown if each)
    if name in _SPENT or type_ in _SPENT:
        spent = vendor_error(NAME, code, said, kind=called, retryable=False)
        spent.args = (f"{spent}{_SPENT_ADVICE}",)
        return spent
    return vendor_error(NAME, code, said, kind=called)
