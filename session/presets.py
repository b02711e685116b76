"""The presets of `SessionManager`: what `preset="development"` and `preset="production"` switch on.

Each piece is one row of a table: what the preset promises, under which name it can be looked at
(`manager.preset.metrics`), and its value. An argument that is given wins over the preset's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import attrs
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.factory import KEY_VARIABLES
from langswarm.core.session.hooks import (
    AlertHook,
    ErrorLogHook,
    ErrorTrackingHook,
    MetricsHook,
    SlowTurnHook,
    log_alert,
)
from langswarm.core.session.middleware import LoggingMiddleware, RateLimitMiddleware
from langswarm.core.session.runtime.config import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from langswarm.core.session.actors.ports import ISessionStorage
    from langswarm.core.session.hooks import Alert
    from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware

__all__ = ["PRESETS", "Arguments", "Piece", "Preset", "arguments_of"]


@attrs.frozen
class Piece:
    """One thing that a preset switches on."""

    feature: str
    """What the preset promises, in words."""
    name: str
    """A keyword of `SessionManager`, or the field of `Preset` that has the guest."""
    value: Any = None
    """Of the keyword; of a guest, its class."""
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What the guest is made with."""

    def __str__(self) -> str:
        """The value as code."""
        if isinstance(self.value, type):
            options = ", ".join(
                f"{name}={_shown(name, self.options[name])}" for name in self.options
            )
            return f"{self.value.__name__}({options})"
        return repr(self.value)


def _shown(name: str, value: Any) -> str:
    levels = logging.getLevelNamesMapping()
    shown = {level: f"logging.{level_name}" for level_name, level in levels.items()}
    return shown[value] if name == "level" else repr(value)


PRESETS: Final[Mapping[str, tuple[Piece, ...]]] = {
    "development": (
        Piece("In-memory storage", "storage", "memory"),
        Piece("Mock provider", "providers", ("mock",)),
        Piece(
            "Debug logging",
            "message_log",
            LoggingMiddleware,
            {"level": logging.DEBUG, "contents": True},
        ),
        Piece("Debug logging", "event_previews", value=True),
        Piece("Detailed error messages", "error_log", ErrorLogHook, {"details": True}),
        Piece("No rate limiting", "rate_limit", None),
    ),
    "production": (
        Piece("SQLite storage with connection pooling", "storage", "sqlite"),
        Piece(
            "SQLite storage with connection pooling",
            "storage_config",
            {"pool_size": 2, "lock_wait_seconds": 30.0},
        ),
        Piece("Real providers", "providers", tuple(KEY_VARIABLES)),
        Piece(
            "Automatic session cleanup",
            "cleanup_config",
            {"archive_after_days": 30, "delete_after_days": 90, "cleanup_interval_hours": 24},
        ),
        Piece("Error tracking and alerts", "error_tracking", ErrorTrackingHook, {"keep": 100}),
        Piece(
            "Error tracking and alerts",
            "alerts",
            AlertHook,
            {"window_seconds": 300.0, "alerts_per_minute": 10},
        ),
        Piece("Performance monitoring", "metrics", MetricsHook, {"max_names": 100}),
        Piece("Performance monitoring", "slow_turns", SlowTurnHook, {"seconds": 30.0, "keep": 100}),
        Piece(
            "Rate limiting protection",
            "rate_limit",
            RateLimitMiddleware,
            {"user_messages_per_minute": 60.0, "user_burst": 20},
        ),
    ),
}
"""What each preset switches on, in the order of its promises."""


@attrs.frozen(kw_only=True)
class Preset:
    """The guests that a preset has added, to be looked at: `manager.preset.metrics.snapshot()`.

    Where `middleware` or `hooks` of the caller has one of the same class, that one is meant and
    none is added. None: not part of this preset.
    """

    name: str
    message_log: LoggingMiddleware | None = None
    rate_limit: RateLimitMiddleware | None = None
    error_log: ErrorLogHook | None = None
    error_tracking: ErrorTrackingHook | None = None
    alerts: AlertHook | None = None
    metrics: MetricsHook | None = None
    slow_turns: SlowTurnHook | None = None


@attrs.frozen(kw_only=True)
class Arguments:
    """What a manager is made with once its preset has filled in what was not given."""

    preset: Preset
    storage: str | ISessionStorage
    storage_config: Mapping[str, Any] | None
    providers: Mapping[str, Any] | None
    cleanup_config: Mapping[str, Any] | None
    event_previews: bool
    middleware: tuple[ISessionMiddleware, ...]
    hooks: tuple[ISessionLifecycleHook, ...]


def arguments_of(
    preset: str,
    *,
    storage: str | ISessionStorage | None,
    storage_config: Mapping[str, Any] | None,
    providers: Mapping[str, Any] | None,
    cleanup_config: Mapping[str, Any] | None,
    event_previews: bool | None,
    middleware: Iterable[ISessionMiddleware],
    hooks: Iterable[ISessionLifecycleHook],
    on_alert: Callable[[Alert], Awaitable[None] | None] | None,
) -> Arguments:
    """The arguments of a manager with a preset.

    None stands for what was not given. A `storage_config` is completed key by key, if the storage
    is the preset's; everything else that is given replaces what the preset has.

    Raises ConfigurationError for an unknown preset, and for `on_alert` where there are no alerts.
    """
    refuse_unknown([preset], PRESETS, "the session manager's preset")
    pieces = PRESETS[preset]
    values = {piece.name: piece.value for piece in pieces if not isinstance(piece.value, type)}
    own_middleware, own_hooks = tuple(middleware), tuple(hooks)
    guests = _guests(pieces, (*own_middleware, *own_hooks), on_alert)
    rate_limit, message_log = guests.get("rate_limit"), guests.get("message_log")
    before = () if rate_limit is None or rate_limit in own_middleware else (rate_limit,)
    behind = () if message_log is None or message_log in own_middleware else (message_log,)
    kept: str | ISessionStorage = values["storage"] if storage is None else storage
    if kept == values["storage"]:
        storage_config = {**values.get("storage_config", {}), **(storage_config or {})} or None
    return Arguments(
        preset=Preset(name=preset, **guests),
        storage=kept,
        storage_config=storage_config,
        providers={} if providers is None and preset == "development" else providers,
        cleanup_config=values.get("cleanup_config") if cleanup_config is None else cleanup_config,
        event_previews=bool(values.get("event_previews"))
        if event_previews is None
        else event_previews,
        # what is refused costs nothing; the log sees what is stored
        middleware=(*before, *own_middleware, *behind),
        hooks=(*(guest for guest in guests.values() if _is_added(guest, own_hooks)), *own_hooks),
    )


def _guests(
    pieces: Iterable[Piece],
    own: tuple[object, ...],
    on_alert: Callable[[Alert], Awaitable[None] | None] | None,
) -> dict[str, Any]:
    guests: dict[str, Any] = {}
    for piece in pieces:
        if isinstance(piece.value, type):
            given = [guest for guest in own if isinstance(guest, piece.value)]
            if given:
                guests[piece.name] = given[0]
            elif piece.value is AlertHook:
                guests[piece.name] = AlertHook(on_alert or log_alert, **piece.options)
                on_alert = None
            else:
                guests[piece.name] = piece.value(**piece.options)
    if on_alert is not None:
        raise ConfigurationError(
            "on_alert goes with the alerts of preset='production'; elsewhere, or to set more of "
            "them, add an AlertHook(on_alert, ...) to hooks"
        )
    return guests


def _is_added(guest: object, own: tuple[object, ...]) -> bool:
    is_hook = not isinstance(guest, (LoggingMiddleware, RateLimitMiddleware))
    return is_hook and guest not in own
