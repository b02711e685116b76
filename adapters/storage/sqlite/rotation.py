"""Which keys a file knows, and sealing all of it with the current one while it is served.

`encryption_keys` has a row for each key that sealed something in the file: its id and its
fingerprint, so that a wrong or missing key is told when the file is opened. The row of the id ''
says that the file may hold what was written in plain: records, and what is left of them on pages.
It has a mark that only who has a key can make: without it, a plain record counts as forged.

A rotation goes through the tables in slices of some milliseconds, each of them a transaction on
the connection that writes, with the commits that arrive in between. It keeps no note of how far it
came: what is sealed with the current key is passed over, so one that was cut off is repeated.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Final

from ....actors.errors import ConfigurationError, StorageError
from ....actors.model import EMPTY_JSON
from ....actors.ports import KeyRotation
from ..encryption.records import SealError
from .maintenance import FIRST_ROWS, SLICE_SECONDS, next_slice
from .rows import CLAIM_NAME, DOCUMENTS
from .sealing import CLAIMS, DOCUMENTS_OF, MESSAGES, TURNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from ..encryption import KeyRing
    from .rows import Row
    from .sealing import Layout, Vault
    from .search import SearchIndex

logger = logging.getLogger("langswarm.core.session")

MOST_ROWS: Final = 512
"""Of a slice."""
WAS_PLAIN: Final = ""
"""The `key_id` of the row that says so."""

_KEYS = "SELECT key_id, fingerprint FROM encryption_keys"
_PUT_KEY = "INSERT INTO encryption_keys (key_id, fingerprint) VALUES (?, ?)"
_DROP_KEYS = "DELETE FROM encryption_keys WHERE key_id NOT IN (?, '')"
_DROP_PLAIN = "DELETE FROM encryption_keys WHERE key_id = ''"
_WAS_PLAIN = "SELECT EXISTS (SELECT 1 FROM encryption_keys WHERE key_id = '')"
_ANYTHING_SEALED = tuple(
    f"SELECT EXISTS (SELECT 1 FROM {layout.table} WHERE codec <> 0)"
    for layout in (DOCUMENTS_OF, MESSAGES, TURNS, CLAIMS)
)
_MARK_PLAIN = "UPDATE encryption_keys SET fingerprint = ? WHERE key_id = ''"
_OWNER = ("session_key", "id", "user_id")
_TAGS = "SELECT tag FROM session_tags WHERE session_key = ?"
_PUT_TAG = "UPDATE OR REPLACE session_tags SET tag = ?1 WHERE session_key = ?2 AND tag = ?3"
_ANYTHING = """
    SELECT EXISTS (SELECT 1 FROM sqlite_sequence) OR EXISTS (SELECT 1 FROM claims)
"""


def check_keys(vault: Vault, index: SearchIndex, connection: sqlite3.Connection) -> None:
    """As `look_at_keys`; and note the current key.

    In a file that was written in plain, the words of what was written so far are forgotten.
    """
    stored, ring = look_at_keys(vault, connection), vault.ring
    if ring is None or ring.current.key_id in stored:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_PUT_KEY, (ring.current.key_id, ring.current.fingerprint))
    if vault.allows_plain and not stored:
        logger.warning("the file holds what was written in plain: rotate_encryption_keys() ends it")
        connection.execute(_PUT_KEY, (WAS_PLAIN, ring.current.plain_mark))
        index.start_over(connection)
    connection.execute("COMMIT")


def look_at_keys(vault: Vault, connection: sqlite3.Connection) -> dict[str, bytes]:
    """The keys that the file knows; and whether it may have plain rows, which the vault is told.

    Raises StorageError of code `key` if those of the vault are others, and of code `corrupt` if
    the file has forgotten its own.
    """
    ring = vault.ring
    stored: dict[str, bytes] = dict(connection.execute(_KEYS).fetchall())
    names = sorted(set(stored) - {WAS_PLAIN})
    if ring is None:
        if names:
            raise _key_error(f"is encrypted with the keys {names}: give encryption_keys")
        return stored
    _check_given(ring, stored, names)
    missing = [name for name in names if name not in ring.ids]
    if missing:
        logger.warning(
            "what is encrypted with the keys %s cannot be read: they are not given", missing
        )
    vault.allows_plain = _is_plain(ring, stored, connection)
    return stored


def _is_plain(ring: KeyRing, stored: dict[str, bytes], connection: sqlite3.Connection) -> bool:
    """Whether some of it may be plain; only a key can say so of a file that has been encrypted."""
    if stored:
        mark = stored.get(WAS_PLAIN)
        return any(mark == ring.key(key_id).plain_mark for key_id in ring.ids)
    if any(connection.execute(text).fetchone()[0] for text in _ANYTHING_SEALED):
        raise StorageError(
            "the database is damaged (it has encrypted rows, and has forgotten with which keys); "
            "restore a backup",
            code="corrupt",
        )
    return bool(connection.execute(_ANYTHING).fetchone()[0])


def _check_given(ring: KeyRing, stored: dict[str, bytes], names: list[str]) -> None:
    for key_id in ring.ids:
        fingerprint = ring.key(key_id).fingerprint
        if stored.get(key_id, fingerprint) != fingerprint:
            raise _key_error(f"was encrypted with another key of the id {key_id!r}: give that one")
        for name in names:
            if name != key_id and stored[name] == fingerprint:
                raise _key_error(f"knows the key {key_id!r} as {name!r}: give it that id")
    if names and not set(names) & set(ring.ids):
        raise _key_error(f"is encrypted with the keys {names}, none of which is given")


def _key_error(text: str) -> StorageError:
    return StorageError(f"the database {text}; nothing was changed", code="key")


class Rotation:
    """Once through all records, slice by slice."""

    def __init__(self, vault: Vault) -> None:
        if vault.ring is None:
            raise ConfigurationError("nothing is encrypted here: encryption_keys was not given")
        self._ring = vault.ring
        self._stages = _stages_of(vault, vault.ring)
        self._stage: _Stage | None = next(self._stages)
        self._last: Row = ()
        self._rows = FIRST_ROWS
        self._unreadable = 0
        self._records = 0

    @property
    def is_done(self) -> bool:
        """Whether all records were looked at."""
        return self._stage is None

    @property
    def is_complete(self) -> bool:
        """Whether all records are sealed with the current key now."""
        return self.is_done and not self._unreadable

    def run(self, connection: sqlite3.Connection) -> int:
        """Seal the next records anew; how many. In a transaction, of some milliseconds."""
        stage = self._stage
        if stage is None:
            return 0
        began = time.monotonic()
        rows = connection.execute(stage.select(self._last), (*self._last, self._rows)).fetchall()
        looked = renewed = 0
        for row in rows:
            renewed += self._renew(stage, row, connection)
            looked += 1
            self._last = stage.key_of(row)
            if time.monotonic() - began > SLICE_SECONDS:
                break
        if looked == len(rows) < self._rows:
            self._stage, self._last = next(self._stages, None), ()
        self._rows = next_slice(max(looked, 1), time.monotonic() - began, MOST_ROWS)
        self._records += renewed
        return renewed

    def _renew(self, stage: _Stage, row: Row, connection: sqlite3.Connection) -> bool:
        try:
            return stage.renew(row, connection)
        except (SealError, TypeError) as error:
            self._unreadable += 1
            logger.warning("%s: row %s stays as it is: %s", stage.table, stage.key_of(row), error)
            return False

    def settle(self, connection: sqlite3.Connection) -> int:
        """Forget the keys that nothing is sealed with any more; how many. In a transaction."""
        if self._unreadable:
            return 0
        connection.execute(_MARK_PLAIN, (self._ring.current.plain_mark,))
        return connection.execute(_DROP_KEYS, (self._ring.current.key_id,)).rowcount

    def report(self, connection: sqlite3.Connection) -> KeyRotation:
        """What was done, and which keys are still needed."""
        stored = {key_id for (key_id, _) in connection.execute(_KEYS)}
        return KeyRotation(
            key_id=self._ring.current.key_id,
            records=self._records,
            unreadable=self._unreadable,
            keys_in_use=tuple(sorted(stored - {WAS_PLAIN})),
            plain_remains=WAS_PLAIN in stored,
        )


def was_plain(connection: sqlite3.Connection) -> bool:
    """Whether something that was written in plain may be left on some page."""
    return bool(connection.execute(_WAS_PLAIN).fetchone()[0])


def forget_plain(connection: sqlite3.Connection) -> int:
    """Note that nothing is. In a transaction."""
    return connection.execute(_DROP_PLAIN).rowcount


class _Stage:
    """The records of a table, in the order of its key."""

    table: str
    _names: str
    """Of the columns that are read, the key in front."""
    _key: tuple[str, ...]
    _from: str

    def select(self, last: Row) -> str:
        """Those behind a key; its parameters are that key, unless it is (), and how many."""
        key = ", ".join(self._key)
        where = f"WHERE ({key}) > ({', '.join('?' * len(last))})" if last else ""
        return f"SELECT {self._names} FROM {self._from} {where} ORDER BY {key} LIMIT ?"

    def key_of(self, row: Row) -> Row:
        """The key of a row that was read."""
        return row[: len(self._key)]

    def renew(self, row: Row, connection: sqlite3.Connection) -> bool:
        """Seal a record anew if need be; whether it was. Raises SealError."""
        raise NotImplementedError


class _Records(_Stage):
    """A table each of whose rows has all that it is bound to."""

    def __init__(
        self,
        layout: Layout,
        key: tuple[str, ...],
        ring: KeyRing,
        renewed: Callable[[Row], Row],
    ) -> None:
        self.table = self._from = layout.table
        self._key = key
        self._names = ", ".join(layout.columns)
        self._layout = layout
        self._ring = ring
        self._renewed = renewed
        self._update = _update(layout, key)

    def renew(self, row: Row, connection: sqlite3.Connection) -> bool:
        if self._layout.is_current(self._ring, row):
            return False
        values = self._layout.changing_of(self._renewed(row))
        connection.execute(self._update, (*values, *self.key_of(row)))
        return True


class _Documents(_Stage):
    """The documents of sessions, and with them the tags, which are in the config."""

    table = DOCUMENTS_OF.table
    _key = ("d.session_key",)
    _names = ", ".join(("d.session_key", "s.id", "s.user_id", *(f"d.{name}" for name in DOCUMENTS)))
    _from = f"{DOCUMENTS_OF.table} AS d JOIN sessions AS s ON s.key = d.session_key"

    def __init__(self, vault: Vault, ring: KeyRing) -> None:
        self._vault = vault
        self._ring = ring
        self._update = _update(DOCUMENTS_OF, ("session_key",))

    def renew(self, row: Row, connection: sqlite3.Connection) -> bool:
        owner, documents = row[: len(_OWNER)], row[len(_OWNER) :]
        opened = self._vault.open_documents(documents, *owner)
        self._renew_tags(owner[0], opened[DOCUMENTS.index("config")], connection)
        if DOCUMENTS_OF.is_current(self._ring, documents):
            return False
        values = DOCUMENTS_OF.changing_of(self._vault.documents(opened, *owner))
        connection.execute(self._update, (*values, owner[0]))
        return True

    def _renew_tags(self, key: int, config: str | None, connection: sqlite3.Connection) -> None:
        stored: list[str | bytes] = [tag for (tag,) in connection.execute(_TAGS, (key,))]
        if not stored:
            return
        tags = json.loads(config or EMPTY_JSON).get("tags") or ()
        known = {form: tag for tag in tags for form in self._ring.hashes_of_tag(tag)}
        for form in stored:
            tag = form if isinstance(form, str) else known.get(form)
            if tag is not None and form != self._vault.tag(tag):
                connection.execute(_PUT_TAG, (self._vault.tag(tag), key, form))


def _update(layout: Layout, key: tuple[str, ...]) -> str:
    changes = ", ".join(f"{name} = ?" for name in layout.changing)
    return (
        f"UPDATE {layout.table} SET {changes} WHERE {' AND '.join(f'{name} = ?' for name in key)}"
    )


def _stages_of(vault: Vault, ring: KeyRing) -> Iterator[_Stage]:
    yield _Documents(vault, ring)
    yield _Records(MESSAGES, ("id",), ring, lambda row: vault.message(vault.open_message(row)))
    yield _Records(TURNS, ("id",), ring, lambda row: vault.turn(vault.open_turn(row)))
    yield _Records(CLAIMS, CLAIM_NAME, ring, lambda row: vault.claim(vault.open_claim(row)))
