"""From old programs to this one: whole files with `import_sessions`, one by one `migrate_session`.

Both can be repeated. A session keeps its id, so what is there already is recognised: where the
history here is the beginning of the one in the file, what is new in the file is added; a session
that was gone on with here, or deleted here, is left alone. Old files are only read.
"""

# These work on what is behind a manager.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs
from langswarm.core.session.actors.errors import (
    ConfigurationError,
    InvalidMessageError,
    OverloadError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionQuarantinedError,
)
from langswarm.core.session.actors.model import MessageQuery, SessionStatus
from langswarm.core.session.actors.past import AppendPast
from langswarm.core.session.actors.values import decode_object
from langswarm.core.session.adapters.importers import (
    ImportedSession,
    Skipped,
    Source,
    SourceFormat,
    open_source,
)
from langswarm.core.session.adapters.importers.creation import (
    IMPORTED_FROM,
    UNKNOWN,
    Creation,
    Defaults,
    creation_of,
)
from langswarm.core.session.adapters.importers.objects import now_utc, session_of_object
from langswarm.core.session.adapters.importers.times import zone_of
from langswarm.core.session.adapters.importers.values import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from langswarm.core.session.actors.model import MessageRecord, SessionRecord, StoredSession
    from langswarm.core.session.runtime.manager import Manager
    from langswarm.core.session.runtime.session import Session

__all__ = [
    "ImportReport",
    "ImportedSession",
    "SessionReport",
    "Skipped",
    "Source",
    "SourceFormat",
    "import_sessions",
    "migrate_session",
    "open_source",
]

Outcome = Literal["imported", "extended", "present", "skipped"]

_PAGE = 1_000
_REFUSALS = (
    ConfigurationError,
    InvalidMessageError,
    OverloadError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionQuarantinedError,
)


@attrs.frozen(kw_only=True)
class SessionReport:
    """What became of one session of a file."""

    source_id: str
    """What the file calls it."""
    outcome: Outcome
    """`imported`: it is new here. `extended`: it was here, and what was new was added. `present`:
    it was here, nothing was done. `skipped`: it is not here, and `reason` says why."""
    session_id: str | None = None
    """What it is called here; None: it is not here."""
    messages: int = 0
    """How many were stored now."""
    reason: str | None = None
    """Why something was left out."""
    notes: tuple[str, ...] = ()
    """What is not as it was in the file."""


@attrs.frozen(kw_only=True)
class ImportReport:
    """What became of a file."""

    path: str
    format: str
    sessions: tuple[SessionReport, ...]

    def count(self, outcome: Outcome) -> int:
        """How many sessions ended so."""
        return Counter(each.outcome for each in self.sessions)[outcome]

    @property
    def ok(self) -> bool:
        """Whether nothing was skipped."""
        return not self.count("skipped")

    @property
    def messages(self) -> int:
        """How many were stored."""
        return sum(each.messages for each in self.sessions)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        outcomes: tuple[Outcome, ...] = ("imported", "extended", "present", "skipped")
        return {
            "path": self.path,
            "format": self.format,
            **{outcome: self.count(outcome) for outcome in outcomes},
            "messages": self.messages,
            "sessions": [attrs.asdict(each) for each in self.sessions],
        }


async def import_sessions(
    manager: Manager,
    source: Source,
    *,
    user_id: str | None = None,
    provider: str = UNKNOWN,
    model: str = UNKNOWN,
    on_session: Callable[[SessionReport], object] | None = None,
) -> ImportReport:
    """Write every session of an old file into the manager's storage, each in one transaction.

    One that cannot be imported is skipped with its reason, and the others follow; so do those of
    providers that the manager does not have. After an error or a kill, import the file again: what
    is there is not doubled. Its time here goes by the file, so retention may find it old at once.

    Args:
        manager: where the sessions go.
        source: what `open_source` returned; it stays open.
        user_id: whose sessions they are, where the file does not say; None: these are skipped.
        provider: of those whose provider the file does not say.
        model: of those whose model the file does not say.
        on_session: called with each session's report, as soon as it is decided.

    Raises:
        StorageError: the file or the storage cannot be read or written.
    """
    defaults = Defaults(user_id=user_id, provider=provider, model=model)
    reports: list[SessionReport] = []
    async for found in source.stream():
        if isinstance(found, Skipped):
            report = SessionReport(source_id=found.id, outcome="skipped", reason=found.reason)
        else:
            report = await _import(manager, found, source.format, defaults)
        reports.append(report)
        if on_session is not None:
            on_session(report)
    return ImportReport(path=source.path, format=source.format.value, sessions=tuple(reports))


async def migrate_session(
    manager: Manager,
    v1_session: object,
    *,
    source_timezone: str | tzinfo | None = None,
    user_id: str | None = None,
) -> Session:
    """Move one session of V1 over, whatever class it is of, and return it as it is here.

    It has `session_id`, `user_id`, `provider`, `model`, and `get_messages()` or `messages`, each
    with `role`, `content` and `timestamp`. Once it is here, it is returned as `import_sessions`
    would leave it: extended by what is new, or as it was gone on with.

    Args:
        manager: where it goes.
        v1_session: of `V1SessionManager.get_session`, or any object or mapping with these.
        source_timezone: of naive timestamps; None: this machine's.
        user_id: whose it is, where it does not say.

    Raises:
        InvalidMessageError: it cannot be stored; the text says why.
        SessionNotFoundError: it was deleted here.
        ConfigurationError: an unknown time zone.
    """
    session = getattr(v1_session, "imported", v1_session)
    if not isinstance(session, ImportedSession):
        zone = zone_of(source_timezone)
        try:
            messages = await _messages_of(v1_session)
            session = session_of_object(v1_session, messages, zone, now_utc())
        except UnreadableError as error:
            raise InvalidMessageError(f"the session cannot be migrated: {error}") from None
    report = await _import(manager, session, SourceFormat.V1, Defaults(user_id=user_id))
    if report.session_id is None:
        raise InvalidMessageError(
            f"the session {session.id[:80]!r} cannot be migrated: {report.reason}"
        )
    return await manager.get_session(report.session_id)


async def _messages_of(session: object) -> object:
    if isinstance(session, Mapping):
        return session.get("messages")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    get = getattr(session, "get_messages", None)
    if get is None:
        return getattr(session, "messages", None)
    found = get()
    return await found if inspect.isawaitable(found) else found


# ---------------------------------------------------------------- one session


async def _import(
    manager: Manager, found: ImportedSession, source: SourceFormat, defaults: Defaults
) -> SessionReport:
    try:
        creation = creation_of(found, source, defaults, manager._anchor.host.limits)
        there = await _stored(manager, creation.session_id)
        if there is None:
            return await _create(manager, found, creation)
        return await _meet(manager, found, creation, there)
    except _REFUSALS as error:
        return SessionReport(source_id=found.id, outcome="skipped", reason=str(error))


async def _stored(manager: Manager, session_id: str) -> StoredSession | None:
    runtime = manager._anchor.host.runtime()
    state = runtime.supervisor.live_state(session_id)
    return await runtime.storage.load_now(session_id) if state is None else state


async def _create(manager: Manager, found: ImportedSession, creation: Creation) -> SessionReport:
    host, name = manager._anchor.host, creation.session_id
    header = host.header(name)
    header.update(await host.create(name, creation.command))
    return SessionReport(
        source_id=found.id,
        outcome="imported",
        session_id=name,
        messages=len(creation.command.messages),
        notes=creation.notes,
    )


async def _meet(
    manager: Manager, found: ImportedSession, creation: Creation, there: StoredSession
) -> SessionReport:
    """What to do about a session that is there already."""
    name, record = creation.session_id, there.record
    wanted = creation.command
    if not _is_the_same(there, wanted.user_id, wanted.config):
        text = f"its id {name[:80]!r} is that of another session here, which was not changed"
        return SessionReport(source_id=found.id, outcome="skipped", reason=text)
    report = SessionReport(
        source_id=found.id, outcome="present", session_id=name, notes=creation.notes
    )
    if record.status is SessionStatus.DELETED:
        return attrs.evolve(report, reason="it was deleted here")
    if record.last_turn_no or not await _is_beginning(manager, record, wanted.messages):
        return attrs.evolve(report, reason="it was gone on with here, or changed in the file")
    return await _extend(manager, there, wanted.messages[record.last_seq :], report)


async def _extend(
    manager: Manager,
    there: StoredSession,
    new: tuple[MessageRecord, ...],
    report: SessionReport,
) -> SessionReport:
    record = there.record
    if not new:
        return report
    if record.status is not SessionStatus.ACTIVE:
        text = f"it is {record.status.value} here: {len(new)} messages of the file were not added"
        return attrs.evolve(report, reason=text)
    command = AppendPast(after_seq=record.last_seq, messages=new)
    supervisor = manager._anchor.host.runtime().supervisor
    if await supervisor.submit(record.session_id, command, _itself) is None:
        return attrs.evolve(report, reason="it was gone on with here, while it was imported")
    return attrs.evolve(report, outcome="extended", messages=len(new))


def _itself(state: StoredSession | None) -> StoredSession | None:
    return state


def _is_the_same(there: StoredSession, user_id: str, config: str) -> bool:
    if there.record.user_id != user_id:
        return False
    here, wanted = (
        decode_object(text).get("metadata", {}).get(IMPORTED_FROM)
        for text in (there.documents.config, config)
    )
    return bool(here == wanted)


async def _is_beginning(
    manager: Manager, record: SessionRecord, wanted: tuple[MessageRecord, ...]
) -> bool:
    """Whether all that is here, hidden or not, is what the file begins with."""
    storage = manager._anchor.host.runtime().storage
    after = 0
    while True:
        page = await storage.read_messages(
            record.key,
            MessageQuery(after_seq=after, before_seq=after + _PAGE + 1, include_hidden=True),
        )
        same = wanted[after : after + len(page)]
        if [_said(each) for each in page] != [_said(each) for each in same]:
            return False
        if len(page) < _PAGE:
            return after + len(page) == record.last_seq  # nothing was cleared
        after = page[-1].seq


def _said(message: MessageRecord) -> tuple[object, ...]:
    """Not when: where a file tells no times, they are those of the file."""
    return (message.seq, message.role, message.content, message.hidden_by)
