"""What `session.provider_session` is in a session of OpenAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.errors import ConfigurationError
from ..checks import RUNTIME_KEYS, checked_config
from .config import MADE_WITH, NAME, TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....actors.ports import ProviderSettings


class OpenAIProviderSession:
    """Changes the options of a session's next turns.

    What is set goes before the session's `provider_config`, survives eviction, and is saved with
    the session's next write. `OpenAIProvider.session_view` makes it.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def update_provider_config(self, changes: Mapping[str, Any]) -> None:
        """Set `temperature` (0 to 2), `top_p` (0 to 1), `max_tokens` or `extra_body`.

        They hold from the session's next turn on; None leaves the option to the vendor. All are
        checked before any is set. Raises ConfigurationError for a wrong name or value, and for
        `thread_metadata`, `assistant_id` and `state`: a conversation is made with them.
        """
        for name in changes:
            if name in MADE_WITH or name in RUNTIME_KEYS:
                raise ConfigurationError(
                    f"{name!r} cannot be changed: the session was made with it; "
                    "create a session with another provider_config"
                )
        checked = checked_config(changes, TABLE, NAME)
        for name in changes:
            if name in TABLE:
                self._settings.set(name, checked.get(name))
