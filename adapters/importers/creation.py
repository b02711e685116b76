"""An old session as the command that creates it here.

It keeps its numbers of messages, their order and times, its status and, where it can, its id.
Messages get ids of their own; what they were called before is in their metadata:
`imported_message_id`, `imported_role` (where this runtime has none of that name), and what else the
file says, each under `imported_` and its name. Where the session came from is in its config's
metadata: `imported_from`, `imported_session_id` where the id could not be kept, `import_notes`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

import attrs

from ...actors.decisions import MAX_CREATED_MESSAGES, CreateSession
from ...actors.errors import InvalidMessageError
from ...actors.model import Counters, MessageRecord, Role
from ...actors.past import Past
from ...actors.values import check_text, encode_object, printable
from .cleaning import clean_object, clean_text
from .meaning import Notes
from .times import EPOCH

if TYPE_CHECKING:
    from ...actors.limits import Limits
    from .values import ImportedMessage, ImportedSession, SourceFormat

IMPORTED_FROM = "imported_from"
UNKNOWN = "unknown"
_NAME_BYTES = 500
_TAGS = 100
_TAG_BYTES = 1_000
_NOTES = 50


@attrs.frozen(kw_only=True)
class Defaults:
    """For what a file does not say."""

    user_id: str | None = None
    """None: a session without a user is not created."""
    provider: str = UNKNOWN
    model: str = UNKNOWN


@attrs.frozen(kw_only=True)
class Creation:
    """What is to be done, under which id, and what is to be told."""

    session_id: str
    command: CreateSession
    notes: tuple[str, ...]


def creation_of(
    session: ImportedSession, source: SourceFormat, defaults: Defaults, limits: Limits
) -> Creation:
    """How the session is created. Raises InvalidMessageError with the reason why it is not."""
    if len(session.messages) > MAX_CREATED_MESSAGES:
        raise InvalidMessageError(
            f"it has more than {MAX_CREATED_MESSAGES} messages, which is what one transaction may "
            "hold"
        )
    notes = Notes()
    for note in session.notes:
        notes.add(note)
    messages = tuple(
        _message(message, seq, limits, notes) for seq, message in enumerate(session.messages, 1)
    )
    roles = [message.role for message in messages]
    context = clean_object(session.context, notes)
    session_id = _session_id(session.id, source, notes)
    user_id = session.user_id or defaults.user_id
    if user_id is None:
        raise InvalidMessageError("the file does not say whose it is, and no user_id was given")
    command = CreateSession(
        user_id=check_text(user_id, "its user_id", max_bytes=_NAME_BYTES),
        provider=_name(session.provider, defaults.provider, "its provider", notes),
        model=_name(session.model, defaults.model, "its model", notes),
        context=encode_object(context, "its context", max_bytes=limits.max_context_bytes),
        messages=messages,
        past=Past(
            created_us=_us(session.created),
            updated_us=_us(session.updated),
            status=session.status,
            last_seq=len(messages),
            context_version=int(bool(context)),
            counters=Counters(
                user_messages=roles.count(Role.USER),
                assistant_messages=roles.count(Role.ASSISTANT),
                system_messages=roles.count(Role.SYSTEM),
            ),
        ),
    )
    config = _config(session, session_id, source, notes)
    text = encode_object(config, "its config", max_bytes=limits.max_config_bytes)
    return Creation(
        session_id=session_id, command=attrs.evolve(command, config=text), notes=notes.told()
    )


def _message(message: ImportedMessage, seq: int, limits: Limits, notes: Notes) -> MessageRecord:
    place = f"message {seq}"
    old = {"message_id": message.id, "role": message.original_role, **message.extras}
    kept = {f"imported_{name}": value for name, value in old.items() if value is not None}
    metadata = clean_object({**kept, **message.metadata}, notes)
    content = clean_text(message.content, notes)
    named = message.provider_message_id
    ended = message.finish_reason
    return MessageRecord(
        seq=seq,
        role=message.role,
        content=check_text(content, place, max_bytes=limits.max_message_bytes, empty=True),
        created_us=_us(message.timestamp),
        metadata=encode_object(
            metadata, f"the metadata of {place}", max_bytes=limits.max_metadata_bytes
        ),
        provider_message_id=None if named is None else clean_text(named, notes),
        token_count=message.token_count,
        finish_reason=None if ended is None else clean_text(ended, notes),
    )


def _session_id(old: str, source: SourceFormat, notes: Notes) -> str:
    """The old one; where it is no id, one that follows from it."""
    try:
        return check_text(old, "its id", max_bytes=_NAME_BYTES)
    except InvalidMessageError as error:
        notes.add(f"its id cannot be kept: {error}")
        digest = blake2b(old.encode("utf-8", "surrogatepass"), digest_size=16, person=b"old id")
        return f"{source.value}-{digest.hexdigest()}"


def _name(value: str | None, default: str, what: str, notes: Notes) -> str:
    try:
        return check_text(value, what, max_bytes=_NAME_BYTES)
    except InvalidMessageError:
        notes.add(f"{what} is not told or no name; it arrives as {default!r}")
        return default


def _config(
    session: ImportedSession, session_id: str, source: SourceFormat, notes: Notes
) -> dict[str, Any]:
    metadata: dict[str, Any] = {IMPORTED_FROM: source.value}
    if session.id != session_id:
        metadata["imported_session_id"] = printable(session.id)[:_NAME_BYTES]
    told = notes.told()
    if told:
        metadata["import_notes"] = list(told[:_NOTES])
    config: dict[str, Any] = {"metadata": metadata}
    tags = _tags(session)
    if tags:
        config["tags"] = tags
    return config


def _tags(session: ImportedSession) -> list[str]:
    """V1's, as far as they can be tags here; all of them are in the context."""
    of_v1: object = session.context.get("v1")
    found: object = cast("dict[str, Any]", of_v1).get("tags") if isinstance(of_v1, dict) else None
    tags: dict[str, None] = {}
    for tag in cast("list[object]", found) if isinstance(found, list) else []:
        if isinstance(tag, str) and len(tag.encode("utf-8", "surrogatepass")) <= _TAG_BYTES:
            tags.setdefault(printable(tag))
    return list(tags)[:_TAGS]


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
