"""Rows whose contents are encrypted: what of a row is sealed, and what it is bound to.

`codec` of a row says whether it is (0: no, 1: with AES-GCM) and `key_id` with which key, so plain
rows and rows of several keys lie side by side in one file. What stays plain beside the sealed
fields of a row and never changes without them is among its facts: a message that is given to
another session, author or time does not open, nor does a session that is given to another user.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from ....actors.errors import ConfigurationError
from ....actors.model import EMPTY_JSON
from ..encryption.records import BrokenSealError, MissingKeyError, RecordKind, facts_of
from .rows import CLAIM, DOCUMENTS, MESSAGE, SESSION, TURN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..encryption import KeyRing
    from .rows import Row

PLAIN: Final = 0
SEALED: Final = 1
"""The values of `codec`."""


class Layout:
    """Where in a row of those columns is what."""

    def __init__(self, kind: RecordKind, columns: Sequence[str], facts: Sequence[str]) -> None:
        self.table = kind.table
        self.columns = columns
        self.changing = (*kind.fields, "codec", "key_id")
        """The columns that differ between a plain row and a sealed one."""
        self._kind = kind
        self._places = [columns.index(name) for name in kind.fields]
        self._changing_of = itemgetter(*(columns.index(name) for name in self.changing))
        self._facts_of = itemgetter(*(columns.index(name) for name in facts))
        self._codec = columns.index("codec")
        self._key_id = columns.index("key_id")

    def is_sealed(self, row: Sequence[Any]) -> bool:
        """Whether there is something to open."""
        return bool(row[self._codec])

    def is_there(self, row: Sequence[Any]) -> bool:
        """Whether it is a row at all, and not the NULLs of a join."""
        return row[self._codec] is not None

    def is_current(self, ring: KeyRing, row: Sequence[Any]) -> bool:
        """Whether it is sealed with the key that seals now."""
        return self.is_sealed(row) and row[self._key_id] == ring.current.key_id

    def changing_of(self, row: Sequence[Any]) -> Row:
        """The values of `changing`."""
        values: Row = self._changing_of(row)
        return values

    def sealed(self, ring: KeyRing, row: Sequence[Any], *more: int | str) -> Row:
        """The row as it is stored; `more` are facts of it that are in no column."""
        values = list(row)
        facts = facts_of(*self._facts(row), *more)
        sealed = self._kind.seal(ring, facts, self._values_of(row))
        for place, value in zip(self._places, sealed, strict=True):
            values[place] = value
        values[self._codec] = SEALED
        values[self._key_id] = ring.current.key_id
        return tuple(values)

    def opened(self, ring: KeyRing | None, row: Sequence[Any], *more: int | str) -> Row:
        """The row as it was. Raises SealError."""
        values = list(row)
        facts = facts_of(*self._facts(row), *more)
        ring = self._checked(ring, row)
        opened = self._kind.open(ring, row[self._key_id], facts, self._values_of(row))
        for place, value in zip(self._places, opened, strict=True):
            values[place] = value
        values[self._codec], values[self._key_id] = PLAIN, None
        return tuple(values)

    def opened_field(
        self, name: str, ring: KeyRing | None, row: Sequence[Any], *more: int | str
    ) -> Any:
        """One value of the row as it was. Raises SealError."""
        facts = facts_of(*self._facts(row), *more)
        ring = self._checked(ring, row)
        return self._kind.open_one(name, ring, row[self._key_id], facts, self._values_of(row))

    def _checked(self, ring: KeyRing | None, row: Sequence[Any]) -> KeyRing:
        if row[self._codec] != SEALED:
            raise BrokenSealError(f"its codec {row[self._codec]!r} is unknown")
        if ring is None:
            raise MissingKeyError(row[self._key_id] or "")
        return ring

    def _facts(self, row: Sequence[Any]) -> Row:
        facts: Row = self._facts_of(row)
        return facts

    def _values_of(self, row: Sequence[Any]) -> list[Any]:
        return [row[place] for place in self._places]


MESSAGES: Final = Layout(
    RecordKind("messages", ("content", "metadata", "provider_metadata")),
    MESSAGE,
    facts=("id", "role", "created_us", "turn_no", "message_id"),
)
TURNS: Final = Layout(
    RecordKind(
        "turns", ("partial_text", "error_text", "payload_hash"), frozenset({"payload_hash"})
    ),
    TURN,
    facts=("id", "state", "user_seq", "opened_us"),
)
CLAIMS: Final = Layout(
    RecordKind("claims", ("payload_hash",), frozenset({"payload_hash"})),
    CLAIM,
    facts=("scope", "method", "key", "created_us", "session_id", "result"),
)
DOCUMENT_FIELDS: Final = ("config", "provider_config", "provider_settings", "context")
DOCUMENTS_OF: Final = Layout(
    RecordKind("session_documents", DOCUMENT_FIELDS),
    DOCUMENTS,
    facts=("context_version", "revision"),
)
"""Its other facts are the session's key, its id and its user's id."""
_CONFIG: Final = DOCUMENTS.index("config")
_DOCUMENTS_START: Final = len(SESSION)
_TURN_START: Final = len(SESSION) + len(DOCUMENTS)
_KEY: Final = SESSION.index("key")
_ID: Final = SESSION.index("id")
_USER_ID: Final = SESSION.index("user_id")


class Vault:
    """Rows on their way into the tables and out of them; without keys, they pass as they are."""

    def __init__(self, ring: KeyRing | None = None) -> None:
        self.ring = ring
        self.allows_plain = ring is None
        """Whether rows may be plain: else one that is was put there by somebody without a key."""

    def _must_open(self, layout: Layout, row: Sequence[Any]) -> bool:
        if layout.is_sealed(row):
            return True
        if not self.allows_plain and layout.is_there(row):
            raise BrokenSealError("it is not encrypted, in a file that has nothing plain")
        return False

    def check_searches(self, text: str | None) -> None:
        """Raise ConfigurationError if a text is looked for, and texts are not kept as such."""
        if text is not None and self.ring is not None:
            raise ConfigurationError(
                "text search is off because encryption_keys is given: the words of messages are "
                "not kept beside their ciphertext. Search by tags, metadata, provider or model; "
                "sqlcipher_key encrypts the whole file and keeps text search"
            )

    # ------------------------------------------------------------ in

    def message(self, row: Row) -> Row:
        """A row of MESSAGE, as it is stored."""
        return row if self.ring is None else MESSAGES.sealed(self.ring, row)

    def turn(self, row: Row) -> Row:
        """A row of TURN, as it is stored."""
        return row if self.ring is None else TURNS.sealed(self.ring, row)

    def claim(self, row: Row) -> Row:
        """A row of CLAIM, as it is stored."""
        return row if self.ring is None else CLAIMS.sealed(self.ring, row)

    def documents(self, row: Row, key: int, session_id: str, user_id: str) -> Row:
        """A row of DOCUMENTS, as it is stored.

        An empty config is sealed as well: opening it proves whose session it is.
        """
        if self.ring is None:
            return row
        if row[_CONFIG] is None:
            row = (*row[:_CONFIG], EMPTY_JSON, *row[_CONFIG + 1 :])
        return DOCUMENTS_OF.sealed(self.ring, row, key, session_id, user_id)

    def tag(self, tag: str) -> str | bytes:
        """A tag, as it is stored."""
        return tag if self.ring is None else self.ring.current.hash_tag(tag)

    def forms_of_tag(self, tag: str) -> list[str | bytes]:
        """All that may be stored for a tag."""
        hashes = [] if self.ring is None else self.ring.hashes_of_tag(tag)
        return [*hashes, tag] if self.allows_plain else [*hashes]

    # ------------------------------------------------------------ out: they raise SealError

    def open_message(self, row: Row) -> Row:
        """A row of MESSAGE, as it was."""
        return MESSAGES.opened(self.ring, row) if self._must_open(MESSAGES, row) else row

    def open_turn(self, row: Row) -> Row:
        """A row of TURN, as it was."""
        return TURNS.opened(self.ring, row) if self._must_open(TURNS, row) else row

    def open_claim(self, row: Row) -> Row:
        """A row of CLAIM, as it was."""
        return CLAIMS.opened(self.ring, row) if self._must_open(CLAIMS, row) else row

    def open_documents(self, row: Row, key: int, session_id: str, user_id: str) -> Row:
        """A row of DOCUMENTS, as it was."""
        if not self._must_open(DOCUMENTS_OF, row):
            return row
        return DOCUMENTS_OF.opened(self.ring, row, key, session_id, user_id)

    def config_of(self, row: Row) -> str | None:
        """The config in a row of SESSION, DOCUMENTS, as it was."""
        documents = row[_DOCUMENTS_START:_TURN_START]
        config: str | None = documents[_CONFIG]
        if self._must_open(DOCUMENTS_OF, documents):
            owner = row[_KEY], row[_ID], row[_USER_ID]
            config = DOCUMENTS_OF.opened_field("config", self.ring, documents, *owner)
        return config

    def open_stored(self, row: Row) -> Row:
        """A row of SESSION, DOCUMENTS, TURN, as it was."""
        documents, turn = row[_DOCUMENTS_START:_TURN_START], row[_TURN_START:]
        if not self._must_open(DOCUMENTS_OF, documents) and not self._must_open(TURNS, turn):
            return row
        session = row[:_DOCUMENTS_START]
        owner = session[_KEY], session[_ID], session[_USER_ID]
        return (*session, *self.open_documents(documents, *owner), *self.open_turn(turn))


NO_KEYS: Final = Vault()
"""For files that are not encrypted."""
