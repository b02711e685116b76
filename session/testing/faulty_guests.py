"""Providers, middleware and hooks that fail at a planned call, in front of any other.

As ``FaultyStorage`` does it for storages. :func:`~langswarm.core.session.testing.sweep_faults`
makes them; each asks its :class:`FaultyCalls` at the beginning of a call what is to go wrong.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session.actors.errors import MessageRefused, ProviderError
from langswarm.core.session.actors.ports import Completed, IProvider
from langswarm.core.session.runtime.guests import ISessionLifecycleHook, ISessionMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from langswarm.core.session.actors.ports import (
        ProviderEvent,
        ProviderRequest,
        ProviderSettings,
    )
    from langswarm.core.session.runtime.views import SessionContext, SessionMessage


class ProviderFault(StrEnum):
    """What goes wrong with one answer."""

    FAILS = "fails"
    """ProviderError of code "overloaded", retryable, before any text."""
    RAISES = "raises"
    """A RuntimeError, as of a provider's bug, before any text."""
    HANGS = "hangs"
    """Nothing ever comes, until it is cancelled."""
    BREAKS_OFF = "breaks off"
    """ProviderError of code "connection", retryable, behind the first event."""
    TRUNCATES = "truncates"
    """All of the text comes, `Completed` does not."""


class MiddlewareFault(StrEnum):
    """What goes wrong with one message."""

    REFUSES = "refuses"
    """MessageRefused."""
    RAISES = "raises"
    """A RuntimeError."""
    HANGS = "hangs"
    """It never ends, until it is cancelled."""
    RETURNS_NOTHING = "returns nothing"
    """None instead of the message: a forgotten `return`."""


class HookFault(StrEnum):
    """What goes wrong with one call of a hook."""

    RAISES = "raises"
    """A RuntimeError."""
    HANGS = "hangs"
    """It never ends, until it is cancelled."""


class FaultyCalls:
    """Counts the calls of one guest by method, and knows which of them is to fail."""

    def __init__(self, method: str = "", call: int = 0, fault: str = "") -> None:
        self.counts: Counter[str] = Counter()
        self.is_met = False
        self._planned = (method, call)
        self._fault = fault

    def begin(self, method: str) -> str | None:
        """One more call; what goes wrong with it."""
        self.counts[method] += 1
        if (method, self.counts[method]) != self._planned:
            return None
        self.is_met = True
        return self._fault


class FaultyProvider(IProvider):
    """Passes every request on to ``inner``, but for the one that is to fail."""

    def __init__(self, inner: IProvider, calls: FaultyCalls) -> None:
        self._inner = inner
        self._calls = calls

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        fault = self._calls.begin("stream")
        if fault == ProviderFault.FAILS:
            raise ProviderError("planned: no answer", code="overloaded", retryable=True)
        if fault == ProviderFault.RAISES:
            raise RuntimeError("planned: a provider's bug")
        if fault == ProviderFault.HANGS:
            await anyio.sleep_forever()
        events = self._inner.stream(request)
        try:
            async for event in events:
                if fault == ProviderFault.TRUNCATES and isinstance(event, Completed):
                    return
                yield event
                if fault == ProviderFault.BREAKS_OFF:
                    raise ProviderError("planned: cut off", code="connection", retryable=True)
        finally:
            close: Callable[[], Coroutine[Any, Any, None]] | None = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def session_view(self, settings: ProviderSettings) -> object:
        """That of ``inner``."""
        return self._inner.session_view(settings)

    async def aclose(self) -> None:
        """That of ``inner``."""
        await self._inner.aclose()


class FaultyMiddleware(ISessionMiddleware):
    """Passes every message on to ``inner``, but for the one that is to fail."""

    def __init__(self, inner: ISessionMiddleware, calls: FaultyCalls) -> None:
        self._inner = inner
        self._calls = calls

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        fault = self._calls.begin("process_message")
        if fault == MiddlewareFault.REFUSES:
            raise MessageRefused("planned: not this message")
        if fault == MiddlewareFault.RAISES:
            raise RuntimeError("planned: a middleware's bug")
        if fault == MiddlewareFault.HANGS:
            await anyio.sleep_forever()
        processed = await self._inner.process_message(session_id, message, context)
        if fault == MiddlewareFault.RETURNS_NOTHING:
            return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
        return processed


class FaultyHook(ISessionLifecycleHook):
    """Passes every call on to ``inner``, but for the one that is to fail.

    It has the methods that ``inner`` has; the runtime does not call the others.
    """

    def __init__(self, inner: object, calls: FaultyCalls) -> None:
        for name in vars(ISessionLifecycleHook):
            method = getattr(inner, name, None) if name.startswith("on_") else None
            ignored = getattr(ISessionLifecycleHook, name)
            if method is not None and getattr(method, "__func__", None) is not ignored:
                setattr(self, name, _faulty(name, method, calls))


def _faulty(
    name: str, method: Callable[..., Coroutine[Any, Any, object]], calls: FaultyCalls
) -> Callable[..., Coroutine[Any, Any, object]]:
    @wraps(method)
    async def call(*arguments: object) -> object:
        fault = calls.begin(name)
        if fault == HookFault.RAISES:
            raise RuntimeError(f"planned: a bug in {name}")
        if fault == HookFault.HANGS:
            await anyio.sleep_forever()
        return await method(*arguments)

    return call
