"""A part of the manager: finding sessions, and what concerns many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors.model import SessionStatus
from ..actors.values import check_text
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from ..actors.model import SessionRecord
    from .analytics import SessionAnalytics
    from .batches import BatchResult
    from .host import Anchor
    from .session_list import SessionList

_ID_BYTES = 500


class Listing:
    """What a manager does with many sessions. Each part is loaded by who uses it."""

    _anchor: Anchor

    async def get_user_sessions(
        self,
        user_id: str,
        *,
        status: SessionStatus | str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionList:
        """A user's sessions, newest first (by creation), at most `limit`.

        Args:
            user_id: whose.
            status: only those of this status; None: all but deleted ones. Of a deleted session only
                the properties can be read.
            since: only those with a commit at or after this; a naive datetime is local time.
            limit: how many at most; None, and more than that: `page_size`.
            cursor: `next_cursor` of the list before, with the same `user_id` and `status`: the list
                goes on behind it. Sessions that were created meanwhile are not in what follows, and
                no session is in it twice.

        Raises:
            InvalidMessageError: a value that is none.
            ConfigurationError: the cursor is of another list.
        """
        return await self.search_sessions(
            user_id=check_id(user_id, "user_id"),
            status=status,
            since=since,
            limit=limit,
            cursor=cursor,
        )

    async def search_sessions(
        self,
        *,
        user_id: str | None = None,
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
        """The sessions that fulfil all conditions that are given, newest first (by creation).

        A call looks at a bounded number of sessions. Where few of very many match, the list may be
        short of `limit`, even empty, and have a `next_cursor` all the same: go on with it.

        Args:
            user_id: of this user; None: of all users.
            tags: with all of these tags.
            provider: of the provider of this name.
            model: that ask for this model.
            status: of this status; None: all but deleted ones.
            text: with one visible message that has all of these words, 1 to 32, whatever their
                order, case and accents. A word is a run of letters and digits, and found whole.
            metadata: whose `session_config["metadata"]` has all of these at its top: equal JSON
                values; 1 is 1.0 and not True.
            since: as in `get_user_sessions`, as are `limit` and `cursor`.
            limit: how many at most.
            cursor: `next_cursor` of the list before, with the same filters, but for `since`.

        Raises:
            InvalidMessageError: a value that is none, or `text` without words or with too many.
            ConfigurationError: the cursor is of another list, or the storage cannot search texts.
        """
        from .session_list import listed, query_of  # noqa: PLC0415 - not for every program

        query = query_of(
            user_id=user_id,
            tags=tags,
            provider=provider,
            model=model,
            status=status,
            text=text,
            metadata=metadata,
            since=since,
            max_bytes=self._anchor.host.limits.max_config_bytes,
        )
        return await listed(self, query, limit, cursor)

    # -------------------------------------------------------- many at once

    async def archive_sessions(
        self, session_ids: Iterable[str], *, user_id: str | None = None
    ) -> list[BatchResult]:
        """`archive()` each of them; one result each, in the order of the ids.

        All go on at once and are committed together as far as they come together. What fails
        fails alone: its result has the error, SessionNotFoundError for one that is not there. An
        id that is given twice is done once. It waits for calls that were there before, for turns
        that run too. If the caller is cancelled, each of them is done or not at all.

        Args:
            session_ids: at most `page_size`.
            user_id: whose they must be; the sessions of others are not found. None: anybody's.

        Raises InvalidMessageError for ids that are none or too many; then nothing was done.
        """
        from .batches import change_statuses  # noqa: PLC0415 - not for every program

        return await change_statuses(self, session_ids, SessionStatus.ARCHIVED, user_id)

    async def update_sessions(
        self,
        session_ids: Iterable[str],
        changes: Mapping[str, Any],
        *,
        user_id: str | None = None,
    ) -> list[BatchResult]:
        """`update_config(changes)` of each of them; results and arguments as `archive_sessions`.

        Raises ConfigurationError for unknown keys and wrong values; then nothing was done.
        """
        from .batches import update_configs  # noqa: PLC0415 - not for every program

        return await update_configs(self, session_ids, changes, user_id)

    async def delete_sessions(
        self, session_ids: Iterable[str], *, user_id: str | None = None
    ) -> list[BatchResult]:
        """`delete()` each of them; results and arguments as `archive_sessions`.

        One that was deleted before is not found, as `get_session` does not find it.
        """
        from .batches import change_statuses  # noqa: PLC0415 - not for every program

        return await change_statuses(self, session_ids, SessionStatus.DELETED, user_id)

    # -------------------------------------------------------- figures

    async def get_analytics(
        self,
        start_date: datetime | date | None = None,
        end_date: datetime | date | None = None,
        *,
        user_id: str | None = None,
    ) -> SessionAnalytics:
        """What happened from one day to another, both included; as last committed.

        Figures are kept by whole days, in UTC: a datetime stands for the day that it is in, and
        that day counts from its beginning to its end. It reads the sums of days, no sessions.

        Args:
            start_date: a datetime (a naive one is local time), or a date, which is a day in UTC;
                None: the last 30 days.
            end_date: the same; None: today.
            user_id: only what is of this user; None: of all.

        Raises ConfigurationError for a range that is none, or of more than 3,660 days.
        """
        from .analytics import analytics_of  # noqa: PLC0415 - not for every program

        return await analytics_of(self, start_date, end_date, user_id)

    # -------------------------------------------------------- inside

    def _handle(self, record: SessionRecord) -> Session:
        header = self._anchor.host.header(record.session_id)
        header.update(record)
        return Session(self._anchor, header)


def check_id(value: object, what: str) -> str:
    """The id of a user or a session itself, if it is 1 to 500 bytes of text."""
    return check_text(value, what, max_bytes=_ID_BYTES)
