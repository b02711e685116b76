"""OpenAI's provider: what it is made of, and which way a turn goes."""

from __future__ import annotations

import os
import warnings
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ....actors.errors import ConfigurationError, hides_arguments
from ....actors.ports import IProvider
from ....actors.values import shown
from ...http.options import HttpOptions
from ...http.secret import Secret, SecretTexts
from ...http.service import HttpService
from .answering import Answering
from .assistants import Threads, is_thread
from .config import NAME, check_options, options_of
from .conversations import Conversations
from .errors import read_error
from .session_view import OpenAIProviderSession

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from ....actors.ports import ProviderEvent, ProviderRequest, ProviderSettings
    from .config import Options

VENDOR_URL = "https://api.openai.com/v1"
_VENDOR_DOMAIN = "openai.com"
KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
MAX_NAME_CHARACTERS = 200

NO_ASSISTANTS = (
    "provider_config['assistant_id']: OpenAI shut the Assistants API down on 2026-08-26. The "
    "session uses the Conversations API, without the assistant: put its instructions into a system "
    "message and leave 'assistant_id' out, or name a base_url of your own that still has assistants"
)


class OpenAIProvider(IProvider):
    """Answers through OpenAI's Responses API, streamed.

    The vendor keeps each session's conversation (`session.provider_session_id` is `conv_...`): a
    turn sends the question alone. Where the conversation is gone, or does not match the history any
    more, a new one begins with the window. A turn whose answer was lost on the way is looked up in
    the conversation before it is sent again, in another one then.

    - `api_key`: None: OPENAI_API_KEY from the environment; "": no key is sent. Needed for the
      vendor's base_url.
    - `base_url`: None: OPENAI_BASE_URL, then `https://api.openai.com/v1`.
    - `organization`, `project`: ids that are sent with each request; None: none.
    - all other keywords are those of `HttpOptions`.

    A session's `provider_config`, all of it optional:

    - `temperature` (0 to 2), `top_p` (0 to 1), `max_tokens` (of the answer, those of reasoning
      included; 1 to 10,000,000): not sent unless set.
    - `thread_metadata`: up to 16 texts by name (64 and 512 characters), kept with the conversation;
      `get_provider_metadata()` reads them.
    - `state`: "native" (default), or "local": each turn sends the whole window, nothing is kept at
      the vendor (`store: false`), and there is no `provider_session_id`.
    - `assistant_id`: with a base_url of one's own, threads and runs of the Assistants API take the
      place of conversations and responses (`thread_...`). The vendor shut it down on 2026-08-26:
      with its own base_url a UserWarning says so, once, and conversations are used.
    - `extra_body`: JSON merged into each request for an answer; it cannot replace what is set here.

    Raises ConfigurationError for a wrong keyword or value.
    """

    keeps_conversations = True

    @hides_arguments
    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        **http: Any,
    ) -> None:
        secret = _secret(api_key)
        url = base_url or os.environ.get(URL_VARIABLE) or VENDOR_URL
        options = HttpOptions(base_url=url, **http)
        self._is_vendors = _is_vendors(options.base_url)
        if secret is None and self._is_vendors:
            raise ConfigurationError(
                f"the provider {NAME!r} needs a key: pass it, or set {KEY_VARIABLE}"
            )
        self._has_warned = False
        account = {
            "openai-organization": _checked_name("organization", organization),
            "openai-project": _checked_name("project", project),
        }
        named = SecretTexts({name: value for name, value in account.items() if value})
        self._http = HttpService(
            provider=NAME,
            options=options,
            auth=partial(_auth, secret, named),
            read_error=read_error,
            secrets=() if secret is None else (secret,),
        )
        self._conversations = Conversations(self._http)
        self._answering = Answering(self._http, self._conversations)
        self._threads = Threads(self._http)

    def __repr__(self) -> str:
        return "OpenAIProvider()"

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent]:
        """Answer one turn; see the class."""
        options = options_of(request.config)
        if self._uses_threads(options):
            events = self._threads.stream(request, options)
        elif options.state == "local" or request.is_single:
            events = self._answering.stream_local(request, options)
        else:
            events = self._answering.stream_native(request, options)
        async with aclosing(events) as closing:
            async for event in closing:
                yield event

    def holds_conversation(self, config: Mapping[str, Any]) -> bool:
        """Whether the vendor keeps the session's conversation."""
        return config.get("state") != "local"

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Refuse a provider_config that cannot be right: ConfigurationError."""
        options = check_options(config)
        if options.assistant_id is not None and self._is_vendors and not self._has_warned:
            self._has_warned = True
            warnings.warn(NO_ASSISTANTS, UserWarning, stacklevel=2)

    async def read_metadata(
        self, provider_session_id: str | None, config: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What the vendor knows of a session's conversation, or {} before there is one.

        `conversation_id` (or `thread_id`), `created_at` (seconds since 1970), and `metadata`: the
        session's `thread_metadata`, as the vendor has it. Raises ProviderError, of code `not_found`
        where the conversation is gone.
        """
        del config
        if provider_session_id is None:
            return {}
        kept = self._threads if is_thread(provider_session_id) else self._conversations
        found: Mapping[str, Any] = self._http.without_secrets(await kept.read(provider_session_id))
        return found

    def session_view(self, settings: ProviderSettings) -> OpenAIProviderSession:
        """The controls of one session."""
        return OpenAIProviderSession(settings)

    async def delete_conversation(self, provider_session_id: str) -> None:
        """Delete a conversation with all its items, or a thread; what is gone is deleted.

        The items go one by one; cut short, it has less to do the next time.
        """
        if is_thread(provider_session_id):
            await self._threads.delete(provider_session_id)
        else:
            await self._conversations.delete(provider_session_id)

    async def aclose(self) -> None:
        """Close the connections; more turns may follow."""
        await self._http.aclose()

    def _uses_threads(self, options: Options) -> bool:
        return options.assistant_id is not None and not self._is_vendors


def _secret(api_key: str | None) -> Secret | None:
    if api_key is not None:
        return Secret(api_key) if api_key else None
    if os.environ.get(KEY_VARIABLE):
        return Secret(os.environ[KEY_VARIABLE], KEY_VARIABLE)
    return None


def _is_vendors(url: str) -> bool:
    """Hosts of regions too."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host == _VENDOR_DOMAIN or host.endswith(f".{_VENDOR_DOMAIN}")


def _checked_name(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    wanted = f"a text of 1 to {MAX_NAME_CHARACTERS} printable ASCII characters"
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name} must be {wanted}")
    if not 1 <= len(value) <= MAX_NAME_CHARACTERS or not (value.isascii() and value.isprintable()):
        raise ConfigurationError(f"{name} must be {wanted}, not {shown(value)}")
    return value


def _auth(secret: Secret | None, account: Mapping[str, str]) -> Mapping[str, str]:
    if secret is None:
        return account
    return {**account, "authorization": f"Bearer {secret.reveal()}"}
