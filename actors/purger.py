"""Deletes conversations that providers keep and that no session will go on with.

Whoever gives one up queues it in the same commit, so none is forgotten, whatever happens to this
process. Deleting is tried again and again, at growing distances, since a provider may be down for
long; the queue tells why. Nothing waits for it.
"""

from __future__ import annotations

import logging
from contextvars import Context
from typing import TYPE_CHECKING

import attrs

from .answer import describe
from .errors import ProviderError, SessionError
from .wait import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .executor import Executor
    from .model import Purge
    from .ports import IProvider
    from .storage_actor import StorageActor
    from .wait import Backend, Cell, Scope

logger = logging.getLogger("langswarm.core.session")

DELETE_SECONDS = 30.0
"""How long one deletion may take."""
GRACE_SECONDS = 5.0
"""How long one that took longer may take to obey its cancellation."""
FIRST_RETRY_SECONDS = 60.0
LAST_RETRY_SECONDS = 86_400.0
GOES_ON_SECONDS = 1.0
"""After a deletion that was done in part."""
_AT_ONCE = 20
_ANY_TIME_US = 2**62
_ERROR_CHARACTERS = 500


@attrs.frozen
class _End:
    """Of one deletion."""

    error: str | None
    """Why it could not be done; None: it is done."""
    got_on: bool = attrs.field(default=False, kw_only=True)
    """A part of it was done."""
    is_silence: bool = attrs.field(default=False, kw_only=True)
    """The provider did not answer."""


class Purger:
    """Works through the queue, in one task while there is something to do."""

    def __init__(
        self,
        backend: Backend,
        executor: Executor,
        storage: StorageActor,
        providers: Mapping[str, IProvider],
        *,
        wall_clock_us: Callable[[], int],
        wake_at: Callable[[float], None],
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._storage = storage
        self._providers = providers
        self._wall_clock_us = wall_clock_us
        self._wake_at = wake_at
        self._works = False
        self._is_ending = False
        self._scope: Scope | None = None
        # By name, until when a provider that did not answer is not asked.
        self._silent: dict[str, float] = {}
        self._rested = Signal(backend)
        # When to look into the queue; None: there is nothing in it that is known of. What an
        # earlier process has left is looked for at the start, if a provider keeps anything.
        keeps = any(provider.keeps_conversations for provider in providers.values())
        self._due: float | None = backend.now() if keeps else None

    @property
    def due(self) -> float | None:
        """When to look into the queue; None: not before something happens.

        While it works there is no such moment: one that has passed would wake the runtime on and
        on.
        """
        return None if self._works else self._due

    def queued(self) -> None:
        """Something was queued."""
        self._look_at(self._backend.now())

    async def end(self, seconds: float) -> None:
        """Begin nothing more; what is being deleted is cut short and stays in the queue.

        Returns when nothing is asked of a provider any more, after `seconds` at the latest.
        """
        self._is_ending = True
        if self._scope is not None:
            self._scope.cancel()
        with self._backend.scope(self._backend.now() + seconds):
            while self._works:
                await self._rested.wait()

    def _look_at(self, moment: float) -> None:
        if self._due is None or moment < self._due:
            self._due = moment
            if not self._works:
                self._wake_at(moment)

    def check(self, now: float) -> None:
        """Begin if it is time."""
        if self._works or self._is_ending or self._due is None or self._due > now:
            return
        self._due = None
        self._works = True
        self._executor.start(Context(), self._work)

    async def _work(self) -> None:
        try:
            while purges := await self._storage.load_purges(self._wall_clock_us(), _AT_ONCE):
                for purge in purges:
                    if self._silent.get(purge.provider, 0.0) > self._backend.now():
                        # The others shall not wait for each of these.
                        end = _End("the provider did not answer before, and was not asked")
                    else:
                        end = await self._delete(purge)
                    if self._is_ending:
                        return
                    if end.is_silence:
                        until = self._backend.now() + FIRST_RETRY_SECONDS
                        self._silent[purge.provider] = until
                    await self._settle(purge, end)
            for purge in await self._storage.load_purges(_ANY_TIME_US, 1):
                seconds = (purge.due_us - self._wall_clock_us()) / 1e6
                # A second more: what is due by one clock may not be so by the other.
                self._look_at(self._backend.now() + max(seconds, 0.0) + 1.0)
        except SessionError as error:
            logger.warning("conversations to be deleted stay in the queue: %s", error)
            self._look_at(self._backend.now() + FIRST_RETRY_SECONDS)
        finally:
            self._works = False
            self._rested.wake()
            if self._due is not None:
                self._wake_at(self._due)

    async def _delete(self, purge: Purge) -> _End:
        """How it ended. A provider that ignores its cancellation is not waited for (G15)."""
        provider = self._providers.get(purge.provider)
        if provider is None:
            return _End(f"this manager has no provider {purge.provider!r}")
        cell: Cell[_End] = self._backend.cell()
        self._executor.start(Context(), self._ask, provider, purge, cell)
        ends = [_End("the provider ignored its cancellation", is_silence=True)]
        with self._backend.scope(self._backend.now() + DELETE_SECONDS + GRACE_SECONDS):
            ends.append(await cell.wait())
        return ends[-1]

    async def _ask(self, provider: IProvider, purge: Purge, cell: Cell[_End]) -> None:
        """In a task of its own; the cell is set, whatever it raises."""
        end = _End("the provider's own cancellation, or an exception that is no Exception")
        scope = self._scope = self._backend.scope(self._backend.now() + DELETE_SECONDS)
        try:
            with scope:
                await provider.delete_conversation(purge.provider_session_id)
            end = _End(None)
            if scope.cancelled_caught:
                end = _End(f"no answer within {DELETE_SECONDS:g} s", is_silence=True)
        except Exception as error:  # noqa: BLE001 - a guest may raise anything
            got_on = isinstance(error, ProviderError) and error.code == "interrupted"
            end = _End(describe(error)[:_ERROR_CHARACTERS], got_on=got_on)
        finally:
            if self._scope is scope:
                self._scope = None
            cell.set(end)

    async def _settle(self, purge: Purge, end: _End) -> None:
        if end.error is None:
            await self._storage.settle_purge(purge, retry_us=None, error=None)
            return
        seconds = min(FIRST_RETRY_SECONDS * 2.0 ** min(purge.attempts, 60), LAST_RETRY_SECONDS)
        if end.got_on:
            seconds = GOES_ON_SECONDS
        retry_us = self._wall_clock_us() + round(seconds * 1e6)
        await self._storage.settle_purge(purge, retry_us=retry_us, error=end.error)
