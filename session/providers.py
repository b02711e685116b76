"""The providers, by class and by name, and what one of your own implements.

A vendor's provider, and the HTTP client under it, is loaded when one is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from langswarm.core.session.actors.errors import ConfigurationError, hides_arguments
from langswarm.core.session.actors.model import PromptMessage
from langswarm.core.session.actors.ports import (
    Completed,
    ConversationStarted,
    IProvider,
    ProviderEvent,
    ProviderRequest,
    ProviderSettings,
    TextDelta,
    Usage,
)
from langswarm.core.session.adapters.providers.mock import (
    MockProvider,
    MockProviderSession,
    fault,
    hang,
    reply,
    truncate,
)

if TYPE_CHECKING:
    from langswarm.core.session.adapters.providers.anthropic import (
        AnthropicProvider,
        AnthropicProviderSession,
    )
    from langswarm.core.session.adapters.providers.native_mock import NativeMockProvider
    from langswarm.core.session.adapters.providers.openai import (
        OpenAIProvider,
        OpenAIProviderSession,
    )
    from langswarm.core.session.adapters.providers.openai_chat import (
        OpenAIChatProvider,
        OpenAIChatProviderSession,
    )
    from langswarm.core.session.adapters.providers.simple import SimpleProvider

__all__ = [
    "AnthropicProvider",
    "AnthropicProviderSession",
    "Completed",
    "ConversationStarted",
    "IProvider",
    "MockProvider",
    "MockProviderSession",
    "NativeMockProvider",
    "OpenAIChatProvider",
    "OpenAIChatProviderSession",
    "OpenAIProvider",
    "OpenAIProviderSession",
    "PromptMessage",
    "ProviderEvent",
    "ProviderFactory",
    "ProviderRequest",
    "ProviderSettings",
    "SimpleProvider",
    "TextDelta",
    "Usage",
    "build_provider",
    "fault",
    "hang",
    "list_providers",
    "register_provider",
    "reply",
    "truncate",
    "unregister_provider",
]

ProviderFactory = Callable[[Any], object]
"""Makes a provider of the value that stands under its name in `providers=`."""

_ADAPTERS = "langswarm.core.session.adapters"
_LAZY = {
    "AnthropicProvider": "providers.anthropic",
    "AnthropicProviderSession": "providers.anthropic",
    "NativeMockProvider": "providers.native_mock",
    "OpenAIChatProvider": "providers.openai_chat",
    "OpenAIChatProviderSession": "providers.openai_chat",
    "OpenAIProvider": "providers.openai",
    "OpenAIProviderSession": "providers.openai",
    "SimpleProvider": "providers.simple",
}
_VENDORS = {
    "openai": ("providers.openai", "OpenAIProvider"),
    "openai_chat": ("providers.openai_chat", "OpenAIChatProvider"),
    "anthropic": ("providers.anthropic", "AnthropicProvider"),
}
_BUILT_IN = ("mock", *_VENDORS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_registered: dict[str, ProviderFactory] = {}


def __getattr__(name: str) -> Any:
    home = _LAZY.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = _adapter(home, name)
    globals()[name] = value
    return value


def _adapter(module: str, name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - see the module's docstring

    return getattr(import_module(f"{_ADAPTERS}.{module}"), name)


# ---------------------------------------------------------------- names


def register_provider(name: str, factory: ProviderFactory) -> None:
    """Offer a provider under a name of your own, in this process.

    `create_session_manager(providers={name: value})` then uses `factory(value)`, whatever the value
    is; None where it needs nothing. The factory returns an `IProvider`, or an object with
    `async def send_message(self, messages)`. It is called in plain code, without an event loop.

    Raises ConfigurationError if the name is taken, is not made of 1 to 100 letters, digits, dots,
    hyphens and underscores, or if the factory cannot be called.
    """
    _check_name(name)
    if name in _BUILT_IN:
        raise ConfigurationError(
            f"the provider {name!r} is built in; to put an object of your own in its place, give "
            f"it to the manager: providers={{{name!r}: ...}}"
        )
    if name in _registered:
        raise ConfigurationError(f"there is a provider {name!r} already")
    if not callable(factory):
        raise ConfigurationError(
            f"the factory of the provider {name!r} must be callable, not {_kind_of(factory)}"
        )
    _registered[name] = factory


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a provider's name is 1 to 100 letters, digits, '.', '-' and '_', and begins with a "
            f"letter or a digit; not {name!r}"
        )


def unregister_provider(name: str) -> None:
    """Take a registered name back; managers that have such a provider keep it.

    Raises ConfigurationError for a name that was not registered.
    """
    if _registered.pop(name, None) is None:
        raise ConfigurationError(f"no provider was registered as {name!r}")


def list_providers() -> list[str]:
    """The names that can be given to a manager: those that are built in, and the registered."""
    return sorted({*_BUILT_IN, *_registered})


# ---------------------------------------------------------------- making one


@hides_arguments
def build_provider(name: str, value: Any = None) -> IProvider:
    """The provider for `providers={name: value}`.

    - Under a registered name: what its factory makes of the value.
    - Under any other name, the built-in ones too, an object: an `IProvider`, or one with
      `async def send_message(self, messages)`, which is wrapped in a `SimpleProvider`.
    - Under a vendor's name: its key; None for the key in the environment; or a mapping of
      keywords of its class, `{"api_key": ..., "base_url": ..., "timeout": ...}`.
    - Under "mock": None, or a mapping of keywords of `MockProvider`.

    Raises ConfigurationError for an unknown name, keyword or value. Its text never shows a value
    that may be a key.
    """
    factory = _registered.get(name)
    if factory is not None:
        return _made_by(factory, name, value)
    provider = _as_provider(name, value)
    if provider is not None:
        return provider
    if name in _VENDORS:
        return _vendor(name, value)
    if name == "mock":
        return _mock(value)
    raise ConfigurationError(_unknown(name, value))


def _made_by(factory: ProviderFactory, name: str, value: Any) -> IProvider:
    try:
        made = factory(value)
        provider = _as_provider(name, made)
    except Exception as error:
        error.add_note(f"raised when the provider {name!r}, which is registered, was made")
        raise
    if provider is None:
        raise ConfigurationError(
            f"the factory of the provider {name!r} must return an IProvider or an object with "
            f"`async def send_message(self, messages)`, not {_kind_of(made)}"
        )
    return provider


def _as_provider(name: str, value: object) -> IProvider | None:
    """The provider that an object is, or None if it is something else."""
    if isinstance(value, IProvider):
        return value
    if value is None or isinstance(value, str | Mapping):
        return None
    if isinstance(value, type):
        kind = cast("type[object]", value)
        if issubclass(kind, IProvider) or hasattr(kind, "send_message"):
            raise ConfigurationError(
                f"providers[{name!r}] is the class {kind.__name__}; make an object of it: "
                f"{kind.__name__}(...)"
            )
        return None
    from langswarm.core.session.adapters.providers.simple import (  # noqa: PLC0415 - see above
        SimpleProvider,
        has_send_message,
    )

    return SimpleProvider(value, name=name) if has_send_message(value) else None


def _vendor(name: str, value: object) -> IProvider:
    cls = cast("Callable[..., IProvider]", _adapter(*_VENDORS[name]))
    if value is None or isinstance(value, str):
        return cls(value)
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"providers[{name!r}] must be a key, None for the key in the environment, a mapping "
            f"of options, or an object that implements IProvider; not {_kind_of(value)}"
        )
    return _with_options(cls, name, cast("Mapping[str, Any]", value))


def _mock(value: object) -> IProvider:
    if value is None:
        return MockProvider()
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            "providers['mock'] must be None, a mapping of options, or an object that implements "
            f"IProvider; not {_kind_of(value)}"
        )
    return _with_options(MockProvider, "mock", cast("Mapping[str, Any]", value))


def _with_options(
    cls: Callable[..., IProvider], name: str, options: Mapping[str, Any]
) -> IProvider:
    from langswarm.core.session.runtime.config import refuse_unknown  # noqa: PLC0415 - rare

    refuse_unknown(options, _keywords_of(cls), f"providers[{name!r}]")
    return cls(**options)


def _keywords_of(cls: Callable[..., IProvider]) -> set[str]:
    """What it can be made with; a class that takes any keyword hands them to `HttpOptions`."""
    import inspect  # noqa: PLC0415 - see the module's docstring

    parameters = inspect.signature(cls).parameters.values()
    names = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    if len(names) < len(parameters):
        import attrs  # noqa: PLC0415 - see the module's docstring

        names |= {field.name for field in attrs.fields(_adapter("http.options", "HttpOptions"))}
    return names


def _unknown(name: object, value: object) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - rare

    near = get_close_matches(str(name), list_providers(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(list_providers())}."
    return (
        f"no provider {name!r}; {hint} Under a name of your own, give an object that implements "
        "IProvider or has `async def send_message(self, messages)`, or register the name with "
        f"register_provider(name, factory); not {_kind_of(value)}"
    )


def _kind_of(value: object) -> str:
    """Its type alone: it may be a key."""
    if value is None:
        return "None"
    return f"a {type(value).__name__}"
