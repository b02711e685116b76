"""Lists of sessions: a walk down the keys, bounded however many sessions there are.

What names few sessions is walked: an index that gives keys, newest first. There is one of the
sessions of a user and one of those of each tag; without any it is the table itself. Where several
are given, each jumps to the key at which the others are, so that the rarest decides how long it
takes. Of texts there is an index too (see `search`), which is read from the newest message on: it
has the user's id as one more word, and jumping about in it costs more than what it saves. What is
left of the conditions is asked of each session that is met. A page looks at EXAMINED_PER_LISTED
times its limit of keys at most.
"""

from __future__ import annotations

import logging
import sqlite3
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from ....actors.errors import StorageError
from ....actors.model import SessionPage, SessionStatus
from ....actors.words import words_of
from ..memory import EXAMINED_PER_LISTED
from .mapping import is_damage
from .rows import DOCUMENTS, SESSION, read_session, row_id
from .schema import SEQ_BITS, SEQ_MAX
from .sealing import NO_KEYS
from .search import expression_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ....actors.model import SessionQuery, SessionRecord
    from .sealing import Vault

    # (at_most, count, connection) -> up to `count` keys that are not above `at_most`, descending
    Source = Callable[[int, int, sqlite3.Connection], list[int]]

logger = logging.getLogger("langswarm.core.session")

LAST_NUMBER = 2**63 - 1
"""The largest number that SQLite stores."""
LAST_KEY = LAST_NUMBER >> SEQ_BITS
_CHUNK = 256
"""Keys per statement at most."""

_MOST_REPEATED = 64
"""Messages of one session that are passed by; then it is cheaper to jump to the next session."""

_ALL = "SELECT key FROM sessions WHERE key <= ? ORDER BY key DESC LIMIT ?"
# The indexes alone have all of it: no damaged row is touched.
_OF_USER = "SELECT key FROM sessions WHERE user_id = ? AND key <= ? ORDER BY key DESC LIMIT ?"
_TAGGED = (
    "SELECT session_key FROM session_tags WHERE tag = ? AND session_key <= ? "
    "ORDER BY session_key DESC LIMIT ?"
)
_HAS_TAG = "EXISTS (SELECT 1 FROM session_tags WHERE tag IN ({}) AND session_key = s.key)"
_SAYING = """
    SELECT found.rowid FROM search AS found CROSS JOIN messages AS m ON m.id = -found.rowid
    WHERE found.search MATCH ? AND found.rowid >= ? AND m.hidden_by = 0 ORDER BY found.rowid
"""
_NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'sessions'"
_DAMAGE = (sqlite3.DatabaseError, StorageError, LookupError, TypeError, ValueError)


def list_sessions(
    query: SessionQuery, connection: sqlite3.Connection, *, vault: Vault = NO_KEYS
) -> SessionPage:
    """A page of sessions, newest first; without those that are damaged.

    Raises ConfigurationError where text is asked for and texts are encrypted.
    """
    vault.check_searches(query.text)
    limit = max(nearest(query.limit), 0)
    if not limit or not _can_match(query):
        return SessionPage()
    walk = _Walk(_sources_of(query, vault), query, limit * EXAMINED_PER_LISTED, connection)
    found: list[SessionRecord] = []
    while len(found) < limit and (keys := walk.next_keys(min(limit, _CHUNK))):
        found.extend(_matching(keys, query, connection, vault))
        if len(found) >= limit:
            del found[limit:]
            walk.at_most = found[-1].key - 1
    return SessionPage(records=tuple(found), next_key=walk.next_key())


def nearest(value: int) -> int:
    """The nearest number that SQLite knows: what is stored compares with it in the same way."""
    return max(-LAST_NUMBER, min(value, LAST_NUMBER))


def is_storable(text: str) -> bool:
    """SQLite stores UTF-8: a lone surrogate has none, so nothing stored has such a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _can_match(query: SessionQuery) -> bool:
    texts = (query.user_id, query.provider, query.model, *query.tags)
    return all(map(is_storable, filter(None, texts))) and (
        query.text is None or bool(words_of(query.text))
    )


class _Walk:
    """Down the keys that all sources have."""

    def __init__(
        self,
        sources: list[Source],
        query: SessionQuery,
        budget: int,
        connection: sqlite3.Connection,
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._budget = budget
        self._has_ended = False
        before = LAST_KEY + 1 if query.before_key is None else query.before_key
        self.at_most = min(max(before, 0) - 1, LAST_KEY)
        """What is above has been looked at."""

    def next_keys(self, count: int) -> list[int]:
        """The next ones, descending; none: that is the end, of the keys or of the budget."""
        if self._has_ended or self._budget <= 0:
            return []
        if len(self._sources) > 1:
            return self._meet()
        count = min(count, self._budget)
        keys = self._sources[0](self.at_most, count, self._connection)
        self._budget -= len(keys)
        self._has_ended = len(keys) < count
        if keys:
            self.at_most = keys[-1] - 1
        return keys

    def next_key(self) -> int | None:
        """Where the page after this one begins; None: there is none."""
        first = self._sources[0]
        if self.at_most < 1 or not first(self.at_most, 1, self._connection):
            return None
        return self.at_most + 1

    def _meet(self) -> list[int]:
        """The next key that all have; each that jumps is one of the budget."""
        agreed = place = 0
        while self._budget > 0:
            keys = self._sources[place](self.at_most, 1, self._connection)
            if not keys:
                self._has_ended = True
                self.at_most = 0
                return []
            if agreed and keys[0] == self.at_most:
                agreed += 1
            else:
                agreed = 1
                self._budget -= 1
                self.at_most = keys[0]
            if agreed == len(self._sources):
                self.at_most -= 1
                return keys
            place = (place + 1) % len(self._sources)
        return []


def _sources_of(query: SessionQuery, vault: Vault) -> list[Source]:
    if query.text is not None:
        # Alone: to jump to a key costs more here than to look at the sessions that are met.
        return [partial(_read_saying, expression_of(words_of(query.text), query.user_id))]
    forms = map(vault.forms_of_tag, query.tags)
    sources: list[Source] = [partial(_read_tagged, each) for each in forms]
    if query.user_id is not None:
        sources.append(partial(_read_keys, _OF_USER, query.user_id))
    return sources or [_read_all]


def _read_tagged(
    forms: Sequence[str | bytes], at_most: int, count: int, connection: sqlite3.Connection
) -> list[int]:
    found = [_read_keys(_TAGGED, form, at_most, count, connection) for form in forms]
    return found[0] if len(found) == 1 else sorted({*chain(*found)}, reverse=True)[:count]


def _read_keys(
    text: str, name: str | bytes, at_most: int, count: int, connection: sqlite3.Connection
) -> list[int]:
    return [key for (key,) in connection.execute(text, (name, at_most, count)).fetchall()]


def _read_saying(
    expression: str, at_most: int, count: int, connection: sqlite3.Connection
) -> list[int]:
    keys: list[int] = []
    while at_most > 0:
        rows = connection.execute(_SAYING, (expression, -row_id(at_most, SEQ_MAX)))
        has_more = _take_keys(rows, keys, count)
        rows.close()
        if not has_more or len(keys) == count:
            break
        at_most = keys[-1] - 1
    return keys


def _take_keys(rows: Iterable[Sequence[int]], keys: list[int], count: int) -> bool:
    """The sessions of these messages, until there are enough, or one has too many of them."""
    repeated = 0
    for (number,) in rows:
        key = -number >> SEQ_BITS
        if keys and key == keys[-1]:
            repeated += 1
            if repeated == _MOST_REPEATED:
                return True
        else:
            repeated = 0
            keys.append(key)
            if len(keys) == count:
                return True
    return False


def _read_all(at_most: int, count: int, connection: sqlite3.Connection) -> list[int]:
    try:
        return [key for (key,) in connection.execute(_ALL, (at_most, count)).fetchall()]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    # Keys are given out one after the other: those behind the damage are found by counting.
    (newest,) = connection.execute(_NEWEST).fetchone() or (0,)
    at_most = min(at_most, newest)
    return list(range(at_most, max(at_most - count, 0), -1))


def _matching(
    keys: Sequence[int], query: SessionQuery, connection: sqlite3.Connection, vault: Vault
) -> list[SessionRecord]:
    try:
        return _read(keys, query, connection, vault)
    except _DAMAGE as error:
        if not is_damage(error):
            raise
    found: list[SessionRecord] = []
    for key in keys:
        try:
            found.extend(_read((key,), query, connection, vault))
        except _DAMAGE as error:
            if not is_damage(error):
                raise
            logger.exception("session %s is damaged and left out of a list", key)
    return found


def _read(
    keys: Sequence[int], query: SessionQuery, connection: sqlite3.Connection, vault: Vault
) -> list[SessionRecord]:
    columns = ", ".join(f"s.{name}" for name in SESSION)
    places = 1 << (len(keys) - 1).bit_length()
    conditions = [f"s.key IN ({', '.join('?' * places)})"]  # NULL is IN nothing
    parameters: list[int | str | bytes | None] = [*keys, *[None] * (places - len(keys))]
    for condition, value in _conditions_of(query):
        if value is not None:
            conditions.append(condition)
            parameters.append(nearest(value) if isinstance(value, int) else value)
    for tag in query.tags if query.text is not None else ():
        forms = vault.forms_of_tag(tag)
        conditions.append(_HAS_TAG.format(", ".join("?" * len(forms))))
        parameters.extend(forms)
    documents = ""
    if query.metadata:
        columns = ", ".join((columns, *(f"d.{name}" for name in DOCUMENTS)))
        documents = "JOIN session_documents AS d ON d.session_key = s.key"
    rows = connection.execute(
        f"SELECT {columns} FROM sessions AS s {documents} "
        f"WHERE {' AND '.join(conditions)} ORDER BY s.key DESC",
        parameters,
    ).fetchall()
    return [
        read_session(row)
        for row in rows
        if not query.metadata or _holds(vault.config_of(row), query)
    ]


def _conditions_of(query: SessionQuery) -> tuple[tuple[str, int | str | None], ...]:
    status = query.status
    return (
        ("s.status = ?", None if status is None else status.value),
        ("s.status <> ?", SessionStatus.DELETED.value if status is None else None),
        ("s.user_id = ?", query.user_id),
        ("s.provider = ?", query.provider),
        ("s.model = ?", query.model),
        ("s.updated_us >= ?", query.active_since_us),
        ("s.updated_us < ?", query.idle_since_us),
    )


def _holds(config: str | None, query: SessionQuery) -> bool:
    from ..json_match import config_has_all  # noqa: PLC0415 - json: not for every program

    return config is not None and config_has_all(config, query.metadata)
