"""What OpenAI says went wrong, and what it is here: a stable code, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.adapters.providers.openai.errors import error_of, read_error
from langswarm.core.session.errors import ProviderError


def said(code: str | None = None, type_: str = "invalid_request_error", text: str = "No.") -> Any:
    return {"error": {"message": text, "type": type_, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (400, said(), "invalid_request", False),
        (400, said("conversation_locked"), "locked", True),
        (400, said("context_length_exceeded"), "context_length", False),
        (400, said(text="Maximum context length is 8 tokens."), "context_length", False),
        (400, said("content_policy_violation"), "refused", False),
        (400, said("invalid_prompt"), "refused", False),
        (401, said("invalid_api_key"), "auth", False),
        (403, said(type_="permission_error"), "auth", False),
        (404, said(), "not_found", False),
        (404, said("model_not_found"), "not_found", False),
        (408, said(), "timeout", True),
        (409, said(), "locked", True),
        (413, "too large", "context_length", False),
        (422, {"detail": [{"msg": "field required"}]}, "invalid_request", False),
        (429, said("rate_limit_exceeded", "tokens"), "rate_limit", True),
        (429, said("insufficient_quota", "insufficient_quota"), "rate_limit", False),
        (429, said(type_="insufficient_quota"), "rate_limit", False),
        (500, said("server_error", "server_error"), "overloaded", True),
        (502, "<html>Bad gateway</html>", "overloaded", True),
        (503, {}, "overloaded", True),
        (503, None, "overloaded", True),
        (504, "", "timeout", True),
        (418, [1, 2], "invalid_request", False),
    ],
)
def test_each_refusal_has_a_stable_code(
    status: int, body: object, code: str, *, retryable: bool
) -> None:
    error = read_error(status, {}, body)
    assert (error.code, error.retryable, error.provider) == (code, retryable, "openai")


def test_an_error_says_what_the_vendor_said_which_parameter_and_what_to_do() -> None:
    body = {"error": {"message": "Too warm.", "type": "x", "param": "temperature", "code": "high"}}
    text = str(read_error(400, {}, body))
    assert "Too warm." in text
    assert "high, parameter temperature" in text
    assert "check the model and the provider_config" in text


def test_an_account_without_credit_is_told_so() -> None:
    assert "add credit" in str(read_error(429, {}, said("insufficient_quota")))


def test_a_vendors_text_is_cut_to_500_characters() -> None:
    assert len(str(read_error(400, {}, said(text="x" * 10_000)))) < 1_000


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "server_error", "message": "Oops"}, "overloaded"),
        ({"code": "rate_limit_exceeded", "message": "Slowly"}, "rate_limit"),
        ({"code": "bio_policy"}, "refused"),
        ({"code": "vector_store_timeout"}, "timeout"),
        ({"code": 17, "message": ["odd"]}, "overloaded"),
        ({}, "overloaded"),
    ],
)
def test_an_error_in_a_stream_has_a_stable_code(error: dict[str, Any], code: str) -> None:
    found = error_of(error)
    assert isinstance(found, ProviderError)
    assert found.code == code
