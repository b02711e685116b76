"""The words of messages, in an index that follows behind the commits.

To index a message costs several times what it costs to store it, so no turn waits for it. What a
commit does is to remember, once, that a session has messages that are not indexed: a row in
`search_pending` says from which `seq` on. Such a row is there in the same transaction as the
messages, so a kill forgets none; the writer knows which rows there are, so the next messages of
that session cost nothing more. Later, in slices between commits (see `indexing`), the messages are
read and their words put into `search`, and the row goes.

`search` keeps no text: it is contentless, without columns' sizes and positions, and gives message
ids for words. SQLite 3.40 deletes from such an index if it is told the old words: what deletes a
message tells them, in the same transaction, where the message was indexed. That writes a mark;
the words themselves go when the parts of the index are merged, in `optimize()`.

The ids are negative, so that the newest messages come first where it is read forwards, which costs
a third of backwards. What is given in one transaction ascends, or each step back would write a part
of its own. Each message also has a word that stands for its user, so that a search for one user
does not meet the messages of all others; the words of messages are letters, digits and marks, and
it begins with a character that is neither.

Not indexed are contents that are encrypted. Where SQLite finds the index itself damaged, it is
emptied and made anew: all that it has is in `messages`.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from ....actors.words import words_of
from .rows import row_id
from .schema import SEQ_BITS, SEQ_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .rows import Row

logger = logging.getLogger("langswarm.core.session")

MOST_SESSIONS = 512
MOST_MESSAGES = 8192
"""How many may be pending before they are indexed without being asked for."""
_MOST_KNOWN = 100_000
"""Of how many sessions it is remembered that they are pending; the others ask the table."""
_LONGEST_WORD = 1000

_ADD = "INSERT INTO search (rowid, words) VALUES (?, ?)"
_TAKE_OUT = "INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)"
_EMPTY = "INSERT INTO search (search) VALUES ('delete-all')"
_MERGE = "INSERT INTO search (search, rank) VALUES ('merge', ?)"
_PUT = (
    "INSERT INTO search_pending (session_key, from_seq) VALUES (?, ?) "
    "ON CONFLICT (session_key) DO NOTHING"
)
_PUT_ALL = (
    "INSERT INTO search_pending (session_key, from_seq) SELECT key, 1 FROM sessions WHERE true "
    "ON CONFLICT (session_key) DO UPDATE SET from_seq = 1"
)
_PENDING = (
    "SELECT p.from_seq, s.user_id FROM search_pending AS p "
    "LEFT JOIN sessions AS s ON s.key = p.session_key WHERE p.session_key = ?"
)
_CONTENTS = "SELECT id, content FROM messages WHERE id BETWEEN ? AND ? AND codec = 0 ORDER BY id"
_CONTENTS_DOWN = f"{_CONTENTS} DESC"


class SearchIndex:
    """Of one database file; every method runs in the writer's thread, most in a transaction."""

    def __init__(self, *, is_on: bool = True) -> None:
        self.is_on = is_on
        """False: contents cannot be read, so nothing is indexed and nothing is found."""
        self.is_damaged = False
        """SQLite has found it so; see `start_over`."""
        # Invariant: each of these has its row; one with a row may be missing here.
        self._known: set[int] = set()
        self._sessions = 0
        self._messages = 0
        self._unreadable: set[int] = set()
        self.reading: int | None = None
        """The session whose messages are read; after an error in them, too."""

    @property
    def is_due(self) -> bool:
        """Whether so much is pending that it should be indexed now."""
        return self.is_on and (self._sessions > MOST_SESSIONS or self._messages > MOST_MESSAGES)

    def start(self, connection: sqlite3.Connection) -> None:
        """Learn how much is pending."""
        text = "SELECT count(*) FROM (SELECT 1 FROM search_pending LIMIT ?)"
        (self._sessions,) = connection.execute(text, (MOST_SESSIONS + 1,)).fetchone()

    def note(self, error: Exception) -> None:
        """See whether it is the index that is damaged."""
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CORRUPT_VTAB:
            self.is_damaged = True

    # ------------------------------------------------------------ with the commits

    def is_known(self, key: int) -> bool:
        """Whether that session is pending already, for all that is known."""
        return key in self._known

    def put(self, rows: Sequence[Row], connection: sqlite3.Connection) -> None:
        """Rows of a session's key and the first `seq` that is new, within its transaction."""
        connection.executemany(_PUT, rows)

    def committed(self, rows: Iterable[Row], messages: int, erased: Iterable[int]) -> None:
        """What that transaction has put, and which sessions it has erased."""
        self._messages += messages
        for key, _ in rows:
            self._sessions += 1
            if len(self._known) < _MOST_KNOWN:
                self._known.add(key)
        self._known.difference_update(erased)

    def take_out(self, ranges: Sequence[Row], connection: sqlite3.Connection) -> None:
        """Forget the messages between these ids, each of one session, before they are deleted."""
        for first, last in sorted(ranges, reverse=True):
            key = first >> SEQ_BITS
            row = connection.execute(_PENDING, (key,)).fetchone()
            end = last if row is None else min(last, row_id(key, row[0]) - 1)
            if end >= first:
                self._change(_TAKE_OUT, _words_down(key, first, end, connection), connection)

    # ------------------------------------------------------------ behind them

    def pending(self, connection: sqlite3.Connection) -> list[int]:
        """The keys of all sessions that have something to index, ascending."""
        if not self.is_on:
            return []
        self._messages = 0
        rows = connection.execute("SELECT session_key FROM search_pending ORDER BY session_key")
        return [key for (key,) in rows.fetchall() if key not in self._unreadable]

    def index_some(self, keys: list[int], seconds: float, connection: sqlite3.Connection) -> int:
        """Index what these sessions have, from the last one on, for about so long.

        Takes those that are done off the list. Returns how many messages were indexed.
        """
        end = time.monotonic() + seconds
        found: list[Row] = []
        while keys:
            key = keys[-1]
            next_seq = self._collect(key, end, connection, found)
            if next_seq is not None:
                text = "UPDATE search_pending SET from_seq = ? WHERE session_key = ?"
                connection.execute(text, (next_seq, key))
                break
            self._known.discard(key)  # before the commit, whose outcome may stay unknown
            done = connection.execute(
                "DELETE FROM search_pending WHERE session_key = ?", (key,)
            ).rowcount
            self._sessions = max(0, self._sessions - done)
            keys.pop()
            if time.monotonic() >= end:
                break
        found.sort()
        self._change(_ADD, found, connection)
        return len(found)

    def skip(self, key: int) -> None:
        """Leave a session alone whose messages cannot be read, until the next start."""
        self._unreadable.add(key)

    def _collect(
        self, key: int, end: float, connection: sqlite3.Connection, found: list[Row]
    ) -> int | None:
        """Take the words of a session's messages; where to go on, None: it was the last one."""
        row = connection.execute(_PENDING, (key,)).fetchone()
        if row is None or row[1] is None:
            return None
        from_seq, owner = row[0], hashed(row[1])
        self.reading = key
        rows = connection.execute(_CONTENTS, (row_id(key, from_seq), row_id(key, SEQ_MAX)))
        last = None
        for number, content in rows:
            if isinstance(content, str):  # of another one, verify tells
                found.append((-number, _indexed(content, owner)))
            if time.monotonic() >= end:
                last = number & SEQ_MAX
                break
        rows.close()
        self.reading = None
        return None if last is None else last + 1

    def _change(self, text: str, rows: Iterable[Row], connection: sqlite3.Connection) -> None:
        try:
            connection.executemany(text, rows)
            connection.execute("SAVEPOINT words")  # so it is written now, not by the commit
            connection.execute("RELEASE words")
        except sqlite3.IntegrityError as error:
            # The index contradicts itself: what it is given fits any other one.
            damage = sqlite3.DatabaseError(f"the index of words is damaged: {error}")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT_VTAB
            raise damage from error

    def mend(self, connection: sqlite3.Connection) -> int:
        """Begin anew if it is damaged."""
        if not self.is_damaged:
            return 0
        logger.error("the index of words is damaged: it is made anew")
        return self.start_over(connection)

    def start_over(self, connection: sqlite3.Connection) -> int:
        """Empty the index: everything is pending."""
        connection.execute(_EMPTY)
        self._known.clear()
        put = connection.execute(_PUT_ALL).rowcount
        self._sessions = put
        self.is_damaged = False
        return put

    def merge_some(self, pages: int, connection: sqlite3.Connection) -> int:
        """Write the parts of the index together, about so many pages; 0: it is done.

        Negative pages begin anew with all parts.
        """
        before = connection.total_changes
        connection.execute(_MERGE, (pages,))
        return max(0, connection.total_changes - before - 1)


def expression_of(words: Iterable[str], user_id: str | None) -> str:
    """What to ask the index for; nothing but letters and digits between the quotes."""
    wanted = _terms(words)
    if user_id is not None:
        wanted.append(hashed(user_id))
    return " AND ".join(f'"{word}"' for word in wanted)


def hashed(text: str) -> str:
    """A word that stands for a user or for a long word; it is in no text."""
    return f"\N{SECTION SIGN}{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _indexed(content: str, owner: str) -> str:
    return " ".join((owner, *_terms(words_of(content))))


def _terms(words: Iterable[str]) -> list[str]:
    """Each word once; FTS5 would cut long ones."""
    return [word if len(word) <= _LONGEST_WORD else hashed(word) for word in dict.fromkeys(words)]


def _words_down(key: int, first: int, last: int, connection: sqlite3.Connection) -> Iterator[Row]:
    (user_id,) = connection.execute("SELECT user_id FROM sessions WHERE key = ?", (key,)).fetchone()
    owner = hashed(user_id)
    for number, content in connection.execute(_CONTENTS_DOWN, (first, last)):
        if isinstance(content, str):
            yield -number, _indexed(content, owner)
