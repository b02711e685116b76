"""The errors of many servers by the codes of this runtime."""

from __future__ import annotations

from typing import Any

import pytest
from langswarm.core.session.adapters.providers.openai_chat.errors import read_error


def openai(message: str = "Sorry", type: str = "invalid_request_error", code: Any = None) -> Any:  # noqa: A002
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (401, openai(code="invalid_api_key"), "auth", False),
        (401, openai("You did not provide a key"), "auth", False),
        (403, openai(code="unsupported_country_region_territory"), "auth", False),
        (404, openai(code="model_not_found"), "not_found", False),
        (400, openai(code="context_length_exceeded"), "context_length", False),
        (400, openai("This model's maximum context length is 5 tokens"), "context_length", False),
        (400, openai(code="content_policy_violation"), "refused", False),
        (400, openai("Unknown parameter"), "invalid_request", False),
        (429, openai(type="tokens", code="rate_limit_exceeded"), "rate_limit", True),
        (429, openai(type="insufficient_quota", code="insufficient_quota"), "rate_limit", False),
        (500, openai(type="server_error"), "overloaded", True),
        (503, openai("Loading model", "unavailable_error", 503), "overloaded", True),
        (
            400,
            openai(
                "the request exceeds the available context size", "exceed_context_size_error", 400
            ),
            "context_length",
            False,
        ),
        (404, {"error": "model 'llama' not found, try pulling it first"}, "not_found", False),
        (404, {"error": {"message": "model not found", "type": "api_error"}}, "not_found", False),
        (
            400,
            {"object": "error", "message": "maximum context length is 5", "code": 400},
            "context_length",
            False,
        ),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, "invalid_request", False),
        (401, {"error": {"message": "No auth credentials found", "code": 401}}, "auth", False),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, "auth", False),
        (502, "<html>Bad Gateway</html>", "overloaded", True),
        (504, None, "timeout", True),
        (500, {}, "overloaded", True),
        (413, [], "context_length", False),
    ],
)
def test_each_error_has_its_code(status: int, body: Any, code: str, retryable: bool) -> None:
    error = read_error(status, {}, body)
    assert (error.code, error.retryable, error.provider) == (code, retryable, "openai_chat")
    assert len(str(error)) < 800


def test_the_text_says_what_the_server_said() -> None:
    assert "try pulling it first" in str(
        read_error(404, {}, {"error": "model 'llama' not found, try pulling it first"})
    )
    assert "Field required" in str(read_error(422, {}, {"detail": [{"msg": "Field required"}]}))
    assert "Bad Gateway" in str(read_error(502, {}, "<html>Bad Gateway</html>"))
