"""Idempotency keys: the same key and payload give the first result, also after a restart (G7).

A key belongs to a method of a session (of `create_session`: to a user). It is stored in the very
commit that it stands for, so there is a claim exactly where there is an effect; and it is looked up
by the session's own actor, in mailbox order, before anything else is asked: whatever became of the
session since does not matter. Calls under a key that is waiting or running share its ticket.
"""

from __future__ import annotations

from hashlib import blake2b

import attrs

from .errors import IdempotencyConflictError
from .model import Claim

MAX_KEY_BYTES = 200


def user_scope(user_id: str) -> str:
    """The scope of the sessions that are created for a user."""
    return f"user:{user_id}"


@attrs.frozen(kw_only=True)
class ClaimKey:
    """What a caller claims with a call."""

    scope: str
    method: str
    key: str
    payload_hash: bytes

    def claim(self, session_id: str, result: int, now_us: int) -> Claim:
        """As it is stored with what was done."""
        return Claim(
            scope=self.scope,
            method=self.method,
            key=self.key,
            payload_hash=self.payload_hash,
            created_us=now_us,
            session_id=session_id,
            result=result,
        )

    def check(self, payload_hash: bytes) -> None:
        """Raise IdempotencyConflictError if the key stands for another payload."""
        if payload_hash != self.payload_hash:
            raise IdempotencyConflictError(self.method, self.key)


def hash_of(*parts: str) -> bytes:
    """Of what a caller gave, as it was given: equal for equal parts only."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()
