"""The vendors' providers, each on a reference server of its own, with every fault arranged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider
from langswarm.core.session.testing.provider_contract import ProviderHarness

from ..vendors import Answer, vendor_server
from ..vendors.answers import text_of
from ..vendors.faults import html, stall, status, truncate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langswarm.core.session.actors.errors import ProviderCode
    from langswarm.core.session.adapters.http.service import HttpService
    from langswarm.core.session.providers import IProvider

    from ..vendors import Asked, VendorServer

KEY = "sk-canary-5e4d3c2b1a"
SOON_SECONDS = 0.25
PATIENT_SECONDS = 60.0
"""Of silence: where that is what a case is about, and where a busy machine shall not see it."""
_STATUS: dict[ProviderCode, int] = {
    "auth": 401,
    "context_length": 413,
    "invalid_request": 400,
    "not_found": 404,
    "overloaded": 503,
    "rate_limit": 429,
}


class VendorHarness(ProviderHarness):
    """What the three have in common."""

    secrets = (KEY,)
    fault_codes = tuple(_STATUS)
    stall_seconds = 3.0
    path: str
    """Of the requests for answers."""
    preamble: int
    """Events before the first text."""
    in_stream: Mapping[ProviderCode, str]
    """What an error of that code is called in a stream."""

    def __init__(self, library: str, *, soon: bool = False) -> None:
        self._plays: dict[str, Answer] = {}
        self._soon = soon
        self.server = vendor_server()
        self.server.__enter__()
        self.server.answer = self._answer
        super().__init__(
            self.connect(
                self.server,
                http_library=library,
                max_retries=0,
                stall_timeout=PATIENT_SECONDS,
                breaker_failures=0,
            )
        )

    def connect(self, server: VendorServer, **http: Any) -> IProvider:
        raise NotImplementedError

    def close(self) -> None:
        self.server.__exit__(None, None, None)

    def _answer(self, asked: Asked) -> Answer:
        # Neighbours of one role may have been merged: the question is what comes last.
        for question, play in reversed(self._plays.items()):
            if asked.text.endswith(question):
                return play
        raise LookupError(f"nobody arranged an answer to {asked.text!r}")

    def _wait(self, seconds: float) -> None:
        """From now on, for silence."""
        provider: Any = self.provider
        service: HttpService = provider._http
        service.options = attrs.evolve(service.options, stall_timeout=seconds)

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        self._wait(PATIENT_SECONDS)
        self._plays[question] = Answer(deltas=tuple(pieces))

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        self.answer(question, pieces)
        if pieces:
            named = self.in_stream[code]
            self._plays[question] = Answer(deltas=tuple(pieces), finish="failed", error_code=named)
        else:
            self.server.script(status(_STATUS[code], self.body_of(code)), path=self.path)

    def body_of(self, code: ProviderCode) -> dict[str, Any]:
        return {"error": {"type": "error", "message": "no", "code": self.in_stream[code]}}

    def fail_oddly(self, question: str) -> None:
        self.answer(question, ())
        self.server.script(html(), path=self.path)

    def truncate(self, question: str, pieces: Sequence[str]) -> None:
        self.answer(question, pieces)
        self.server.script(truncate(events=self.preamble + len(pieces)), path=self.path)

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        self.answer(question, pieces)
        if self._soon:
            self._wait(SOON_SECONDS)
        self.server.script(stall(events=self.preamble + len(pieces)), path=self.path)

    def open_requests(self) -> int:
        return sum(each.outcome == "open" for each in list(self.server.requests))


class OpenAIHarness(VendorHarness):
    """Conversations and responses."""

    path = "/v1/responses"
    preamble = 4
    in_stream: Mapping[ProviderCode, str] = {
        "auth": "invalid_api_key",
        "context_length": "context_length_exceeded",
        "invalid_request": "no_such_parameter",
        "not_found": "model_not_found",
        "overloaded": "server_error",
        "rate_limit": "rate_limit_exceeded",
    }
    options = {  # noqa: RUF012 - nobody changes it
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 100,
        "thread_metadata": {"topic": "owls"},
        "state": "native",
        "extra_body": {"truncation": "auto"},
    }

    def connect(self, server: VendorServer, **http: Any) -> IProvider:
        return OpenAIProvider(KEY, base_url=server.openai_url, **http)

    def conversations(self) -> Mapping[str, Sequence[str]]:
        return {
            name: [text_of(item.get("content")) for item in kept.items]
            for name, kept in self.server.state.conversations.by_id.items()
        }

    def forget(self, provider_session_id: str) -> None:
        del self.server.state.conversations.by_id[provider_session_id]


class OpenAILocalHarness(OpenAIHarness):
    """Responses alone: nothing is kept at the vendor."""

    def config_of(self, question: str) -> Mapping[str, Any]:
        return {"state": "local"}


class OpenAIChatHarness(VendorHarness):
    """Chat Completions."""

    path = "/v1/chat/completions"
    preamble = 1
    in_stream = OpenAIHarness.in_stream
    options = {  # noqa: RUF012 - nobody changes it
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 100,
        "seed": 7,
        "stop": ["END"],
        "include_usage": True,
        "extra_body": {"min_p": 0.1},
    }

    def connect(self, server: VendorServer, **http: Any) -> IProvider:
        return OpenAIChatProvider(KEY, base_url=server.openai_url, **http)


class AnthropicHarness(VendorHarness):
    """Messages."""

    path = "/v1/messages"
    preamble = 3
    in_stream: Mapping[ProviderCode, str] = {
        "auth": "authentication_error",
        "context_length": "request_too_large",
        "invalid_request": "invalid_request_error",
        "not_found": "not_found_error",
        "overloaded": "overloaded_error",
        "rate_limit": "rate_limit_error",
    }
    options = {  # noqa: RUF012 - nobody changes it
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 100,
        "stop": ["END"],
        "prompt_caching": True,
        "conversation_metadata": {"topic": "owls"},
        "extra_body": {"service_tier": "auto"},
    }

    def body_of(self, code: ProviderCode) -> dict[str, Any]:
        return {"type": "error", "error": {"type": self.in_stream[code], "message": "no"}}

    def connect(self, server: VendorServer, **http: Any) -> IProvider:
        return AnthropicProvider(KEY, base_url=server.anthropic_url, **http)


VENDORS: dict[str, Callable[..., VendorHarness]] = {
    "openai": OpenAIHarness,
    "openai_local": OpenAILocalHarness,
    "openai_chat": OpenAIChatHarness,
    "anthropic": AnthropicHarness,
}
