"""The provider for Chat Completions: OpenAI's, and every server that speaks like it."""

from __future__ import annotations

import os
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from ....actors.errors import ConfigurationError, ProviderError, hides_arguments
from ....actors.ports import IProvider
from ...http.options import HttpOptions
from ...http.secret import Secret
from ...http.service import HttpCall, HttpService
from ..asking import ask
from .errors import read_error
from .options import NAME, check_options, options_of
from .requests import chat_body
from .stream import ChatReader
from .view import OpenAIChatProviderSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ....actors.ports import ProviderEvent, ProviderRequest, ProviderSettings
    from .options import Options

VENDOR_URL = "https://api.openai.com/v1"
PATH = "/chat/completions"
_CHARACTERS_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 500
"""Counted for an answer whose length is not bounded."""


class OpenAIChatProvider(IProvider):
    """Answers through `POST {base_url}/chat/completions`, streamed.

    For OpenAI's Chat Completions and the servers that are compatible with it: vLLM, Ollama,
    llama.cpp, LiteLLM, OpenRouter and others. They keep nothing between two turns; each turn sends
    the window, so there is no `provider_session_id`.

    - `api_key`: None: OPENAI_API_KEY from the environment, if it is set; with a `base_url` of
      another server none, since a key of OpenAI's is not for every server. "": no key is sent.
      Needed for the vendor's base_url only.
    - `base_url`: up to and with the version, such as "http://127.0.0.1:11434/v1". None:
      OPENAI_BASE_URL, then `https://api.openai.com/v1`.
    - `organization`, `project`: sent as OpenAI's headers for them.
    - `name`: what a ProviderError names as its provider, "openai_chat".
    - all other keywords are those of `HttpOptions`.

    A session's `provider_config`, all of it optional and sent only if set:

    - `temperature` (0 to 2), `top_p` (0 to 1), `seed` (a whole number of 64 bits).
    - `max_tokens` or `max_completion_tokens`: of the answer, 1 to 10,000,000; as the server names
      it.
    - `stop`: a text or up to 64 texts of up to 1,000 characters that end the answer.
    - `include_usage`: False: do not ask for the counts of tokens at the end of the stream, for
      servers that refuse `stream_options`. They are 0 then unless the server sends them anyway.
    - `extra_body`: JSON merged into the request; it cannot replace what is set here.

    An answer is complete when a `finish_reason` or `[DONE]` has come; a stream that ends without
    either was cut off. Reasoning is no part of the answer. Raises ConfigurationError for a wrong
    keyword or value.
    """

    @hides_arguments
    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        name: str = NAME,
        **http: Any,
    ) -> None:
        url = base_url or os.environ.get("OPENAI_BASE_URL") or VENDOR_URL
        named = {"openai-organization": organization, "openai-project": project}
        headers = {name: value for name, value in named.items() if value is not None}
        options = HttpOptions(base_url=url, **http)
        options = attrs.evolve(options, headers={**options.headers, **headers})
        is_elsewhere = bool(base_url) and not _is_vendors(options.base_url)
        secret = _secret(api_key, may_read=not is_elsewhere)
        if secret is None and _is_vendors(options.base_url):
            raise ConfigurationError(
                "the provider 'openai_chat' needs a key for OpenAI: pass it, or set OPENAI_API_KEY"
            )
        self._name = name
        self._http = HttpService(
            provider=name,
            options=options,
            auth=partial(_auth, secret),
            read_error=partial(read_error, name=name),
            secrets=() if secret is None else (secret,),
        )

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn; see the class."""
        call = self._call(request)
        async with aclosing(ask(self._http, call, self._reader)) as events:
            async for event in events:
                yield event

    def _reader(self) -> ChatReader:
        return ChatReader(self._name)

    def _call(self, request: ProviderRequest) -> HttpCall:
        options = self._options(request.config)
        said = sum(len(each.content) for each in request.messages)
        most = options.max_tokens or options.max_completion_tokens or _USUAL_ANSWER_TOKENS
        return HttpCall(
            method="POST",
            path=PATH,
            body=chat_body(request.model, request.messages, options),
            tokens=said // _CHARACTERS_PER_TOKEN + most,
            takes_document=True,
        )

    def _options(self, config: Mapping[str, Any]) -> Options:
        try:
            return options_of(config)
        except ConfigurationError as error:
            raise ProviderError(str(error), code="invalid_request", provider=self._name) from error

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse a provider_config that cannot be right: ConfigurationError."""
        check_options(config)

    def session_view(self, settings: ProviderSettings) -> OpenAIChatProviderSession:
        """The controls of one session."""
        return OpenAIChatProviderSession(settings)

    async def aclose(self) -> None:
        """Close the connections; more turns may follow."""
        await self._http.aclose()


def _is_vendors(base_url: str) -> bool:
    return urlsplit(base_url).hostname == urlsplit(VENDOR_URL).hostname


def _secret(api_key: str | None, *, may_read: bool) -> Secret | None:
    if api_key is not None:
        return Secret(api_key) if api_key else None
    if may_read and os.environ.get("OPENAI_API_KEY"):
        return Secret(os.environ["OPENAI_API_KEY"], "OPENAI_API_KEY")
    return None


def _auth(secret: Secret | None) -> Mapping[str, str]:
    return {} if secret is None else {"authorization": f"Bearer {secret.reveal()}"}
