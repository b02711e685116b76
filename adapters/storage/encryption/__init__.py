"""Records that only who has the key can read or change: AES-GCM, field by field, with a key ring.

Nothing here knows of a database. `cryptography` is loaded when a `KeyRing` is made.
"""

from __future__ import annotations

from .keys import KeyRing, RingKey, read_key
from .records import BrokenSealError, MissingKeyError, RecordKind, SealError, facts_of

__all__ = [
    "BrokenSealError",
    "KeyRing",
    "MissingKeyError",
    "RecordKind",
    "RingKey",
    "SealError",
    "facts_of",
    "read_key",
]
