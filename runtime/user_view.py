"""A manager as one user may use it: nothing of others is seen, changed or found out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .listing import check_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from ..actors.model import SessionStatus
    from .analytics import SessionAnalytics
    from .batches import BatchResult
    from .events import EventStream
    from .manager import Manager
    from .session import Session
    from .session_list import SessionList


class UserSessions:
    """The sessions of one user. Get it from `manager.for_user(user_id)`; it is cheap, keep none.

    Methods are those of the manager without `user_id`, which is always this user's. A session of
    somebody else, one that was deleted, and one that never was are the same to it:
    SessionNotFoundError with the same words, after the same work.

    It gives sessions no ids of the caller's: whether an id is taken by somebody is not told.
    """

    __slots__ = ("_manager", "_user_id")

    def __init__(self, manager: Manager, user_id: str) -> None:
        self._manager = manager
        self._user_id = check_id(user_id, "user_id")

    def __repr__(self) -> str:
        return f"<UserSessions {self._user_id!r}>"

    @property
    def user_id(self) -> str:
        """Whose sessions these are."""
        return self._user_id

    async def create_session(
        self,
        provider: str,
        model: str,
        *,
        session_config: Mapping[str, Any] | None = None,
        provider_config: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """As `manager.create_session`, under an id of 128 random bits.

        With an `idempotency_key` the id follows from user and key instead. Raises what that does,
        but for SessionExistsError.
        """
        return await self._manager.create_session(
            self._user_id,
            provider,
            model,
            session_config=session_config,
            provider_config=provider_config,
            idempotency_key=idempotency_key,
        )

    async def get_session(self, session_id: str) -> Session:
        """As `manager.get_session`."""
        return await self._manager.get_session(session_id, user_id=self._user_id)

    async def get_user_sessions(
        self,
        *,
        status: SessionStatus | str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionList:
        """As `manager.get_user_sessions`."""
        return await self._manager.get_user_sessions(
            self._user_id, status=status, since=since, limit=limit, cursor=cursor
        )

    async def search_sessions(
        self,
        *,
        tags: Iterable[str] | None = None,
        provider: str | None = None,
        model: str | None = None,
        status: SessionStatus | str | None = None,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionList:
        """As `manager.search_sessions`."""
        return await self._manager.search_sessions(
            user_id=self._user_id,
            tags=tags,
            provider=provider,
            model=model,
            status=status,
            text=text,
            metadata=metadata,
            since=since,
            limit=limit,
            cursor=cursor,
        )

    async def archive_sessions(self, session_ids: Iterable[str]) -> list[BatchResult]:
        """As `manager.archive_sessions`."""
        return await self._manager.archive_sessions(session_ids, user_id=self._user_id)

    async def update_sessions(
        self, session_ids: Iterable[str], changes: Mapping[str, Any]
    ) -> list[BatchResult]:
        """As `manager.update_sessions`."""
        return await self._manager.update_sessions(session_ids, changes, user_id=self._user_id)

    async def delete_sessions(self, session_ids: Iterable[str]) -> list[BatchResult]:
        """As `manager.delete_sessions`."""
        return await self._manager.delete_sessions(session_ids, user_id=self._user_id)

    async def import_conversation(self, data: Mapping[str, Any] | str | bytes) -> Session:
        """As `manager.import_conversation`; whosever it was, it becomes this user's."""
        return await self._manager.import_conversation(data, user_id=self._user_id)

    async def erase_user(self) -> int:
        """As `manager.erase_user`: everything of this user is removed for good."""
        return await self._manager.erase_user(self._user_id)

    async def get_analytics(
        self,
        start_date: datetime | date | None = None,
        end_date: datetime | date | None = None,
    ) -> SessionAnalytics:
        """As `manager.get_analytics`."""
        return await self._manager.get_analytics(start_date, end_date, user_id=self._user_id)

    def session_events(
        self,
        *,
        types: Iterable[str] | None = None,
        session_id: str | None = None,
        after: int | None = None,
    ) -> EventStream:
        """As `manager.session_events`; of a session of somebody else, no event ever comes."""
        return self._manager.session_events(
            types=types, session_id=session_id, user_id=self._user_id, after=after
        )


UserSessions.__module__ = "langswarm.core.session.interfaces"
