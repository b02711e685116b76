"""Wrong variants of what is done beside turns: messages from elsewhere, clean-ups, copies."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import attrs
from langswarm.core.session.actors import decisions, turn, turn_writes
from langswarm.core.session.actors.decisions import AppendMessage, ChangeStatus, change_status
from langswarm.core.session.actors.erasure import RetireSession
from langswarm.core.session.actors.model import MessageQuery, Role, SessionWrite, changed
from langswarm.core.session.actors.usage import usage_of_message
from langswarm.core.session.runtime import branching
from langswarm.core.session.runtime.retention import Retention
from langswarm.core.session.testing import SimulatedStorage

from .catalogue import planted, together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.erasure import RetentionRule
    from langswarm.core.session.actors.model import (
        MessageRecord,
        SessionRecord,
        StoredSession,
    )


def _retire_as_listed() -> AbstractContextManager[object]:
    def decide(self: RetireSession, state: StoredSession, now_us: int) -> SessionWrite | None:
        return change_status(state, ChangeStatus(status=self.rule.becomes), now_us)

    return patch.object(RetireSession, "decide", decide)


@planted("G8", by="tidying")
def retention_decides_on_the_listed_record() -> AbstractContextManager[object]:
    """What was used since it was listed is archived all the same."""
    return _retire_as_listed()


@planted("G8")
def retention_archives_the_busy() -> AbstractContextManager[object]:
    """A session that has something to do is taken for one that was listed as idle."""

    def at_rest(self: Retention, record: SessionRecord) -> bool:
        del self, record
        return True

    return together(_retire_as_listed(), patch.object(Retention, "_is_at_rest", at_rest))


@planted("G8")
def retention_looks_for_the_young() -> AbstractContextManager[object]:
    """What was used last is archived, what nobody uses stays."""

    async def retire(self: Retention, rule: RetentionRule, *, dry_run: bool = False) -> int:
        return await retire_by(self, attrs.evolve(rule, idle_before_us=2**62), dry_run=dry_run)

    retire_by = Retention.retire
    return patch.object(Retention, "retire", retire)


@planted("G8")
def a_dry_run_archives() -> AbstractContextManager[object]:
    """What should be counted is done."""
    retire = Retention.retire

    async def wet(self: Retention, rule: RetentionRule, *, dry_run: bool = False) -> int:
        del dry_run
        return await retire(self, rule)

    return patch.object(Retention, "retire", wet)


@planted("G1")
def messages_are_put_by_their_time() -> AbstractContextManager[object]:
    """What was written long ago stands in front of what came before it."""
    read = SimulatedStorage.read_messages

    async def by_time(
        self: SimulatedStorage, key: int, query: MessageQuery
    ) -> Sequence[MessageRecord]:
        return sorted(await read(self, key, query), key=attrgetter("created_us"))

    return patch.object(SimulatedStorage, "read_messages", by_time)


@planted("G4")
def added_messages_are_unknown_to_the_vendor() -> AbstractContextManager[object]:
    """The provider's own conversation is gone on with, without what was added."""

    def append(state: StoredSession, command: AppendMessage, now_us: int) -> SessionWrite:
        write = decisions.append(state, command, now_us)
        record = changed(write.after.record, dirty=state.record.dirty)
        return changed(write, after=changed(write.after, record=record))

    return patch.dict(decisions._PLAIN, {AppendMessage: append})


@planted("G5")
def added_messages_are_not_counted() -> AbstractContextManager[object]:
    """The figures of the day do not know of them."""

    def append(state: StoredSession, command: AppendMessage, now_us: int) -> SessionWrite:
        return changed(decisions.append(state, command, now_us), usage=None)

    return patch.dict(decisions._PLAIN, {AppendMessage: append})


@planted("G5")
def copies_have_what_came_meanwhile() -> AbstractContextManager[object]:
    """A copy is of two moments: a question that was stored in between has no answer."""

    def unbounded(*, limit: int, before_seq: int | None) -> MessageQuery:
        del before_seq
        return MessageQuery(limit=limit)

    return patch.object(branching, "MessageQuery", unbounded)


@planted("G5")
def turns_are_counted_when_they_begin_too() -> AbstractContextManager[object]:
    """The opening and the closing of a turn both count its question."""
    open_turn = turn_writes.open_turn

    def counting(state: StoredSession, *arguments: Any, **keywords: Any) -> SessionWrite:
        write = open_turn(state, *arguments, **keywords)
        record = write.after.record
        return changed(write, usage=usage_of_message(record, Role.USER, record.updated_us))

    return patch.object(turn, "open_turn", counting)
