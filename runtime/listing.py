"""A part of the manager: finding sessions, and what concerns many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..actors.errors import InvalidMessageError
from ..actors.model import SessionQuery, SessionStatus
from ..actors.values import check_count, check_text
from .session import Session
from .views import to_us

if TYPE_CHECKING:
    from datetime import datetime

    from ..actors.model import SessionRecord
    from .host import Anchor

_ID_BYTES = 500


class Listing:
    """What a manager does with many sessions."""

    _anchor: Anchor

    async def get_user_sessions(
        self,
        user_id: str,
        *,
        status: SessionStatus | str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Session]:
        """A user's sessions, newest first, at most `limit` (and `page_size`).

        Args:
            user_id: whose.
            status: only those of this status; None: all but deleted ones.
            since: only those with a commit at or after this; a naive datetime is local time.
            limit: how many at most.
        """
        host = self._anchor.host
        most = host.limits.page_size
        wanted = check_count(limit, "limit")
        query = SessionQuery(
            user_id=check_id(user_id, "user_id"),
            status=None if status is None else _status(status),
            active_since_us=None if since is None else to_us(since),
            limit=most if wanted is None else min(wanted, most),
        )
        page = await host.runtime().storage.list_sessions(query)
        return [self._handle(record) for record in page.records]

    def _handle(self, record: SessionRecord) -> Session:
        header = self._anchor.host.header(record.session_id)
        header.update(record)
        return Session(self._anchor, header)


def check_id(value: object, what: str) -> str:
    """The id of a user or a session itself, if it is 1 to 500 bytes of text."""
    return check_text(value, what, max_bytes=_ID_BYTES)


def _status(status: SessionStatus | str) -> SessionStatus:
    try:
        return SessionStatus(status)
    except ValueError:
        known = ", ".join(status.value for status in SessionStatus)
        raise InvalidMessageError(f"no status {status!r}; there are {known}") from None
