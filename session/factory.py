"""The composition root: puts runtime, storages and providers together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.errors import ConfigurationError, hides_arguments
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.ports import IProvider, ISessionStorage
from langswarm.core.session.adapters.providers.mock import MockProvider
from langswarm.core.session.runtime.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anyio.abc import TaskGroup
    from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware


class SessionManager(Manager):
    """All sessions of one storage, on one event loop at a time.

    Use it as `async with manager:`, which opens the storage at once and closes everything at the
    end, or just use it: the first awaited call starts it, and `aclose()` ends it.

    Args:
        storage: "memory" (the default: nothing outlives the process), "sqlite", a name that was
            registered with `StorageFactory`, or a storage object.
        storage_config: keywords for the storage, where it is given by name.
        providers: what sessions are answered by, under the name that they ask for: for "openai",
            "openai_chat" and "anthropic" a key, None for the key in the environment, or a mapping
            {"api_key": ..., "base_url": ..., "timeout": ...}; under any name a provider object, or
            what a factory of `register_provider` takes. "mock" is always there.
        middleware: see every user message and every answer, in this order.
        hooks: are told what happened, in this order.
        event_previews: put the beginning of messages into events; off, since events travel.
        task_group: run the runtime in this group instead of in the background of the event loop;
            call `aclose()` before leaving the group, which waits for it.
        limits: every other keyword is a field of `Limits`, which has the table.

    Raises:
        ConfigurationError: an unknown name, keyword or value; it names the nearest valid one.
    """

    @hides_arguments
    def __init__(
        self,
        storage: str | ISessionStorage = "memory",
        *,
        storage_config: Mapping[str, Any] | None = None,
        providers: Mapping[str, Any] | None = None,
        middleware: Iterable[ISessionMiddleware] = (),
        hooks: Iterable[ISessionLifecycleHook] = (),
        event_previews: bool = False,
        task_group: TaskGroup | None = None,
        **limits: float,
    ) -> None:
        super().__init__(
            storage=_storage(storage, storage_config),
            providers=_providers(providers or {}),
            limits=_limits(limits),
            middleware=middleware,
            hooks=hooks,
            event_previews=event_previews,
            task_group=task_group,
        )


@hides_arguments
def create_session_manager(
    storage: str | ISessionStorage = "memory",
    *,
    storage_config: Mapping[str, Any] | None = None,
    providers: Mapping[str, Any] | None = None,
    middleware: Iterable[ISessionMiddleware] = (),
    hooks: Iterable[ISessionLifecycleHook] = (),
    event_previews: bool = False,
    task_group: TaskGroup | None = None,
    **limits: float,
) -> SessionManager:
    """A session manager; the arguments and errors are those of `SessionManager`."""
    return SessionManager(
        storage,
        storage_config=storage_config,
        providers=providers,
        middleware=middleware,
        hooks=hooks,
        event_previews=event_previews,
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

        refuse_unknown(given, [*known, "storage", "providers"], "the session manager")
    return Limits(**given)  # type: ignore[arg-type]


for _public in (SessionManager, create_session_manager):
    _public.__module__ = "langswarm.core.session"
