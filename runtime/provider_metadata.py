"""What a provider tells of a session's conversation when it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors.answer import describe
from ..actors.errors import ConfigurationError, ProviderError, SessionError
from ..actors.values import decode_object, encode_object

if TYPE_CHECKING:
    from ..actors.model import StoredSession
    from .host import Host


async def read_provider_metadata(host: Host, state: StoredSession) -> dict[str, Any]:
    """Ask it. The values are checked and copied: a provider is a guest."""
    record, documents = state.record, state.documents
    provider = host.providers.get(record.provider)
    if provider is None:
        known = ", ".join(sorted(host.providers))
        raise ConfigurationError(f"no provider {record.provider!r}; this manager has {known}")
    config = decode_object(documents.provider_config)
    config.update(decode_object(documents.provider_settings))
    try:
        found = await provider.read_metadata(record.provider_session_id, config)
        text = encode_object(
            dict(found), "the provider's metadata", max_bytes=host.limits.max_metadata_bytes
        )
    except SessionError:
        raise
    except Exception as error:
        text = f"the provider {record.provider!r} failed: {describe(error)}"
        raise ProviderError(text, code="internal", provider=record.provider) from error
    return decode_object(text)
