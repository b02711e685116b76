"""Anthropic's errors by the codes of this runtime."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.adapters.providers.anthropic.errors import (
    BEGIN_AGAIN,
    ThreadError,
    read_error,
)


def body(kind: str, message: str = "Sorry", **details: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return {"type": "error", "error": error, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("status", "given", "code", "retryable"),
    [
        (400, body("invalid_request_error"), "invalid_request", False),
        (400, body("invalid_request_error", "prompt is too long: 2 > 1"), "context_length", False),
        (
            400,
            body("invalid_request_error", "input length and `max_tokens` exceed context limit: 1"),
            "context_length",
            False,
        ),
        (401, body("authentication_error"), "auth", False),
        (402, body("billing_error"), "auth", False),
        (403, body("permission_error"), "auth", False),
        (404, body("not_found_error", "model: claude-0"), "not_found", False),
        (409, body("conflict_error"), "locked", True),
        (413, body("request_too_large"), "context_length", False),
        (413, "<html>too large</html>", "context_length", False),
        (429, body("rate_limit_error"), "rate_limit", True),
        (500, body("api_error"), "overloaded", True),
        (503, "upstream connect error", "overloaded", True),
        (504, body("timeout_error"), "timeout", True),
        (529, body("overloaded_error"), "overloaded", True),
        (529, {}, "overloaded", True),
        (418, None, "invalid_request", False),
        (400, body("something_new"), "invalid_request", False),
        (500, body("something_new"), "overloaded", True),
        (400, {"error": "text"}, "invalid_request", False),
        (400, [1], "invalid_request", False),
    ],
)
def test_each_error_has_its_code(status: int, given: Any, code: str, retryable: bool) -> None:
    error = read_error(status, {}, given)
    assert (error.code, error.retryable, error.provider) == (code, retryable, "anthropic")
    assert not isinstance(error, ThreadError)


def test_the_text_says_what_the_vendor_said_in_one_bounded_line() -> None:
    error = read_error(
        400, {}, body("invalid_request_error", "max_tokens:\n  too " + "much " * 500)
    )
    assert "(invalid_request_error): max_tokens: too much" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 800


@pytest.mark.parametrize(
    ("reason", "status", "kind", "code", "retryable"),
    [
        ("thread_not_found", 404, "not_found_error", "not_found", False),
        ("thread_already_continued", 400, "invalid_request_error", "invalid_request", False),
        ("thread_continue_in_flight", 400, "invalid_request_error", "locked", True),
        ("thread_fingerprint_mismatch", 400, "invalid_request_error", "invalid_request", False),
        ("thread_unsupported_request", 400, "invalid_request_error", "invalid_request", False),
    ],
)
def test_what_ends_a_thread_is_told_apart(
    reason: str, status: int, kind: str, code: str, retryable: bool
) -> None:
    error = read_error(status, {}, body(kind, error_code=reason))
    assert isinstance(error, ThreadError)
    assert (error.reason, error.code, error.retryable) == (reason, code, retryable)
    assert (reason in BEGIN_AGAIN) == (reason != "thread_unsupported_request")


def test_an_account_that_has_spent_its_limit_is_not_asked_again() -> None:
    error = read_error(429, {}, body("rate_limit_error", error_code="enforced_spend_limit_reached"))
    assert (error.code, error.retryable) == ("rate_limit", False)
