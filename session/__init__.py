"""Sessions for LLM conversations: one turn at a time, in order, durable when acknowledged.

`create_session_manager()` is the way in. Names load what they need when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langswarm.core.session.actors.limits import Limits
    from langswarm.core.session.errors import (
        CapacityError,
        ConfigurationError,
        InvalidMessageError,
        MailboxFullError,
        MessageRefused,
        MiddlewareError,
        ProviderError,
        RuntimeClosedError,
        SessionArchivedError,
        SessionError,
        SessionExistsError,
        SessionNotFoundError,
        StorageError,
    )
    from langswarm.core.session.factory import SessionManager, create_session_manager
    from langswarm.core.session.interfaces import (
        ISession,
        ISessionLifecycleHook,
        ISessionMiddleware,
        ISessionStorage,
        Role,
        SessionContext,
        SessionEvent,
        SessionMessage,
        SessionMetrics,
        SessionStatus,
        Ticket,
    )
    from langswarm.core.session.providers import (
        AnthropicProviderSession,
        IProvider,
        MockProvider,
        MockProviderSession,
        OpenAIProviderSession,
    )
    from langswarm.core.session.runtime.session import Session
    from langswarm.core.session.storage import (
        InMemorySessionStorage,
        SQLiteSessionStorage,
        StorageFactory,
    )

_HOME = {
    "Limits": "actors.limits",
    "CapacityError": "errors",
    "ConfigurationError": "errors",
    "InvalidMessageError": "errors",
    "MailboxFullError": "errors",
    "MessageRefused": "errors",
    "MiddlewareError": "errors",
    "ProviderError": "errors",
    "RuntimeClosedError": "errors",
    "SessionArchivedError": "errors",
    "SessionError": "errors",
    "SessionExistsError": "errors",
    "SessionNotFoundError": "errors",
    "StorageError": "errors",
    "SessionManager": "factory",
    "create_session_manager": "factory",
    "ISession": "interfaces",
    "ISessionLifecycleHook": "interfaces",
    "ISessionMiddleware": "interfaces",
    "ISessionStorage": "interfaces",
    "Role": "interfaces",
    "SessionContext": "interfaces",
    "SessionEvent": "interfaces",
    "SessionMessage": "interfaces",
    "SessionMetrics": "interfaces",
    "SessionStatus": "interfaces",
    "Ticket": "interfaces",
    "AnthropicProviderSession": "providers",
    "IProvider": "providers",
    "MockProvider": "providers",
    "MockProviderSession": "providers",
    "OpenAIProviderSession": "providers",
    "Session": "runtime.session",
    "InMemorySessionStorage": "storage",
    "SQLiteSessionStorage": "storage",
    "StorageFactory": "storage",
}

__all__ = [
    "AnthropicProviderSession",
    "CapacityError",
    "ConfigurationError",
    "IProvider",
    "ISession",
    "ISessionLifecycleHook",
    "ISessionMiddleware",
    "ISessionStorage",
    "InMemorySessionStorage",
    "InvalidMessageError",
    "Limits",
    "MailboxFullError",
    "MessageRefused",
    "MiddlewareError",
    "MockProvider",
    "MockProviderSession",
    "OpenAIProviderSession",
    "ProviderError",
    "Role",
    "RuntimeClosedError",
    "SQLiteSessionStorage",
    "Session",
    "SessionArchivedError",
    "SessionContext",
    "SessionError",
    "SessionEvent",
    "SessionExistsError",
    "SessionManager",
    "SessionMessage",
    "SessionMetrics",
    "SessionNotFoundError",
    "SessionStatus",
    "StorageError",
    "StorageFactory",
    "Ticket",
    "create_session_manager",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
