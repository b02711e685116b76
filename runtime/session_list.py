"""Lists of sessions: what is asked for, checked; page by page until the list is full."""

# A part of the manager, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import attrs

from ..actors.errors import ConfigurationError, InvalidMessageError
from ..actors.idempotency import hash_of
from ..actors.model import SessionQuery, SessionStatus
from ..actors.values import check_count, check_text, encode_object
from ..actors.words import MAX_WORDS, words_of
from .listing import check_id
from .session import Session
from .views import to_us

if TYPE_CHECKING:
    from .listing import Listing

MAX_PAGES = 10
"""So many pages of the storage one call looks at; each bounds how many sessions it looks at."""

_SMALLEST_NEXT_PAGE = 100
_MAX_TAGS = 100
_MAX_KEYS = 100
_TAG_BYTES = 1_000
_TEXT_BYTES = 16_000
_CURSOR = re.compile(r"s1-([1-9][0-9]{0,18})-([0-9a-f]{16})")
_MAX_KEY = 2**63 - 1


class SessionList(list[Session]):
    """Sessions, newest first, and where their list goes on.

    A list may be shorter than its limit, even empty, and go on all the same: a call looks at a
    bounded number of sessions. Only `next_cursor` None says that it has ended.
    """

    next_cursor: str | None = None
    """Give it back as `cursor=`, with the same filters, for the sessions that follow."""


# ---------------------------------------------------------------- what is asked for


def query_of(
    *,
    user_id: str | None = None,
    tags: Iterable[str] | None = None,
    provider: str | None = None,
    model: str | None = None,
    status: SessionStatus | str | None = None,
    text: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    since: datetime | None = None,
    max_bytes: int,
) -> SessionQuery:
    """The filters of a list, checked. Raises InvalidMessageError for a value that is none."""
    return SessionQuery(
        limit=0,
        user_id=None if user_id is None else check_id(user_id, "user_id"),
        tags=() if tags is None else _tags(tags),
        provider=None if provider is None else check_id(provider, "provider"),
        model=None if model is None else check_id(model, "model"),
        status=None if status is None else _status(status),
        text=None if text is None else _words(text),
        metadata=() if metadata is None else wanted_metadata(metadata, max_bytes),
        active_since_us=None if since is None else moment_us(since, "since"),
    )


def moment_us(moment: object, what: str) -> int:
    """Microseconds since the epoch of a datetime; a naive one is local time."""
    if not isinstance(moment, datetime):
        raise InvalidMessageError(f"{what} must be a datetime, not {moment!r}")
    try:
        return to_us(moment)
    except (OverflowError, ValueError, OSError):
        raise InvalidMessageError(f"{what}={moment!r} is no time that UTC has") from None


def _status(status: SessionStatus | str) -> SessionStatus:
    try:
        return SessionStatus(status)
    except ValueError:
        known = ", ".join(status.value for status in SessionStatus)
        raise InvalidMessageError(f"no status {status!r}; there are {known}") from None


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidMessageError(f"tags must be a list of str, not {tags!r}")
    texts = {
        check_text(tag, "a tag", max_bytes=_TAG_BYTES) for tag in cast("Iterable[object]", tags)
    }
    if len(texts) > _MAX_TAGS:
        raise InvalidMessageError(f"a session has at most {_MAX_TAGS} tags")
    return tuple(sorted(texts))


def _words(text: object) -> str:
    words = words_of(check_text(text, "text", max_bytes=_TEXT_BYTES))
    if not 1 <= len(words) <= MAX_WORDS:
        raise InvalidMessageError(
            f"text must have 1 to {MAX_WORDS} words, runs of letters and digits, not {len(words)}"
        )
    return cast("str", text)


def wanted_metadata(metadata: object, max_bytes: int) -> tuple[tuple[str, str], ...]:
    """What metadata must have at its top, as queries have it: (key, JSON text of the value)."""
    encode_object(metadata, "metadata", max_bytes=max_bytes)
    values = cast("Mapping[str, Any]", metadata)
    if len(values) > _MAX_KEYS:
        raise InvalidMessageError(f"metadata has more than {_MAX_KEYS} keys to look for")
    return tuple(
        # the text of one value, as `encode_object` made that of all
        (key, encode_object({"": values[key]}, "metadata", max_bytes=max_bytes)[4:-1])
        for key in sorted(values)
    )


# ---------------------------------------------------------------- where it goes on


def _filters(query: SessionQuery) -> str:
    """What tells a list from others; `since` moves on between two calls, so it is no part of it."""
    names = (query.user_id, query.provider, query.model, query.status, query.text)
    return hash_of(json.dumps([*names, query.tags, query.metadata])).hex()[:16]


def cursor_of(query: SessionQuery, key: int) -> str:
    """Behind the session of this key, in the list of this query."""
    return f"s1-{key}-{_filters(query)}"


def key_of(query: SessionQuery, cursor: object) -> int:
    """Where the list goes on. Raises ConfigurationError for a cursor of anything else."""
    if not isinstance(cursor, str):
        raise ConfigurationError(f"cursor must be the next_cursor of a list, not {cursor!r}")
    parts = _CURSOR.fullmatch(cursor)
    if parts is None or not 0 < int(parts[1]) <= _MAX_KEY:
        raise ConfigurationError(f"cursor={cursor[:100]!r} is no next_cursor of a list of sessions")
    if parts[2] != _filters(query):
        raise ConfigurationError(
            f"cursor={cursor[:100]!r} is of a list with other filters; give it back with the "
            "filters that it came with, or begin without one"
        )
    return int(parts[1])


# ---------------------------------------------------------------- the list


async def listed(
    manager: Listing, query: SessionQuery, limit: int | None, cursor: str | None
) -> SessionList:
    """Up to `limit` sessions, in as many pages as it takes, at most MAX_PAGES."""
    host = manager._anchor.host
    most = host.limits.page_size
    wanted = check_count(limit, "limit")
    wanted = most if wanted is None else min(wanted, most)
    key = None if cursor is None else key_of(query, cursor)
    storage = host.runtime().storage
    found, size = SessionList(), wanted
    for _ in range(MAX_PAGES):
        page = await storage.list_sessions(attrs.evolve(query, limit=size, before_key=key))
        records = page.records[: wanted - len(found)]
        found.extend(manager._handle(record) for record in records)
        # A page that has more than what was missing is left in its middle.
        key = records[-1].key if len(records) < len(page.records) else page.next_key
        if key is None or len(found) == wanted:
            break
        size = max(wanted - len(found), min(most, _SMALLEST_NEXT_PAGE))
    if not wanted:
        found.next_cursor = cursor
    elif key is not None:
        found.next_cursor = cursor_of(query, key)
    return found


SessionList.__module__ = "langswarm.core.session.interfaces"
