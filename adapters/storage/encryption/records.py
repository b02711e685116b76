"""Fields of a record, each sealed with what says where it belongs.

A sealed field is 12 random bytes (the nonce), then what AES-256-GCM makes of the text, 16 bytes
longer than it. What goes with it unseen, the associated data, is

    format version | table | field | which fields the record has | the record's facts

So a field that is moved to another field, record or session, or back into an older version of its
record, does not open there; nor do those that are left when one of them is taken away. What the
facts of a record are, whoever keeps it decides: its key, and what must not change beside it.

One key may seal some 2^32 fields: beyond that two random nonces may meet, which would tell
something of both texts.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .keys import KeyRing, RingKey

FORMAT: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MOST_FIELDS: Final = 16
MOST_SEALS: Final = 1 << 32
"""Of one key: so many fields at most, says NIST SP 800-38D for random nonces."""

_SHAPE: Final = struct.Struct(">H")
_LENGTH: Final = struct.Struct(">cI")
Value = str | bytes


class SealError(ValueError):
    """A record cannot be opened."""


class MissingKeyError(SealError):
    """It was sealed with a key that the ring does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"it is encrypted with the key {key_id!r}, which is not in encryption_keys: add it"
        )
        self.key_id = key_id


class BrokenSealError(SealError):
    """It was changed, moved, or sealed with another key of that id."""


def facts_of(*facts: int | str | None) -> bytes:
    """Numbers and texts as bytes, no two rows of them alike.

    Raises OverflowError beyond 64 bits, and UnicodeEncodeError for a lone surrogate.
    """
    parts: list[bytes] = []
    for fact in facts:
        if fact is None:
            parts.append(b"n")
        elif isinstance(fact, str):
            text = fact.encode()
            parts += (_LENGTH.pack(b"t", len(text)), text)
        elif isinstance(fact, int):  # pyright: ignore[reportUnnecessaryIsInstance] - damaged rows
            parts += (b"i", fact.to_bytes(8, signed=True))
        else:
            raise TypeError(f"{type(fact).__name__} is no fact")
    return b"".join(parts)


def _labels_of(kind: RecordKind) -> tuple[tuple[str, bytes], ...]:
    table = kind.table.encode()
    return tuple(
        (name, b"langswarm-session\0%c%s\0%s\0" % (FORMAT, table, name.encode()))
        for name in kind.fields
    )


@attrs.frozen(eq=False)
class RecordKind:
    """Which fields of a kind of record are sealed: those of `binary` are bytes, others text."""

    table: str
    fields: tuple[str, ...] = attrs.field(validator=attrs.validators.max_len(MOST_FIELDS))
    binary: frozenset[str] = frozenset()
    _labels: tuple[tuple[str, bytes], ...] = attrs.field(
        init=False, default=attrs.Factory(_labels_of, takes_self=True)
    )

    def seal(
        self, ring: KeyRing, facts: bytes, values: Sequence[Value | None]
    ) -> list[bytes | None]:
        """The values of `fields`, sealed with the ring's current key; None stays None."""
        encrypt = ring.current.encrypt
        common = _shape(values) + facts
        sealed: list[bytes | None] = []
        for (_, label), value in zip(self._labels, values, strict=True):
            if value is None:
                sealed.append(None)
                continue
            plain = value if isinstance(value, bytes) else value.encode()
            nonce = os.urandom(NONCE_BYTES)
            sealed.append(nonce + encrypt(nonce, plain, label + common))
        return sealed

    def open(
        self, ring: KeyRing, key_id: str | None, facts: bytes, values: Sequence[object]
    ) -> list[Value | None]:
        """What was sealed. Raises SealError where that cannot be told for certain."""
        key = ring.key(key_id)
        common = _shape(values) + facts
        return [
            None if value is None else self._opened(key, name, label + common, value)
            for (name, label), value in zip(self._labels, values, strict=True)
        ]

    def open_one(
        self, name: str, ring: KeyRing, key_id: str | None, facts: bytes, values: Sequence[object]
    ) -> Value | None:
        """As `open`, of one field; it takes all values, for they belong together."""
        place = self.fields.index(name)
        if values[place] is None:
            return None
        data = self._labels[place][1] + _shape(values) + facts
        return self._opened(ring.key(key_id), name, data, values[place])

    def _opened(self, key: RingKey, name: str, data: bytes, value: object) -> Value:
        try:
            if not isinstance(value, bytes):
                raise TypeError("a sealed field is bytes")  # noqa: TRY301
            plain = key.decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], data)
            return plain if name in self.binary else plain.decode()
        except Exception as error:
            if not _is_of_the_value(error):
                raise
            raise BrokenSealError(
                f"{name} was changed or moved, or is encrypted with another key of the id "
                f"{key.key_id!r}"
            ) from None


def _shape(values: Sequence[object]) -> bytes:
    """Which of the fields are there."""
    shape = 0
    for value in values:
        shape = shape << 1 | (value is not None)
    return _SHAPE.pack(shape)


def _is_of_the_value(error: Exception) -> bool:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    return isinstance(error, InvalidTag | TypeError | ValueError)
