"""The storages, by class and by name. SQLite's driver is loaded when a SQLite storage is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.actors.ports import ISessionStorage
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping

    from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage

__all__ = ["ISessionStorage", "InMemorySessionStorage", "SQLiteSessionStorage", "StorageFactory"]


def _sqlite() -> type[ISessionStorage]:
    from langswarm.core.session.adapters.storage.sqlite import (  # noqa: PLC0415 - see above
        SQLiteSessionStorage,
    )

    return SQLiteSessionStorage


def __getattr__(name: str) -> Any:
    if name == "SQLiteSessionStorage":
        return _sqlite()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _memory() -> type[ISessionStorage]:
    return InMemorySessionStorage


class StorageFactory:
    """Storages by name: "memory", "sqlite", and what is registered."""

    _backends: ClassVar[dict[str, Callable[[], Callable[..., ISessionStorage]]]] = {
        "memory": _memory,
        "sqlite": _sqlite,
    }

    @classmethod
    def create(cls, backend: str, config: Mapping[str, Any] | None = None) -> ISessionStorage:
        """A storage of that name, made with `config` as keywords.

        Raises ConfigurationError for an unknown name or keyword.
        """
        factory = cls._factory(backend)
        if config:
            known = cls.parameters(backend)
            if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
                from langswarm.core.session.runtime.config import (  # noqa: PLC0415 - rare
                    refuse_unknown,
                )

                refuse_unknown(config, known, f"storage_config of the storage {backend!r}")
        try:
            return factory(**(config or {}))
        except TypeError as error:
            keys = ", ".join(config or {})
            raise ConfigurationError(f"the storage {backend!r} refused {keys}: {error}") from None

    @classmethod
    def parameters(cls, backend: str) -> Mapping[str, inspect.Parameter]:
        """What `config` of that storage may hold.

        Raises ConfigurationError for an unknown name.
        """
        from inspect import signature  # noqa: PLC0415 - not for every program

        return signature(cls._factory(backend)).parameters

    @classmethod
    def _factory(cls, backend: str) -> Callable[..., ISessionStorage]:
        found = cls._backends.get(backend)
        if found is None:
            from difflib import get_close_matches  # noqa: PLC0415 - rare

            names = cls.list_backends()
            near = get_close_matches(str(backend), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
            raise ConfigurationError(
                f"no storage {backend!r}; {hint} Register another with "
                "StorageFactory.register_backend(name, factory)"
            )
        return found()

    @classmethod
    def register_backend(cls, name: str, factory: Callable[..., ISessionStorage]) -> None:
        """Offer `factory(**config)` under a name of your own, in this process.

        Raises ConfigurationError if the name is taken.
        """
        if name in cls._backends:
            raise ConfigurationError(f"there is a storage {name!r} already")
        cls._backends[name] = lambda: factory

    @classmethod
    def list_backends(cls) -> list[str]:
        """The names that `create` takes."""
        return sorted(cls._backends)
