"""Idempotency keys as callers give them (G7): checked, and bound to the payload as it was given."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import attrs

from ..actors.errors import ConfigurationError, InvalidMessageError
from ..actors.idempotency import MAX_KEY_BYTES, ClaimKey, hash_of, user_scope
from ..actors.values import check_text

if TYPE_CHECKING:
    from ..actors.decisions import CreateSession


def claim_of(scope: str, method: str, key: str, *payload: str) -> ClaimKey:
    """What a call claims. Raises ConfigurationError for a key that is none."""
    try:
        check_text(key, "idempotency_key", max_bytes=MAX_KEY_BYTES)
    except InvalidMessageError as error:
        raise ConfigurationError(str(error)) from None
    return ClaimKey(scope=scope, method=method, key=key, payload_hash=hash_of(*payload))


def claimed_creation(
    command: CreateSession, session_id: str | None, key: str
) -> tuple[CreateSession, str]:
    """The creation under its key, and the id of the session.

    Without an id of the caller's it follows from user and key, so that creations under one key meet
    in one actor, which does one of them.
    """
    scope = user_scope(command.user_id)
    claim = claim_of(
        scope,
        "create_session",
        key,
        command.provider,
        command.model,
        command.config,
        command.provider_config,
        session_id or "",
    )
    if session_id is None:
        session_id = blake2b(hash_of(scope, key), digest_size=16, person=b"session id").hexdigest()
    return attrs.evolve(command, claim=claim), session_id
