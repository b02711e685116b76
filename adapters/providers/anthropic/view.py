"""What `session.provider_session` is in a session with Anthropic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..checks import update_settings
from .options import MADE_WITH, NAME, TABLE, check_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from ....actors.ports import ProviderSettings


class Spoken(Protocol):
    """A message of a history: of `session.get_messages()`, or of a provider's request."""

    @property
    def role(self) -> Any:
        """Who said it: "user", "assistant" or "system"."""
        ...

    @property
    def content(self) -> str:
        """Its text."""
        ...


class AnthropicProviderSession:
    """Changes the options of one session, and counts tokens.

    `AnthropicProvider.session_view` makes it.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        *,
        version: str,
        may_thread: bool,
        count: Callable[[str, Iterable[Spoken]], Awaitable[int]],
    ) -> None:
        self._settings = settings
        self._version = version
        self._may_thread = may_thread
        self._count = count

    def update_provider_config(self, changes: Mapping[str, Any]) -> None:
        """Set options from the next turn on; they go before the session's `provider_config`.

        The keys are those of `provider_config` but `conversation_metadata`; None leaves an option
        to its default. Kept with the session. Raises ConfigurationError for a wrong key or value,
        and nothing is set then.
        """
        check_options(changes, version=self._version, may_thread=self._may_thread)
        update_settings(self._settings, changes, TABLE, NAME, MADE_WITH)

    async def count_tokens(self, model: str, messages: Iterable[Spoken]) -> int:
        """How many input tokens these messages are, as the vendor counts them.

        `await session.provider_session.count_tokens(session.model, await session.get_messages())`.
        As in a prompt, blank messages, questions of failed turns, and answers before the first
        question do not count. Raises ProviderError.
        """
        return await self._count(model, messages)
