"""How each public method is called with good arguments, for the matrix of bad ones.

A new public method needs a line in `CALLS`: a test compares it with the classes.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session import Session, SessionManager
from langswarm.core.session.interfaces import UserSessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES: dict[str, type[Any]] = {
    "SessionManager": SessionManager,
    "Session": Session,
    "UserSessions": UserSessions,
}


@attrs.frozen(kw_only=True)
class World:
    """Ada's sessions on one manager with Bob's, of whom she must learn nothing."""

    manager: SessionManager
    mine: Session
    foreign: Session
    folder: Path
    exported: dict[str, Any]
    """Ada's session, as it was exported."""

    def owner(self, name: str) -> object:
        """The object whose method is called."""
        owners = {
            "SessionManager": self.manager,
            "Session": self.mine,
            "UserSessions": self.manager.for_user("ada"),
        }
        return owners[name.partition(".")[0]]


def _nothing(world: World) -> dict[str, Any]:
    del world
    return {}


def _mine(world: World) -> list[str]:
    return [world.mine.session_id]


SEARCH: dict[str, Any] = {
    "tags": ["a"],
    "provider": "mock",
    "model": "m",
    "status": "active",
    "text": "Hello",
    "metadata": {"a": "b"},
    "cursor": None,
}

CALLS: dict[str, Callable[[World], dict[str, Any]]] = {
    "Session.add_message": lambda _: {
        "role": "user",
        "content": "Hello",
        "metadata": {"a": "b"},
        "idempotency_key": None,
    },
    "Session.archive": _nothing,
    "Session.clear_messages": _nothing,
    "Session.delete": _nothing,
    "Session.export_conversation": lambda _: {"format": "dict"},
    "Session.follow": lambda world: {"turn_id": f"{world.mine.session_id}/1", "after": None},
    "Session.fork": lambda _: {"at": None, "session_id": None},
    "Session.get_config": _nothing,
    "Session.get_context": _nothing,
    "Session.get_message": lambda world: {"message_id": f"{world.mine.session_id}/1"},
    "Session.get_messages": lambda _: {"role": "user", "metadata": {"a": "b"}},
    "Session.get_metrics": _nothing,
    "Session.get_provider_metadata": _nothing,
    "Session.inspect": _nothing,
    "Session.refresh": _nothing,
    "Session.regenerate": _nothing,
    "Session.reopen": _nothing,
    "Session.retry": _nothing,
    "Session.rewind": lambda _: {"to": 1},
    "Session.send_message": lambda _: {
        "content": "Hello",
        "metadata": {"a": "b"},
        "on_busy": "queue",
        "idempotency_key": None,
    },
    "Session.send_system_message": lambda _: {
        "content": "Rule",
        "metadata": {"a": "b"},
        "idempotency_key": None,
    },
    "Session.stop": lambda _: {"turn_id": None},
    "Session.stream_message": lambda _: {
        "content": "Hello",
        "metadata": {"a": "b"},
        "on_busy": "queue",
        "idempotency_key": None,
    },
    "Session.submit": lambda _: {
        "content": "Hello",
        "metadata": {"a": "b"},
        "on_busy": "queue",
        "idempotency_key": None,
    },
    "Session.update_config": lambda _: {"changes": {"name": "x"}},
    "Session.update_context": lambda _: {"changes": {"a": "b"}, "idempotency_key": None},
    "SessionManager.aclose": _nothing,
    "SessionManager.add_lifecycle_hook": lambda _: {"hook": object()},
    "SessionManager.archive_sessions": lambda world: {
        "session_ids": _mine(world),
        "user_id": "ada",
    },
    "SessionManager.backup": lambda world: {"path": str(world.folder / "backup.db")},
    "SessionManager.cleanup_archived_sessions": lambda _: {"days": 1},
    "SessionManager.cleanup_deleted_sessions": lambda _: {"days": 1},
    "SessionManager.cleanup_inactive_sessions": lambda _: {"days": 1},
    "SessionManager.create_session": lambda _: {
        "user_id": "ada",
        "provider": "mock",
        "model": "m",
        "session_config": {"name": "x"},
        "provider_config": {},
        "session_id": None,
        "idempotency_key": None,
    },
    "SessionManager.delete_sessions": lambda world: {
        "session_ids": _mine(world),
        "user_id": "ada",
    },
    "SessionManager.erase_user": lambda _: {"user_id": "ada"},
    "SessionManager.for_user": lambda _: {"user_id": "ada"},
    "SessionManager.get_analytics": lambda _: {"user_id": "ada"},
    "SessionManager.get_session": lambda world: {
        "session_id": world.mine.session_id,
        "user_id": "ada",
    },
    "SessionManager.get_user_sessions": lambda _: {
        "user_id": "ada",
        "status": "active",
        "cursor": None,
    },
    "SessionManager.health": _nothing,
    "SessionManager.from_environment": lambda _: {"environ": {}},
    "SessionManager.from_mapping": lambda _: {"mapping": {"storage": "memory"}},
    "SessionManager.import_conversation": lambda world: {
        "data": world.exported,
        "user_id": "ada",
        "session_id": None,
    },
    "SessionManager.inspect": _nothing,
    "SessionManager.optimize_storage": _nothing,
    "SessionManager.rotate_encryption_keys": _nothing,
    "SessionManager.search_sessions": lambda _: {"user_id": "ada", **SEARCH},
    "SessionManager.session_events": lambda world: {
        "types": ["message_sent"],
        "session_id": world.mine.session_id,
        "user_id": "ada",
    },
    "SessionManager.statistics": _nothing,
    "SessionManager.update_sessions": lambda world: {
        "session_ids": _mine(world),
        "changes": {"name": "x"},
        "user_id": "ada",
    },
    "SessionManager.verify_storage": _nothing,
    "UserSessions.archive_sessions": lambda world: {"session_ids": _mine(world)},
    "UserSessions.create_session": lambda _: {
        "provider": "mock",
        "model": "m",
        "session_config": {"name": "x"},
        "provider_config": {},
        "idempotency_key": None,
    },
    "UserSessions.delete_sessions": lambda world: {"session_ids": _mine(world)},
    "UserSessions.erase_user": _nothing,
    "UserSessions.get_analytics": _nothing,
    "UserSessions.get_session": lambda world: {"session_id": world.mine.session_id},
    "UserSessions.get_user_sessions": lambda _: {"status": "active", "cursor": None},
    "UserSessions.import_conversation": lambda _: {"data": "{}"},
    "UserSessions.search_sessions": lambda _: {**SEARCH},
    "UserSessions.session_events": lambda world: {
        "types": ["message_sent"],
        "session_id": world.mine.session_id,
    },
    "UserSessions.update_sessions": lambda world: {
        "session_ids": _mine(world),
        "changes": {"name": "x"},
    },
}
"""Every parameter that takes text is named, even where None is its default."""

NOT_CALLED = {
    "SessionManager.add_middleware": "takes an object, and would change every call that follows",
}


def public_methods() -> set[str]:
    """Class.method of all that users can call, by the classes themselves."""
    return {
        f"{name}.{method}"
        for name, cls in CLASSES.items()
        for method in dir(cls)
        if not method.startswith("_") and inspect.isroutine(getattr(cls, method))
    }


def text_parameters(name: str) -> list[str]:
    """The parameters of a method that take text, alone, in a list or in a mapping."""
    owner, _, method = name.partition(".")
    parameters = inspect.signature(getattr(CLASSES[owner], method)).parameters.values()
    return [
        each.name
        for each in parameters
        if each.kind is not inspect.Parameter.VAR_KEYWORD
        and any(word in str(each.annotation) for word in ("str", "Any]", "OnBusy", "PathLike"))
    ]
