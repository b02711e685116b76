"""Storages that list what was not asked for, or lose some of it on the way."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import attrs
from langswarm.core.session import InMemorySessionStorage as Good
from langswarm.core.session.actors.model import Committed, SessionPage

from .wrong_storages import cut, everything, on_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import SessionQuery, SessionRecord, SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome


class _Asks(Good):
    """Takes every query for another one."""

    def asked(self, query: SessionQuery) -> SessionQuery:
        raise NotImplementedError

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await super().list_sessions(self.asked(query))


class ListsOtherwise(Good):
    """Finds other sessions than a good storage does."""

    @abstractmethod
    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        """All that it finds, whatever the page."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        self._check_open()
        return cut(query, sorted(await self.found(query), key=lambda record: -record.key))

    def tags_of(self, record: SessionRecord) -> frozenset[str]:
        return self._entries[record.key].tags


# ---------------------------------------------------------------- one condition


class KnowsNoSessionsOfAll(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        return attrs.evolve(query, user_id=query.user_id or "")


class ListsThoseOfTheFirstUserForAll(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        first = next(iter(self._by_user), None)
        return attrs.evolve(query, user_id=first if query.user_id is None else query.user_id)


class ListsDeletedSessionsOfAll(ListsOtherwise):
    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        if query.user_id is None and query.status is None:
            return [entry.stored.record for entry in self._all]
        return await everything(self, query)


class IgnoresProviders(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        return attrs.evolve(query, provider=None)


class IgnoresModels(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        return attrs.evolve(query, model=query.model or None)


class FindsModelsByTheirBeginning(ListsOtherwise):
    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        wide = await everything(self, attrs.evolve(query, model=None))
        return [one for one in wide if one.model.startswith(query.model or "")]


class TakesIdleForInclusive(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        idle = query.idle_since_us
        return attrs.evolve(query, idle_since_us=None if idle is None else idle + 1)


class TakesActiveForIdle(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        both = query.active_since_us is not None and query.idle_since_us is not None
        return attrs.evolve(query, active_since_us=None) if both else query


# ---------------------------------------------------------------- tags


class FindsAnyOfTheTags(ListsOtherwise):
    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        wide = await everything(self, attrs.evolve(query, tags=()))
        wanted = frozenset(query.tags)
        return [one for one in wide if not wanted or wanted & self.tags_of(one)]


class FindsTagsAsText(ListsOtherwise):
    """As LIKE does on a column of tags with commas in between."""

    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        wide = await everything(self, attrs.evolve(query, tags=()))
        return [
            one for one in wide if all(tag in ",".join(self.tags_of(one)) for tag in query.tags)
        ]


class CutsTagsAtNul(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        return attrs.evolve(query, tags=tuple(tag.partition("\0")[0] for tag in query.tags))


class AddsTags(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit(
            [
                one if one.tags is None else attrs.evolve(one, tags=(*one.tags, *self._tags(one)))
                for one in writes
            ]
        )

    def _tags(self, write: SessionWrite) -> frozenset[str]:
        entry = self._by_id.get(write.after.record.session_id)
        return frozenset[str]() if entry is None else entry.tags


class ForgetsTagsWithoutSome(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, tags=one.tags or ()) for one in writes])


class KeepsTagsThatWereTakenAway(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        return await super().commit([attrs.evolve(one, tags=one.tags or None) for one in writes])


class TagsThoughItRefuses(Good):
    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            entry = self._by_id.get(write.after.record.session_id)
            if entry is not None and write.tags and not isinstance(outcome, Committed):
                entry.tags |= frozenset(write.tags)
        return outcomes


# ---------------------------------------------------------------- conditions together


class TakesOneOfTwoConditions(_Asks):
    """Tags come from a table of their own, and so does metadata: the last one wins."""

    def asked(self, query: SessionQuery) -> SessionQuery:
        return attrs.evolve(query, tags=()) if query.metadata else query


class ForgetsTheUserBesideAText(_Asks):
    def asked(self, query: SessionQuery) -> SessionQuery:
        return query if query.text is None else attrs.evolve(query, user_id=None)


class ForgetsTheStatusBesideTags(ListsOtherwise):
    async def found(self, query: SessionQuery) -> Sequence[SessionRecord]:
        if not query.tags or query.status is None:
            return await everything(self, query)
        return await everything(self, attrs.evolve(query, status=None))


# ---------------------------------------------------------------- pages


class EndsWithAnEmptyPage(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return page if page.records else SessionPage()


class EndsWithAShortPage(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return attrs.evolve(page, next_key=None) if len(page.records) < query.limit else page


class NeverComesToAnEnd(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        return attrs.evolve(page, next_key=page.next_key or query.before_key or self._last_key)


class CountsBelowZero(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        before = self._last_key if query.before_key is None else query.before_key
        return attrs.evolve(page, next_key=before - 1 if page.next_key is None else page.next_key)


class SkipsBehindAFullPage(Good):
    """The last one that was looked at is behind the last one that is on the page."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        key = page.next_key
        return (
            page if key is None or not query.tags else attrs.evolve(page, next_key=max(key - 1, 0))
        )


class FindsTheLastOneAgain(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        if page.next_key is None or not query.tags or len(page.records) < 2:
            return page
        return attrs.evolve(page, next_key=page.next_key + 1)


class NeedsTheSessionBetweenPages(Good):
    """A cursor that is lost with the session that it points to."""

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        if query.before_key is not None and query.before_key not in self._entries:
            return SessionPage()
        return await super().list_sessions(query)


class GoesOnWithNewSessions(Good):
    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        if query.before_key is None or not self._all or not query.tags:
            return page
        newest = self._all[-1].stored.record
        return on_page(page, [newest, *page.records][: query.limit])
