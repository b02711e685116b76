"""The provider for Anthropic's Messages API."""

from __future__ import annotations

import os
import re
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ....actors.errors import ConfigurationError, ProviderError, hides_arguments
from ....actors.model import PromptMessage, Role
from ....actors.ports import Completed, IProvider
from ....actors.values import shown
from ...http.options import HttpOptions
from ...http.secret import Secret
from ...http.service import HttpCall, HttpService
from ..asking import ask
from ..reading import count_of, malformed, mapping
from .errors import BEGIN_AGAIN, UNSUPPORTED, ThreadError, read_error
from .options import NAME, Options, check_options, options_of
from .requests import count_body, message_body
from .stream import MessageReader
from .threads import BETA, CREATE, field_for, name_after
from .view import AnthropicProviderSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from ....actors.ports import ProviderEvent, ProviderRequest, ProviderSettings
    from .view import Spoken

VENDOR_URL = "https://api.anthropic.com"
DEFAULT_VERSION = "2023-06-01"
MAX_BETAS = 50
MAX_UNTHREADED_MODELS = 1_000
"""Models that are remembered for not taking threads."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_BETA_NAME = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_CHARACTERS_PER_TOKEN = 4


class AnthropicProvider(IProvider):
    """Answers through Anthropic's Messages API, streamed.

    The vendor keeps nothing between two turns: each one sends the window (system texts in a field
    of their own, neighbours of one role merged), so `session.provider_session_id` is `local_` and
    the session's id, a name that is stable and means nothing to the vendor. `threads` changes that.

    - `api_key`: None: ANTHROPIC_API_KEY from the environment; "": no key is sent. Needed for the
      vendor's base_url.
    - `base_url`: None: ANTHROPIC_BASE_URL, then `https://api.anthropic.com`.
    - `anthropic_version`: a date; "2023-06-01" (default) takes temperature, top_p and top_k, later
      ones from "2026-10-21" on refuse them.
    - `auth`: how the key is shown, "x-api-key" (default) or "bearer".
    - `betas`: names of features to switch on, at most 50, sent as `anthropic-beta`.
    - `allow_threads`: whether a base_url other than the vendor's is known to keep message threads.
    - all other keywords are those of `HttpOptions`.

    A session's `provider_config`, all of it optional:

    - `max_tokens`: of the answer, 1 to 10,000,000; 4,096, for the vendor requires a number.
    - `temperature`, `top_p` (0 to 1), `top_k` (0 to 1,000,000): not sent unless set.
    - `stop`: a text or up to 64 texts of up to 1,000 characters that end the answer.
    - `prompt_caching`: True: the vendor keeps what the next turns begin with, at another price.
    - `conversation_metadata`: up to 16 texts by name (64 and 512 characters). `user_id` (up to 256)
      is sent as the request's `metadata.user_id`; all of it stays with the session and is what
      `get_provider_metadata()` returns.
    - `threads`: True: the vendor keeps the conversation for some minutes, and a turn sends only
      what is new (a beta). `provider_session_id` is the id of the thread's first answer then. Where
      a thread is gone or refused, the turn begins another one with the whole window.
    - `extra_body`: JSON merged into the request; it cannot replace what is set here.

    Raises ConfigurationError for a wrong keyword or value.
    """

    @hides_arguments
    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        anthropic_version: str = DEFAULT_VERSION,
        auth: Literal["x-api-key", "bearer"] = "x-api-key",
        betas: Sequence[str] = (),
        allow_threads: bool = False,
        name: str = NAME,
        **http: Any,
    ) -> None:
        secret = _secret(api_key)
        _check_version(anthropic_version)
        if auth not in ("x-api-key", "bearer"):
            raise ConfigurationError(f"auth must be 'x-api-key' or 'bearer', not {shown(auth)}")
        url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or VENDOR_URL
        options = HttpOptions(base_url=url, **http)
        at_the_vendor = _is_vendors(options.base_url)
        if secret is None and at_the_vendor:
            raise ConfigurationError(
                "the provider 'anthropic' needs a key: pass it, or set ANTHROPIC_API_KEY"
            )
        self._name = name
        self._version = anthropic_version
        self._betas = _checked_betas(betas)
        self._may_thread = allow_threads or at_the_vendor
        # Models for which the vendor said that it keeps no threads.
        self._unthreaded: set[str] = set()
        self._path = "/messages" if options.base_url.rstrip("/").endswith("/v1") else "/v1/messages"
        self._http = HttpService(
            provider=name,
            options=options,
            auth=partial(_auth, secret, auth),
            read_error=partial(read_error, name=name),
            secrets=() if secret is None else (secret,),
        )

    # ------------------------------------------------------------ turns

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        """Answer one turn; see the class."""
        options, left_out = self._options(request.config)
        field = self._thread_field(request, options)
        while True:
            call = self._call(request, options, field)
            has_begun = False
            try:
                async with aclosing(ask(self._http, call, self._reader)) as events:
                    async for event in events:
                        has_begun = True
                        yield self._told(event, request, field, left_out)
                return
            except ThreadError as error:
                if has_begun or field is None:
                    raise
                field = self._next_field(field, error, request.model)

    def _reader(self) -> MessageReader:
        return MessageReader(self._name)

    def _told(
        self,
        event: ProviderEvent,
        request: ProviderRequest,
        field: Mapping[str, str] | None,
        left_out: list[str],
    ) -> ProviderEvent:
        if not isinstance(event, Completed):
            return event
        name = name_after(field, request.provider_session_id, request.session_id, event)
        metadata = dict(event.metadata)
        if left_out:
            metadata["left_out"] = left_out
        return attrs.evolve(event, provider_session_id=name, metadata=metadata)

    def _thread_field(self, request: ProviderRequest, options: Options) -> Mapping[str, str] | None:
        threads = options.threads and self._may_thread and not request.is_single
        if not threads or request.model in self._unthreaded:
            return None
        return field_for(request.provider_session_id, request.messages)

    def _next_field(
        self, field: Mapping[str, str], error: ThreadError, model: str
    ) -> Mapping[str, str] | None:
        """How to ask again after a thread was refused. Raises the error where there is no way."""
        if error.reason == UNSUPPORTED:
            if len(self._unthreaded) < MAX_UNTHREADED_MODELS:
                self._unthreaded.add(model)
            return None
        if field is CREATE or error.reason not in BEGIN_AGAIN:
            raise error
        return CREATE

    def _call(
        self, request: ProviderRequest, options: Options, field: Mapping[str, str] | None
    ) -> HttpCall:
        body = message_body(request.model, request.messages, options, field)
        said = sum(len(each.content) for each in request.messages)
        return HttpCall(
            method="POST",
            path=self._path,
            body=body,
            headers=self._headers(threads=field is not None),
            tokens=said // _CHARACTERS_PER_TOKEN + options.max_tokens,
        )

    def _headers(self, *, threads: bool = False) -> dict[str, str]:
        headers = {"anthropic-version": self._version}
        betas = self._betas
        if threads and BETA not in betas:
            betas = (*betas, BETA)
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        return headers

    def _options(self, config: Mapping[str, Any]) -> tuple[Options, list[str]]:
        try:
            return options_of(config, version=self._version)
        except ConfigurationError as error:
            raise ProviderError(str(error), code="invalid_request", provider=self._name) from error

    # ------------------------------------------------------------ all else

    async def count_tokens(
        self,
        model: str,
        messages: Iterable[Spoken],
        config: Mapping[str, Any] | None = None,
    ) -> int:
        """How many input tokens these messages are, as the vendor counts them.

        `messages` have a `role` and a `content`: those of `session.get_messages()` do. As in a
        prompt, blank ones, questions of failed turns, and answers before the first question do not
        count. `config` is a provider_config; of its `extra_body`, tools and thinking count.

        Raises ProviderError; of code `invalid_request` where there is nothing to count.
        """
        options, _ = self._options(config or {})
        shown = [
            PromptMessage(role=Role(each.role), content=each.content)
            for each in messages
            if each.content.strip() and getattr(each, "finish_reason", None) != "failed"
        ]
        body = count_body(model, shown, options)
        if not body["messages"]:
            raise ProviderError(
                "there is no message of the user, so there is nothing to count",
                code="invalid_request",
                provider=self._name,
            )
        call = HttpCall(
            method="POST", path=self._path + "/count_tokens", body=body, headers=self._headers()
        )
        answer = await self._http.fetch(call)
        counted = count_of(mapping(answer.body).get("input_tokens"))
        if counted is None:
            raise malformed(self._name, "no count of tokens")
        return counted

    def holds_conversation(self, config: Mapping[str, Any]) -> bool:
        """Whether the turns of a session with this config add up to a message thread."""
        return self._may_thread and config.get("threads") is True

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse a provider_config that cannot be right: ConfigurationError."""
        check_options(config, version=self._version, may_thread=self._may_thread)

    async def read_metadata(
        self, provider_session_id: str | None, config: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The session's `conversation_metadata`, kept here: the vendor keeps none."""
        del provider_session_id
        return dict(self._options(config)[0].conversation_metadata)

    def session_view(self, settings: ProviderSettings) -> AnthropicProviderSession:
        """The controls of one session."""
        return AnthropicProviderSession(
            settings,
            version=self._version,
            may_thread=self._may_thread,
            count=self.count_tokens,
        )

    async def aclose(self) -> None:
        """Close the connections; more turns may follow."""
        await self._http.aclose()


def _secret(api_key: str | None) -> Secret | None:
    if api_key is not None:
        return Secret(api_key) if api_key else None
    if os.environ.get("ANTHROPIC_API_KEY"):
        return Secret(os.environ["ANTHROPIC_API_KEY"], "ANTHROPIC_API_KEY")
    return None


def _check_version(version: object) -> None:
    if not isinstance(version, str) or not _DATE.fullmatch(version):
        raise ConfigurationError(
            f"anthropic_version must be a date such as {DEFAULT_VERSION!r}, not {shown(version)}"
        )


def _checked_betas(betas: Iterable[object]) -> tuple[str, ...]:
    given = (betas,) if isinstance(betas, str) else tuple(betas)
    if len(given) > MAX_BETAS:
        raise ConfigurationError(f"betas has more than {MAX_BETAS} names")
    return tuple(map(_beta, given))


def _beta(name: object) -> str:
    if not isinstance(name, str) or not _BETA_NAME.fullmatch(name):
        raise ConfigurationError(f"betas must be names of features, not {shown(name)}")
    return name


def _is_vendors(url: str) -> bool:
    from urllib.parse import urlsplit  # noqa: PLC0415 - once per provider

    return urlsplit(url).hostname == urlsplit(VENDOR_URL).hostname


def _auth(secret: Secret | None, how: str) -> Mapping[str, str]:
    if secret is None:
        return {}
    if how == "bearer":
        return {"authorization": f"Bearer {secret.reveal()}"}
    return {"x-api-key": secret.reveal()}
