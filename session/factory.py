"""The composition root: puts runtime, storages and providers together."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
from langswarm.core.session.actors.errors import ConfigurationError, hides_arguments
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.ports import IProvider, ISessionStorage
from langswarm.core.session.adapters.providers.mock import MockProvider
from langswarm.core.session.runtime.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from anyio.abc import TaskGroup
    from langswarm.core.session.hooks import Alert
    from langswarm.core.session.presets import Preset
    from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware


_ARGUMENTS = (
    "cleanup_config",
    "event_previews",
    "hooks",
    "middleware",
    "on_alert",
    "preset",
    "providers",
    "storage",
    "storage_config",
    "task_group",
)


logger = logging.getLogger("langswarm.core.session")

KEY_VARIABLES: Final = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The providers that a manager makes if `providers` is not given, and what must be set for it."""


class SessionManager(Manager):
    """All sessions of one storage, on one event loop at a time.

    Use it as `async with manager:`, which opens the storage at once and closes everything at the
    end, or just use it: the first awaited call starts it, and `aclose()` ends it.

    Args:
        storage: "memory" (the default: nothing outlives the process), "sqlite", a name that was
            registered with `StorageFactory`, or a storage object.
        preset: "development" or "production": defaults for the other arguments, and guests, as
            `langswarm.core.session.presets` lists them. What is given wins.
        storage_config: keywords for the storage, where it is given by name.
        providers: what sessions are answered by, under the name that they ask for: for "openai",
            "openai_chat" and "anthropic" a key, None for the key in the environment, or a mapping
            {"api_key": ..., "base_url": ..., "timeout": ...}; under any name a provider object, or
            what a factory of `register_provider` takes. "mock" is always there. None: "openai" and
            "anthropic" as well, where OPENAI_API_KEY or ANTHROPIC_API_KEY is set.
        cleanup_config: what is archived and deleted by itself, and when: archive_after_days,
            delete_after_days, max_messages_per_session, cleanup_interval_hours (24). None: nothing,
            until a session has an `auto_archive_after` of its own.
        middleware: see every user message and every answer, in this order.
        hooks: are told what happened, in this order.
        event_previews: put the beginning of messages into events; default: off, since events
            travel, but on with preset="development".
        on_alert: with preset="production", what is called for its alerts instead of the log; see
            `AlertHook`.
        task_group: run the runtime in this group instead of in the background of the event loop;
            call `aclose()` before leaving the group, which waits for it.
        limits: every other keyword is a field of `Limits`, which has the table.

    Raises:
        ConfigurationError: an unknown name, keyword or value; it names the nearest valid one.
    """

    @hides_arguments
    def __init__(
        self,
        storage: str | ISessionStorage | None = None,
        *,
        preset: str | None = None,
        storage_config: Mapping[str, Any] | None = None,
        providers: Mapping[str, Any] | None = None,
        cleanup_config: Mapping[str, Any] | None = None,
        middleware: Iterable[ISessionMiddleware] = (),
        hooks: Iterable[ISessionLifecycleHook] = (),
        event_previews: bool | None = None,
        on_alert: Callable[[Alert], Awaitable[None] | None] | None = None,
        task_group: TaskGroup | None = None,
        **limits: float,
    ) -> None:
        self._preset: Preset | None = None
        if preset is not None:
            from langswarm.core.session.presets import arguments_of  # noqa: PLC0415 - not for all

            filled = arguments_of(
                preset,
                storage=storage,
                storage_config=storage_config,
                providers=providers,
                cleanup_config=cleanup_config,
                event_previews=event_previews,
                middleware=middleware,
                hooks=hooks,
                on_alert=on_alert,
            )
            self._preset = filled.preset
            storage, storage_config = filled.storage, filled.storage_config
            providers, event_previews = filled.providers, filled.event_previews
            middleware, hooks = filled.middleware, filled.hooks
            cleanup_config = filled.cleanup_config
        elif on_alert is not None:
            raise ConfigurationError("on_alert needs preset='production'; or add an AlertHook")
        super().__init__(
            storage=_storage("memory" if storage is None else storage, storage_config),
            providers=_vendors() if providers is None else _providers(providers),
            limits=_limits(limits),
            middleware=middleware,
            hooks=hooks,
            cleanup_config=cleanup_config,
            event_previews=bool(event_previews),
            task_group=task_group,
        )

    @property
    def preset(self) -> Preset | None:
        """What the preset has added, to be looked at; None: this manager has no preset."""
        return self._preset

    @classmethod
    @hides_arguments
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """A manager as the variables LANGSWARM_SESSION_... say; docs/reference/configuration.md.

        Args:
            environ: the variables; default: those of the process.
            given: arguments of `SessionManager`, which win. A `storage_config` is completed key by
                key, unless `storage` is given, too.

        Raises:
            ConfigurationError: an unknown variable, with the nearest name, or a wrong value.
        """
        from langswarm.core.session.environment import (  # noqa: PLC0415 - not for all
            settings_from_environment,
            with_given,
        )

        return cls(**with_given(settings_from_environment(environ), given))

    @classmethod
    @hides_arguments
    def from_mapping(cls, mapping: Mapping[str, Any], **given: Any) -> Self:
        """A manager as a mapping says, a parsed TOML or JSON file for example.

        Its keys are the arguments of `SessionManager`; numbers and switches may be texts. `given`
        is as in `from_environment`.

        Raises:
            ConfigurationError: an unknown key, with the nearest name, or a wrong value.
        """
        from langswarm.core.session.environment import (  # noqa: PLC0415 - not for all
            settings_from_mapping,
            with_given,
        )

        return cls(**with_given(settings_from_mapping(mapping), given))


@hides_arguments
def create_session_manager(
    storage: str | ISessionStorage | None = None,
    *,
    preset: str | None = None,
    storage_config: Mapping[str, Any] | None = None,
    providers: Mapping[str, Any] | None = None,
    cleanup_config: Mapping[str, Any] | None = None,
    middleware: Iterable[ISessionMiddleware] = (),
    hooks: Iterable[ISessionLifecycleHook] = (),
    event_previews: bool | None = None,
    on_alert: Callable[[Alert], Awaitable[None] | None] | None = None,
    task_group: TaskGroup | None = None,
    **limits: float,
) -> SessionManager:
    """A session manager; the arguments and errors are those of `SessionManager`."""
    return SessionManager(
        storage,
        preset=preset,
        storage_config=storage_config,
        providers=providers,
        cleanup_config=cleanup_config,
        middleware=middleware,
        hooks=hooks,
        event_previews=event_previews,
        on_alert=on_alert,
        task_group=task_group,
        **limits,
    )


def _storage(storage: str | ISessionStorage, config: Mapping[str, Any] | None) -> ISessionStorage:
    if isinstance(storage, str):
        from langswarm.core.session.storage import StorageFactory  # noqa: PLC0415 - see below

        return StorageFactory.create(storage, config)
    if not isinstance(storage, ISessionStorage):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"storage must be a name or an ISessionStorage, not {storage!r}")
    if config:
        raise ConfigurationError("storage_config goes with a storage's name, not with an object")
    return storage


def vendors_with_keys(environ: Mapping[str, str]) -> list[str]:
    """The vendors whose key is there, as names for `providers=`."""
    return [name for name, variable in KEY_VARIABLES.items() if environ.get(variable, "").strip()]


def _vendors() -> dict[str, IProvider]:
    """Nobody has asked for these yet, so one that cannot be made harms nobody else."""
    made: dict[str, IProvider] = {}
    for name in vendors_with_keys(os.environ):
        try:
            made |= _providers({name: None})
        except ConfigurationError as error:
            logger.warning("there is a key for %r, but no provider: %s", name, error)
    return made or _providers({})


def _providers(given: Mapping[str, Any]) -> dict[str, IProvider]:
    providers: dict[str, IProvider] = {}
    for name, value in given.items():
        if isinstance(value, IProvider):
            providers[name] = value
        else:
            from langswarm.core.session.providers import build_provider  # noqa: PLC0415 - rare

            providers[name] = build_provider(name, value)
    providers.setdefault("mock", MockProvider())
    return providers


def _limits(given: dict[str, float]) -> Limits:
    known = [field.name for field in attrs.fields(Limits)]
    if set(given) - set(known):
        from langswarm.core.session.runtime.config import refuse_unknown  # noqa: PLC0415 - rare

        refuse_unknown(given, [*known, *_ARGUMENTS], "the session manager")
    return Limits(**given)  # type: ignore[arg-type]


for _public in (SessionManager, create_session_manager):
    _public.__module__ = "langswarm.core.session"
