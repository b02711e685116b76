"""The manager: creates, finds and lists sessions; the owner of everything behind them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..actors.decisions import CreateSession
from ..actors.errors import ConfigurationError, SessionNotFoundError
from ..actors.model import EMPTY_JSON, SessionStatus
from ..actors.ports import NoGuests
from ..actors.values import check_count
from ..actors.wait import current_backend
from .host import Anchor, Host
from .listing import Listing
from .listing import check_id as _id
from .maintenance import Maintenance
from .session import Session
from .views import RisingClock, now_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from anyio.abc import TaskGroup

    from ..actors.limits import Limits
    from ..actors.model import SessionRecord
    from ..actors.ports import IProvider, ISessionStorage
    from ..actors.supervisor import SessionHeader
    from .cleanup import CleanupRules
    from .events import EventStream
    from .guests import Guests, ISessionLifecycleHook, ISessionMiddleware
    from .host import RuntimeStatistics
    from .inspection import SessionInspection
    from .user_view import UserSessions


class Manager(Maintenance, Listing):
    """All sessions of one storage, on one event loop at a time.

    Use it as `async with manager:`, which opens the storage at once and closes everything at the
    end, or just use it: the first awaited call starts it, and `aclose()` ends it.
    """

    def __init__(
        self,
        *,
        storage: ISessionStorage,
        providers: Mapping[str, IProvider],
        limits: Limits,
        middleware: Iterable[ISessionMiddleware] = (),
        hooks: Iterable[ISessionLifecycleHook] = (),
        cleanup_config: Mapping[str, Any] | None = None,
        event_previews: bool = False,
        task_group: TaskGroup | None = None,
        wall_clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._event_previews = event_previews
        self._guests: Guests | None = None
        self._anchor = Anchor(
            Host(
                storage=storage,
                providers=providers,
                guests=NoGuests(),
                limits=limits,
                wall_clock_us=RisingClock(wall_clock_us),
                task_group=task_group,
                cleanup=_rules(cleanup_config),
            )
        )
        for guest in middleware:
            self.add_middleware(guest)
        for hook in hooks:
            self.add_lifecycle_hook(hook)

    # -------------------------------------------------------- life

    async def __aenter__(self) -> Self:
        await self._anchor.host.runtime().storage.opened()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with current_backend().scope(shield=True):
            await self.aclose()

    async def aclose(self, *, drain_seconds: float | None = None) -> None:
        """Shut down: refuse new work, let turns finish, close the storage last (G13).

        Idempotent and callable from any task. Turns that have not finished after `drain_seconds`
        (default: the limit of that name) are interrupted, and what had arrived of their answers is
        stored. Raises RuntimeError from inside a turn or a hook, which would wait for itself.
        """
        await self._anchor.host.aclose(drain_seconds)
        self._anchor.release()
        if self._guests is not None:
            self._guests.close_streams()

    def statistics(self) -> RuntimeStatistics | None:
        """A snapshot of supervisor, storage actor and executor; None before the first use."""
        return self._anchor.host.statistics()

    def inspect(self, *, limit: int = 100) -> list[SessionInspection]:
        """The sessions that have something to do, the oldest turn first, at most `limit`. Plain."""
        from .inspection import busy_sessions  # noqa: PLC0415 - not for every program

        return busy_sessions(self._anchor.host.runtime().supervisor, limit)

    # -------------------------------------------------------- sessions

    async def create_session(
        self,
        user_id: str,
        provider: str,
        model: str,
        *,
        session_config: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Create a session; it is stored when this returns (G3).

        Args:
            user_id: whose session it is.
            provider: the name of one of the manager's providers.
            model: what the provider is asked for.
            session_config: name, description, tags, metadata (JSON values to search for),
                max_messages (how much of the history the provider sees; default 100),
                auto_archive_after (a timedelta or seconds: archived by the clean-up of the
                manager once nothing was committed for so long).
            provider_config: JSON values for the provider. They are stored: no keys in here. And
                `fallbacks`: a list of up to 10 (provider, model) or (provider, model,
                provider_config), asked in this order while the provider is overloaded or cannot be
                reached, as long as nothing of its answer has arrived.
            session_id: default: 128 random bits.
            idempotency_key: the same key and arguments of the same user give the same session,
                also after a restart (G7).

        Raises:
            SessionExistsError: `session_id` is in use, by anybody.
            ConfigurationError: an unknown provider or key, or a wrong value.
            IdempotencyConflictError: the key was used with other arguments before.
        """
        host = self._anchor.host
        self._known_provider(provider)
        command = CreateSession(
            user_id=_id(user_id, "user_id"),
            provider=provider,
            model=_id(model, "model"),
            config=self._session_config(session_config),
            provider_config=self._provider_config(provider, provider_config),
        )
        if idempotency_key is not None:
            from .claims import claimed_creation  # noqa: PLC0415 - most never need it

            command, session_id = claimed_creation(command, session_id, idempotency_key)
        if session_id is None:
            session_id = os.urandom(16).hex()
        creation = host.create(_id(session_id, "session_id"), command)
        return Session(self._anchor, await host.created(session_id, creation))

    async def get_session(self, session_id: str, *, user_id: str | None = None) -> Session:
        """The session of that id, without loading it into memory.

        Raises SessionNotFoundError for unknown and deleted ids and, where `user_id` is given, for
        the sessions of others: the three are not told apart.
        """
        _id(session_id, "session_id")
        header, record = await self._look_up(session_id, user_id)
        while header.is_erased:  # meanwhile; the id may be another one's by now
            header, record = await self._look_up(session_id, user_id)
        if record is None or not _is_found(record, user_id):
            raise SessionNotFoundError(session_id)
        header.update(record)
        return Session(self._anchor, header)

    def for_user(self, user_id: str) -> UserSessions:
        """The sessions of this user alone, for code that acts in a user's name. Plain and cheap."""
        from .user_view import UserSessions  # noqa: PLC0415 - not for every program

        return UserSessions(self, user_id)

    async def import_conversation(
        self,
        data: Mapping[str, Any] | str | bytes,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session from what `export_conversation` gave: a dict, its JSON, or JSON lines.

        All of it is checked before anything is stored, in one transaction. Numbers, times, hidden
        messages, context, configs, metrics and the last turn are as they were; the id is a new one,
        and nothing of what a provider keeps is taken along. Messages have ids of their own; an old
        id that says more than the message's number is kept in its metadata, as
        `imported_message_id`. A provider that this manager does not have is no error: the session
        can be read. It counts as a session that was created today; retention goes by its old times.

        Args:
            data: the conversation; its messages are at most 100,000, its text 256 MiB.
            user_id: whose session it becomes; None: whose it was.
            session_id: of the new session; default: 128 random bits.

        Raises:
            InvalidMessageError: something is wrong with the data; the text says where.
            ConfigurationError: no such format, a version that is not known, a config that cannot
                be right, a key in the provider_config.
            SessionExistsError: `session_id` is in use, by anybody.
        """
        from .imports import creation_of  # noqa: PLC0415 - not for every program

        if session_id is None:
            session_id = os.urandom(16).hex()
        host = self._anchor.host
        _id(session_id, "session_id")
        command = await creation_of(host, data, user_id)
        header = await host.created(session_id, host.create(session_id, command))
        return Session(self._anchor, header)

    # -------------------------------------------------------- guests and events

    def add_middleware(self, middleware: ISessionMiddleware) -> None:
        """Let it see every message from the next turn on, behind those added before."""
        self._known_guests().add_middleware(middleware)

    def add_lifecycle_hook(self, hook: ISessionLifecycleHook) -> None:
        """Tell it what happens from now on, behind those added before."""
        self._known_guests().add_hook(hook)

    def session_events(
        self,
        *,
        types: Iterable[str] | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        after: int | None = None,
    ) -> EventStream:
        """What happens from this call on, until the manager closes: `async for event in ...`.

        Bounded by `event_buffer_size`: a reader that falls behind gets one event of type `gap`
        with the number `missed`, and never holds anything up (G10). Any number of subscribers.

        Args:
            types: only events of these types; None: all.
            session_id: only events of this session; None: of all.
            user_id: only events of this user's sessions; None: of all.
            after: the cursor of the last event that was seen. What came since is told first, as
                far as it is among the last `event_buffer_size` events of this manager; before
                that there is a `gap`. None: only what is to come.

        Raises ConfigurationError for an unknown type, and for a cursor of another manager or of a
        process before.
        """
        from .events import EventFilter, checked_types  # noqa: PLC0415 - not for every program

        wanted = EventFilter(
            types=checked_types(types),
            session_id=None if session_id is None else _id(session_id, "session_id"),
            user_id=None if user_id is None else _id(user_id, "user_id"),
        )
        stream = self._known_guests().subscribe(wanted, check_count(after, "after"))
        if self._anchor.host.is_closed:
            stream.close()
        return stream

    # -------------------------------------------------------- inside

    def _known_guests(self) -> Guests:
        if self._guests is None:
            from .guests import Guests  # noqa: PLC0415 - a runtime without guests goes without

            host = self._anchor.host
            self._guests = Guests(host, event_previews=self._event_previews)
            host.set_guests(self._guests)
        return self._guests

    def _known_provider(self, provider: str) -> None:
        providers = self._anchor.host.providers
        if provider not in providers:
            known = ", ".join(sorted(providers))
            raise ConfigurationError(
                f"no provider {provider!r}; this manager has {known}. Pass it in providers=, "
                "or put its key into the environment"
            )

    def _session_config(self, given: Mapping[str, Any] | None) -> str:
        if not given:
            return EMPTY_JSON
        from .config import session_config_text  # noqa: PLC0415 - most sessions never need it

        limit = self._anchor.host.limits.max_config_bytes
        return session_config_text(given, max_bytes=limit)

    def _provider_config(self, provider: str, given: Mapping[str, Any] | None) -> str:
        if not given:
            return EMPTY_JSON
        from .config import provider_config_text  # noqa: PLC0415 - most sessions never need it

        host = self._anchor.host
        limit = host.limits.max_config_bytes
        return provider_config_text(given, provider, host.providers, max_bytes=limit)

    async def _look_up(
        self, session_id: str, user_id: str | None
    ) -> tuple[SessionHeader, SessionRecord | None]:
        header = self._anchor.host.header(session_id)
        record = header.record or self._live_record(session_id)
        if _is_found(record, user_id):
            await anyio.lowlevel.checkpoint()
            return header, record
        # Also where it is in memory: whoever is refused is refused after the same work.
        state = await self._anchor.host.runtime().storage.load_now(session_id)
        return header, None if state is None else state.record

    def _live_record(self, session_id: str) -> SessionRecord | None:
        state = self._anchor.host.runtime().supervisor.live_state(session_id)
        return None if state is None else state.record


def _is_found(record: SessionRecord | None, user_id: str | None) -> bool:
    return (
        record is not None
        and record.status is not SessionStatus.DELETED
        and (user_id is None or record.user_id == user_id)
    )


def _rules(config: Mapping[str, Any] | None) -> CleanupRules | None:
    if config is None:
        return None
    from .cleanup import cleanup_rules  # noqa: PLC0415 - not for every program

    return cleanup_rules(config)
