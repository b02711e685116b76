"""What `session.provider_session` is in a session with a Chat Completions server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..checks import update_settings
from .options import NAME, TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....actors.ports import ProviderSettings


class OpenAIChatProviderSession:
    """Changes the options of one session; `OpenAIChatProvider.session_view` makes it."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def update_provider_config(self, changes: Mapping[str, Any]) -> None:
        """Set options from the next turn on; they go before the session's `provider_config`.

        The keys are those of `provider_config`; None leaves an option to its default. Kept with the
        session. Raises ConfigurationError for a wrong key or value, and nothing is set then.
        """
        update_settings(self._settings, changes, TABLE, NAME)
