"""Conversations as data: one session as of one revision, in a format with a version.

Pages are read while the session goes on. What a page had can be changed meanwhile by three things
only, which all hide or delete visible messages, so a snapshot whose visible messages are as many as
its record counts is of one revision; any other is read again.

A turn that is running is no part of it: the session is shown as it was before that turn.
"""

# A part of the session handle, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, get_args

import anyio.lowlevel
import attrs

from ..actors.branches import REWOUND
from ..actors.errors import ConfigurationError, StorageError
from ..actors.model import MessageQuery, changed
from ..actors.usage import read_latencies
from ..actors.values import decode_object
from .views import metrics_of, to_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..actors.model import MessageRecord, SessionRecord, StoredSession, TurnRecord
    from .session import Session

FORMAT = "langswarm-session/conversation"
VERSION = 1
REWIND = "rewind"
"""Stands in `hidden_by` for what no turn replaced."""

ExportFormat = Literal["dict", "jsonl", "markdown", "openai", "anthropic"]
FORMATS: tuple[str, ...] = get_args(ExportFormat)

_PAGE = 1_000
_ATTEMPTS = 10


@attrs.frozen(kw_only=True)
class Snapshot:
    """A session as of one revision, without the turn that is running."""

    state: StoredSession
    messages: tuple[MessageRecord, ...]
    """Hidden ones too, by `seq`."""
    last_turn: TurnRecord | None


async def export_of(session: Session, wanted: str, *, include_hidden: bool | None) -> Any:
    """What `Session.export_conversation` returns."""
    _check_format(wanted, include_hidden=include_hidden)
    snapshot = await snapshot_of(session)
    if wanted in {"dict", "jsonl"}:
        hidden = include_hidden is not False
        if wanted == "dict":
            return await _document(snapshot, include_hidden=hidden)
        return await _lines(snapshot, include_hidden=hidden)
    from . import export_texts  # noqa: PLC0415 - who wants the dict needs none of it

    shown = [each for each in snapshot.messages if include_hidden or not each.hidden_by]
    if wanted == "openai":
        return export_texts.openai_messages(shown)
    if wanted == "anthropic":
        return export_texts.anthropic_body(shown)
    return await export_texts.markdown(snapshot.state, shown)


def _check_format(wanted: object, *, include_hidden: bool | None) -> None:
    if wanted not in FORMATS:
        near = get_close_matches(str(wanted), FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FORMATS)}"
        raise ConfigurationError(f"format={wanted!r} is not known; {hint}")
    if include_hidden and wanted in {"openai", "anthropic"}:
        raise ConfigurationError(
            f"format={wanted!r} is what a provider may see, and hidden messages are not; leave "
            "include_hidden out"
        )


# ---------------------------------------------------------------- reading


async def snapshot_of(session: Session) -> Snapshot:
    """Read a session. Raises StorageError of code `busy` if it changed under every attempt."""
    for _ in range(_ATTEMPTS):
        state = await session._stored()
        messages = await _read_through(session, state.record.last_seq)
        visible = sum(not message.hidden_by for message in messages)
        if visible != state.record.visible_messages or not visible:
            now = await session._stored()
            if now.record.revision != state.record.revision:
                continue
        state, messages = _without_running_turn(state, messages)
        return Snapshot(
            state=state,
            messages=tuple(messages),
            last_turn=await _last_turn(session, state.record),
        )
    raise StorageError(
        f"session {session.session_id!r} was cleared or rewound while it was read, "
        f"{_ATTEMPTS} times; try again when it is less busy",
        code="busy",
        retryable=True,
    )


async def _read_through(session: Session, last_seq: int) -> list[MessageRecord]:
    pages: list[list[MessageRecord]] = []
    before = last_seq + 1
    while before > 1:
        query = MessageQuery(limit=_PAGE, before_seq=before, include_hidden=True)
        page = await session._read(query)
        pages.append(page)
        if len(page) < _PAGE:
            break
        before = page[0].seq
    return [message for page in reversed(pages) for message in page]


async def _last_turn(session: Session, record: SessionRecord) -> TurnRecord | None:
    if not record.last_turn_no:
        return None
    storage = session._anchor.host.runtime().storage
    return await storage.read_turn(record.key, record.last_turn_no)


def _without_running_turn(
    state: StoredSession, messages: list[MessageRecord]
) -> tuple[StoredSession, list[MessageRecord]]:
    """Its question is the last message; what it replaces was visible before."""
    record = state.record
    running = record.open_turn_no
    if not running:
        return state, messages
    kept = [
        changed(message, hidden_by=0) if message.hidden_by == running else message
        for message in messages
        if message.turn_no != running
    ]
    counters = record.counters
    before = changed(
        record,
        last_seq=record.last_seq - 1,
        last_turn_no=running - 1,
        open_turn_no=0,
        visible_messages=sum(not message.hidden_by for message in kept),
        counters=changed(counters, user_messages=counters.user_messages - 1),
    )
    return changed(state, record=before, open_turn=None), kept


# ---------------------------------------------------------------- the document


async def _document(snapshot: Snapshot, *, include_hidden: bool) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    session_id = snapshot.state.record.session_id
    for number, message in enumerate(snapshot.messages):
        if number % _PAGE == _PAGE - 1:
            await anyio.lowlevel.checkpoint()
        if include_hidden or not message.hidden_by:
            messages.append(_message(session_id, message))
    return {**_header(snapshot), "messages": messages}


async def _lines(snapshot: Snapshot, *, include_hidden: bool) -> str:
    import json  # noqa: PLC0415 - who wants the dict does not need it

    document = await _document(snapshot, include_hidden=include_hidden)
    messages: list[dict[str, Any]] = document.pop("messages")
    lines: list[str] = []
    for number, value in enumerate(({**document, "message_count": len(messages)}, *messages)):
        if number % _PAGE == _PAGE - 1:
            await anyio.lowlevel.checkpoint()
        lines.append(_one_line(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    return "".join(lines)


def _one_line(text: str) -> str:
    """For readers, too, that take every line break of Unicode for one."""
    for character in ("\x85", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def _header(snapshot: Snapshot) -> dict[str, Any]:
    record, documents = snapshot.state.record, snapshot.state.documents
    return {
        "format": FORMAT,
        "version": VERSION,
        "session": {
            "session_id": record.session_id,
            "user_id": record.user_id,
            "provider": record.provider,
            "model": record.model,
            "status": record.status.value,
            "created_at": _time(record.created_us),
            "updated_at": _time(record.updated_us),
            "provider_session_id": record.provider_session_id,
            "last_seq": record.last_seq,
            "last_turn": record.last_turn_no,
            "config": decode_object(documents.config),
            "provider_config": decode_object(documents.provider_config),
            "provider_settings": decode_object(documents.provider_settings),
            "context": decode_object(documents.context),
            "context_version": documents.context_version,
        },
        "metrics": _metrics(record),
        "turns": [] if snapshot.last_turn is None else [_turn(snapshot.last_turn)],
    }


def _metrics(record: SessionRecord) -> dict[str, Any]:
    """The counters, from which an import makes the same metrics; and two for people to read."""
    figures = metrics_of(record)
    return {
        **attrs.asdict(record.counters),
        "latencies": list(read_latencies(record.latencies)),
        "avg_response_time_ms": figures.avg_response_time_ms,
        "p95_response_time_ms": figures.p95_response_time_ms,
    }


def _turn(turn: TurnRecord) -> Mapping[str, Any]:
    return {
        "turn": turn.turn_no,
        "state": turn.state.value,
        "question_seq": turn.user_seq,
        "opened_at": _time(turn.opened_us),
        "closed_at": _time(turn.closed_us),
        "replaces": turn.replaces or None,
        "error_code": turn.error_code,
        "error_text": turn.error_text,
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
    }


def _message(session_id: str, message: MessageRecord) -> dict[str, Any]:
    hidden_by = message.hidden_by or None
    return {
        "seq": message.seq,
        "role": message.role.value,
        "content": message.content,
        "timestamp": _time(message.created_us),
        "message_id": message.message_id or f"{session_id}/{message.seq}",
        "turn": message.turn_no or None,
        "hidden": hidden_by is not None,
        "hidden_by": REWIND if hidden_by == REWOUND else hidden_by,
        "finish_reason": message.finish_reason,
        "token_count": message.token_count,
        "metadata": decode_object(message.metadata),
        "provider_message_id": message.provider_message_id,
        "provider_metadata": decode_object(message.provider_metadata),
    }


def _time(us: int) -> str:
    return to_datetime(us).isoformat()
