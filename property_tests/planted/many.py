"""Wrong variants of what concerns many sessions: lists, figures, exports, erasure, users apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import attrs
from langswarm.core.session.actors import turn_writes, usage
from langswarm.core.session.actors.erasure import EraseSession
from langswarm.core.session.actors.model import SessionPage, SessionStatus, changed
from langswarm.core.session.adapters.storage import memory
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage
from langswarm.core.session.adapters.storage.sqlite.search import SearchIndex
from langswarm.core.session.adapters.storage.usage_table import UsageTable
from langswarm.core.session.runtime import batches, claims, events, export, session_list
from langswarm.core.session.runtime.events import EventHistory
from langswarm.core.session.runtime.imports import _Messages
from langswarm.core.session.runtime.retention import Retention
from langswarm.core.session.runtime.user_view import UserSessions

from .catalogue import planted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.model import (
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
        UsageRecord,
    )
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.runtime.events import EventStream, SessionEvent
    from langswarm.core.session.runtime.export import Snapshot
    from langswarm.core.session.runtime.session_list import SessionList

# ---------------------------------------------------------------- lists


@planted("lists", by="lists")
def a_page_skips_its_border() -> AbstractContextManager[object]:
    """A cursor is behind the session that follows the page."""
    cursor_of = session_list.cursor_of

    def beyond(query: SessionQuery, key: int) -> str:
        return cursor_of(query, max(1, key - 1))

    return patch.object(session_list, "cursor_of", beyond)


@planted("lists", by="lists")
def a_page_begins_with_the_last() -> AbstractContextManager[object]:
    """The last session of a page is the first one of the next."""
    cursor_of = session_list.cursor_of

    def before(query: SessionQuery, key: int) -> str:
        return cursor_of(query, key + 1)

    return patch.object(session_list, "cursor_of", before)


@planted("lists", by="lists")
def a_cursor_ignores_its_filters() -> AbstractContextManager[object]:
    """It is taken by any list."""

    def none(query: SessionQuery) -> str:
        del query
        return "0" * 16

    return patch.object(session_list, "_filters", none)


@planted("lists", by="lists")
def tags_are_only_added() -> AbstractContextManager[object]:
    """A tag that was taken off a session still finds it."""
    commit = InMemorySessionStorage._commit_one

    def keep(self: InMemorySessionStorage, write: SessionWrite) -> WriteOutcome:
        session_id = write.after.record.session_id
        before = self._by_id.get(session_id)
        tags = before.tags if before is not None else frozenset[str]()
        outcome = commit(self, write)
        if session_id in self._by_id:
            self._by_id[session_id].tags |= tags
        return outcome

    return patch.object(InMemorySessionStorage, "_commit_one", keep)


@planted("lists", by="lists")
def a_full_page_is_the_last() -> AbstractContextManager[object]:
    """Where a page is full, the storage says that nothing follows."""
    list_sessions = InMemorySessionStorage.list_sessions

    async def ending(self: InMemorySessionStorage, query: SessionQuery) -> SessionPage:
        page = await list_sessions(self, query)
        return attrs.evolve(page, next_key=None) if len(page.records) == query.limit else page

    return patch.object(InMemorySessionStorage, "list_sessions", ending)


@planted("lists", by="lists")
def deleted_sessions_are_listed() -> AbstractContextManager[object]:
    """A list without a status has those that were deleted."""
    is_listed = memory._is_listed

    def listed(record: SessionRecord, query: SessionQuery) -> bool:
        if query.status is None and record.status is SessionStatus.DELETED:
            record = changed(record, status=SessionStatus.ACTIVE)
        return is_listed(record, query)

    return patch.object(memory, "_is_listed", listed)


# ---------------------------------------------------------------- figures


@planted("figures", by="figures")
def failed_turns_count_for_nothing() -> AbstractContextManager[object]:
    """Of a turn that failed nothing is counted, not even its question."""
    usage_of_turn = usage.usage_of_turn

    def counted(*arguments: Any, **keywords: Any) -> UsageRecord | None:
        found = usage_of_turn(*arguments, **keywords)
        return None if found.failed_turns else found

    return patch.object(turn_writes, "usage_of_turn", counted)


@planted("figures", by="figures")
def all_users_are_one() -> AbstractContextManager[object]:
    """The figures of one user are those of all."""
    report = UsageTable.report

    def of_all(self: UsageTable, query: Any) -> Any:
        return report(self, attrs.evolve(query, user_id=None))

    return patch.object(UsageTable, "report", of_all)


# ---------------------------------------------------------------- exports


@planted("export", by="export")
def import_renumbers_messages() -> AbstractContextManager[object]:
    """They are numbered from 1 on, whatever they were."""
    add = _Messages.add

    def renumber(self: _Messages, value: object, what: str) -> None:
        if isinstance(value, dict):
            value = {**cast("dict[str, Any]", value), "seq": self._last + 1}
        add(self, value, what)

    return patch.object(_Messages, "add", renumber)


@planted("export", by="export")
def export_leaves_hidden_messages_out() -> AbstractContextManager[object]:
    """What was replaced or rewound is lost on the way."""
    document = export._document

    async def visible(snapshot: Snapshot, *, include_hidden: bool) -> Mapping[str, Any]:
        del include_hidden
        return await document(snapshot, include_hidden=False)

    return patch.object(export, "_document", visible)


@planted("export", by="export")
def import_forgets_what_was_long_ago() -> AbstractContextManager[object]:
    """Messages have the time of the import."""
    add = _Messages.add

    def undated(self: _Messages, value: object, what: str) -> None:
        if isinstance(value, dict):
            value = {**cast("dict[str, Any]", value), "timestamp": "2027-01-01T00:00:00+00:00"}
        add(self, value, what)

    return patch.object(_Messages, "add", undated)


# ---------------------------------------------------------------- erasure


@planted("erasure", by="erasure")
def erasure_forgets_the_keys() -> AbstractContextManager[object]:
    """The idempotency keys of an erased user stay."""

    async def erase_user(self: InMemorySessionStorage, user_id: str) -> None:
        self._usage.erase_user(user_id)

    return patch.object(InMemorySessionStorage, "erase_user", erase_user)


@planted("erasure", by="erasure")
def erasure_forgets_the_keys_of_sessions() -> AbstractContextManager[object]:
    """The idempotency keys of an erased session's messages stay."""
    erase = InMemorySessionStorage._erase

    def keep(self: InMemorySessionStorage, entry: Any) -> None:
        before = dict(self._claims)
        erase(self, entry)
        self._claims.update(before)

    return patch.object(InMemorySessionStorage, "_erase", keep)


@planted("erasure", by="erasure")
def erasure_forgets_the_figures() -> AbstractContextManager[object]:
    """An erased user is counted for ever."""

    def keep(self: UsageTable, user_id: str) -> None:
        del self, user_id

    return patch.object(UsageTable, "erase_user", keep)


def _pass_over_the_deleted() -> AbstractContextManager[object]:
    page = Retention._page

    async def listed(
        self: Retention, query: SessionQuery
    ) -> tuple[tuple[SessionRecord, ...], SessionQuery | None]:
        if query.status is SessionStatus.DELETED:
            return (), None
        return await page(self, query)

    return patch.object(Retention, "_page", listed)


@planted("erasure", by="erasure")
def erasure_passes_over_the_deleted() -> AbstractContextManager[object]:
    """Sessions that their user had deleted are kept."""
    return _pass_over_the_deleted()


@planted("erasure", by="erasure")
def erasure_forgets_the_vendor() -> AbstractContextManager[object]:
    """What a provider keeps of an erased session is not deleted there."""
    decide = EraseSession.decide

    def local(self: EraseSession, state: StoredSession, now_us: int) -> SessionWrite | None:
        return decide(attrs.evolve(self, keeps=False), state, now_us)

    return patch.object(EraseSession, "decide", local)


@planted("erasure", by="erasure in files")
def erasure_forgets_the_words() -> AbstractContextManager[object]:
    """The index of words keeps those of messages that were erased."""

    def keep(self: SearchIndex, ranges: Sequence[Any], connection: sqlite3.Connection) -> None:
        del self, ranges, connection

    return patch.object(SearchIndex, "take_out", keep)


@planted("erasure", by="killed erasure")
def erasure_goes_on_with_half() -> AbstractContextManager[object]:
    """An erasure that was killed is taken for done where the sessions are hidden."""
    return _pass_over_the_deleted()


# ---------------------------------------------------------------- users apart


@planted("users", by="isolation")
def batches_forget_the_owner() -> AbstractContextManager[object]:
    """What is done to many sessions is done to anybody's."""
    look_up = batches._look_up

    async def anybody(manager: Any, names: list[str], user_id: str | None) -> Any:
        del user_id
        return await look_up(manager, names, None)

    return patch.object(batches, "_look_up", anybody)


@planted("users", by="isolation")
def searches_forget_the_owner() -> AbstractContextManager[object]:
    """A search finds the sessions of all."""

    async def search(self: UserSessions, **query: Any) -> SessionList:
        return await self._manager.search_sessions(**query)

    return patch.object(UserSessions, "search_sessions", search)


@planted("users", by="isolation")
def figures_forget_the_owner() -> AbstractContextManager[object]:
    """A user is told what all have used."""

    async def figures(self: UserSessions, *days: Any) -> object:
        return await self._manager.get_analytics(*days)

    return patch.object(UserSessions, "get_analytics", figures)


@planted("users", by="isolation")
def a_key_is_everybodys() -> AbstractContextManager[object]:
    """Users share one room of idempotency keys."""

    def scope(user_id: str) -> str:
        del user_id
        return "user:"

    return patch.object(claims, "user_scope", scope)


@planted("users", by="isolation")
def events_forget_the_owner() -> AbstractContextManager[object]:
    """A user hears what happens to the sessions of all."""

    def everything(self: UserSessions, **wanted: Any) -> EventStream:
        return self._manager.session_events(**wanted)

    return patch.object(UserSessions, "session_events", everything)


@planted("users", by="isolation")
def an_import_stays_with_its_owner() -> AbstractContextManager[object]:
    """What a user imports becomes a session of whom it was exported from."""

    async def import_conversation(self: UserSessions, data: Any) -> object:
        return await self._manager.import_conversation(data)

    return patch.object(UserSessions, "import_conversation", import_conversation)


# ---------------------------------------------------------------- subscribers


@planted("G10", by="hearing")
def a_replay_misses_one() -> AbstractContextManager[object]:
    """Who comes back is not told of the first event that came meanwhile."""
    after = EventHistory.after

    def short(self: EventHistory, cursor: int) -> list[SessionEvent]:
        found = after(self, cursor)
        return found[1:] if found and found[0].type != "gap" else found

    return patch.object(EventHistory, "after", short)


@planted("G10", by="hearing")
def a_gap_loses_one() -> AbstractContextManager[object]:
    """One event less is counted than was dropped."""
    gap = events._gap

    def less(cursor: int, missed: int) -> SessionEvent:
        return gap(cursor, missed - 1)

    return patch.object(events, "_gap", less)


@planted("G10", by="hearing")
def a_gap_ends_too_early() -> AbstractContextManager[object]:
    """Who goes on behind a gap is told its last event again."""
    gap = events._gap

    def early(cursor: int, missed: int) -> SessionEvent:
        return gap(cursor - 1, missed)

    return patch.object(events, "_gap", early)
